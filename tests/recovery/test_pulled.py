"""What ``checkpoints pull`` gives is a plain folder, which plain Hugging Face goes on from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSeq2SeqLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from mmrun.cli.main import run as mmrun
from mmrun.config.schema import DataSection
from mmrun.data.dataset import load_dataset_actor
from mmrun.data.processor import load_processor
from mmrun.models.build import load_model, register_models
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.tasks.translation import collator
from tests.recovery.project import Project

Weights = Mapping[str, torch.Tensor]


def pulled(project: Project, reference: str, folder: str) -> Path:
    assert mmrun(["checkpoints", "pull", f"{project.run.run_id}@{reference}", folder]) == 0
    return project.folder / folder


def saved_weights(folder: Path) -> Weights:
    files = folder.glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_same(mine: Weights, theirs: Weights) -> None:
    assert mine.keys() >= theirs.keys()
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


class Begun(TrainerCallback):
    """Keeps a copy of the weights and the state before the first step."""

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.step = -1

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        weights = given["model"].state_dict()
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        self.step = state.global_step


def bare_trainer(project: Project, begun: Begun, *, max_steps: int) -> Seq2SeqTrainer:
    """Return a trainer without anything of mmrun's own, its model without any knowledge."""
    processor = load_processor(project.out / "setup/processor")
    data = DataSection(
        dataset_type="features2text",
        train_metadata_file=Path("data/train.tsv"),
        validation_metadata_file=Path("data/validation.tsv"),
    )
    model = load_model(project.out / "setup/model")
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    return Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir="bare",
            max_steps=max_steps,
            per_device_train_batch_size=8,
            learning_rate=0.001,
            save_strategy="no",
            logging_steps=1,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        data_collator=collator(processor, data=data),
        train_dataset=load_dataset_actor(
            project.out / "setup/dataset", data=data, processor=processor
        )["train"],
        callbacks=[begun],
    )


def test_a_pulled_folder_has_everything_in_it(frozen: Project) -> None:
    folder = pulled(frozen, "23", "pulled")

    original = frozen.out / "train/checkpoint-23"
    assert {path.name for path in folder.iterdir()} == {path.name for path in original.iterdir()}
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert_same(saved_weights(folder), saved_weights(original))
    assert mmrun(["checkpoints", "pull", str(folder), "again"]) == 0  # it is verified whole


def test_from_pretrained_reads_it(frozen: Project) -> None:
    folder = pulled(frozen, "23", "pulled")
    register_models()

    for model in (
        MultimodalEmbedderModel.from_pretrained(folder),
        AutoModelForSeq2SeqLM.from_pretrained(folder),
    ):
        assert_same(model.state_dict(), saved_weights(frozen.out / "train/checkpoint-23"))


def test_a_bare_trainer_goes_on_from_it(frozen: Project) -> None:
    folder = pulled(frozen, "18", "pulled")
    begun = Begun()
    trainer = bare_trainer(frozen, begun, max_steps=22)
    model = trainer.model
    assert model is not None

    trainer.train(resume_from_checkpoint=str(folder))

    before = saved_weights(frozen.out / "train/checkpoint-18")
    assert (begun.step, trainer.state.global_step) == (18, 22)
    assert_same(begun.weights, before)
    after = model.state_dict()
    fixed = {name for name, tensor in model.named_parameters() if not tensor.requires_grad}
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed
    assert fixed
    assert changed.isdisjoint(fixed)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert max(losses[-4:]) < 2 * losses[0]  # its optimizer's state went on, too


def state_of(folder: Path) -> Mapping[str, Any]:
    state: dict[str, Any] = json.loads((folder / "trainer_state.json").read_text())
    return state


@pytest.fixture
def worse(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A run whose checkpoint 12 is better than the later 18."""
    project.change("eval_steps: 4\n", "eval_steps: 6\n")
    project.train_to_the_end("--max_steps", "12")
    project.train_to_the_end("--max_steps", "18", "--learning_rate", "9")
    monkeypatch.chdir(project.folder)
    return project


def test_the_best_checkpoint_is_a_path_where_it_lies_beside(
    worse: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = pulled(worse, "18", "alone/checkpoint-18")
    said = capsys.readouterr().out
    best = pulled(worse, "12", "beside/checkpoint-12")
    later = pulled(worse, "18", "beside/checkpoint-18")

    assert not state_of(alone)["best_model_checkpoint"]
    assert "its best checkpoint is that of step 12; pull it to alone/checkpoint-12" in said
    assert "its best" not in capsys.readouterr().out
    assert state_of(best)["best_model_checkpoint"] == str(best)
    assert state_of(later)["best_model_checkpoint"] == str(best)


def test_a_best_step_that_was_never_saved_cannot_be_pulled(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pulled(frozen, "18", "pulled")

    assert state_of(folder)["best_global_step"] == 16  # evaluated then, and saved at 18
    assert "its best checkpoint" not in capsys.readouterr().out
