"""The table of checkpoints: a hint that saves requests and is never believed alone."""

import json
import math
import shutil
from pathlib import Path

import pytest

from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.index import Index
from mmrun.checkpoints.policy import Saved
from mmrun.checkpoints.reference import Reference
from mmrun.checkpoints.remote import RemoteCheckpoints
from tests.unit.checkpoints.samples import LOSS, RUN, Place

LATEST = Reference(text="latest", which="latest")
TABLE = "checkpoints/index.json"


def saved(step: int, *, loss: float = 1.0) -> Saved:
    name = f"checkpoint-{step}"
    return Saved(name=name, step=step, attempt=1, metrics={"eval_loss": loss}, selection=LOSS)


def test_a_table_comes_back_the_same() -> None:
    table = {one.name: one for one in (saved(5), saved(10, loss=math.inf))}

    assert Index.from_json(Index.of(table).to_json().encode()).saved() == table


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="absent"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[]", id="no mapping"),
        pytest.param(b'{"format": 2, "digest": "0"}', id="of another version"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_empty_one(text: bytes | None) -> None:
    assert Index.from_json(text).saved() == {}


def test_a_changed_table_is_not_believed() -> None:
    tree = json.loads(Index.of({"checkpoint-5": saved(5)}).to_json())
    tree["checkpoints"]["checkpoint-5"]["attempt"] = 7

    assert Index.from_json(json.dumps(tree).encode()).saved() == {}


def requests_for_latest(place: Place, *, count: int) -> list[str]:
    """Publish one checkpoint, claim older ones, and find the latest from an empty disk."""
    place.publish(10_000)
    table = {"checkpoint-10000": saved(10_000)}
    for step in range(1, count):
        table[f"checkpoint-{step}"] = saved(step)
        (place.store.root / f"checkpoints/checkpoint-{step}").mkdir()
    (place.store.root / TABLE).write_text(Index.of(table).to_json())
    shutil.rmtree(place.local.folder)
    place.store.requests.clear()

    found = Archive(place.local, RemoteCheckpoints(place.store), run_id=RUN).resolve(LATEST)

    assert found.step == 10_000
    return place.store.requests


def test_the_latest_of_a_thousand_costs_no_more_requests_than_of_three(tmp_path: Path) -> None:
    few = requests_for_latest(Place(tmp_path / "few"), count=3)
    many = requests_for_latest(Place(tmp_path / "many"), count=1000)

    assert many == few
    assert len(many) < 10


def test_what_the_table_does_not_know_is_looked_up(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.publish(5, 10)
    (place.store.root / TABLE).unlink()

    assert [one.step for one in RemoteCheckpoints(place.store).look()[0]] == [10, 5]


def test_a_checkpoint_that_only_the_table_knows_is_passed_over(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.publish(5, 10)
    (place.store.root / "checkpoints/checkpoint-10/manifest.json").unlink()
    shutil.rmtree(place.local.folder)

    found = Archive(place.local, RemoteCheckpoints(place.store), run_id=RUN).resolve(LATEST)

    assert found.step == 5
    assert [one.reason for one in found.rejected] == ["its upload never finished"]


def test_a_name_that_was_used_again_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.publish(5)
    old = (place.store.root / TABLE).read_bytes()
    shutil.rmtree(place.store.root / "checkpoints/checkpoint-5")
    shutil.rmtree(place.local.folder)
    place.publish(5, attempt=2)
    (place.store.root / TABLE).write_bytes(old)
    shutil.rmtree(place.local.folder)

    found = Archive(place.local, RemoteCheckpoints(place.store), run_id=RUN).resolve(LATEST)

    assert found.manifest is not None
    assert (found.step, found.manifest.attempt) == (5, 2)


def test_a_dropped_checkpoint_leaves_the_table_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.publish(5, 10)
    place.store.requests.clear()

    place.remote.drop(["checkpoint-5"])

    changes = [one for one in place.store.requests if one.startswith(("write", "delete"))]
    assert changes == [
        f"write {TABLE}",
        "delete checkpoints/checkpoint-5/manifest.json",
        "delete checkpoints/checkpoint-5",
    ]
