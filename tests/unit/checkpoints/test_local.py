from pathlib import Path

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError
from tests.unit.checkpoints.samples import LOSS, Place, description, write_files


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def links(place: Place) -> dict[str, str]:
    folder = place.local.folder
    return {path.name: str(path.readlink()) for path in folder.iterdir() if path.is_symlink()}


def test_a_finished_checkpoint_is_whole_and_bears_its_name(place: Place) -> None:
    place.save(5)

    assert place.on_disk() == ["checkpoint-5"]
    assert place.local.problem("checkpoint-5") is None
    assert [path.name for path in place.local.folder.iterdir()] == ["checkpoint-5"]


def test_the_pickled_arguments_are_not_kept(place: Place) -> None:
    place.save(5)

    assert not (place.local.path("checkpoint-5") / "training_args.bin").exists()


def test_a_partial_folder_starts_empty(place: Place) -> None:
    write_files(place.local.partial(5), step=4)

    assert list(place.local.partial(5).iterdir()) == []


def test_a_partial_folder_is_not_a_checkpoint(place: Place) -> None:
    partial = place.local.partial(5)

    assert not partial.match("checkpoint-*")
    assert place.on_disk() == []


def test_the_same_attempt_never_writes_a_step_twice(place: Place) -> None:
    place.save(5)
    first = place.local.list()

    place.save(5)

    assert place.local.list() == first


def test_a_later_attempt_keeps_the_checkpoint_that_it_started_from(place: Place) -> None:
    place.save(5)
    partial = write_files(place.local.partial(5), step=5)

    kept = place.local.finish(partial, description(5, attempt=2), lineage=[(1, 0), (2, 5)])

    assert kept.attempt == 1
    assert not partial.exists()


def test_one_that_could_not_be_evaluated_makes_room_for_the_same_step_with_its_metrics(
    place: Place,
) -> None:
    place.save(5)
    partial = write_files(place.local.partial(5), step=5)
    evaluated = description(5, attempt=2, metrics={"eval_loss": 1.0})

    made = place.local.finish(partial, evaluated, lineage=[(1, 0), (2, 5)])

    assert (made.attempt, made.metrics) == (2, {"eval_loss": 1.0})
    assert (place.local.folder / "superseded/a1/checkpoint-5").is_dir()
    assert place.on_disk() == ["checkpoint-5"]


def test_a_superseded_one_makes_room_for_a_later_attempt(place: Place) -> None:
    place.save(10)

    place.save(10, attempt=2)

    assert [saved.attempt for saved, _ in place.local.list()] == [2]
    assert [entry.name for entry in place.local.set_aside()] == ["superseded/a1/checkpoint-10"]


def test_a_broken_one_makes_room_for_a_new_one(place: Place) -> None:
    place.save(10)
    (place.local.path("checkpoint-10") / "optimizer.pt").unlink()

    place.save(10)

    assert place.local.problem("checkpoint-10") is None
    assert [entry.name for entry in place.local.rejected()] == ["rejected/checkpoint-10"]


def test_superseding_moves_what_a_later_attempt_left_behind(place: Place) -> None:
    place.save(5, 10, 15)

    moved = place.local.supersede([(1, 0), (2, 5)])

    assert moved == ["checkpoint-15", "checkpoint-10"]
    assert place.on_disk() == ["checkpoint-5"]
    assert place.local.problem("superseded/a1/checkpoint-15") is None


def test_a_rejected_one_is_kept_with_the_reason(place: Place) -> None:
    place.save(5)

    place.local.reject("checkpoint-5", "optimizer.pt is missing")

    rejected = place.local.folder / "rejected"
    assert (rejected / "checkpoint-5.reason.txt").read_text() == "optimizer.pt is missing\n"
    assert (rejected / "checkpoint-5/model.safetensors").exists()


def test_rejecting_the_same_name_again_keeps_both(place: Place) -> None:
    for _ in range(2):
        place.save(5)
        place.local.reject("checkpoint-5", "broken")

    folders = [path.name for path in (place.local.folder / "rejected").iterdir() if path.is_dir()]
    assert sorted(folders) == ["checkpoint-5", "checkpoint-5.2"]


def test_rotation_keeps_the_newest_the_best_and_what_it_is_told(place: Place) -> None:
    for step, loss in ((1, 5.0), (2, 1.0), (3, 3.0), (4, 4.0), (5, 6.0)):
        place.save(step, loss=loss)

    gone = place.local.rotate(1, keep={"checkpoint-3"})

    assert gone == ["checkpoint-1", "checkpoint-4"]
    assert place.on_disk() == ["checkpoint-5", "checkpoint-3", "checkpoint-2"]


def test_without_a_limit_nothing_is_removed(place: Place) -> None:
    place.save(1, 2, 3)

    assert place.local.rotate(None) == []


def test_links_point_at_the_last_and_the_best(place: Place) -> None:
    place.save(5, loss=1.0)
    place.save(10, loss=2.0)

    place.local.link()

    assert links(place) == {
        "checkpoint-last": "checkpoint-10",
        "checkpoint-best": "checkpoint-5",
    }
    assert place.on_disk() == ["checkpoint-10", "checkpoint-5"]


def test_no_link_is_made_where_the_best_is_only_in_the_store(place: Place) -> None:
    place.save(5, loss=1.0)
    place.local.link()
    better = Saved(
        name="checkpoint-3", step=3, attempt=1, metrics={"eval_loss": 0.5}, selection=LOSS
    )

    place.local.link(elsewhere=[better])

    assert links(place) == {"checkpoint-last": "checkpoint-5"}


def test_what_a_dead_process_left_is_removed(place: Place) -> None:
    place.save(5)
    write_files(place.local.partial(10), step=10)
    write_files(place.local.folder / ".checkpoint-1.removed", step=1)

    place.local.tidy()

    assert [path.name for path in place.local.folder.iterdir()] == ["checkpoint-5"]


def test_a_folder_without_a_manifest_is_named_but_not_listed(place: Place) -> None:
    write_files(place.local.folder / "checkpoint-7", step=7)

    assert place.on_disk() == []
    assert [(e.name, e.problem) for e in place.local.entries()] == [
        ("checkpoint-7", "it has no manifest.json")
    ]


def test_a_renamed_checkpoint_is_not_what_its_name_says(place: Place) -> None:
    place.save(5)
    place.local.path("checkpoint-5").rename(place.local.path("checkpoint-6"))

    assert place.local.problem("checkpoint-6") == "its manifest is of step 5"
    assert place.on_disk() == []


def test_a_full_disk_says_what_to_do(place: Place) -> None:
    partial = write_files(place.local.partial(5), step=5)
    (partial / "manifest.json").mkdir()  # it cannot be written

    with pytest.raises(CheckpointError, match="could not be saved") as caught:
        place.local.finish(partial, description(5))

    assert "make room" in caught.value.hint
    assert not place.local.path("checkpoint-5").exists()


def test_the_manifest_lists_nothing_but_what_is_there(place: Place) -> None:
    place.save(5)

    manifest = manifests.read(place.local.path("checkpoint-5"))

    assert [entry.path for entry in manifest.files] == [
        "model.safetensors",
        "nested/empty.txt",
        "optimizer.pt",
        "trainer_state.json",
    ]
