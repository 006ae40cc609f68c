"""What makes two translations the same: checkpoint, data, rows and settings."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmrun import __version__
from mmrun.checkpoints.found import Found
from mmrun.config.loading import plain
from mmrun.config.schema import Experiment, Split
from mmrun.data.pipeline import resolve_pipeline

_DECIDING = (
    "max_frames",
    "min_frames",
    "max_length",
    "max_eval_samples",
    "max_predict_samples",
    "on_bad_sample",
)
"""Keys of `data` that change which rows are translated, beside the files themselves."""
_PRECISION = ("bf16_full_eval", "fp16_full_eval")
_DRAWING = ("seed", "per_device_eval_batch_size")
"""Keys of `training` that decide what is sampled."""


def origin(found: Found) -> str:
    """Name the checkpoint by its run, wherever it lies."""
    manifest = found.manifest
    if manifest is None:
        return str(found.path)
    if manifest.average_of:
        return f"mean of {', '.join(manifest.average_of)}"
    return f"{manifest.run_id}@{manifest.step}.a{manifest.attempt}"


def identity(experiment: Experiment, checkpoint: str, *, data: str, split: Split) -> str:
    """Return what is the same for two translations with the same predictions and scores."""
    names = list(experiment.training.metric_name)
    return _digest([_deciding(experiment, checkpoint, data=data, split=split), names])


def rows_identity(experiment: Experiment, found: Found, *, data: str, split: Split) -> str:
    """Return what is the same where rows that one process wrote can be taken by another.

    A checkpoint that has no manifest may be replaced by another one under the same name, so the
    sizes and times of its files count, and the processor that it does not have.
    """
    foreign: list[Any] = []
    if found.manifest is None and found.path is not None:
        foreign = [_stamps(found.path), plain(experiment).get("processor", {})]
    deciding = _deciding(experiment, origin(found), data=data, split=split)
    return _digest([deciding, __version__, foreign])[:12]


def _deciding(experiment: Experiment, checkpoint: str, *, data: str, split: Split) -> list[Any]:
    content = plain(experiment)
    generation, rows = content.get("generation", {}), content.get("data", {})
    given = experiment.training.arguments
    names = (*_PRECISION, *(_DRAWING if generation.get("do_sample") else ()))
    return [
        checkpoint,
        split,
        generation,
        data,
        {key: rows.get(key) for key in _DECIDING},
        asdict(resolve_pipeline(experiment.processor, data=experiment.data).columns),
        {key: given[key] for key in names if key in given},
    ]


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
