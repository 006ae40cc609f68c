import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.archive import Archive, NothingSaved
from mmrun.checkpoints.found import found_at
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.reference import Reference, parse
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import CheckpointError, TrackingError
from tests.unit.checkpoints.samples import RUN, Place, write_files


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def archive(place: Place) -> Archive:
    return Archive(place.local, RemoteCheckpoints(place.store), run_id=RUN)


def reference(text: str) -> Reference:
    parsed = parse(text)
    assert parsed is not None
    return parsed


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_local_copy_is_taken_when_it_is_the_one_in_the_store(place: Place) -> None:
    place.publish(5, 10)

    found = archive(place).resolve(reference("latest"))

    assert (found.name, found.where, found.rejected) == ("checkpoint-10", "local", ())
    assert archive(place).bring(found) == place.local.path("checkpoint-10")


@pytest.mark.parametrize(
    ("words", "step"),
    [("latest", 15), ("best", 5), ("10", 10), ("10.a1", 10), (f"{RUN}@10", 10)],
)
def test_after_the_local_folder_is_gone_the_store_has_it(
    place: Place, words: str, step: int
) -> None:
    place.publish(5, metrics={"eval_loss": 1.0})
    place.publish(10, 15, metrics={"eval_loss": 2.0})
    shutil.rmtree(place.local.folder)

    found, folder = archive(place).obtain(reference(words))

    assert (found.step, found.where) == (step, "remote")
    assert folder == place.local.path(f"checkpoint-{step}")
    assert place.local.problem(folder.name) is None


def test_resolving_downloads_nothing_but_manifests(place: Place) -> None:
    place.publish(5, 10)
    shutil.rmtree(place.local.folder)
    place.store.requests.clear()

    archive(place).resolve(reference("latest"))

    assert not [request for request in place.store.requests if request.startswith("download")]


BREAKS: list[tuple[str, Callable[[Path], object], str]] = [
    ("flipped", lambda f: flip(f / "model.safetensors"), "model.safetensors is damaged"),
    ("cut", lambda f: (f / "optimizer.pt").write_bytes(b"x"), "optimizer.pt is truncated"),
    ("no manifest", lambda f: (f / "manifest.json").unlink(), "it has no manifest"),
    ("no state", lambda f: (f / "trainer_state.json").unlink(), "trainer_state.json is missing"),
]


@pytest.mark.parametrize(("damage", "reason"), [pytest.param(d, r, id=i) for i, d, r in BREAKS])
def test_latest_passes_over_a_broken_one_with_the_reason(
    place: Place, damage: Callable[[Path], object], reason: str
) -> None:
    place.save(5, 10)
    damage(place.local.path("checkpoint-10"))

    found = archive(place).resolve(reference("latest"))

    assert found.step == 5
    assert [one.name for one in found.rejected] == ["checkpoint-10"]
    assert reason in found.rejected[0].reason
    assert place.local.path("checkpoint-10").exists()  # resolving changes nothing

    archive(place).bring(found)

    assert place.local.path("rejected/checkpoint-10").exists()


def test_a_broken_local_copy_is_replaced_by_the_one_in_the_store(place: Place) -> None:
    place.publish(5)
    flip(place.local.path("checkpoint-5") / "model.safetensors")

    found, folder = archive(place).obtain(reference("5"))

    assert found.where == "remote"
    assert place.local.problem(folder.name) is None
    assert place.local.path("rejected/checkpoint-5").exists()


def test_a_broken_copy_in_the_store_is_passed_over_after_its_download(place: Place) -> None:
    place.publish(5, 10)
    shutil.rmtree(place.local.folder)
    flip(place.store.root / "checkpoints/checkpoint-10/model.safetensors")

    found, folder = archive(place).obtain(reference("latest"))

    assert found.step == 5
    assert folder.name == "checkpoint-5"
    assert place.on_disk() == ["checkpoint-5"]


def test_an_upload_without_its_manifest_does_not_exist(place: Place) -> None:
    place.publish(5, 10)
    shutil.rmtree(place.local.folder)
    (place.store.root / "checkpoints/checkpoint-10/manifest.json").unlink()

    found = archive(place).resolve(reference("latest"))

    assert found.step == 5
    assert [str(one) for one in found.rejected] == [
        "checkpoint-10 (in the store): its upload never finished"
    ]


def test_a_named_one_that_is_broken_is_not_replaced_by_another(place: Place) -> None:
    place.save(5, 10)
    flip(place.local.path("checkpoint-10") / "optimizer.pt")

    with pytest.raises(CheckpointError, match=r"10 of run .* is not whole: .*optimizer.pt is dam"):
        archive(place).resolve(reference("10"))


def test_a_named_one_in_the_store_that_is_broken_fails(place: Place) -> None:
    place.publish(5, 10)
    shutil.rmtree(place.local.folder)
    flip(place.store.root / "checkpoints/checkpoint-10/model.safetensors")

    with pytest.raises(CheckpointError, match=r"not whole: model\.safetensors is damaged"):
        archive(place).obtain(reference("10"))


def test_a_step_that_was_never_saved_names_the_candidates(place: Place) -> None:
    place.save(5, 10)

    with pytest.raises(CheckpointError, match="has no checkpoint 7") as caught:
        archive(place).resolve(reference("7"))

    assert "one of these steps: 10, 5;" in caught.value.hint


@pytest.mark.parametrize("words", ["latest", "best"])
def test_a_run_without_any_checkpoint_has_nothing_saved(place: Place, words: str) -> None:
    with pytest.raises(NothingSaved, match="has saved no checkpoint yet"):
        archive(place).resolve(reference(words))


def test_an_unfinished_upload_alone_is_nothing_saved(place: Place) -> None:
    write_files(place.store.root / "checkpoints/checkpoint-5", step=5)

    with pytest.raises(NothingSaved):
        archive(place).resolve(reference("latest"))


def test_checkpoints_of_which_none_is_whole_are_not_nothing(place: Place) -> None:
    place.save(5, 10)
    for step in (5, 10):
        flip(place.local.path(f"checkpoint-{step}") / "optimizer.pt")

    with pytest.raises(CheckpointError, match="none of them is whole") as caught:
        archive(place).resolve(reference("latest"))

    assert not isinstance(caught.value, NothingSaved)
    assert len(caught.value.more) == 2
    assert all("optimizer.pt is damaged" in line for line in caught.value.more)
    assert place.on_disk() == ["checkpoint-10", "checkpoint-5"]


def test_a_rejected_one_still_tells_that_something_was_saved(place: Place) -> None:
    place.save(5)
    place.local.reject("checkpoint-5", "broken")

    with pytest.raises(CheckpointError, match="none of them is whole"):
        archive(place).resolve(reference("latest"))


def test_a_store_out_of_reach_is_not_an_empty_one(place: Place) -> None:
    place.publish(5)
    place.store.away = True

    with pytest.raises(TrackingError, match="does not answer"):
        archive(place).resolve(reference("latest"))


def test_offline_a_whole_local_one_is_enough(place: Place) -> None:
    place.publish(5)

    found = Archive(place.local, None, run_id=RUN).resolve(reference("latest"))

    assert found.where == "local"


def test_a_superseded_one_is_reached_only_by_its_attempt(place: Place) -> None:
    place.publish(5, 10)
    lineage = [(1, 0), (2, 5)]

    assert archive(place).resolve(reference("latest"), lineage=lineage).step == 5
    assert archive(place).resolve(reference("10.a1"), lineage=lineage).step == 10
    with pytest.raises(CheckpointError, match="has no checkpoint 10") as caught:
        archive(place).resolve(reference("10"), lineage=lineage)
    assert "10.a1, 5" in caught.value.hint


def test_a_superseded_one_is_found_where_it_was_moved(place: Place) -> None:
    place.save(5, 10)
    lineage = [(1, 0), (2, 5)]
    place.local.supersede(lineage)

    found = archive(place).resolve(reference("10.a1"), lineage=lineage)

    assert found.name == "superseded/a1/checkpoint-10"


def test_when_all_are_superseded_the_run_starts_at_step_zero(place: Place) -> None:
    place.save(5)

    with pytest.raises(NothingSaved):
        archive(place).resolve(reference("latest"), lineage=[(1, 0), (2, 0)])


@pytest.mark.parametrize(
    ("name", "attempt"), [("checkpoint-10", 1), ("checkpoint-10.a2", 2)], ids=["plain", "numbered"]
)
def test_an_address_names_a_folder_in_the_store(
    place: Place, tmp_path: Path, name: str, attempt: int
) -> None:
    lineage = [(1, 0), (2, 5)]
    place.publish(5, 10)
    other = Place(tmp_path / "other", store=place.store, lineage=lineage)
    other.publish(10, attempt=2)
    everywhere = Archive(other.local, RemoteCheckpoints(place.store), run_id=RUN)

    found = everywhere.resolve(reference(f"runs:/{RUN}/checkpoints/{name}"), lineage=lineage)

    assert found.manifest is not None
    assert found.manifest.attempt == attempt


def test_an_address_of_a_folder_that_is_gone_means_no_other(place: Place, tmp_path: Path) -> None:
    place.publish(10)
    other = Place(tmp_path / "other", store=place.store)
    other.publish(10, attempt=2)
    place.remote.drop(["checkpoint-10"])
    shutil.rmtree(place.local.folder)

    with pytest.raises(CheckpointError, match=r"has no checkpoint runs:/"):
        archive(place).resolve(reference(f"runs:/{RUN}/checkpoints/checkpoint-10"))


def test_an_address_of_what_was_not_sent_yet_means_the_folder_here(place: Place) -> None:
    place.save(10)

    found = archive(place).resolve(reference(f"runs:/{RUN}/checkpoints/checkpoint-10"))

    assert (found.step, found.where) == (10, "local")


def test_a_restored_one_never_overwrites_another_of_its_step(place: Place) -> None:
    place.publish(10)
    shutil.rmtree(place.local.folder)
    place.save(10, attempt=2)

    _, folder = archive(place).obtain(reference("10.a1"))

    assert folder == place.local.path("superseded/a1/checkpoint-10")
    assert [saved.attempt for saved, _ in place.local.list()] == [2]


def test_a_live_one_gets_the_place_of_one_that_another_machine_has_superseded(
    place: Place, tmp_path: Path
) -> None:
    lineage = [(1, 0), (2, 5)]
    place.publish(5, 10, 15)
    other = Place(tmp_path / "other", store=place.store, lineage=lineage)
    other.publish(10, 15, attempt=2)

    found, folder = archive(place).obtain(reference("latest"), lineage=lineage)

    assert found.manifest is not None
    assert found.manifest.attempt == 2
    assert folder == place.local.path("checkpoint-15")
    place.local.link(lineage)
    last = manifests.read(place.local.path("checkpoint-last"))
    assert (last.step, last.attempt) == (15, 2)
    assert place.local.path("superseded/a1/checkpoint-15").exists()


def test_what_waits_to_be_sent_is_found_although_its_folder_is_gone(place: Place) -> None:
    place.store.away = True
    place.publish(5, 10)
    shutil.rmtree(place.local.folder)

    offline = Archive(place.local, None, run_id=RUN, spool=place.spool)
    found, folder = offline.obtain(reference("latest"))

    assert (found.step, found.where) == (10, "local")
    assert folder == place.local.path("checkpoint-10")
    assert place.local.problem("checkpoint-10") is None


@pytest.mark.parametrize("words", ["latest", "10"])
def test_what_waits_to_be_sent_is_taken_where_its_folder_is_broken(
    place: Place, words: str
) -> None:
    place.store.away = True
    place.publish(5, 10)
    (place.local.path("checkpoint-10") / "optimizer.pt").unlink()

    offline = Archive(place.local, None, run_id=RUN, spool=place.spool)
    found, folder = offline.obtain(reference(words))

    assert found.step == 10
    assert [str(one) for one in found.rejected] == ["checkpoint-10 (here): optimizer.pt is missing"]
    assert folder == place.local.path("checkpoint-10")
    assert place.local.problem("checkpoint-10") is None
    assert place.local.path("rejected/checkpoint-10").exists()


def test_a_broken_folder_and_a_broken_copy_in_the_spool_leave_the_one_in_the_store(
    place: Place,
) -> None:
    place.publish(10)
    Spool(place.spool).add(place.local.path("checkpoint-10"), place.local.list()[0][1])
    flip(place.local.path("checkpoint-10") / "optimizer.pt")  # the same bytes as in the spool

    both = Archive(place.local, RemoteCheckpoints(place.store), run_id=RUN, spool=place.spool)
    found, folder = both.obtain(reference("latest"))

    assert (found.step, found.where) == (10, "remote")
    assert place.local.problem(folder.name) is None


def test_best_needs_a_metric(place: Place) -> None:
    place.save(5)

    with pytest.raises(CheckpointError, match="no best checkpoint"):
        archive(place).resolve(reference("best"))


def test_a_local_copy_with_another_manifest_is_not_trusted(place: Place) -> None:
    place.publish(5)
    folder = place.local.path("checkpoint-5")
    manifests.write(folder, manifests.read(folder).model_copy(update={"created_ms": 1}))

    found = archive(place).resolve(reference("latest"))

    assert found.where == "remote"
    assert "not the one in the store" in found.rejected[0].reason


def test_checkpoints_of_another_run_do_not_count(place: Place) -> None:
    place.save(5)

    with pytest.raises(NothingSaved):
        Archive(place.local, None, run_id="f" * 32).resolve(reference("latest"))


def test_a_uri_that_names_no_run_is_refused(place: Place) -> None:
    with pytest.raises(CheckpointError, match="does not say which run"):
        archive(place).resolve(reference("s3://bucket/somewhere"))


def test_a_folder_of_mmrun_is_verified(place: Place) -> None:
    place.save(5)
    place.local.link()

    found = found_at(place.local.path("checkpoint-last"))

    assert (found.step, found.where, found.path) == (5, "path", place.local.path("checkpoint-5"))
    assert found.manifest is not None


def test_a_folder_of_mmrun_that_is_broken_is_refused(place: Place) -> None:
    place.save(5)
    flip(place.local.path("checkpoint-5") / "optimizer.pt")

    with pytest.raises(CheckpointError, match=r"is not whole: optimizer\.pt is damaged"):
        found_at(place.local.path("checkpoint-5"))


def test_a_folder_of_checkpoints_is_not_one(place: Place) -> None:
    place.save(5)

    with pytest.raises(CheckpointError, match="folder of checkpoints") as caught:
        found_at(place.local.folder)

    assert "checkpoint-5" in caught.value.hint


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder nowhere/checkpoint-1"):
        found_at(Path("nowhere/checkpoint-1"))


def plain(folder: Path) -> Path:
    """Write a checkpoint as plain Hugging Face does."""
    folder.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + b"\0" * 4
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "trainer_state.json").write_text('{"global_step": 7}')
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("archive/data.pkl", b"state" * 100)
    return folder


def test_a_plain_hugging_face_folder_is_accepted(tmp_path: Path) -> None:
    found = found_at(plain(tmp_path / "checkpoint-7"))

    assert (found.step, found.manifest, found.where) == (7, None, "path")


def test_sharded_weights_are_accepted_when_every_shard_is_there(tmp_path: Path) -> None:
    folder = plain(tmp_path / "checkpoint-7")
    shard = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": shard}}))

    assert found_at(folder).step == 7

    (folder / shard).unlink()

    with pytest.raises(CheckpointError, match=f"{shard} is missing"):
        found_at(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("model.safetensors", Path.unlink, "model.safetensors is missing"),
        ("model.safetensors", cut, "model.safetensors is damaged"),
        ("model.safetensors", lambda f: f.write_bytes(b""), "header cannot be read"),
        ("trainer_state.json", Path.unlink, "trainer_state.json is missing"),
        ("trainer_state.json", cut, "trainer_state.json cannot be read"),
        ("trainer_state.json", lambda f: f.write_text("{}"), "has no global_step"),
        ("optimizer.pt", Path.unlink, "optimizer.pt is missing"),
        ("optimizer.pt", lambda f: f.write_bytes(f.read_bytes()[:200]), "optimizer.pt is damaged"),
        ("scheduler.pt", Path.unlink, "scheduler.pt is missing"),
        ("rng_state.pth", Path.unlink, "rng_state.pth is missing"),
    ],
)
def test_a_plain_folder_must_be_complete_and_readable(
    tmp_path: Path, name: str, damage: Callable[[Path], object], reason: str
) -> None:
    folder = plain(tmp_path / "checkpoint-7")

    damage(folder / name)

    with pytest.raises(CheckpointError, match="is not whole") as caught:
        found_at(folder)
    assert reason in str(caught.value)


class Rotated(LocalCheckpoints):
    """Checkpoints that a training removes as soon as somebody has verified them."""

    def problem(self, name: str) -> str | None:
        problem = super().problem(name)
        self.remove(name)
        return problem


@pytest.mark.parametrize("words", ["5", "latest"])
def test_a_copy_of_what_is_rotated_away_meanwhile_comes_from_the_store(
    place: Place, words: str
) -> None:
    place.publish(5)
    rotated = Archive(Rotated(place.local.folder), RemoteCheckpoints(place.store), run_id=RUN)
    pulled = place.root / "pulled"

    found = rotated.copy(reference(words), to=pulled)

    assert (found.name, found.where) == ("checkpoint-5", "remote")
    assert manifests.problem_with(pulled, manifests.read(pulled)) is None


def test_what_is_rotated_away_and_nowhere_else_is_said_to_be_gone(place: Place) -> None:
    place.save(5)
    rotated = Archive(Rotated(place.local.folder), None, run_id=RUN)

    with pytest.raises(CheckpointError, match="has no checkpoint 5") as caught:
        rotated.copy(reference("5"), to=place.root / "pulled")

    assert caught.value.hint
    assert not (place.root / "pulled").exists()
