"""How many requests it takes to find the latest checkpoint among few and among many."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.project import SMALL, mmrun, write_project
from benchmarks.table import table
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.tracking.mlflow_store import MlflowStore
from tests.mlflow_server import mlflow_server

TITLE = "Requests to find the latest checkpoint"
_FEW, _MANY = 3, 1000
_DRY_RUN = "train --config_path experiment.yaml --dry-run --output_dir elsewhere"


def run(folder: Path) -> str:
    """Count the requests that a server gets from ``--resume_from_checkpoint RUN@latest``."""
    with mlflow_server(folder / "server") as uri:
        project = folder / "project"
        write_project(project, SMALL, steps=_FEW, save_every=1, keep=_MANY)
        mmrun(project, "train --config_path experiment.yaml", uri=uri)
        run_id = json.loads((project / "out/run.json").read_text(encoding="utf-8"))["run_id"]
        log = folder / "server/server.log"
        few = _requests(project, run_id, uri=uri, log=log)
        _add(project / "out/train/checkpoint-3", run_id, uri=uri)
        many = _requests(project, run_id, uri=uri, log=log)
    rows = [(_FEW, few), (_MANY, many)]
    return (
        f"{table(('checkpoints of the run', 'requests'), rows)}\n\n"
        f"`mmrun {_DRY_RUN} --resume_from_checkpoint RUN@latest`, counted in the access log of a "
        "real `mlflow server`; the whole command, not only its search for a checkpoint."
    )


def _requests(project: Path, run_id: str, *, uri: str, log: Path) -> int:
    before = _lines(log)
    said = mmrun(project, f"{_DRY_RUN} --resume_from_checkpoint {run_id}@latest", uri=uri)
    if "in the store" not in said:
        raise RuntimeError(f"another plan than was meant:\n{said}")
    return _lines(log) - before


def _lines(log: Path) -> int:
    return log.read_text(encoding="utf-8").count('HTTP/1.1"')


def _add(like: Path, run_id: str, *, uri: str) -> None:
    """Store more checkpoints, by the code that a training uses."""
    remote = RemoteCheckpoints(MlflowStore(uri).artifacts(run_id))
    old = manifests.read(like)
    with TemporaryDirectory(dir=like.parent) as scratch:
        for step in range(_FEW + 1, _MANY + 1):
            folder = Path(scratch, f"checkpoint-{step}")
            folder.mkdir()
            shutil.copyfile(like / "trainer_state.json", folder / "trainer_state.json")
            manifest = Manifest.of(
                old.model_copy(update={"step": step}),
                created_ms=old.created_ms,
                files=manifests.describe(folder),
            )
            manifests.write(folder, manifest)
            remote.upload(folder, name=folder.name)
