"""A new run: known in the folder and in the store, or closed again."""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mmrun.config.schema import Experiment
from mmrun.errors import MmrunError, StopRequested, TrackingError
from mmrun.provenance.source import SourceState
from mmrun.tracking.lease import Lease
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import RunStatus
from mmrun.training.stopping import StopWish
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.new_run import said_if_refused, start_run
from mmrun.workflows.past import Past
from mmrun.workflows.place import Place
from tests.fakes import MemoryStore


class _Signalled(MemoryStore):
    """A store in whose answers a signal arrives."""

    def __init__(self, *numbers: signal.Signals) -> None:
        super().__init__()
        self._numbers = list(numbers)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        super().set_tags(run_id, tags)
        self._signal()

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None = None) -> None:
        self._signal()
        super().set_status(run_id, status, ended_ms=ended_ms)

    def _signal(self) -> None:
        if self._numbers:
            signal.raise_signal(self._numbers.pop(0))


def beginning(store: MemoryStore, folder: Path) -> Beginning:
    place = Place(
        experiment=Experiment(),
        output_dir=folder,
        store=store,
        run=None,
        run_file=None,
        launched=None,
        reference=None,
        fresh=False,
    )
    return Beginning(
        place=place,
        past=Past(),
        before=Past(),
        found=None,
        checkpoint=None,
        data="sha256:d",
        processes=1,
        changed={},
        source=SourceState(git_revision=None, dirty=False, diff=""),
    )


@pytest.fixture
def wish() -> Iterator[StopWish]:
    wish = StopWish()
    with wish.listening():
        yield wish


def test_a_new_run_is_known_in_its_folder(tmp_path: Path, wish: StopWish) -> None:
    place = start_run(beginning(MemoryStore(), tmp_path), wish=wish)

    run_file = read_run_file(tmp_path)
    assert run_file is not None
    assert run_file.run_id == place.run_id
    assert not (tmp_path / ".mmrun.starting").exists()


@pytest.mark.parametrize("worked_on", [False, True])
def test_a_note_that_was_left_behind_removes_only_what_nobody_worked_on(
    tmp_path: Path, wish: StopWish, *, worked_on: bool
) -> None:
    store = MemoryStore()
    earlier = start_run(beginning(store, tmp_path), wish=wish)
    if worked_on:
        with Lease(store, earlier.run_id):
            store.set_status(earlier.run_id, "FINISHED")
    nonce = store.read(earlier.run_id).tags["mmrun.start"]
    (tmp_path / ".mmrun.starting").write_text(nonce, encoding="utf-8")

    start_run(beginning(store, tmp_path), wish=wish)

    assert store.deleted == (set() if worked_on else {earlier.run_id})


def test_a_signal_while_a_run_is_made_leaves_none_that_seems_to_run(tmp_path: Path) -> None:
    store = _Signalled(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    wish = StopWish()

    with pytest.raises(StopRequested, match="stopped by SIGTERM"), wish.listening():
        start_run(beginning(store, tmp_path), wish=wish)

    assert [run.status for run in store.runs.values()] == ["KILLED"]


def test_what_fails_before_the_first_attempt_is_the_run_s_failure(
    tmp_path: Path, wish: StopWish
) -> None:
    store = MemoryStore()
    place = start_run(beginning(store, tmp_path), wish=wish)
    started = replace(beginning(store, tmp_path), place=place)

    with pytest.raises(MmrunError, match="no"), said_if_refused(started, wish=wish):
        raise MmrunError("no")

    assert store.read(place.run_id).status == "FAILED"


def test_a_store_that_is_away_hides_no_error(
    tmp_path: Path, wish: StopWish, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    place = start_run(beginning(store, tmp_path), wish=wish)
    started = replace(beginning(store, tmp_path), place=place)

    with pytest.raises(TrackingError, match="first"), said_if_refused(started, wish=wish):
        store.away = True
        raise TrackingError("first")

    assert f"run {place.run_id} was not told that it is FAILED" in caplog.text
