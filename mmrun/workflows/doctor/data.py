"""The experiment file, and the state of what DVC and git know."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrun.config.schema import SPLITS, Split
from mmrun.data.manifest import read_manifest
from mmrun.data.pipeline import resolve_pipeline
from mmrun.errors import DataError, MmrunError
from mmrun.provenance.data import without_dvc
from mmrun.provenance.source import source_state
from mmrun.workflows.doctor.finding import Finding, fail, failed, ok, warn
from mmrun.workflows.doctor.patient import Patient

_DVC_S = 50
_SHOWN = 3


def experiment_file(patient: Patient) -> Iterator[Finding]:
    """Say which file counts, and what is wrong with it."""
    error = patient.config_error
    if patient.config_path is None:
        yield ok("none given, and there is no params.yaml here: the usual settings count")
    elif error is None:
        yield ok(str(patient.config_path))
    elif patient.named:
        yield failed(error)
    else:
        yield warn(f"{error}; the usual settings count here", error.hint or "--config_path FILE")


def manifests(patient: Patient) -> Iterator[Finding]:
    """Say whether the data is there, and whether its tables can be read with these settings."""
    data = patient.experiment.data
    found = {split: path for split in SPLITS if (path := data.manifest(split))}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        yield fail(
            f"not there: {', '.join(missing)}",
            "check the paths in the section data; 'dvc pull' brings what DVC tracks",
            exit_code=DataError.exit_code,
        )
    elif found:
        yield from _tables(patient, found)


def _tables(patient: Patient, found: Mapping[Split, Path]) -> Iterator[Finding]:
    processor, data = patient.experiment.processor, patient.experiment.data
    if processor.slots is None and (processor.pipeline or data.dataset_type) is None:
        yield warn(
            f"{', '.join(map(str, found.values()))}: of which modality is not said",
            "write data.dataset_type, or give --modality to setup and train",
        )
        return
    try:
        pipeline = resolve_pipeline(processor, data=data)
    except MmrunError as error:
        yield failed(error)
        return
    for split, path in found.items():
        try:
            rows = read_manifest(path, split=split, columns=pipeline.columns)
        except DataError as error:
            yield failed(error)
        else:
            yield ok(f"{path}: {len(rows):,} rows of {' and '.join(pipeline.modalities)}")


def dvc(patient: Patient) -> Iterator[Finding]:
    """Compare the data with what DVC has recorded."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if root is None:
        yield ok("no DVC repository: the version of the data is a digest of its content")
        return
    state = _status(root)
    changed = [
        f"{name} ({kind} {how})"
        for kind, by_how in state.items()
        if isinstance(by_how, dict) and kind in {"uncommitted", "not_in_cache"}
        for how, names in by_how.items()
        for name in names
    ]
    given = [path for split in SPLITS if (path := patient.experiment.data.manifest(split))]
    untracked = without_dvc(path for path in given if path.is_file())
    if changed:
        yield warn(
            f"{_some(changed)} in {root}",
            "'dvc checkout' restores what was recorded, 'dvc commit' records what is there",
        )
    if untracked:
        names = _some([str(path) for path in untracked])
        yield warn(f"{names} is not tracked", f"dvc add {untracked[0]}")
    if not changed and not untracked:
        yield ok(f"{root} is as DVC has recorded it")


def git(_: Patient) -> Iterator[Finding]:
    """Say which revision a run would record."""
    state = source_state()
    if state.git_revision is None:
        yield ok("no git repository here: a run does not record which code it was made with")
        return
    changed = ", with uncommitted changes, which a run records, too" if state.dirty else ""
    yield ok(f"revision {state.git_revision[:12]}{changed}")


def _status(root: Path) -> dict[str, Any]:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    answer = subprocess.run(
        [sys.executable, "-m", "dvc", "data", "status", "--json"],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DVC_S,
        check=False,
    )
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DataError(f"dvc cannot tell: {last[0]}", hint="dvc data status")
    content: dict[str, Any] = json.loads(answer.stdout or "{}")
    return content


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
