"""From a manifest to the rows of a data set: measured, checked, and those left out counted."""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any, NamedTuple

from mmrun.config.schema import DataSection, Split
from mmrun.data.manifest import Cell, Columns, Row, raise_all
from mmrun.errors import DataError
from mmrun.modalities.base import Modality, Signal, Span
from mmrun.progress import progress

logger = logging.getLogger(__name__)

TokenCount = Callable[[Row], int]
_BY_SYSTEM = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM})
"""What the system says better than a modality, which takes the file for a broken one."""
_MISSING, _USUAL = "there is no file", "correct the column signal"
"""How modalities speak of a file that is not there, without knowing the manifest."""
_SHOWN, _NAME = 10, 200
_FEW, _LONG, _TIMES = 4, 2000, 20
"""An outlier stands among so many rows, and has so many frames, and times those of the others."""
_WHOLE, _HEADS = 4, 64
"""How many rows a thread takes at a time: handing over a head costs as much as reading it."""


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
    problems: tuple[DataError, ...] = ()
    inside: tuple[DataError, ...] = ()
    """What only reading to the end has found."""


class UsedRows(NamedTuple):
    """The rows of a split that are used."""

    rows: list[dict[str, Any]]
    unread: int
    """How many are not, because they cannot be read."""


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
) -> "UsedRows":
    """Return the rows that are used, each with its length; how many are not, and why, is said.

    With ``whole`` every signal is read to its end; otherwise what the head of a file says is
    believed. ``tokens`` counts those of the text that is to be written.
    """
    found = _measured(rows, split=split, reading=reading, whole=whole)
    bad = [problem for one in found for problem in one.problems]
    inside = [problem for one in found for problem in one.inside]
    if data.on_bad_sample == "error":
        raise_all([problem for one in found for problem in (*one.problems, *one.inside)])
    for problem in bad[:_SHOWN]:
        logger.warning("left out: %s", problem)
    # Without reading files to their end they would be rows, too, here or on another machine: which
    # rows there are must not depend on who looked.
    for problem in inside[:_SHOWN]:
        logger.warning("will not count: %s", problem)
    good = [one for one in found if not one.problems]
    reasons = [_left_out(one, data=data, tokens=tokens) for one in good]
    kept = [one for one, reason in zip(good, reasons, strict=True) if reason is None]
    counted = Counter(reason for reason in reasons if reason is not None)
    counted.update({"cannot be read": len(found) - len(good)} if bad else {})
    _tell(counted, left=len(kept), total=len(rows), manifest=reading.manifest)
    _suspect_seconds(kept, manifest=reading.manifest)
    _suspect_outliers(kept, manifest=reading.manifest)
    return UsedRows(rows=[_stored(one) for one in kept], unread=len(found) - len(good))


def _measured(
    rows: Sequence[Row], *, split: Split, reading: Reading, whole: bool
) -> list[_Measured]:
    label = f"{split}: {'reading' if whole else 'checking'} files"
    size = _WHOLE if whole else _HEADS
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    stopped = Event()

    def measure(part: Sequence[Row]) -> list[_Measured]:
        return [_measure(row, reading=reading, whole=whole) for row in part if not stopped.is_set()]

    # What is read from end to end keeps a processor busy, and fills the memory.
    with ThreadPoolExecutor(max_workers=os.cpu_count() if whole else None) as pool:
        try:
            work = chain.from_iterable(pool.map(measure, parts))
            return list(progress(work, total=len(rows), label=label, unit="rows"))
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _measure(row: Row, *, reading: Reading, whole: bool) -> _Measured:
    problems: list[DataError] = []
    inside: list[DataError] = []
    lengths: list[int] = []
    places = zip(row.signals, reading.modalities, reading.columns.signals, strict=True)
    for cell, modality, columns in places:
        signal = signal_of(cell, folder=reading.manifest.parent)
        place = f"{reading.manifest}:{row.line}: {columns.signal}"
        try:
            lengths.append(modality.length(signal))
        except DataError as error:
            problems.append(error_of_row(error, signal=signal, place=place))
            continue
        try:
            if whole:
                modality.load(signal)
        except DataError as error:
            inside.append(error_of_row(error, signal=signal, place=place))
    return _Measured(
        row=row, lengths=tuple(lengths), problems=tuple(problems), inside=tuple(inside)
    )


def error_of_row(error: DataError, *, signal: Signal, place: str) -> DataError:
    """Return what a modality said of ``signal`` with its ``place`` in the manifest.

    Where it is the name that is wrong, and not the file, the error says so.
    """
    problem, hint = str(error), error.hint
    if str(signal.path) in problem and (why := _by_system(signal, error.__cause__)):
        name = str(signal.path)
        short = f"{name[:_NAME]}…" if len(name) > _NAME else name
        problem, hint = f"{short} cannot be read: {why}", "name a file that you may read"
    elif problem.startswith(_MISSING):
        hint = _where(signal, hint=hint)
    return DataError(f"{place}: {problem}", hint=hint)


def _by_system(signal: Signal, cause: BaseException | None) -> str | None:
    if isinstance(cause, OSError) and cause.errno in _BY_SYSTEM:
        return os.strerror(cause.errno)
    if signal.is_folder():
        return os.strerror(errno.EISDIR)
    leads_nowhere = signal.is_link() and not signal.is_file()
    return "it is a link that leads nowhere" if leads_nowhere else None


def _where(signal: Signal, *, hint: str) -> str:
    """Return what helps to find a file that is not there; ``hint`` where the modality knows."""
    if signal.text != signal.text.strip():
        return "remove the spaces around the name"
    if "://" in signal.text:
        return "fetch the file and name it: addresses are not read"
    if signal.text.startswith("~"):
        return "write the whole path: ~ is not replaced"
    if Path(signal.text).is_absolute():
        return "correct the path, or make it relative to the folder of the manifest"
    where = f"correct the name, or bring the file: names are relative to {signal.folder.absolute()}"
    more = hint.removeprefix(_USUAL)
    return where + (more if more != hint else "")


def _suspect_outliers(rows: Sequence[_Measured], *, manifest: Path) -> None:
    """Warn of a signal that is many times as long as others: its batch takes as much memory."""
    if len(rows) < _FEW:
        return
    longest = max(rows, key=lambda one: max(one.lengths))
    usual = median(max(one.lengths) for one in rows)
    length = max(longest.lengths)
    if length > max(_LONG, _TIMES * usual):
        logger.warning(
            "%s:%d: is the longest row, %d frames or tokens; half of the rows have at most %d, and "
            "a batch is as long as its longest row: data.max_frames leaves such rows out",
            manifest,
            longest.row.line,
            length,
            usual,
        )


def _suspect_seconds(rows: Sequence[_Measured], *, manifest: Path) -> None:
    """Warn of spans that all give one frame, as seconds do that are read as milliseconds."""
    spans = [
        (cell.end - cell.start, length)
        for one in rows
        for cell, length in zip(one.row.signals, one.lengths, strict=True)
        if cell.end
    ]
    if len(spans) > 1 and max(spans)[0] > 1 and all(length == 1 for _, length in spans):
        logger.warning(
            "%s: each span of a row gives one frame only: are they in seconds? They are taken as "
            "what processor.modality_kwargs.signal_start_end_unit says, milliseconds or frames",
            manifest,
        )


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
