"""What a training would do: the text of ``mmrun train --dry-run``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmrun.workflows.beginning import Beginning, data_differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The run, the checkpoint and why newer ones were passed over, and what changes."""

    run_id: str | None
    output_dir: str
    attempt: int
    checkpoint: str | None
    rejected: Sequence[str] = ()
    changed: Mapping[str, tuple[Any, Any]]
    data_changed: bool = False

    def text(self) -> str:
        """Say it in lines."""
        lines = [
            f"run         {self.run_id or 'a new one'}",
            f"folder      {self.output_dir}",
            f"attempt     {self.attempt}",
            f"checkpoint  {self.checkpoint or 'none: from step 0'}",
        ]
        lines += [f"  passed over: {reason}" for reason in self.rejected]
        lines += [f"changes     {key}: {old} → {new}" for key, (old, new) in self.changed.items()]
        if self.data_changed:
            lines.append("changes     the data behind the same paths")
        return "\n".join(lines)


def plan_of(beginning: Beginning) -> Plan:
    """Put what was decided into words."""
    place, found = beginning.place, beginning.found
    return Plan(
        run_id=place.run.run_id if place.run is not None else None,
        output_dir=str(place.output_dir),
        attempt=beginning.past.attempts + 1,
        checkpoint=f"{found.name}, {found.where}" if found is not None else None,
        rejected=[str(one) for one in found.rejected] if found is not None else (),
        changed=beginning.changed,
        data_changed=data_differs(beginning.past, beginning.data),
    )
