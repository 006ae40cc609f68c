"""One training in a process of its own, with a stopwatch at the Trainer: what a variant costs.

All variants train the same model on the same data with the same arguments:

- ``none``: the Hugging Face Trainer, its own checkpoints on disk, no tracking;
- ``stock``: the same with the MLflow callback of transformers and ``HF_MLFLOW_LOG_ARTIFACTS=1``;
- ``log_artifacts``: the same with a callback that calls MLflow's ``log_artifacts`` at each save;
- ``mmrun``: ``mmrun train``.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from transformers import Seq2SeqTrainer, TrainerCallback

from benchmarks.place import settle

VARIANTS = ("none", "stock", "log_artifacts", "mmrun")
CONFIG = Path("experiment.yaml")
OUTPUT = Path("out")
_RESULT = "times.json"
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**32)}
"""The C library gives the memory of the gradients back after a step, or does not, as small objects
happen to lie in it: that alone makes a training up to 1.7 times as long, whoever tracks it."""


@dataclass(kw_only=True)
class Times:
    """What the stopwatch saw, in seconds."""

    saves: list[float] = field(default_factory=list)
    """From the end of a step to the return to the loop, each time a checkpoint was saved."""
    start_up: float = 0.0
    """From the start of the process to the first step."""
    loop: float = 0.0
    """From the first step to the end of the last, checkpoints included."""
    cpu: float = 0.0
    """Of all threads of the process, in the loop."""
    after: float = 0.0
    """From the end of the loop to the end of the process: the drain."""
    handing_over: list[float] = field(default_factory=list)
    """What mmrun recorded as its part of each save."""


class Stopwatch(TrainerCallback):
    """The last callback, so that it sees what all others cost."""

    def __init__(self) -> None:
        self.times = Times()
        self.begun = 0.0
        """When the loop began."""
        self._cpu = 0.0
        self._step_ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of the loop."""
        self.begun = time.perf_counter()
        self._cpu = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note when the step was done, and how long the loop has taken."""
        self._step_ended = time.perf_counter()
        self._end_loop()

    def on_save(self, *_: Any, **__: Any) -> None:
        """Note how long saving held up the loop."""
        self.times.saves.append(time.perf_counter() - self._step_ended)
        self._end_loop()

    def _end_loop(self) -> None:
        self.times.loop = time.perf_counter() - self.begun
        self.times.cpu = time.process_time() - self._cpu


def measured(variant: str, project: Path, *, threads: int) -> Times:
    """Train in ``project`` in a process of its own; return its times."""
    settle()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "DVC_", "MMRUN_", "HF_"))
    }
    environment = kept | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **_KEEP_MEMORY,
    }
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", variant],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{variant} failed:\n{done.stdout}")
    times = Times(**json.loads((project / _RESULT).read_text(encoding="utf-8")))
    times.after = whole - times.start_up - times.loop
    return times


def main() -> None:
    """Train in the working directory as one variant, and write down the times."""
    begun = time.perf_counter()
    watch = Stopwatch()
    variant = sys.argv[1]
    if variant == "mmrun":
        _train_with_mmrun(watch)
    else:
        _train_with_the_trainer(watch, variant)
    watch.times.start_up = watch.begun - begun
    Path(_RESULT).write_text(json.dumps(asdict(watch.times)), encoding="utf-8")


def _train_with_mmrun(watch: Stopwatch) -> None:
    from mmrun.cli.main import run
    from mmrun.workflows.recipe import Recipe

    made = Recipe.trainer

    def with_stopwatch(self: Recipe, **options: Any) -> Any:
        trainer = made(self, **options)
        trainer.add_callback(watch)
        return trainer

    setattr(Recipe, "trainer", with_stopwatch)  # noqa: B010 (mypy allows no other way)
    code = run(["train", "--config_path", str(CONFIG)])
    if code:
        sys.exit(code)
    watch.times.handing_over = _recorded("mmrun/checkpoint_stall_s")


def _recorded(key: str) -> list[float]:
    from mlflow import MlflowClient

    client = MlflowClient()
    run_id = json.loads((OUTPUT / "run.json").read_text(encoding="utf-8"))["run_id"]
    return [point.value for point in client.get_metric_history(run_id, key)]


def _train_with_the_trainer(watch: Stopwatch, variant: str) -> None:
    from mmrun.config.loading import load_experiment
    from mmrun.data.dataset import load_dataset_actor
    from mmrun.data.processor import load_processor
    from mmrun.models.build import load_model
    from mmrun.tasks.translation import collator
    from mmrun.training.arguments import build_arguments
    from mmrun.workflows.actors import STEPS
    from mmrun.workflows.setup import run_setup

    experiment = load_experiment(CONFIG)
    actors = run_setup(experiment, folder=OUTPUT / "setup", steps=frozenset(STEPS))
    processor = load_processor(actors.processor)
    arguments = build_arguments(experiment, output_dir=OUTPUT)
    arguments.save_total_limit = experiment.training.save_total_limit
    if variant == "stock":
        os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "1"
        arguments.report_to = ["mlflow"]
    datasets = load_dataset_actor(actors.dataset, data=experiment.data, processor=processor)
    trainer = Seq2SeqTrainer(
        model=load_model(actors.model),
        args=arguments,
        data_collator=collator(processor, data=experiment.data),
        train_dataset=datasets["train"],
        processing_class=processor,
        callbacks=[LogArtifacts.opened()] if variant == "log_artifacts" else [],
    )
    trainer.add_callback(watch)
    trainer.train()


class LogArtifacts(TrainerCallback):
    """What people write where they want their checkpoints in MLflow."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    @classmethod
    def opened(cls) -> Self:
        """Return one with a run of its own."""
        from mlflow import MlflowClient

        client = MlflowClient()
        return cls(client, client.create_run("0").info.run_id)

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Send the checkpoint, and return when it is sent."""
        name = f"checkpoint-{state.global_step}"
        self._client.log_artifacts(self._run_id, Path(args.output_dir, name), f"checkpoints/{name}")


if __name__ == "__main__":
    main()
