"""``mmrun checkpoints list`` on a real MLflow database."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Description, Selection
from mmrun.checkpoints.policy import Retention
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import RunFile, write_run_file
from mmrun.workflows.checkpoints.listing import list_checkpoints_command


def described(
    run_id: str, step: int, *, attempt: int, metrics: Mapping[str, float] | None = None
) -> Description:
    return Description(
        run_id=run_id,
        step=step,
        attempt=attempt,
        metrics=metrics or {},
        selection=Selection(metric="eval_loss", greater_is_better=False),
        config_fingerprint="c",
        data_version="d",
    )


class Trained:
    """A run with checkpoints, in an output folder and in MLflow."""

    def __init__(self, root: Path) -> None:
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        self.output = root / "output"
        self.store = MlflowStore(self.uri)
        run = self.store.create(experiment="listed", name=None, tags={})
        self.run_id = run.run_id
        write_run_file(
            self.output,
            RunFile(
                run_id=self.run_id,
                tracking_uri=self.uri,
                experiment_id=run.experiment_id,
                lineage=((1, 0), (2, 10)),
            ),
        )
        self.local = LocalCheckpoints(self.output / "train")
        self.publisher = Publisher(
            self.local,
            RemoteCheckpoints(self.store.artifacts(self.run_id)),
            run_id=self.run_id,
            spool=self.output / "spool",
            retention=Retention(last=5),
        )

    def save(self, step: int, *, attempt: int, loss: float) -> None:
        partial = self.local.partial(step)
        (partial / "model.safetensors").write_bytes(b"weights" * step)
        self.publisher.publish(
            partial,
            described(
                self.run_id,
                step,
                attempt=attempt,
                metrics={"eval_loss": loss, "eval_runtime": 1.5},
            ),
        )
        self.publisher.drain(30)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    trained = Trained(tmp_path)
    trained.save(10, attempt=1, loss=1.0)
    trained.save(20, attempt=1, loss=0.5)
    trained.save(15, attempt=2, loss=2.0)
    return trained


def rows(text: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(text)["checkpoints"]
    return found


def test_a_table_shows_every_checkpoint_and_what_it_is(trained: Trained) -> None:
    table = list_checkpoints_command(str(trained.output), format="table")

    assert table.splitlines() == [
        f"run {trained.run_id}",
        "STEP   SIZE   METRICS        WHERE  STATE  NOTES",
        "10     70 B   eval_loss=1    both   whole  best",
        "15     105 B  eval_loss=2    both   whole  latest",
        "20.a1  140 B  eval_loss=0.5  both   whole  superseded",
    ]


def test_a_run_is_listed_by_its_id(trained: Trained) -> None:
    shutil.rmtree(trained.output)

    listed = rows(list_checkpoints_command(trained.run_id, format="json"))

    assert [(row["step"], row["where"], row["whole"]) for row in listed] == [
        (10, "store", True),
        (15, "store", True),
        (20, "store", True),
    ]
    assert listed[0]["state"] == "whole by its sizes"


def test_a_broken_one_says_why(trained: Trained) -> None:
    (trained.local.path("checkpoint-15") / "model.safetensors").write_bytes(b"")
    artifacts = trained.store.artifacts(trained.run_id)
    artifacts.delete("checkpoints/checkpoint-15/model.safetensors")
    artifacts.delete("checkpoints/checkpoint-10/manifest.json")
    (trained.local.path("checkpoint-10") / "manifest.json").unlink()

    listed = rows(list_checkpoints_command(str(trained.output), format="json"))

    assert [(row["step"], row["whole"], row["state"]) for row in listed] == [
        (10, False, "it has no manifest.json"),
        (10, False, "its upload never finished"),
        (
            15,
            False,
            "here: model.safetensors is empty instead of 105 bytes; "
            "in the store: model.safetensors is missing",
        ),
        (20, True, "whole"),
    ]


def test_a_rejected_one_is_shown_with_its_reason(trained: Trained) -> None:
    trained.local.reject("checkpoint-15", "optimizer.pt is missing")

    listed = rows(list_checkpoints_command(str(trained.output), format="json"))

    assert [row["state"] for row in listed if row["notes"] == ["rejected"]] == [
        "optimizer.pt is missing"
    ]


def test_each_of_two_rejected_of_one_step_is_shown(trained: Trained) -> None:
    for loss in (3.0, 4.0):
        trained.local.reject("checkpoint-15", f"broken when its loss was {loss:g}")
        trained.save(15, attempt=3, loss=loss)
    trained.local.reject("checkpoint-15", "broken")

    listed = rows(list_checkpoints_command(str(trained.output), format="json"))

    assert {row["state"] for row in listed if row["notes"] == ["rejected"]} == {
        "broken when its loss was 3",
        "broken when its loss was 4",
        "broken",
    }


def wait_in_spool(trained: Trained, *steps: int) -> None:
    """Save checkpoints that are queued and not sent."""
    spool = Spool(trained.output / "spool")
    for step in steps:
        partial = trained.local.partial(step)
        (partial / "model.safetensors").write_bytes(b"weights" * step)
        manifest = trained.local.finish(partial, described(trained.run_id, step, attempt=2))
        spool.add(trained.local.path(f"checkpoint-{step}"), manifest)


def test_each_of_those_that_wait_says_so(trained: Trained) -> None:
    wait_in_spool(trained, 21, 22, 23)

    table = list_checkpoints_command(str(trained.output), format="table")

    said = [line for line in table.splitlines() if "not yet sent (not tried yet)" in line]
    assert [line.split()[0] for line in said] == ["21", "22", "23"]


def test_what_lies_only_in_the_spool_is_listed_as_a_resume_takes_it(trained: Trained) -> None:
    wait_in_spool(trained, 21)
    shutil.rmtree(trained.local.path("checkpoint-21"))

    table = list_checkpoints_command(str(trained.output), format="table")

    (line,) = [line for line in table.splitlines() if line.startswith("21 ")]
    assert line.endswith("local  whole  latest, not yet sent (not tried yet)")


def test_a_broken_folder_and_its_copy_that_waits_are_told_apart(trained: Trained) -> None:
    wait_in_spool(trained, 21, 22)
    (trained.local.path("checkpoint-21") / "model.safetensors").unlink()
    (waiting,) = (trained.output / "spool").glob("*/checkpoint-22.a2")
    (waiting / "model.safetensors").unlink()

    listed = rows(list_checkpoints_command(str(trained.output), format="json"))

    assert {row["step"]: (row["whole"], row["state"]) for row in listed[3:]} == {
        21: (True, "usable, but here: model.safetensors is missing"),
        22: (True, "usable, but in the spool: model.safetensors is missing"),
    }


def test_without_the_store_the_local_ones_are_shown_and_said_to_be_all(trained: Trained) -> None:
    Path(trained.uri.removeprefix("sqlite:///")).unlink()

    table = list_checkpoints_command(str(trained.output), format="table")

    assert "warning: the store could not be reached" in table
    assert "20.a1  140 B  eval_loss=0.5  local  whole  superseded" in table


def test_listing_makes_no_database(trained: Trained, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"

    with pytest.raises(TrackingError, match="there is no database"):
        list_checkpoints_command(trained.run_id, format="table", tracking_uri=elsewhere)

    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize("target", ["nowhere", "outputs/nothing", "f" * 32])
def test_what_is_neither_a_folder_nor_a_run_is_a_usage_error(trained: Trained, target: str) -> None:
    with pytest.raises(UsageError, match="neither an output folder nor"):
        list_checkpoints_command(target, format="table")


def test_a_folder_of_something_else_is_a_usage_error(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    with pytest.raises(UsageError, match="no training wrote to it"):
        list_checkpoints_command(str(tmp_path / "other"), format="table")


def test_a_run_that_saved_nothing_yet_says_so(trained: Trained) -> None:
    run = trained.store.create(experiment="listed", name=None, tags={})

    assert list_checkpoints_command(run.run_id, format="table").splitlines() == [
        f"run {run.run_id}",
        "no checkpoint has been saved yet",
    ]
