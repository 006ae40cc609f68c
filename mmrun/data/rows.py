"""From a manifest to the rows of a data set: measured, checked, and those left out counted."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun.config.schema import DataSection, Split
from mmrun.data.manifest import Cell, Columns, Row, raise_all
from mmrun.errors import DataError
from mmrun.modalities.base import Modality, Signal, Span
from mmrun.progress import progress

logger = logging.getLogger(__name__)

TokenCount = Callable[[Row], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the signals of a split are read."""

    manifest: Path
    columns: Columns
    modalities: Sequence[Modality]
    """One for each input, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One row and how long its signals are, or what is wrong with it."""

    row: Row
    lengths: tuple[int, ...] = ()
    problem: str | None = None


def signal_of(cell: Cell, *, folder: Path) -> Signal:
    """Return what a modality reads of one cell; names of files begin at the manifest's folder."""
    span = Span(start=cell.start, end=cell.end or None)
    return Signal(text=cell.text, folder=folder, span=span)


def measured_rows(
    rows: Sequence[Row],
    *,
    data: DataSection,
    split: Split,
    reading: Reading,
    tokens: TokenCount,
    whole: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows that are used, each with its length; how many are not, and why, is said.

    With ``whole`` every signal is read to its end; otherwise what the head of a file says is
    believed. ``tokens`` counts those of the text that is to be written.
    """
    found = _measured(rows, split=split, reading=reading, whole=whole)
    problems = [one.problem for one in found if one.problem is not None]
    if data.on_bad_sample == "error":
        raise_all(problems, hint=f"correct {reading.manifest} or the files that it names")
    for problem in problems:
        logger.warning("left out: %s", problem)
    good = [one for one in found if one.problem is None]
    reasons = [_left_out(one, data=data, tokens=tokens) for one in good]
    kept = [one for one, reason in zip(good, reasons, strict=True) if reason is None]
    counted = Counter(reason for reason in reasons if reason is not None)
    counted.update({"cannot be read": len(problems)} if problems else {})
    _tell(counted, left=len(kept), total=len(rows), manifest=reading.manifest)
    return [_stored(one) for one in kept]


def _measured(
    rows: Sequence[Row], *, split: Split, reading: Reading, whole: bool
) -> list[_Measured]:
    label = f"{split}: {'reading' if whole else 'checking'} files"
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        work = pool.map(lambda row: _measure(row, reading=reading, whole=whole), rows)
        return list(progress(work, total=len(rows), label=label))


def _measure(row: Row, *, reading: Reading, whole: bool) -> _Measured:
    problems = []
    lengths = []
    places = zip(row.signals, reading.modalities, reading.columns.signals, strict=True)
    for cell, modality, columns in places:
        signal = signal_of(cell, folder=reading.manifest.parent)
        try:
            lengths.append(len(modality.load(signal)) if whole else modality.length(signal))
        except DataError as error:
            problems.append(f"{reading.manifest}:{row.line}: {columns.signal}: {error}")
    return _Measured(row=row, lengths=tuple(lengths), problem="; ".join(problems) or None)


def _left_out(one: _Measured, *, data: DataSection, tokens: TokenCount) -> str | None:
    """Return why a row is not used; None if it is."""
    if data.max_frames is not None and max(one.lengths) > data.max_frames:
        return f"longer than data.max_frames ({data.max_frames})"
    if data.min_frames is not None and min(one.lengths) < data.min_frames:
        return f"shorter than data.min_frames ({data.min_frames})"
    if data.max_length is not None and tokens(one.row) > data.max_length:
        return f"text of more than data.max_length ({data.max_length}) tokens"
    return None


def _tell(reasons: Mapping[str, int], *, left: int, total: int, manifest: Path) -> None:
    lines = list(_lines(reasons, total=total))
    if not left:
        raise DataError(
            f"{manifest}: no row is left: {', '.join(lines)}",
            hint="change these limits in the section data, or correct the rows",
        )
    for line in lines:
        logger.warning("%s: %s: left out", manifest, line)


def _lines(reasons: Mapping[str, int], *, total: int) -> Iterator[str]:
    for reason, count in sorted(reasons.items()):
        yield f"{count} of {total} rows: {reason}"


def _stored(one: _Measured) -> dict[str, Any]:
    row = one.row
    return {
        "line": row.line,
        "signals": [cell.text for cell in row.signals],
        "starts": [cell.start for cell in row.signals],
        "ends": [cell.end for cell in row.signals],
        "encoder_prompt": row.encoder_prompt,
        "decoder_prompt": row.decoder_prompt,
        "output": row.output,
        "length": sum(one.lengths),
    }


def cells_of(stored: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the signals of a row as ``measured_rows`` returned it."""
    for text, start, end in zip(stored["signals"], stored["starts"], stored["ends"], strict=True):
        yield Cell(text=text, start=start, end=end)
