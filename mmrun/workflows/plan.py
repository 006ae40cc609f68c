"""What a training would do: what ``mmrun train --dry-run`` says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mmrun.checkpoints.archive import waits
from mmrun.checkpoints.found import Found
from mmrun.workflows.beginning import Beginning, data_differs
from mmrun.workflows.done import is_done, refuse_without_effect
from mmrun.workflows.next_rate import NextRate


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The run, the checkpoint and why newer ones were passed over, and what changes."""

    run_id: str | None
    output_dir: str
    attempt: int
    checkpoint: str | None
    where: str | None = None
    """``local``, ``remote`` (in the store), or ``path``."""
    from_step: int = 0
    forked_from: str | None = None
    """RUN@STEP that a fork begins with."""
    rejected: Sequence[str] = ()
    again: int = 0
    """How many steps were done before and will be done again, as far as is known."""
    changed: Mapping[str, tuple[Any, Any]]
    data_changed: bool = False
    code: tuple[str | None, str | None] | None = None
    """The git revision then and now, where it is another one."""
    uncommitted: bool = False
    versions: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    next_rate: NextRate
    done: bool = False
    """Whether the run is done already, so that there is nothing to do."""

    def text(self) -> str:
        """Say it in lines."""
        lines = [
            f"run         {self.run_id or 'a new one'}{self._source()}",
            f"folder      {self.output_dir}",
            f"attempt     {self._attempt()}",
            f"checkpoint  {self._checkpoint()}",
            *([] if self.done else [f"rate        {self.next_rate}"]),
        ]
        lines += [f"  passed over: {reason}" for reason in self.rejected]
        if self.again:
            last = self.from_step + self.again
            lines.append(
                f"again       steps {self.from_step + 1} to {last}, which were done before"
            )
        lines += [f"changes     {key}: {old} → {new}" for key, (old, new) in self.changed.items()]
        if self.data_changed:
            lines.append("changes     the data behind the same paths")
        if self.code is not None:
            then, now = (revision[:12] if revision else "none" for revision in self.code)
            lines.append(f"changes     code: revision {then} → {now}")
        if self.uncommitted:
            lines.append("changes     code: there are uncommitted changes")
        lines += [
            f"changes     version of {name}: {old or 'none'} → {new or 'none'}"
            for name, (old, new) in self.versions.items()
        ]
        return "\n".join(lines)

    def _source(self) -> str:
        return f", a fork of {self.forked_from}" if self.forked_from is not None else ""

    def _attempt(self) -> str:
        if self.done:
            return f"none: the run is already done at step {self.from_step}"
        return str(self.attempt)

    def _checkpoint(self) -> str:
        if self.checkpoint is None:
            return "none: from step 0"
        return f"{self.checkpoint}, {'in the store' if self.where == 'remote' else self.where}"

    def json(self) -> str:
        """Say it for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


def plan_of(beginning: Beginning, *, next_rate: NextRate) -> Plan:
    """Put what was decided into words.

    Raises:
        UsageError: the run is done, and settings were changed that would have no effect.
    """
    done = _is_done(beginning, next_rate)
    if done:
        refuse_without_effect(beginning.changed, step=beginning.step, run_id=beginning.place.run_id)
    place, found, last = beginning.place, beginning.found, beginning.before.last
    source = beginning.source
    return Plan(
        run_id=place.run.run_id if place.run is not None else None,
        output_dir=str(place.output_dir),
        attempt=beginning.past.attempts + 1,
        checkpoint=_name(found) if found is not None else None,
        where=found.where if found is not None else None,
        from_step=beginning.step,
        forked_from=beginning.forked_from,
        rejected=[str(one) for one in found.rejected] if found is not None else (),
        again=max(beginning.past.reached(place.output_dir / "journal") - beginning.step, 0),
        changed=beginning.changed,
        data_changed=data_differs(beginning.before, beginning.data),
        code=(
            (last.git, source.git_revision)
            if last is not None and last.git != source.git_revision
            else None
        ),
        uncommitted=source.dirty and last is not None,
        versions=_changed(last.versions, source.versions) if last is not None else {},
        next_rate=next_rate,
        done=done,
    )


def _is_done(beginning: Beginning, next_rate: NextRate) -> bool:
    last = beginning.past.last
    return is_done(
        ended=last.ended if last is not None else None,
        step=beginning.step,
        total=next_rate.total,
        stopped_early=next_rate.stopped_early,
        changed=beginning.changed,
    )


def _name(found: Found) -> str:
    """Return the name for people: of what waits for the store, not the way to it."""
    return found.name.rpartition("/")[2] if waits(found) else found.name


def _changed(
    then: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (then.get(name), now.get(name))
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    }
