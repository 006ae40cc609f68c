"""What waits and cannot be sent is told by ``mmrun sync``, and nothing of it is lost."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.spool import Spool
from tests.recovery.damage import flip
from tests.recovery.project import MMRUN, Project, outside

HANGS, HANGS_S = "upload.file", 110
"""Each file that arrived holds its thread up for longer than this: see ``mmrun/faults.py``."""


def newest(project: Project) -> Path:
    return max((project.folder / "out/train").glob("checkpoint-[0-9]*"), key=manifest_step)


def manifest_step(folder: Path) -> int:
    return manifests.read(folder).step


def test_a_training_that_is_to_end_waits_for_no_upload_that_hangs(project: Project) -> None:
    project.change("tracking:\n", "tracking:\n  grace_s: 3\n")
    begun = time.monotonic()

    done = project.train_and_send(signal.SIGTERM, at_line="step 8:", MMRUN_KILL_AT=f"never,{HANGS}")

    assert done.code == 75, done.said
    assert time.monotonic() - begun < HANGS_S
    assert "not sent yet: " in done.said
    assert not list(project.artifact("checkpoints").glob("*/manifest.json"))

    sent = project.mmrun("sync", "out")

    assert sent.code == 0, sent.said
    assert project.artifact("checkpoints/checkpoint-6/manifest.json").exists()


def test_verifying_beside_a_training_calls_no_upload_broken_that_is_under_way(
    project: Project,
) -> None:
    words = [str(MMRUN), "train", "--config_path", "experiment.yaml"]
    environment = outside() | {"MMRUN_KILL_AT": f"never,{HANGS}"}
    with subprocess.Popen(
        words, cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as training:
        try:
            for line in training.stderr or ():
                if line.startswith("step 15:"):
                    break
            beside = project.mmrun("checkpoints", "verify", "out")
        finally:
            training.kill()
    after = project.mmrun("checkpoints", "verify", "out")
    shutil.rmtree(project.folder / "out/spool")
    lost = project.mmrun("checkpoints", "verify", "out")

    assert beside.code == 0, beside.said
    assert "checkpoint-6 (in the store): its upload is under way" in beside.said
    assert after.code == 0, after.said
    assert "checkpoint-6 (in the store): its upload waits in the spool" in after.said
    assert lost.code == 5
    assert "checkpoint-6 (in the store): its upload never finished" in lost.said


def test_a_damaged_checkpoint_is_not_sent_and_set_aside(finished: Project) -> None:
    folder = newest(finished)
    shutil.rmtree(finished.artifact(f"checkpoints/{folder.name}"))
    flip(folder / "optimizer.pt")

    done = finished.mmrun("sync", "out")

    assert done.code == 0, done.said
    assert "optimizer.pt is damaged" in done.said
    assert not finished.artifact(f"checkpoints/{folder.name}").exists()
    aside = finished.folder / f"out/spool/rejected/{finished.run.run_id}/{folder.name}.a1"
    assert (aside / "optimizer.pt").exists()


def test_what_a_newer_mmrun_left_is_left_and_told(finished: Project) -> None:
    waiting = finished.folder / f"out/spool/{finished.run.run_id}/checkpoint-99.a1"
    waiting.mkdir(parents=True)
    (waiting / "manifest.json").write_text(json.dumps({"format": 3}))

    done = finished.mmrun("sync", "out")

    assert done.code == 0, done.said
    assert done.said.count("checkpoint-99.a1 is not sent: manifest.json has format 3") == 1
    assert waiting.exists()


def test_a_whole_copy_that_waits_is_resumed_from_where_its_folder_is_broken(
    killed: Project,
) -> None:
    folder = killed.folder / "out/train/checkpoint-18"
    shutil.rmtree(killed.artifact("checkpoints/checkpoint-18"))
    Spool(killed.folder / "out/spool").add(folder, manifests.read(folder))
    (folder / "optimizer.pt").unlink()

    said = killed.train_to_the_end()

    assert "checkpoint-18 is passed over: optimizer.pt is missing" in said
    assert killed.attempt(2)["from_step"] == 18
    assert killed.artifact("checkpoints/checkpoint-18/manifest.json").exists()
