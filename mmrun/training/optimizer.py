"""Optimizer and schedule of a checkpoint, under today's hyperparameters.

The Trainer loads both as they were saved, and with them the old learning rate, weight decay and
betas: what was changed on the command line is lost without a word. Here the *state* (moments, step
counts) comes from the checkpoint, by parameter name, and the hyperparameters from today; the rate
at step s is what a fresh run with today's arguments has at s.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmrun.training.looking_back import kept_rate, kind, memory
from mmrun.training.position import Position

logger = logging.getLogger(__name__)

OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"

_IMPLEMENTATION = {"capturable", "decoupled_weight_decay", "differentiable", "foreach", "fused"}
_NO_KIND = _IMPLEMENTATION | {"initial_lr", "maximize", "param_names", "params"}
"""What groups of one kind of optimizer have in some versions of torch, and not in others."""


def parameter_groups(optimizer: Any, model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of the optimizer's parameters, group by group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return tuple(
        tuple(names[id(parameter)] for parameter in group["params"])
        for group in optimizer.param_groups
    )


def continue_optimizer(
    checkpoint: Path,
    *,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    model: nn.Module,
    before: Position,
    metric: str | None = None,
) -> None:
    """Give ``optimizer`` and ``scheduler`` the state they had at ``before``.

    ``metric`` is what a schedule that looks back follows today.
    """
    saved = torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True)
    misfit = _misfit(saved["param_groups"], optimizer, before=before)
    if misfit is None:
        names = parameter_groups(optimizer, model)
        optimizer.load_state_dict(
            {
                "state": _state_by_name(saved, before.parameters or names, now=names),
                "param_groups": _groups(saved["param_groups"], optimizer),
            }
        )
    else:
        logger.warning("optimizer: %s; its state starts fresh at step %d", misfit, before.step)
    if isinstance(scheduler, LambdaLR):
        _continue_formula(scheduler, optimizer=optimizer, step=before.step)
    else:
        rates = [float(group["lr"]) for group in saved["param_groups"]]
        state = torch.load(checkpoint / SCHEDULER, map_location="cpu", weights_only=True)
        if kind(state) != kind(scheduler.state_dict()):
            logger.warning("the schedule is of another kind now; it starts at step %d", before.step)
            return
        _continue_memory(scheduler, state, follows_on=before.best_by in (None, metric))
        _continue_rates(scheduler, optimizer, rates, base=before.base_rate)


def _misfit(
    saved: Sequence[Mapping[str, Any]], optimizer: Optimizer, *, before: Position
) -> str | None:
    """Return, in words, why the state that was saved is not one for ``optimizer``; None if it is.

    Plain Hugging Face names neither class nor parameters: the kind is told by the hyperparameters,
    and parameters by their number.
    """
    now = type(optimizer).__name__
    if before.optimizer:
        return None if before.optimizer == now else f"{before.optimizer} → {now}"
    if any(group.keys() - _NO_KIND != optimizer.defaults.keys() - _NO_KIND for group in saved):
        return f"the checkpoint's is no {now}"
    sizes = [
        [len(group["params"]) for group in groups] for groups in (saved, optimizer.param_groups)
    ]
    return None if sizes[0] == sizes[1] else "the checkpoint's has other parameters"


def _state_by_name(
    saved: Mapping[str, Any], then: Sequence[Sequence[str]], *, now: Sequence[Sequence[str]]
) -> dict[int, Any]:
    named = {
        name: saved["state"][index]
        for group, names in zip(saved["param_groups"], then, strict=True)
        for index, name in zip(group["params"], names, strict=True)
        if index in saved["state"]
    }
    flat = [name for group in now for name in group]
    return {index: named[name] for index, name in enumerate(flat) if name in named}


def _groups(saved: Sequence[Mapping[str, Any]], optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the optimizer's groups: hyperparameters of today, the rest from the checkpoint."""
    chosen = {*optimizer.defaults, "initial_lr"}
    fresh = optimizer.state_dict()["param_groups"]
    if len(saved) != len(fresh):
        return list(fresh)
    return [
        {**old, **{key: new[key] for key in new if key in chosen or key == "params"}}
        for old, new in zip(saved, fresh, strict=True)
    ]


def _continue_formula(scheduler: LambdaLR, *, optimizer: Optimizer, step: int) -> None:
    """Set the rate that the schedule's formula, with today's arguments, has at ``step``."""
    scheduler.last_epoch = step
    scheduler._step_count = step + 1  # noqa: SLF001 (what LRScheduler.step counts)
    rates = [
        base * rate(step)
        for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates  # noqa: SLF001 (what get_last_lr answers)


def _continue_memory(scheduler: Any, saved: Mapping[str, Any], *, follows_on: bool) -> None:
    """Let a schedule that looks back remember what it saw, under today's arguments."""
    if follows_on and saved["mode"] == scheduler.mode:
        scheduler.load_state_dict(memory(saved, now=scheduler.state_dict()))
    else:
        logger.warning("the schedule follows another metric now; it forgets what it has seen")


def _continue_rates(
    scheduler: Any, optimizer: Optimizer, then: Sequence[float], *, base: float | None
) -> None:
    """Go on with the rates that such a schedule had come to."""
    for index, group in enumerate(optimizer.param_groups):
        # Groups differ by weight decay, not by rate; freezing may change their number.
        came_to = then[index] if len(then) == len(optimizer.param_groups) else then[0]
        group["lr"] = kept_rate(came_to, base=base, base_now=float(group["lr"]))
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # noqa: SLF001
