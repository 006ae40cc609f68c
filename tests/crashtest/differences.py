"""What is not the same in two finished trainings."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.recovery.project import Project

_SHOWN = 5


def differences(project: Project, alone: Project, *, step: int) -> list[str]:
    """Return in words what differs from a training that was left alone; empty if nothing does."""
    return [
        *_of_the_run(project),
        *_of_the_history(project, alone),
        *_of_tensors("weights", project.weights(step), alone.weights(step)),
        *_of_tensors("optimizer", _optimizer(project, step), _optimizer(alone, step)),
        *_of_predictions(project, alone),
    ]


def _of_the_run(project: Project) -> Iterable[str]:
    run = project.run
    if run.status != "FINISHED" or run.tags["mmrun.status"] != "finished":
        yield f"status {run.status}, tag {run.tags['mmrun.status']}"
    if "mmrun.replay" in run.tags:
        yield f"tag mmrun.replay = {run.tags['mmrun.replay']}"
    verified = project.mmrun("checkpoints", "verify", "out")
    if verified.code:
        yield f"checkpoints verify: {verified.said}"


def _of_the_history(project: Project, alone: Project) -> Iterable[str]:
    if twice := project.logged_twice():
        yield f"logged more than once: {twice[:_SHOWN]}"
        return
    mine, theirs = project.history, alone.history
    odd = [place for place in sorted(mine.keys() | theirs.keys()) if _differ(mine, theirs, place)]
    for key, step in odd[:_SHOWN]:
        yield f"{key} at step {step}: {mine.get((key, step))}, alone {theirs.get((key, step))}"
    if len(odd) > _SHOWN:
        yield f"and {len(odd) - _SHOWN} more points of the history"


def _differ(mine: Mapping[Any, float], theirs: Mapping[Any, float], place: Any) -> bool:
    """Tell whether two histories differ at a place: not a bit may, and NaN is NaN."""
    return repr(mine.get(place)) != repr(theirs.get(place))


def _of_tensors(what: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterable[str]:
    if mine.keys() != theirs.keys():
        yield f"{what}: other names: {', '.join(sorted(mine.keys() ^ theirs.keys())[:_SHOWN])}"
        return
    odd = [name for name, value in theirs.items() if not _same(mine[name], value)]
    if odd:
        yield f"{what}: {len(odd)} of {len(theirs)} differ, such as {', '.join(odd[:_SHOWN])}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _optimizer(project: Project, step: int) -> Mapping[str, Any]:
    """Return the optimizer's state and groups, flat."""
    file = project.out / f"train/checkpoint-{step}/optimizer.pt"
    return dict(_flat("", torch.load(file, weights_only=True)))


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}".lstrip("."), part)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _flat(f"{name}.{number}", part)
    else:
        yield name, value


def _of_predictions(project: Project, alone: Project) -> Iterable[str]:
    mine, theirs = _predictions(project), _predictions(alone)
    if not theirs:
        yield "nothing was predicted by the training that was left alone"
    if mine != theirs:
        yield f"predictions differ: {', '.join(sorted(mine.keys() ^ theirs.keys())) or 'in text'}"


def _predictions(project: Project) -> Mapping[str, str]:
    files = (project.out / "generate").glob("*/predictions.tsv")
    return {f"{file.parent.name}/{file.name}": _text(file) for file in files}


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
