"""Commands on checkpoints that die half-way, meet each other, or find their folder gone."""

import shutil
import signal
import subprocess
import time

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.tracking.mlflow_store import MlflowStore
from tests.recovery.project import MMRUN, Project, assert_one_run_like, outside


def remote_of(project: Project) -> RemoteCheckpoints:
    store = MlflowStore(f"sqlite:///{project.folder / 'mlflow.db'}")
    return RemoteCheckpoints(store.artifacts(project.run.run_id))


def stored_whole(project: Project) -> dict[str, str | None]:
    """Return the checkpoints in the store and what is wrong with each."""
    remote = remote_of(project)
    return {
        entry.name: entry.problem or (remote.problem(entry.name, entry.manifest))  # type: ignore[arg-type]
        for entry in remote.entries()
    }


PRUNE = ("checkpoints", "prune", "out", "--keep_last", "1", "--keep_best", "0")


@pytest.mark.parametrize("moment", ["prune.manifest@12", "prune.files@12", "prune.collect"])
def test_a_prune_that_dies_is_finished_by_the_next(frozen: Project, moment: str) -> None:
    leftover = frozen.artifact(f"checkpoints/shared/{'a' * 64}/old.safetensors")
    leftover.parent.mkdir()
    leftover.write_bytes(b"what nothing refers to")
    killed = frozen.mmrun(*PRUNE, MMRUN_KILL_AT=moment)
    assert killed.code == -9, killed.said

    assert stored_whole(frozen)["checkpoint-23"] is None
    done = frozen.mmrun(*PRUNE)

    assert done.code == 0, done.said
    assert stored_whole(frozen) == {"checkpoint-23": None}
    assert not leftover.parent.exists()
    assert len(list(frozen.artifact("checkpoints/shared").iterdir())) == 1


def started(project: Project, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a command, and do not wait for it."""
    return subprocess.Popen(
        [MMRUN, *words],
        cwd=project.folder,
        env=outside() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_that_prune_at_once_do_not_mix(frozen: Project) -> None:
    pruning = [started(frozen, *PRUNE) for _ in range(2)]
    said = [process.communicate()[0] for process in pruning]
    codes = sorted(process.returncode for process in pruning)

    assert codes in ([0, 0], [0, 6]), said
    if codes == [0, 6]:
        assert any("cannot be continued" in text and "process" in text for text in said), said
    assert stored_whole(frozen) == {"checkpoint-23": None}


def test_a_pull_that_dies_leaves_nothing_that_looks_whole(frozen: Project) -> None:
    run_id = frozen.run.run_id
    killed = frozen.mmrun("checkpoints", "pull", run_id, "pulled", MMRUN_KILL_AT="restore.file")
    assert killed.code == -9, killed.said
    assert not (frozen.folder / "pulled").exists()
    assert remote_of(frozen).holds.being_restored() == frozenset()  # it is known to be dead

    done = frozen.mmrun("checkpoints", "pull", run_id, "pulled")

    assert done.code == 0, done.said
    assert not list(frozen.folder.glob(".pulled*"))
    assert frozen.mmrun(*PRUNE).code == 0


def test_a_prune_leaves_what_somebody_pulls(frozen: Project) -> None:
    words = ("checkpoints", "pull", f"{frozen.run.run_id}@12", "pulled")
    pulling = started(frozen, *words, MMRUN_KILL_AT="never,restore.file")  # it waits there
    with pulling:
        while "checkpoint-12" not in remote_of(frozen).holds.being_restored():
            assert pulling.poll() is None, pulling.communicate()[0]
            time.sleep(0.1)

        meanwhile = frozen.mmrun(*PRUNE)
        held = stored_whole(frozen)
        pulling.kill()
    after = frozen.mmrun(*PRUNE)

    assert meanwhile.code == 0, meanwhile.said
    assert "kept checkpoint-12 (being restored)" in meanwhile.said
    assert held == {"checkpoint-23": None, "checkpoint-12": None}
    assert after.code == 0, after.said
    assert stored_whole(frozen) == {"checkpoint-23": None}
    assert not (frozen.folder / "pulled").exists()


def test_a_pull_that_meets_a_prune_gets_all_or_nothing(frozen: Project) -> None:
    words = ("checkpoints", "pull", f"{frozen.run.run_id}@12", "pulled")
    commands = [started(frozen, *words), started(frozen, *PRUNE)]
    said = [command.communicate()[0] for command in commands]
    pull, prune = (command.returncode for command in commands)

    assert prune == 0, said
    pulled = frozen.folder / "pulled"
    if pull == 0:
        assert manifests.problem_with(pulled, manifests.read(pulled)) is None
    else:
        assert pull == 5, said
        assert "error: " in said[0]
        assert not pulled.exists()
    assert set(stored_whole(frozen).values()) == {None}
    assert "checkpoint-23" in stored_whole(frozen)


def test_what_is_pruned_while_it_is_verified_is_not_broken(frozen: Project) -> None:
    marks = frozen.artifact("checkpoints/restoring")
    with started(frozen, "checkpoints", "verify", frozen.run.run_id) as verifying:
        while not (marks.is_dir() and any(marks.iterdir())):
            assert verifying.poll() is None, verifying.communicate()[0]
            time.sleep(0.001)
        verifying.send_signal(signal.SIGSTOP)  # it has begun with the newest
        pruned = frozen.mmrun(*PRUNE)
        verifying.send_signal(signal.SIGCONT)
        said = verifying.communicate()[0]

    assert pruned.code == 0, pruned.said
    assert verifying.returncode == 0, said
    assert said.splitlines() == [
        "checkpoint-23 (in the store): whole",
        "checkpoint-18 (in the store): removed meanwhile",
        "checkpoint-12 (in the store): removed meanwhile",
    ]


def test_a_prune_while_a_training_runs_is_refused_and_disturbs_nothing(project: Project) -> None:
    words = ("train", "--config_path", "experiment.yaml", "--max_steps", "100000")
    training = started(project, *words, "--eval_strategy", "no", "--metric_for_best_model", "null")
    with training:
        said = []
        for line in training.stdout or ():
            said.append(line)
            if line.startswith("step 20:"):
                break
        pruned = project.mmrun(*PRUNE)
        looked = project.mmrun(*PRUNE, "--dry-run")
        training.terminate()
        said += training.stdout or ()

    assert training.returncode == 75, said
    assert pruned.code == 6, pruned.said
    assert f"process {training.pid} on " in pruned.said
    assert "works on it" in pruned.said
    assert "  try: wait until it has ended, or stop it\n" in pruned.said  # there is no --steal
    assert looked.code == 0, looked.said
    assert set(stored_whole(project).values()) == {None}
    assert project.run.tags["mmrun.status"] == "stopped by SIGTERM"


def test_a_training_killed_while_it_retains_and_while_it_ends(
    project: Project, frozen_alone: Project
) -> None:
    project.change("  feat_dim: 64\n", "  feat_dim: 64\n  freeze_backbone: true\n")
    for moment in (
        "upload.manifest@6,step@7,upload.manifest@12,step@13,upload.manifest@18,step@19,"
        "prune.manifest@6",
        "ended",
    ):
        project.train_until(moment)
        assert project.run.status == "RUNNING"

    done = project.mmrun("sync", "out")

    assert done.code == 0, done.said
    assert "its last attempt: finished" in done.said
    assert_one_run_like(project, frozen_alone)
    assert set(stored_whole(project).values()) == {None}
    assert len(list(project.artifact("checkpoints/shared").iterdir())) == 1


def test_the_local_folder_may_go_while_its_upload_runs(project: Project) -> None:
    project.train_until("spool.linked@6,upload.shared@6!,step@7")
    shutil.rmtree(project.out / "train")

    done = project.mmrun("sync", "out")

    assert done.code == 0, done.said
    assert "sent" in done.said
    assert stored_whole(project) == {"checkpoint-6": None}
    assert "checkpoint-6, in the store" in project.train("--dry-run").said


@pytest.mark.parametrize("place", ["taken/new", "taken/deeper/new", "/proc/nowhere/new"])
@pytest.mark.parametrize("words", [("pull", "23"), ("average", "18", "23", "--output")])
def test_what_cannot_be_written_is_a_usage_error(
    frozen: Project, words: tuple[str, ...], place: str
) -> None:
    (frozen.folder / "taken").write_text("a file, and no folder")

    done = frozen.mmrun("checkpoints", *words, place, "--output_dir", "out")

    assert done.code == 2, done.said
    error, hint = done.said.splitlines()
    assert error.startswith(f"error: {place} cannot be written: ")
    assert hint.startswith("  try: name a folder ")


def test_what_was_queued_is_sent_also_when_checkpoints_stay_on_disk_by_now(
    project: Project,
) -> None:
    project.train_until("spool.linked@6,upload.shared@6!,step@7")
    project.train_to_the_end("--log_checkpoints", "false")
    assert stored_whole(project) == {}

    done = project.mmrun("sync", "out")
    again = project.mmrun("sync", "out")

    assert done.code == 0, done.said
    assert "sent 1 checkpoint" in done.said
    assert stored_whole(project) == {"checkpoint-6": None}  # and no other was wanted there
    assert "nothing was waiting" in again.said
    project.train_to_the_end("--overwrite_output_dir", "true", "--max_steps", "6")
