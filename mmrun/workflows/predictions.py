"""The files that `mmrun generate` writes: a table, lines of JSON, scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun.files import folder_whole, write_whole
from mmrun.tasks.written import Written

TSV, LINES, SCORES = "predictions.tsv", "predictions.jsonl", "scores.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """The rows of a split with what was written for them."""

    given: Mapping[str, Sequence[str]]
    """The columns of the manifest, the reference last."""
    written: Sequence[Written]
    scores: Mapping[str, float]

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """All columns of the table."""
        return {
            **self.given,
            "prediction": [row.text for row in self.written],
            "score": [row.score for row in self.written],
        }

    @property
    def unreadable(self) -> int:
        """How many rows could not be read, so that nothing was written for them."""
        return sum(not row.candidates for row in self.written)


def write_predictions(translated: Translated, folder: Path) -> list[Path]:
    """Write the files whole, and return them; the scores also where DVC finds the newest ones."""
    columns = translated.columns
    rows = list(zip(*columns.values(), strict=True))
    scores = json.dumps(dict(translated.scores), indent=1) + "\n"
    with folder_whole(folder) as scratch:
        table = ["\t".join(columns), *("\t".join(map(_one_field, row)) for row in rows)]
        (scratch / TSV).write_text("\n".join(table) + "\n", encoding="utf-8")
        objects = (
            {**dict(zip(columns, row, strict=True)), **_others(written)}
            for row, written in zip(rows, translated.written, strict=True)
        )
        lines = (f"{json.dumps(row, ensure_ascii=False)}\n" for row in objects)
        (scratch / LINES).write_text("".join(lines), encoding="utf-8")
        (scratch / SCORES).write_text(scores, encoding="utf-8")
    write_whole(folder.parent / SCORES, scores)
    return [folder / name for name in (TSV, LINES, SCORES)]


def _others(written: Written) -> dict[str, Any]:
    others = [{"prediction": one.text, "score": one.score} for one in written.candidates[1:]]
    return {"others": others} if others else {}


def _one_field(value: str | float | None) -> str:
    # A tab separates and a line ends, here as in a manifest; the JSON lines keep the text as it is.
    text = "" if value is None else str(value)
    return " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
