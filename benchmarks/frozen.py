"""The bytes that ten checkpoints of a model with 99 % frozen parameters take in the store."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from benchmarks.project import Size, mmrun, write_project
from benchmarks.table import table
from mmrun.files import size_of

TITLE = "Ten checkpoints of a model that is 99 % frozen"
_SIZE = Size.of(600)
_CHECKPOINTS = 10
_MB = 1e6


def run(folder: Path) -> str:
    """Train, keep ten checkpoints, count the bytes; return the table."""
    project = folder / "project"
    write_project(project, _SIZE, steps=_CHECKPOINTS, save_every=1, keep=_CHECKPOINTS, frozen=True)
    mmrun(project, "train --config_path experiment.yaml")
    (root,) = project.glob("mlartifacts/*/artifacts/checkpoints")
    (newest,) = (project / "out/train").glob(f"checkpoint-{_CHECKPOINTS}")
    sizes = {path.name: path.stat().st_size for path in newest.iterdir() if path.is_file()}
    whole = sum(sizes.values())
    floor = whole + (_CHECKPOINTS - 1) * _changing(sizes)
    stored = size_of(root)
    rows = [
        ("one whole checkpoint", whole / _MB, whole / floor),
        (
            "ten whole ones, as `log_artifacts` stores them",
            _CHECKPOINTS * whole / _MB,
            _CHECKPOINTS * whole / floor,
        ),
        ("one whole one, and nine times the trained part", floor / _MB, 1.0),
        ("ten in the store with mmrun", stored / _MB, stored / floor),
    ]
    return (
        f"{table(('what', 'MB', 'ratio'), rows)}\n\n"
        f"{_trained_share(newest):.1%} of the parameters are trained. The trained part has the "
        "optimizer's state with it."
    )


def _changing(sizes: Mapping[str, int]) -> int:
    return sizes["model-trained.safetensors"] + sizes["optimizer.pt"]


def _trained_share(checkpoint: Path) -> float:
    trained, frozen = (
        _count(checkpoint / f"model-{part}.safetensors") for part in ("trained", "frozen")
    )
    return trained / (trained + frozen)


def _count(path: Path) -> int:
    total = 0
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            count = 1
            for length in file.get_slice(name).get_shape():
                count *= length
            total += count
    return total
