"""Attempts of one small training in this process: the real trainer, and a plain folder."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState

from mmrun.config.loading import load_experiment
from mmrun.data.dataset import load_dataset_actor
from mmrun.data.processor import load_processor
from mmrun.models.build import load_model
from mmrun.training.arguments import build_arguments
from mmrun.training.fit import weight_files
from mmrun.training.stopping import StopWish
from mmrun.training.trainer import ResumableTrainer
from mmrun.workflows.actors import Actors, missing_steps
from mmrun.workflows.recipe import Recipe
from mmrun.workflows.setup import run_setup

ROWS = {"train": 23, "validation": 5}
SIZE = 4
WORDS = ("north", "east", "south", "west")
M2M = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "dropout": 0.1,
}
TRAINING: Mapping[str, Any] = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 8,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "max_steps": 9,
    "logging_steps": 1,
    "save_strategy": "no",
    "seed": 3,
    "use_cpu": True,
}


class FirstStep(TrainerCallback):
    """What is in force when the optimizer does the first step of an attempt."""

    def __init__(self, trained: list[int]) -> None:
        self._trained = trained
        self.groups: list[dict[str, Any]] = []
        """The optimizer's groups without their parameters."""
        self.steps_before: set[float] = set()
        """How many steps the optimizer's states have seen."""
        self.gradient = 0.0
        """The norm of the gradients, clipped by now."""
        self.samples = 0
        """How many samples the step is made from."""

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.groups:
            return
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])
        self.groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        states = optimizer.state.values()
        self.steps_before = {float(one["step"]) for one in states if "step" in one}
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        self.gradient = float(torch.nn.utils.get_total_norm(gradients))
        self.samples = len(self._trained)


@dataclass(kw_only=True)
class Attempt:
    """What one attempt did."""

    trainer: ResumableTrainer
    folder: Path
    logged: list[tuple[str, int, float]] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    """The number of every sample that was trained on, in this order."""
    first: FirstStep

    @property
    def step(self) -> int:
        return self.trainer.step

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint that was saved."""
        return self.saved[max(self.saved)]

    @property
    def saved(self) -> Mapping[int, Path]:
        found = self.folder.glob("checkpoint-*")
        return {int(path.name.removeprefix("checkpoint-")): path for path in found}

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        files = [load_file(path) for path in weight_files(self.checkpoint)]
        return {name: tensor for file in files for name, tensor in file.items()}

    def values(self, key: str) -> Mapping[int, float]:
        return {step: value for name, step, value in self.logged if name == key}


class _Folder:
    """Keeps checkpoints, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, step: int) -> Path:
        partial = self._folder / f".checkpoint-{step}"
        partial.mkdir(parents=True)
        return partial

    def publish(
        self,
        folder: Path,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float],
        constant: Collection[str],
    ) -> None:
        folder.rename(self._folder / f"checkpoint-{step}")


class _Stop(TrainerCallback):
    """Wishes to stop while a step is under way."""

    def __init__(self, wish: StopWish, *, step: int) -> None:
        self._wish = wish
        self._step = step

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == self._step - 1:
            self._wish.reason = "a test"


class Lab:
    """Data and actors for attempts."""

    def __init__(
        self,
        folder: Path,
        *,
        attempts: Path | None = None,
        model: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Make what is not there yet.

        ``attempts`` is where their checkpoints go; ``model`` and ``data`` are added to the sections
        of these names.
        """
        self._folder = folder
        self._model = model or {}
        self._data = data or {}
        self._outputs = attempts or folder
        self._attempts = 0
        self._actors = Actors.of(folder / "setup")
        if self._actors.folder.exists():
            return
        write_experiment(folder)
        experiment = load_experiment(None, base=self._tree({}))
        steps = missing_steps(experiment, self._actors.folder)
        run_setup(experiment, folder=self._actors.folder, steps=steps)

    def _tree(self, training: Mapping[str, Any]) -> dict[str, Any]:
        sections = _sections(self._folder)
        return {
            **sections,
            "model": {**sections["model"], **self._model},
            "data": {**sections["data"], **self._data},
            "training": {**TRAINING, **training},
        }

    def attempt(
        self,
        resume: Path | None = None,
        *,
        stop_at: int | None = None,
        modality: Mapping[str, Any] | None = None,
        **training: Any,
    ) -> Attempt:
        """Train from ``resume`` to the end, or to step ``stop_at``.

        Every attempt ends with a checkpoint. ``modality`` are settings of the modality.
        """
        self._attempts += 1
        folder = self._outputs / f"attempt-{self._attempts}"
        recipe = self._recipe(resume, folder=folder, training=training, modality=modality or {})
        wish = StopWish()
        logged: list[tuple[str, int, float]] = []

        def log(values: Mapping[str, float], step: int) -> None:
            logged.extend((key, step, value) for key, value in values.items())

        trainer = recipe.trainer(sink=_Folder(folder), stop=wish, log=log)
        trained = _record_samples(trainer)
        first = FirstStep(trained)
        trainer.add_callback(first)
        if stop_at is not None:
            trainer.add_callback(_Stop(wish, step=stop_at))
        trainer.go_on(resume)
        return Attempt(trainer=trainer, folder=folder, logged=logged, trained=trained, first=first)

    def _recipe(
        self,
        resume: Path | None,
        *,
        folder: Path,
        training: Mapping[str, Any],
        modality: Mapping[str, Any],
    ) -> Recipe:
        experiment = load_experiment(None, base=self._tree(training))
        processor = load_processor(self._actors.processor)
        processor.streams[0]["settings"] |= modality
        return Recipe(
            arguments=build_arguments(experiment, output_dir=folder),
            model=load_model(resume or self._actors.model),
            processor=processor,
            datasets=load_dataset_actor(
                self._actors.dataset, data=experiment.data, processor=processor
            ),
            experiment=experiment,
            actors=self._actors.folder,
        )


def _record_samples(trainer: ResumableTrainer) -> list[int]:
    trained: list[int] = []
    step = trainer.training_step

    def training_step(model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        trained.extend(round(value) for value in inputs["input_frames"][:, 0, 0].tolist())
        return step(model, inputs, *rest)

    trainer.training_step = training_step  # type: ignore[method-assign]
    return trained


def write_experiment(folder: Path) -> None:
    """Write data and an experiment file that names them."""
    for split, rows in ROWS.items():
        _write_split(folder, split, rows=rows)
    text = json.dumps({**_sections(folder), "training": dict(TRAINING)})
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")


def _sections(folder: Path) -> dict[str, Any]:
    return {
        "data": {
            "dataset_type": "features2text",
            **{f"{split}_metadata_file": str(folder / f"{split}.tsv") for split in ROWS},
        },
        "processor": {"pipeline": "features2text"},
        "model": {"backbone_config": M2M, "feat_dim": SIZE, "max_length": 12},
    }


def _write_split(folder: Path, split: str, *, rows: int) -> None:
    lines = ["signal\tsignal_start\tsignal_end\tencoder_prompt\tdecoder_prompt\toutput"]
    for row in range(rows):
        # The first value is the row's number, so that a batch tells which samples are in it.
        frames = np.full((1 + row % 4, SIZE), row, dtype=np.float32)
        np.save(folder / f"{split}-{row}.npy", frames)
        said = " ".join(WORDS[(row + word) % len(WORDS)] for word in range(1 + row % 3))
        lines.append(f"{split}-{row}.npy\t0\t0\t\t\t{said}")
    manifest = folder / f"{split}.tsv"
    manifest.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
