"""What a model wrote for a row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A text that was written, and its score."""

    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written for one row, the best first; nothing for a row that cannot be read."""

    candidates: tuple[Candidate, ...] = ()

    @property
    def text(self) -> str:
        """The best text."""
        return self.candidates[0].text if self.candidates else ""

    @property
    def score(self) -> float | None:
        """The score of the best text."""
        return self.candidates[0].score if self.candidates else None
