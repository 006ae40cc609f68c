"""What earlier attempts left behind, in the store and in the folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmrun.config.loading import Override
from mmrun.errors import TrackingError
from mmrun.tracking.attempts import AttemptRecord, Start
from mmrun.tracking.journal import Journal
from mmrun.tracking.replay import Divergence
from mmrun.tracking.run_file import RunFile
from mmrun.tracking.store import Run
from mmrun.workflows.killed import as_killed
from mmrun.workflows.past import Past, earlier_points, read_past
from mmrun.workflows.records import save_record
from tests.fakes import MemoryStore
from tests.unit.checkpoints.samples import description
from tests.unit.tracking.points import point

CONFIG: dict[str, Any] = {"training": {"max_steps": 9, "learning_rate": 0.1}}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(store: MemoryStore) -> Run:
    return store.create(experiment="tests", name=None, tags={})


def record(run: Run, *starts: int) -> AttemptRecord:
    """Return the record of the last of several attempts, by the steps they started from."""
    lineage = tuple(
        Start(attempt=number, from_step=step, started_ms=1000 * number)
        for number, step in enumerate(starts, start=1)
    )
    return AttemptRecord(
        attempt=len(starts),
        run_id=run.run_id,
        from_step=starts[-1],
        started_ms=lineage[-1].started_ms,
        config=CONFIG,
        host="here",
        pid=1,
        lineage=lineage,
    )


def run_file(run_id: str, *lineage: tuple[int, int]) -> RunFile:
    return RunFile(run_id=run_id, tracking_uri="memory:", experiment_id="0", lineage=lineage)


def test_a_run_without_attempts_has_no_past(store: MemoryStore, run: Run) -> None:
    past = read_past(store, run, None)

    assert past == Past()
    assert past.attempts == 0
    assert past.flat_config == {}


def test_the_newest_attempt_counts(store: MemoryStore, run: Run) -> None:
    for number in range(1, 12):
        save_record(store, record(run, *[0] * number))

    past = read_past(store, run, None)

    assert past.attempts == 11
    assert past.last is not None
    assert past.last.attempt == 11


def test_store_and_folder_together_know_every_attempt(store: MemoryStore, run: Run) -> None:
    save_record(store, record(run, 0, 20))

    past = read_past(store, run, run_file(run.run_id, (1, 0), (2, 20), (3, 40)))

    assert past.lineage == ((1, 0), (2, 20), (3, 40))
    assert past.attempts == 3


def test_the_folder_of_another_run_says_nothing(store: MemoryStore, run: Run) -> None:
    past = read_past(store, run, run_file("f" * 32, (1, 0), (2, 20)))

    assert past.attempts == 0


def test_the_configuration_of_the_last_attempt_can_be_used_again(
    store: MemoryStore, run: Run
) -> None:
    save_record(store, record(run, 0))

    override = Override(key="training.max_steps", text="12", source="--max_steps")
    experiment = read_past(store, run, None).experiment([override])

    assert experiment.training.arguments == {"max_steps": 12, "learning_rate": 0.1}


def test_the_latest_time_stamp_is_the_last_that_the_record_has(run: Run) -> None:
    assert Past().last_ms == 0
    assert Past(last=record(run, 0, 20)).last_ms == 2000
    assert Past(last=replace(record(run, 0), ended_ms=5000)).last_ms == 5000
    assert Past(last=replace(record(run, 0), latest_ms=7000)).last_ms == 7000


def test_a_record_that_cannot_be_read_is_passed_over(
    store: MemoryStore, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    save_record(store, record(run, 0))
    store.artifacts(run.run_id).files["attempts/2.json"] = b"{"

    past = read_past(store, run, None)

    assert past.attempts == 1
    assert "attempt 2" in caplog.text


def test_a_run_that_recorded_no_configuration_cannot_be_used_alone() -> None:
    with pytest.raises(TrackingError, match="no recorded configuration") as caught:
        Past().experiment(())

    assert "--config_path" in caught.value.hint


@pytest.mark.parametrize(
    ("recorded", "journaled", "saved", "end"),
    [
        pytest.param(18, (), (), 18, id="recorded"),
        pytest.param(10, (15, 16), (), 16, id="in its journal"),
        pytest.param(None, (15,), (2, 18), 18, id="in its checkpoint"),
        pytest.param(10, (), (1, 10), None, id="no step of its own: where it began"),
        pytest.param(None, (), (), None, id="nothing is known"),
    ],
)
def test_how_far_an_attempt_had_come_is_what_the_best_witness_says(
    run: Run,
    tmp_path: Path,
    *,
    recorded: int | None,
    journaled: tuple[int, ...],
    saved: tuple[int, ...],
    end: int | None,
) -> None:
    last = replace(record(run, 0, 10), to_step=recorded)
    Journal(tmp_path, attempt=1).append([point(step=30)])  # of another attempt
    Journal(tmp_path, attempt=2).append([point(step=step) for step in journaled])
    begun = description(saved[1], attempt=saved[0]) if saved else None

    assert as_killed(last, journal=tmp_path, saved=begun).to_step == end


def test_what_a_record_has_not_of_its_journal_is_added_when_the_attempt_just_died(
    run: Run, tmp_path: Path
) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.confirm([point(step=12)])
    journal.diverge([Divergence("loss", 13, 1.0, 2.0)])
    known = replace(
        record(run, 0, 10),
        to_step=13,
        confirmed={"loss": [[12, 12]]},
        diverged=1,
        diverged_at=13,
        replay="diverged@13",
        journaled=journal.own.size(),
    )
    journal.confirm([point(step=14), point(step=14, key="lr")])
    journal.diverge([Divergence("loss", 15, 1.0, 2.0)])

    ended = as_killed(known, journal=tmp_path, saved=None)

    assert (ended.ended, ended.to_step) == ("killed", 14)
    assert ended.confirmed == {"loss": [[12, 12], [14, 14, 1000]], "lr": [[14, 14, 1000]]}
    assert (ended.diverged, ended.diverged_at, ended.replay) == (2, 13, "diverged@13")
    assert as_killed(ended, journal=tmp_path, saved=None) == ended


def test_points_are_those_of_store_and_journal_each_once(
    store: MemoryStore, run: Run, tmp_path: Path
) -> None:
    stored, both, here = point(1.0, step=10), point(2.0, step=20), point(3.0, step=30)
    store.log_points(run.run_id, [stored, both])
    Journal(tmp_path, attempt=1).append([both, here])

    found = earlier_points(store=store, run=store.read(run.run_id), journal=tmp_path)

    assert sorted(found) == [stored, both, here]


def test_a_value_that_is_no_number_is_one_point(
    store: MemoryStore, run: Run, tmp_path: Path
) -> None:
    store.log_points(run.run_id, [point(float("nan"), step=20)])
    Journal(tmp_path, attempt=1).append([point(float("nan"), step=20)])

    found = earlier_points(store=store, run=store.read(run.run_id), journal=tmp_path)

    assert len(found) == 1
