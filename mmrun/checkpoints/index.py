"""A table of the checkpoints in the store, so that finding one costs no request for each.

``checkpoints/index.json`` is a hint: a name that is not in it is looked up in its manifest, and the
manifest of what was chosen is read in any case. It is written by the holder of the run alone, after
a checkpoint's manifest was sent and before one is deleted, so what it says of a name stays true.
"""

import json
import logging
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from mmrun.checkpoints.manifest import Record, Selection, seal
from mmrun.checkpoints.policy import Saved

logger = logging.getLogger(__name__)

NAME = "index.json"
_SEAL = "digest"


class _Row(Record):
    step: NonNegativeInt
    attempt: PositiveInt
    metrics: Mapping[str, float] = Field(default_factory=dict)
    selection: Selection | None = None


class Index(Record):
    """What decisions need of each checkpoint, by its name in the store."""

    format: Literal[1] = 1
    checkpoints: Mapping[str, _Row] = Field(default_factory=dict)

    @classmethod
    def of(cls, saved: Mapping[str, Saved]) -> Self:
        """Make the table of ``saved``."""
        return cls(
            checkpoints={
                name: _Row(
                    step=one.step,
                    attempt=one.attempt,
                    metrics=one.metrics,
                    selection=one.selection,
                )
                for name, one in saved.items()
            }
        )

    @classmethod
    def from_json(cls, text: bytes | None) -> Self:
        """Read a table; one that is absent, damaged or of another version is an empty one."""
        try:
            tree = json.loads(text or "{}")
            sealed = tree.pop(_SEAL, None)
            if sealed == seal(tree):
                return cls.model_validate(tree)
        except (ValueError, ValidationError, AttributeError, TypeError) as error:
            logger.debug("the table of checkpoints cannot be used: %s", error)
        return cls()

    def to_json(self) -> str:
        """Return the text of ``index.json``."""
        tree = json.loads(self.model_dump_json())
        return json.dumps({**tree, _SEAL: seal(tree)}) + "\n"

    def saved(self) -> dict[str, Saved]:
        """Return the checkpoints by name."""
        return {
            name: Saved(
                name=name,
                step=row.step,
                attempt=row.attempt,
                metrics=row.metrics,
                selection=row.selection,
            )
            for name, row in self.checkpoints.items()
        }
