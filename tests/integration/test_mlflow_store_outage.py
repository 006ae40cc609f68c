"""A real server that is stopped and started again while points and files are sent."""

import math
from pathlib import Path

import pytest
import requests

from mmrun.errors import TrackingError
from mmrun.tracking.journal import Journal
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import Point, UnreachableError
from tests.mlflow_server import free_port, mlflow_server


def points(steps: range) -> list[Point]:
    return [
        Point(key=key, step=step, timestamp_ms=1_700_000_000_000 + step, value=value)
        for step in steps
        for key, value in (("loss", step / 7), ("norm", math.nan))
    ]


def test_points_and_files_of_an_outage_arrive_once_it_is_over(tmp_path: Path) -> None:
    port = free_port()
    journal = Journal(tmp_path / "journal", attempt=1)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"x" * 100_000)
    with mlflow_server(tmp_path / "server", port=port) as uri:
        store = MlflowStore(uri, patience_s=1)
        run = store.create(experiment="tests", name="a run", tags={})
        sender = Sender(store, run.run_id, journal, every_s=0.1, longest_pause_s=0.5)
        sender.start()
        journal.append(points(range(100)))
        assert sender.flush(20)
    artifacts = store.artifacts(run.run_id)

    for step in range(100, 200):
        journal.append(points(range(step, step + 1)))
    assert not sender.flush(1)
    assert sender.away_since is not None
    with pytest.raises(UnreachableError, match="does not answer"):
        artifacts.list("checkpoints")
    with pytest.raises(UnreachableError, match="does not answer"):
        artifacts.read("checkpoints/weights.bin")
    with pytest.raises(UnreachableError, match="does not answer"):
        artifacts.upload(file, to="checkpoints")

    with mlflow_server(tmp_path / "server", port=port):
        assert sender.flush(30)
        sender.stop()
        assert artifacts.list("checkpoints") == []
        artifacts.upload(file, to="checkpoints")
        stored = store.history(run.run_id, "loss") + store.history(run.run_id, "norm")
        assert artifacts.read("checkpoints/weights.bin") == file.read_bytes()

    expected = sorted(points(range(200)), key=lambda point: (point.key, point.step))
    assert [repr(point) for point in stored] == [repr(point) for point in expected]
    assert journal.unsent() == []


def test_an_outage_is_one_whatever_error_is_handled_meanwhile() -> None:
    store = MlflowStore(f"http://127.0.0.1:{free_port()}", patience_s=0)

    try:
        raise ValueError("something else went wrong")
    except ValueError:
        with pytest.raises(UnreachableError, match=r"does not answer: .*refused"):
            store.set_tags("0" * 32, {"mmrun.lease.released": "1"})


def test_a_refusal_is_one_although_an_outage_is_handled_meanwhile(tmp_path: Path) -> None:
    with mlflow_server(tmp_path / "server") as uri:
        store = MlflowStore(uri, patience_s=0)

        try:
            requests.get(f"http://127.0.0.1:{free_port()}", timeout=1)
        except requests.ConnectionError:
            with pytest.raises(TrackingError, match="there is no run") as caught:
                store.read("0" * 32)
            assert not isinstance(caught.value, UnreachableError)
        else:
            pytest.fail("somebody listens there")
