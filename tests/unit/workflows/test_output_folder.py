"""Whose an output folder is, and what is removed for a new run."""

from pathlib import Path

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import Description
from mmrun.checkpoints.spool import Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.attempts import AttemptRecord, Start
from mmrun.tracking.journal import Journal
from mmrun.tracking.run_file import RunFile, write_run_file
from mmrun.workflows.ending import Ending, read_ending, write_ending
from mmrun.workflows.output_folder import clear, refuse_foreign, run_of_checkpoints, unsent
from tests.unit.checkpoints.samples import RUN, Place, description, write_files
from tests.unit.tracking.points import point

OTHER_RUN = "f" * 32


def entry(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="empty"),
        pytest.param(["setup/model/config.json", "generate/x/scores.json"], id="actors"),
        pytest.param(["train/checkpoint-5/manifest.json", "journal/a", "spool/b"], id="a run"),
        pytest.param([".mmrun.lock", ".digests.json", ".gitignore"], id="hidden files"),
        pytest.param(["run.json", "notes.txt"], id="a run with notes beside"),
    ],
)
def test_a_folder_of_ours_is_taken(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        entry(tmp_path, name)

    refuse_foreign(tmp_path)


def test_a_folder_that_is_not_there_is_taken(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new")

    assert not (tmp_path / "new").exists()


def test_a_file_is_refused(tmp_path: Path) -> None:
    entry(tmp_path, "out")

    with pytest.raises(UsageError, match="out is a file"):
        refuse_foreign(tmp_path / "out")


def test_foreign_content_is_named(tmp_path: Path) -> None:
    for name in ("d", "b", "c", "a", "setup/x"):
        entry(tmp_path, name)

    with pytest.raises(UsageError, match="holds something else: a, b, c, …"):
        refuse_foreign(tmp_path)


def test_checkpoints_of_another_program_are_told_how_to_be_used(tmp_path: Path) -> None:
    entry(tmp_path, "checkpoint-500/trainer_state.json")

    with pytest.raises(UsageError) as caught:
        refuse_foreign(tmp_path)

    assert f"--resume_from_checkpoint {tmp_path}/checkpoint-STEP" in caught.value.hint


def test_the_run_is_known_by_its_checkpoints(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.save(5, 10)

    assert run_of_checkpoints(tmp_path / "output") == RUN


def test_a_folder_without_checkpoints_belongs_to_no_run(tmp_path: Path) -> None:
    assert run_of_checkpoints(tmp_path) is None


def test_checkpoints_of_two_runs_are_refused_and_both_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.save(5)
    other: Description = description(10, run_id=OTHER_RUN)
    place.local.finish(write_files(place.local.partial(10), step=10), other)

    with pytest.raises(UsageError, match="several runs") as caught:
        run_of_checkpoints(tmp_path / "output")

    assert RUN in str(caught.value)
    assert OTHER_RUN in str(caught.value)


def used(tmp_path: Path) -> tuple[Path, Journal, Place]:
    """Return an output folder with a checkpoint, a journaled point, and files beside."""
    place = Place(tmp_path)
    place.publish(5)
    output = tmp_path / "output"
    journal = Journal(output / "journal", attempt=1)
    journal.append([point()])
    run = RunFile(run_id=RUN, tracking_uri="sqlite:///x.db", experiment_id="1")
    write_run_file(output, run)
    for name in ("setup/model/config.json", "generate/x/scores.json"):
        entry(output, name)
    return output, journal, place


def sent(journal: Journal) -> None:
    for log in journal.logs():
        log.acknowledge(log.batch().until)


def test_clearing_leaves_the_actors_only(tmp_path: Path) -> None:
    output, journal, _ = used(tmp_path)
    sent(journal)

    clear(output)

    assert [path.name for path in output.iterdir()] == ["setup"]
    assert (output / "setup/model/config.json").exists()


def test_what_was_never_sent_is_not_cleared(tmp_path: Path) -> None:
    output, _, place = used(tmp_path)
    place.store.away = True
    place.publish(10)
    before = sorted(output.rglob("*"))

    with pytest.raises(TrackingError, match="1 metric point and 1 checkpoint "):
        clear(output)

    assert unsent(output) == {"metric points": 1, "checkpoints": 1}
    assert sorted(output.rglob("*")) == before


def waiting_for(output: Path, place: Place, run_id: str) -> Path:
    """Let a checkpoint of a run wait in the folder's spool; return where."""
    ours = place.local.path("checkpoint-5")
    spool = Spool(output / "spool")
    theirs = manifests.read(ours).model_copy(update={"run_id": run_id})
    spool.add(ours, theirs)
    waiting = output / f"spool/{run_id}/checkpoint-5.a1"
    (waiting / "manifest.json").unlink()  # it is linked to the one of the checkpoint
    manifests.write(waiting, theirs)
    return waiting


def test_what_waits_for_another_run_holds_up_nobody_and_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, journal, place = used(tmp_path)
    sent(journal)
    theirs = waiting_for(output, place, OTHER_RUN)

    waits = unsent(output)
    clear(output)

    assert waits == {}
    assert (theirs / "manifest.json").exists()
    assert not (output / "run.json").exists()
    assert f"{theirs.parent} stays: it was not sent, and is of another run" in caplog.text


def test_what_waits_for_another_version_of_mmrun_is_not_cleared(tmp_path: Path) -> None:
    output, journal, place = used(tmp_path)
    sent(journal)
    waiting = waiting_for(output, place, RUN)
    (waiting / "manifest.json").write_text('{"format": 3}')

    with pytest.raises(TrackingError, match="is of a version of mmrun that this one cannot read"):
        clear(output)

    assert waiting.exists()


def test_an_empty_folder_has_nothing_to_clear(tmp_path: Path) -> None:
    clear(tmp_path)

    assert unsent(tmp_path) == {}


def test_how_the_run_before_ended_is_told_before_it_is_forgotten(tmp_path: Path) -> None:
    record = AttemptRecord(
        attempt=1,
        run_id=RUN,
        from_step=0,
        started_ms=0,
        config={},
        host="here",
        pid=1,
        lineage=(Start(1, 0, 0),),
        ended="finished",
    )
    write_ending(tmp_path / "journal", Ending(record=record, status="FINISHED"))

    with pytest.raises(TrackingError, match="still holds how the run before ended"):
        clear(tmp_path)

    assert read_ending(tmp_path / "journal") is not None
