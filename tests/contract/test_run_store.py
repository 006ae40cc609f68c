"""What every ``RunStore`` does, the fake and the real ones alike."""

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.store import Artifact, Point, Run, RunStatus, RunStore
from tests.fakes import MemoryStore
from tests.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('project')}/mlflow.db"


@pytest.fixture(params=["memory", "sqlite", "http"])
def store(request: pytest.FixtureRequest) -> RunStore:
    if request.param == "memory":
        return MemoryStore()
    place = {"sqlite": "database", "http": "server"}[request.param]
    return MlflowStore(request.getfixturevalue(place), patience_s=0)


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.create(experiment="tests", name="a run", tags={"mmrun.format": "1"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\0\1\2")
    return path


def point(value: float, *, step: int = 1, at: int = 1000, key: str = "loss") -> Point:
    return Point(key=key, step=step, timestamp_ms=at, value=value)


def test_a_created_run_can_be_read_back(store: RunStore, run: Run) -> None:
    read = store.read(run.run_id)

    assert (read.name, read.status, read.tags["mmrun.format"]) == ("a run", "RUNNING", "1")


def test_a_run_without_a_name_gets_one(store: RunStore) -> None:
    assert store.create(experiment="tests", name=None, tags={}).name


def test_runs_of_one_experiment_share_its_id(store: RunStore, run: Run) -> None:
    same = store.create(experiment="tests", name="same", tags={})
    other = store.create(experiment="others", name="other", tags={})

    assert same.experiment_id == run.experiment_id != other.experiment_id


def test_the_experiments_are_listed_by_name_and_id(store: RunStore, run: Run) -> None:
    names = {one.experiment_id: one.name for one in store.experiments()}

    assert names[run.experiment_id] == "tests"


def test_a_run_knows_when_it_began_and_when_it_ended(store: RunStore, run: Run) -> None:
    before = store.read(run.run_id)
    store.set_status(run.run_id, "FINISHED")
    after = store.read(run.run_id)

    assert before.ended_ms is None
    assert before.started_ms is not None
    assert after.ended_ms is not None
    assert after.started_ms == before.started_ms <= after.ended_ms


def test_a_child_can_be_put_beside_its_parent(store: RunStore, run: Run) -> None:
    child = store.create(
        experiment="elsewhere", experiment_id=run.experiment_id, name="child", tags={}
    )

    assert child.experiment_id == run.experiment_id


@pytest.mark.parametrize("run_id", ["0" * 32, "nowhere"])
def test_reading_an_unknown_run_names_it(store: RunStore, run_id: str) -> None:
    with pytest.raises(TrackingError, match=f"no run '{run_id}'"):
        store.read(run_id)


def test_a_deleted_run_is_said_to_be_deleted(store: RunStore, run: Run) -> None:
    store.delete(run.run_id)

    with pytest.raises(TrackingError, match="was deleted"):
        store.read(run.run_id)


def test_find_returns_the_runs_with_all_tags_newest_first(store: RunStore) -> None:
    tags = {"color": "red", "quoted": "it's"}
    made = [store.create(experiment="found", name=n, tags={**tags, "n": n}) for n in "abc"]
    store.create(experiment="found", name="d", tags={"color": "red", "quoted": "no"})
    store.delete(made[1].run_id)

    found = store.find(experiment_id=made[0].experiment_id, tags=tags)

    assert sorted(run.name for run in found if run.run_id in {r.run_id for r in made}) == ["a", "c"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_final_status_can_be_taken_back_by_a_resume(
    store: RunStore, run: Run, status: RunStatus
) -> None:
    store.set_status(run.run_id, status)
    ended = store.read(run.run_id).status
    store.set_status(run.run_id, "RUNNING")

    assert (ended, store.read(run.run_id).status) == (status, "RUNNING")


def test_a_later_tag_replaces_an_earlier_one(store: RunStore, run: Run) -> None:
    store.set_tags(run.run_id, {"a": "1", "b": "1"})
    store.set_tags(run.run_id, {"b": "2", "c": ""})

    tags = store.read(run.run_id).tags
    assert (tags["a"], tags["b"], tags["c"]) == ("1", "2", "")


def test_a_tag_of_any_length_is_taken(store: RunStore, run: Run) -> None:
    store.set_tags(run.run_id, {"long": "x" * 20_000})

    assert store.read(run.run_id).tags["long"].startswith("x" * 7_900)


def test_parameters_are_logged_once_and_the_same_value_again(store: RunStore, run: Run) -> None:
    params = {f"cfg.{n}": str(n) for n in range(250)} | {"cfg.empty": ""}

    store.log_params(run.run_id, params)
    store.log_params(run.run_id, params)

    assert store.read(run.run_id).params == params


def test_another_value_of_a_parameter_is_refused(store: RunStore, run: Run) -> None:
    store.log_params(run.run_id, {"cfg.rate": "0.1"})

    with pytest.raises(TrackingError, match="already logged"):
        store.log_params(run.run_id, {"cfg.rate": "0.2"})


def test_only_the_first_value_claims_a_parameter(store: RunStore, run: Run) -> None:
    claims = [store.claim_param(run.run_id, "lease.1", owner) for owner in ("me", "you", "me")]

    assert claims == [True, False, True]


def test_one_of_ten_that_race_claims_a_parameter(store: RunStore, run: Run) -> None:
    won: list[str] = []

    def claim(owner: str) -> None:
        if store.claim_param(run.run_id, "lease.1", owner):
            won.append(owner)

    racers = [threading.Thread(target=claim, args=(f"owner {n}",)) for n in range(10)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert won == [store.read(run.run_id).params["lease.1"]]


def test_points_come_back_by_step_and_time(store: RunStore, run: Run) -> None:
    store.log_points(run.run_id, [point(0.5, step=2), point(0.1, step=1, at=2000)])
    store.log_points(run.run_id, [point(0.2, step=1, at=1000), point(9.0, key="other")])

    assert [p.value for p in store.history(run.run_id, "loss")] == [0.2, 0.1, 0.5]


@pytest.mark.parametrize("values_a_step", [1, 3])
def test_no_point_is_missing_from_a_stretch_however_long_it_is(
    store: RunStore, run: Run, values_a_step: int
) -> None:
    """A server returns a sample of it: 2500 points of a metric at the most."""
    points = [
        point(n / 7, step=step, at=1000 + n)
        for step in range(0, 6000, 2)
        for n in range(values_a_step)
    ]
    store.log_points(run.run_id, points)

    found = store.between(run.run_id, "loss", first=11, last=5988)

    assert found == [point for point in points if 11 <= point.step <= 5988]


def test_no_point_is_missing_where_one_step_has_too_many_for_a_stretch(
    store: RunStore, run: Run
) -> None:
    points = [point(n / 7, step=step, at=1000 + n) for step in (4, 5, 6) for n in range(2600)]
    store.log_points(run.run_id, points)

    found = store.between(run.run_id, "loss", first=5, last=6)

    assert found == points[2600:]


def test_a_stretch_ends_with_its_last_step(store: RunStore, run: Run) -> None:
    points = [point(math.nan, step=1), point(0.5, step=2**40), point(0.7, step=3, key="other")]
    store.log_points(run.run_id, points)

    def steps(first: int, last: int) -> list[int]:
        return [p.step for p in store.between(run.run_id, "loss", first=first, last=last)]

    assert steps(0, 1) == [1]
    assert steps(1, 2**40) == [1, 2**40]
    assert steps(2, 2**40 - 1) == steps(5, 4) == []
    assert store.between(run.run_id, "nothing", first=0, last=9) == []


def test_points_sent_again_are_stored_once(store: RunStore, run: Run) -> None:
    points = [point(n / 7, step=n, at=1000 + n) for n in range(1500)]

    store.log_points(run.run_id, points)
    store.log_points(run.run_id, points[700:])

    assert store.history(run.run_id, "loss") == points


def test_the_newest_point_of_each_metric_stands_in_the_run(store: RunStore, run: Run) -> None:
    newest = point(0.5, step=2)
    store.log_points(run.run_id, [newest, point(0.9, step=1, at=5000)])

    found = store.read(run.run_id)

    assert found.newest == {"loss": newest}
    assert found.metrics == {"loss": 0.5}


def test_not_a_number_stays_so_and_is_stored_once(store: RunStore, run: Run) -> None:
    store.log_points(run.run_id, [point(math.nan)])
    store.log_points(run.run_id, [point(math.nan)])

    assert [math.isnan(p.value) for p in store.history(run.run_id, "loss")] == [True]


def test_the_history_of_an_unknown_metric_is_empty(store: RunStore, run: Run) -> None:
    assert store.history(run.run_id, "nothing") == []


def test_points_of_a_deleted_run_are_refused(store: RunStore, run: Run) -> None:
    store.delete(run.run_id)

    with pytest.raises(TrackingError, match=r"deleted|active"):
        store.log_points(run.run_id, [point(1.0)])


def test_a_table_is_replaced_and_known_to_the_page(store: RunStore, run: Run) -> None:
    for text in ("eins", "zwei"):
        store.log_table(run.run_id, {"text": [text, "ü"], "score": [0.5, 1]}, path="t/table.json")

    content = store.artifacts(run.run_id).read("t/table.json")
    assert json.loads(content or b"") == {
        "columns": ["text", "score"],
        "data": [["zwei", 0.5], ["ü", 1]],
    }
    assert json.loads(store.read(run.run_id).tags["mlflow.loggedArtifacts"]) == [
        {"path": "t/table.json", "type": "table"}
    ]


def test_a_run_without_artifacts_has_an_empty_list(store: RunStore, run: Run) -> None:
    artifacts = store.artifacts(run.run_id)

    assert (artifacts.list(), artifacts.list("checkpoints/checkpoint-5")) == ([], [])


def test_a_folder_lists_what_lies_directly_in_it(store: RunStore, run: Run, file: Path) -> None:
    artifacts = store.artifacts(run.run_id)
    artifacts.upload(file, to="")
    artifacts.upload(file, to="a")
    artifacts.upload(file, to="a/b")

    assert artifacts.list("a") == [
        Artifact(path="a/b", is_folder=True, size=None),
        Artifact(path="a/weights.bin", is_folder=False, size=3),
    ]
    assert [entry.path for entry in artifacts.list()] == ["a", "weights.bin"]


def test_an_upload_comes_back_the_same(
    store: RunStore, run: Run, file: Path, tmp_path: Path
) -> None:
    artifacts = store.artifacts(run.run_id)
    artifacts.upload(file, to="a/b")

    artifacts.download("a/b/weights.bin", to=tmp_path / "new" / "w")

    assert (tmp_path / "new" / "w").read_bytes() == artifacts.read("a/b/weights.bin") == b"\0\1\2"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w"]


def test_an_upload_replaces_the_file_of_the_same_name(
    store: RunStore, run: Run, file: Path
) -> None:
    artifacts = store.artifacts(run.run_id)
    artifacts.upload(file, to="")
    file.write_bytes(b"")
    artifacts.upload(file, to="")

    assert artifacts.read("weights.bin") == b""


def test_an_absent_artifact_reads_as_nothing_and_cannot_be_downloaded(
    store: RunStore, run: Run, tmp_path: Path
) -> None:
    artifacts = store.artifacts(run.run_id)

    assert artifacts.read("a/manifest.json") is None
    with pytest.raises(TrackingError, match=r"no artifact 'a/manifest.json'"):
        artifacts.download("a/manifest.json", to=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_delete_takes_a_folder_and_not_its_neighbour(store: RunStore, run: Run, file: Path) -> None:
    artifacts = store.artifacts(run.run_id)
    for folder in ("c/step-1/sub", "c/step-1", "c/step-10"):
        artifacts.upload(file, to=folder)

    artifacts.delete("c/step-1")
    artifacts.delete("c/step-1")

    assert [entry.path for entry in artifacts.list("c")] == ["c/step-10"]


def test_delete_takes_a_single_file(store: RunStore, run: Run, file: Path) -> None:
    artifacts = store.artifacts(run.run_id)
    artifacts.upload(file, to="a")

    artifacts.delete("a/weights.bin")

    assert artifacts.read("a/weights.bin") is None


@pytest.mark.parametrize(
    "path", ["", "/", "/etc", "..", "../other", "a/../../b", "a//b", "./a", "a\\..\\b", "a/"]
)
def test_a_path_that_leaves_the_run_is_not_deleted(store: RunStore, run: Run, path: str) -> None:
    with pytest.raises(TrackingError, match=r"not a path inside|would change"):
        store.artifacts(run.run_id).delete(path)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b"])
def test_a_name_that_would_be_cut_is_refused(
    store: RunStore, run: Run, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.touch()

    with pytest.raises(TrackingError, match="a tracking server would change"):
        store.artifacts(run.run_id).upload(file, to="")


@pytest.mark.parametrize("name", ["größe é.txt", "a b", "a+b&c=d;e,f@g~h"])
def test_an_unusual_name_arrives_as_it_is(
    store: RunStore, run: Run, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_text("content")
    artifacts = store.artifacts(run.run_id)

    artifacts.upload(file, to="odd names")

    assert artifacts.read(f"odd names/{name}") == b"content"
    assert [entry.path for entry in artifacts.list("odd names")] == [f"odd names/{name}"]
