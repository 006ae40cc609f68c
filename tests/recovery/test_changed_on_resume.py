"""What a resume is asked to change: real, or refused with the reason and nothing touched."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from mmrun.config.loading import load_experiment
from mmrun.data.dataset import load_dataset_actor
from mmrun.data.processor import load_processor
from mmrun.models.build import load_model
from mmrun.tasks.translation import collator
from mmrun.workflows.actors import Actors, missing_steps
from mmrun.workflows.setup import run_setup
from tests.mlflow_server import free_port
from tests.recovery.project import STEPS, Done, Project

LONGER = 26
OTHER_RUN = "f" * 32


def assert_refused(done: Done, *, code: int, naming: str) -> None:
    lines = done.said.splitlines()
    assert done.code == code, done.said
    assert "Traceback" not in done.said
    assert any(line.startswith("error: ") and naming in line for line in lines), done.said
    assert lines[-1].startswith("  try: ")


def recorded(project: Project) -> object:
    """Return all that a refusal must leave as it was: the lease moves, nothing else does."""
    artifacts = project.folder / "mlartifacts"
    return (
        [
            (run.run_id, run.status, _without_lease(run.tags), _without_lease(run.params))
            for run in project.runs()
        ],
        project.points,
        sorted(path.relative_to(artifacts) for path in artifacts.rglob("*")),
        sorted(path.name for path in (project.out / "train").iterdir()),
    )


def _without_lease(values: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in values.items() if not key.startswith("mmrun.lease.")}


def test_more_steps_continue_the_run_and_overwriting_starts_another(
    finished: Project, alone: Project
) -> None:
    finished.train_to_the_end("--overwrite_output_dir", "false", "--max_steps", str(LONGER))

    old = finished.run
    assert old.run_id == alone.run.run_id
    assert old.status == "FINISHED"
    assert finished.history.items() > alone.history.items()
    assert finished.attempt(2)["overrides"] == {"training.max_steps": ["23", "26"]}
    continued = finished.weights(LONGER)

    finished.train_to_the_end("--overwrite_output_dir", "true", "--max_steps", str(LONGER))

    (new,) = [run for run in finished.runs() if run.run_id != old.run_id]
    assert new.status == "FINISHED"
    kept = {path.name for path in (finished.out / "train").glob("checkpoint-*[0-9]")}
    assert kept == {f"checkpoint-{step}" for step in (6, 12, 18, 24, LONGER)}
    fresh = finished.weights(LONGER)
    assert all(torch.equal(continued[name], fresh[name]) for name in fresh)


def test_a_changed_learning_rate_is_in_force_at_once(killed: Project) -> None:
    killed.train_to_the_end("--learning_rate", "0.0005", "--resume_from_checkpoint", "best")

    assert killed.run.status == "FINISHED"
    assert killed.run.params["cfg.training.learning_rate"] == "0.001"
    assert killed.attempt(2)["overrides"] == {"training.learning_rate": ["0.001", "0.0005"]}
    rates = [(step, rate) for key, step, rate in killed.points if key == "learning_rate"]
    assert rates == [(5, 0.001), (10, 0.001), (15, 0.001), (15, 0.0005), (20, 0.0005)]
    assert killed.run.tags["mmrun.replay"] == "overridden@15"


def test_a_changed_dropout_goes_on(killed: Project) -> None:
    said = killed.train_to_the_end("--set", "model.backbone_config.dropout=0.3")

    assert "changed: model.backbone_config.dropout: 0.1 → 0.3" in said
    assert killed.run.status == "FINISHED"
    assert killed.attempt(2)["from_step"] == 18


def test_a_model_of_another_shape_is_refused(killed: Project) -> None:
    before = recorded(killed)

    done = killed.train("--set", "model.backbone_config.encoder_ffn_dim=48")

    assert_refused(done, code=5, naming="fc1.bias is 64 in the checkpoint and 48 in the model")
    assert recorded(killed) == before


def test_what_is_done_is_not_done_again(finished: Project) -> None:
    before = recorded(finished)

    again = finished.train_to_the_end()

    assert f"is already done at step {STEPS}" in again
    assert recorded(finished) == before

    for dry in ((), ("--dry-run",)):
        changed = finished.train("--weight_decay", "0.1", *dry)

        assert_refused(changed, code=2, naming="training.weight_decay")
        assert recorded(finished) == before

    planned = finished.train("--dry-run")
    assert f"none: the run is already done at step {STEPS}" in planned.said


def test_what_early_stopping_ended_goes_on_only_where_it_may_stop_later(project: Project) -> None:
    early = ("--early_stopping_patience", "2", "--greater_is_better", "true")
    assert "is done at step 12" in project.train_to_the_end(*early)
    before = recorded(project)

    planned = project.train(*early, "--dry-run")
    changed = project.train(*early, "--set", "tracking.keep_last=5")

    assert "none: the run is already done at step 12" in planned.said
    assert_refused(changed, code=2, naming="tracking.keep_last")
    assert recorded(project) == before
    longer = project.train_to_the_end("--early_stopping_patience", "3", *early[2:])
    assert "is done at step 16" in longer


def test_other_data_behind_the_same_paths_is_refused_unless_accepted(killed: Project) -> None:
    sample = killed.folder / "data/train/00003.npy"
    np.save(sample, np.load(sample) * 0.5)
    before = recorded(killed)

    done = killed.train()

    assert_refused(done, code=4, naming="the data behind the same paths changed")
    assert "--accept-data-change" in done.said
    fewer = killed.train("--max_eval_samples", "8")  # another key of data explains nothing
    assert_refused(fewer, code=4, naming="the data behind the same paths changed")
    assert recorded(killed) == before

    killed.train_to_the_end("--accept-data-change")

    assert killed.run.status == "FINISHED"
    assert killed.attempt(2)["data_version"] != killed.attempt(1)["data_version"]


def test_rows_that_were_added_to_the_data_are_seen(killed: Project) -> None:
    manifest = killed.folder / "data/train.tsv"
    *_, one, other = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    with manifest.open("a", encoding="utf-8") as rows:
        rows.write(one + other)
    before = recorded(killed)

    done = killed.train()

    assert_refused(done, code=4, naming="the data behind the same paths changed")
    assert recorded(killed) == before


@pytest.mark.parametrize(
    ("reference", "code", "naming"),
    [
        pytest.param("17", 5, "has no checkpoint 17", id="no such step"),
        pytest.param(f"{OTHER_RUN}@latest", 2, OTHER_RUN, id="another run"),
        pytest.param("out/train/checkpoint-17", 5, "there is no checkpoint folder", id="no folder"),
    ],
)
def test_a_reference_to_nothing_is_refused(
    killed: Project, reference: str, code: int, naming: str
) -> None:
    before = recorded(killed)

    done = killed.train("--resume_from_checkpoint", reference)

    assert_refused(done, code=code, naming=naming)
    assert recorded(killed) == before
    if reference == "17":
        assert "one of these steps: 18, 12, 6" in done.said
    if reference.startswith(OTHER_RUN):
        assert killed.run.run_id in done.said


def test_a_folder_with_other_content_is_refused(project: Project) -> None:
    project.out.mkdir()
    (project.out / "thesis.tex").write_text("mine", encoding="utf-8")
    before = sorted(project.folder.rglob("*"))

    done = project.train()

    assert_refused(done, code=2, naming="holds something else: thesis.tex")
    assert sorted(project.folder.rglob("*")) == before


def test_a_server_that_does_not_answer_is_named_in_time(killed: Project) -> None:
    before = recorded(killed)
    uri = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()

    done = killed.train(MLFLOW_TRACKING_URI=uri)

    assert_refused(done, code=6, naming=uri)
    assert time.monotonic() - started < 60
    assert recorded(killed) == before


def test_a_checkpoint_of_plain_hugging_face_starts_a_new_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    train_with_plain_hugging_face(Path("plain"), max_steps=5)
    shutil.rmtree("scratch")

    project.train_to_the_end("--resume_from_checkpoint", "plain/checkpoint-5", "--max_steps", "10")

    assert project.run.status == "FINISHED"
    assert project.run.tags["mmrun.started_from"] == str(Path("plain/checkpoint-5").absolute())
    assert project.attempt(1)["from_step"] == 5
    assert {step for key, step, _ in project.points if key == "loss"} == {10}


def train_with_plain_hugging_face(folder: Path, *, max_steps: int) -> None:
    """Train the experiment's own model with the stock trainer, and save once."""
    experiment = load_experiment(Path("experiment.yaml"))
    scratch = Path("scratch")
    run_setup(experiment, folder=scratch, steps=missing_steps(experiment, scratch))
    actors = Actors.of(scratch)
    processor = load_processor(actors.processor)
    Seq2SeqTrainer(
        model=load_model(actors.model),
        args=Seq2SeqTrainingArguments(
            output_dir=str(folder),
            max_steps=max_steps,
            save_steps=max_steps,
            per_device_train_batch_size=8,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            report_to="none",
            disable_tqdm=True,
        ),
        data_collator=collator(processor, data=experiment.data),
        train_dataset=load_dataset_actor(actors.dataset, data=experiment.data, processor=processor)[
            "train"
        ],
        processing_class=processor,
    ).train()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--learning_rate", "-1"), id="out of range"),
        pytest.param(("--optim", "adamw_bnb_8bit"), id="a package that is missing"),
    ],
)
def test_a_value_that_cannot_be_opens_no_attempt(killed: Project, options: tuple[str, ...]) -> None:
    before = recorded(killed)

    done = killed.train(*options)

    assert_refused(done, code=3, naming="training")
    assert recorded(killed) == before
