"""One attempt: told what happens, to the journal and the store."""

from pathlib import Path

import pytest

from mmrun.checkpoints.manifest import Selection
from mmrun.checkpoints.policy import Saved
from mmrun.tracking.attempts import AttemptRecord, Overlap, Start, Stored
from mmrun.tracking.journal import Clock, Journal, read_confirmed
from mmrun.tracking.replay import Change, Changes, Divergence, Explanation
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import Point, RunStatus
from mmrun.tracking.tail import read_left
from mmrun.workflows.attempt import Attempt
from mmrun.workflows.records import last_record
from tests.fakes import MemoryStore
from tests.unit.tracking.points import point

FLUSH_S = 30.0


class Recorded:
    """An attempt of a run in memory, with its journal in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        number: int = 1,
        earlier: tuple[Point, ...] = (),
        changes: Changes | None = None,
        replay: str | None = None,
        stored: Stored | None = None,
    ) -> None:
        self.store = MemoryStore()
        self.run_id = self.store.create(experiment="tests", name=None, tags={}).run_id
        self.folder = folder
        journal = Journal(folder, attempt=number)
        self.sender = Sender(self.store, self.run_id, journal, every_s=0.01)
        start = Start(attempt=number, from_step=10 * (number - 1), started_ms=5000)
        self.attempt = Attempt(
            AttemptRecord(
                attempt=number,
                run_id=self.run_id,
                from_step=start.from_step,
                started_ms=start.started_ms,
                config={},
                host="here",
                pid=1,
                lineage=(start,),
                overrides={} if number == 1 else {"training.seed": ("1", "2")},
                data_version="sha256:d",
                replay=replay,
            ),
            store=self.store,
            journal=journal,
            sender=self.sender,
            overlap=Overlap(
                earlier,
                from_step=start.from_step,
                explanation=Explanation(started={1: 0, 2: 5000}, changes=changes or {}),
                stored=stored,
            ),
            clock=Clock(after_ms=5000),
            circumstances=["torch 2.12 → 2.13"],
        )
        self.attempt.open()
        self.sender.start()

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.store.read(self.run_id).tags)

    def end(self, ended: str = "finished", *, error: str = "") -> None:
        status: RunStatus = "FAILED" if error else "FINISHED"
        assert self.attempt.close(ended, status=status, flush_s=FLUSH_S, error=error)

    def values(self, key: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.store.history(self.run_id, key)]


def test_an_open_attempt_is_on_record_before_its_first_step(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)

    record = last_record(recorded.store, recorded.run_id)

    assert record is not None
    assert (record.attempt, record.ended) == (1, None)
    assert recorded.store.read(recorded.run_id).status == "RUNNING"
    assert recorded.tags["mmrun.status"] == "running"
    assert recorded.tags["mmrun.attempt.1"] == "from step 0, running"
    assert recorded.tags["mmrun.data"] == "sha256:d"
    recorded.end()


def test_what_was_confirmed_is_on_record_before_a_checkpoint_is_sent(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, earlier=(point(1.5, step=15),))
    recorded.attempt.log({"loss": 1.5}, 15)

    recorded.attempt.sending()

    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert record.confirmed == {"loss": [[15, 15, 1000]]}
    recorded.end()


def test_a_record_says_how_much_of_the_journal_it_knows(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.attempt.log({"loss": 1.5}, 5)
    size = (tmp_path / "attempt-1.jsonl").stat().st_size

    recorded.attempt.settled(None)
    recorded.attempt.log({"loss": 1.5}, 6)

    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert (record.to_step, record.journaled) == (5, size)
    recorded.end()
    assert record.latest_ms == recorded.store.points[recorded.run_id][0].timestamp_ms


class Unreadable:
    """Points of the store that could not be read when they were needed."""

    def __init__(self) -> None:
        self.last_steps = {"loss": 30}
        self.whole = False

    def wait(self) -> list[Point]:
        return []


def test_what_could_not_be_compared_before_is_compared_when_it_is_sent(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, stored=Unreadable())
    recorded.store.log_points(recorded.run_id, [point(1.0, step=s, at=100 + s) for s in (15, 25)])

    for step, value in ((15, 1.0), (20, 1.0), (25, 2.0), (35, 1.0)):
        recorded.attempt.log({"loss": value}, step)
    recorded.end()

    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert record.confirmed == {"loss": [[15, 15, 115]]}
    assert read_confirmed(tmp_path)[2] == {"loss": [[15, 15, 115]]}
    assert recorded.values("loss") == [(15, 1.0), (20, 1.0), (25, 1.0), (25, 2.0), (35, 1.0)]
    assert recorded.sender.doubles == 1


def test_of_any_number_of_steps_the_last_ones_are_known(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    for step in range(1000):
        recorded.attempt.log({"loss": 1.5}, step)

    recorded.attempt.log({"loss": 1.5, "epoch": 1.0}, 999)
    recorded.attempt.log({"mmrun/upload_s": 1.5}, 3)
    recorded.end()

    assert len(recorded.values("loss")) == 1000
    assert recorded.values("epoch") == [(999, 1.0)]
    assert recorded.values("mmrun/upload_s") == [(3, 1.5)]


def test_an_attempt_that_logs_nothing_leaves_an_empty_journal(tmp_path: Path) -> None:
    Recorded(tmp_path).end()

    assert (tmp_path / "attempt-1.jsonl").read_bytes() == b""


def test_a_log_line_is_sent_with_one_time_stamp(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)

    recorded.attempt.log({"loss": 1.5, "epoch": 0.5}, 5)
    recorded.end()

    points = recorded.store.points[recorded.run_id]
    assert {(point.key, point.step, point.value) for point in points} == {
        ("loss", 5, 1.5),
        ("epoch", 5, 0.5),
    }
    assert len({point.timestamp_ms for point in points}) == 1


def test_what_two_lines_of_a_step_have_in_common_is_sent_once(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)

    recorded.attempt.log({"loss": 1.5, "epoch": 0.5}, 5)
    recorded.attempt.log({"eval_loss": 2.5, "epoch": 0.5}, 5)
    recorded.end()

    assert recorded.values("epoch") == [(5, 0.5)]


def test_what_was_logged_before_is_confirmed_and_not_sent_again(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, earlier=(point(1.5, step=15), point(1.4, step=20)))

    recorded.attempt.log({"loss": 1.5}, 15)
    recorded.attempt.log({"loss": 1.4}, 20)
    recorded.attempt.log({"loss": 1.3}, 25)
    recorded.end()

    assert recorded.values("loss") == [(25, 1.3)]
    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert record.confirmed == {"loss": [[15, 20, 1000]]}
    assert read_confirmed(tmp_path)[2] == {"loss": [[15, 15, 1000], [20, 20, 1000]]}


def test_another_value_than_before_is_sent_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = Recorded(tmp_path, number=2, earlier=(point(1.5, step=15), point(1.4, step=20)))

    recorded.attempt.log({"loss": 9.5}, 15)
    recorded.attempt.log({"loss": 9.4}, 20)
    recorded.end()

    assert recorded.values("loss") == [(15, 9.5), (20, 9.4)]
    (warning,) = [said.getMessage() for said in caplog.records if said.levelname == "WARNING"]
    assert warning == (
        "step 15: loss is 9.5 now, and was 1.5 before the interruption, and no setting was changed "
        "that explains it; changed since: torch 2.12 → 2.13; both are kept, and the tag "
        "mmrun.replay says so"
    )
    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert (record.diverged, record.diverged_at, record.replay) == (2, 15, "diverged@15")
    assert recorded.tags["mmrun.replay"] == "diverged@15"


def test_a_changed_setting_explains_another_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = Recorded(
        tmp_path,
        number=2,
        earlier=(point(1.5, step=15),),
        changes={
            "training.seed": [Change(2, "1", "2")],
            "training.save_steps": [Change(2, "5", "6")],
        },
    )

    recorded.attempt.log({"loss": 9.5}, 15)
    recorded.end()

    assert "before the interruption; changed since: training.seed; both are kept" in caplog.text
    assert recorded.tags["mmrun.replay"] == "overridden@15"


def test_a_divergence_is_told_to_the_store_with_the_next_points(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, earlier=(point(1.5, step=15),))

    recorded.attempt.log({"loss": 9.5}, 15)

    assert recorded.sender.flush(FLUSH_S)
    assert recorded.tags["mmrun.replay"] == "diverged@15"
    recorded.end()


def test_a_divergence_is_on_disk_before_its_point(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, earlier=(point(1.5, step=15),))

    recorded.attempt.log({"loss": 9.5}, 15)

    assert read_left(tmp_path, attempt=2, after=0).diverged == [Divergence("loss", 15, 1.5, 9.5)]
    assert read_left(tmp_path, attempt=1, after=0).diverged == []
    recorded.end()


def test_what_an_earlier_attempt_met_stays_in_the_tag(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2, replay="diverged@12")

    recorded.attempt.log({"loss": 9.5}, 15)
    recorded.end()

    assert recorded.tags["mmrun.replay"] == "diverged@12"


def test_a_finished_attempt_says_what_it_did(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2)
    recorded.attempt.log({"loss": 1.0}, 15)

    recorded.end()

    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert (record.ended, record.to_step) == ("finished", 15)
    assert recorded.store.read(recorded.run_id).status == "FINISHED"
    assert recorded.tags["mmrun.status"] == "finished"
    assert recorded.tags["mmrun.attempt.2"] == ("steps 10 to 15, finished; training.seed: 1 → 2")


def test_a_failed_attempt_leaves_the_trace(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)

    recorded.end("failed", error="Traceback: out of memory")

    assert recorded.store.read(recorded.run_id).status == "FAILED"
    trace = recorded.store.artifacts(recorded.run_id).read("error.txt")
    assert trace == b"Traceback: out of memory"


def test_a_dead_attempt_has_its_last_state_on_record(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.attempt.log({"loss": 1.0}, 7)

    recorded.attempt.settled(None)

    record = last_record(recorded.store, recorded.run_id)
    assert record is not None
    assert (record.to_step, record.ended) == (7, None)
    recorded.end()


def test_what_uploads_cost_is_logged(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)

    recorded.attempt.queued(10, queue_bytes=2000)
    recorded.attempt.sent(Saved(name="checkpoint-10", step=10, attempt=1), seconds=1.5)
    recorded.end()

    assert recorded.values("mmrun/queue_bytes") == [(10, 2000.0)]
    assert recorded.values("mmrun/upload_s") == [(10, 1.5)]


def test_the_hints_name_the_latest_and_the_best_checkpoint(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    loss = Selection(metric="eval_loss", greater_is_better=False)
    stored = [
        Saved(name=f"checkpoint-{step}", step=step, attempt=1, metrics=metrics, selection=loss)
        for step, metrics in ((5, {"eval_loss": 1.0}), (10, {"eval_loss": 2.0}), (15, {}))
    ]

    recorded.attempt.settled(stored)

    assert recorded.tags["mmrun.checkpoint.latest"] == "checkpoint-15"
    assert recorded.tags["mmrun.checkpoint.best"] == "checkpoint-5"
    recorded.end()


def test_carried_points_are_sent_as_they_were(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, number=2)
    carried = point(1.0, step=5, at=1234)

    recorded.attempt.take_over([carried])
    recorded.end()

    assert recorded.store.history(recorded.run_id, "loss") == [carried]


def test_how_it_ended_is_not_replaced_by_a_late_upload(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.end()

    recorded.attempt.settled([Saved(name="checkpoint-5", step=5, attempt=1)])

    newest = last_record(recorded.store, recorded.run_id)
    assert newest is not None
    assert newest.ended == "finished"
