"""Where an epoch is entered; apart from the sampler, so that a plan needs no torch to say it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where an epoch is entered: its first ``done`` samples are behind."""

    epoch: int
    done: int
