"""The TSV that names an experiment's samples: a tab separates, a line ends, and nothing else.

There is no quoting and there are no special words: `null`, `NA`, `007` and a lone `"` are text.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from mmrun.config.schema import Split
from mmrun.errors import DataError

logger = logging.getLogger(__name__)

_ZIP = b"PK\x03\x04"
_SHOWN, _HINTS = 10, 3
"""Of many problems in one file, this many are said, and the rest counted."""
_FIELDS = (
    "correct these lines: a tab separates the fields, an end of line the rows; quotes are text"
)
_SPANS = (
    "write where the span begins and ends, as whole numbers from 0: 1.5 seconds are 1500 "
    "milliseconds; 0 and 0, or nothing, mean the whole file"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalColumns:
    """Where one signal of a row stands."""

    signal: str = "signal"
    start: str | None = "signal_start"
    end: str | None = "signal_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumns:
    """Where the texts of a row stand; None where there is none."""

    output: str = "output"
    decoder_prompt: str | None = "decoder_prompt"
    encoder_prompt: str | None = "encoder_prompt"
    prompted: bool = True
    """Whether the decoder is given its prompt when it writes, or writes it itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a manifest that are read."""

    signals: tuple[SignalColumns, ...] = (SignalColumns(),)
    texts: TextColumns = field(default_factory=TextColumns)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that must be there, and empty in no row."""
        names = (*(one.signal for one in self.signals), self.texts.output)
        return tuple(dict.fromkeys(names))

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that may be there."""
        spans = (name for one in self.signals for name in (one.start, one.end))
        names = (*spans, self.texts.encoder_prompt, self.texts.decoder_prompt)
        return tuple(name for name in dict.fromkeys(names) if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One signal, as the manifest has it."""

    text: str
    """A path, relative to the manifest's folder or absolute; or what is to be read itself."""
    start: int = 0
    end: int = 0
    """The unit of the span is the modality's; an end of 0 is the end of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sample, as the manifest has it."""

    line: int
    signals: tuple[Cell, ...]
    """One for each input, in their order."""
    encoder_prompt: str
    decoder_prompt: str
    output: str


def read_manifest(path: Path, *, split: Split, columns: Columns) -> list[Row]:
    """Read every row, or raise one ``DataError`` with the problems of the whole file."""
    lines = _lines(path, split=split)
    names = _names(lines[0], path=path, columns=columns) if lines else ()
    rows: list[Row] = []
    problems: list[DataError] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        found = list(_problems(fields, names, columns=columns))
        problems += [DataError(f"{path}:{number}: {what}", hint=hint) for what, hint in found]
        if not found:
            row = dict(zip(names, fields, strict=True))
            rows.append(_row(row, line=number, columns=columns))
    raise_all(problems)
    if not rows:
        raise DataError(
            f"{path}: the {split} split has no rows", hint=f"add rows to {path}, one sample a line"
        )
    return rows


def raise_all(problems: Sequence[DataError]) -> None:
    """Raise a ``DataError`` that tells the first ten of ``problems``, if there are any.

    Its hint is what helps against most of them.
    """
    if not problems:
        return
    first, *more = map(str, problems[:_SHOWN])
    if len(problems) > _SHOWN:
        more.append(f"... and {len(problems) - _SHOWN} more")
    hints = Counter(problem.hint for problem in problems if problem.hint).most_common(_HINTS)
    raise DataError(first, hint="; ".join(hint for hint, _ in hints), more=tuple(more))


def _lines(path: Path, *, split: Split) -> list[str]:
    """Return the lines without their ends; a carriage return at an end belongs to it."""
    try:
        # Not splitlines: it would also cut at form feeds and at U+2028, which are text here.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file {path} (data.{split}_metadata_file)",
            hint="correct the path; it is relative to the folder that mmrun is started in",
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror} (data.{split}_metadata_file)",
            hint="it must be a TSV file that you may read",
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        hint = f"save {path} as UTF-8"
        if error.object.startswith(_ZIP):
            hint = f"save the table as text with tabs (TSV) in UTF-8: {path} is a spreadsheet"
        raise DataError(f"{path}:{line}: is not UTF-8", hint=hint) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}:{line}: holds a zero byte", hint=f"save {path} as text in UTF-8")
    if "\r" in text and "\n" not in text:
        raise DataError(
            f"{path}: has carriage returns in place of ends of lines",
            hint="save it with the ends of lines of Unix or Windows",
        )
    if not text.strip():
        raise DataError(
            f"{path}: is empty (data.{split}_metadata_file)",
            hint="the first line names the columns, each other one is a sample",
        )
    return [line.removesuffix("\r") for line in text.split("\n")]


def _names(header: str, *, path: Path, columns: Columns) -> tuple[str, ...]:
    names = tuple(header.split("\t"))
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(
            f"{path}:1: {doubled[0]}: the column is there twice",
            hint="rename or remove one of them",
        )
    missing = [name for name in columns.required if name not in names]
    if missing:
        _refuse_other_table(names, missing=missing, path=path)
        near = get_close_matches(missing[0], names, n=1)
        raise DataError(
            f"{path}:1: {', '.join(missing)}: the column is missing; there are {', '.join(names)}",
            hint=f"rename {near[0]!r} to {missing[0]!r}"
            if near
            else f"the first line names the columns, tabs between them: "
            f"{' '.join(columns.required)} ...",
        )
    extra = [name for name in names if name not in (*columns.required, *columns.optional)]
    if extra:
        logger.warning("%s: columns that mmrun does not use: %s", path, ", ".join(extra))
    return names


def _refuse_other_table(names: Sequence[str], *, missing: Sequence[str], path: Path) -> None:
    """Say so where the columns are there, but written as in another kind of table."""
    if len(names) == 1 and all(name in names[0] for name in missing):
        raise DataError(
            f"{path}:1: there is no tab in {names[0]!r}",
            hint="separate the columns by tabs, in every line; spaces, commas and semicolons are "
            "text",
        )
    if any(f'"{name}"' in names for name in missing):
        raise DataError(
            f"{path}:1: the columns are in quotes, which are text here: {', '.join(names)}",
            hint="save the table without quotes; tabs and ends of lines alone have a meaning",
        )


def _problems(
    fields: Sequence[str], names: Sequence[str], *, columns: Columns
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a row, and what helps."""
    if len(fields) != len(names):
        had = f"{len(fields)} fields" if len(fields) > 1 else "no tab, so it is one field"
        yield f"has {had}, the first line has {len(names)}", _FIELDS
        return
    row = dict(zip(names, fields, strict=True))
    for name in columns.required:
        if not row[name].strip():
            yield f"{name}: is empty", f"write the {name} of this row, or remove the row"
    for one in columns.signals:
        yield from ((problem, _SPANS) for problem in _problems_of_span(row, one))


def _problems_of_span(row: Mapping[str, str], columns: SignalColumns) -> Iterator[str]:
    given = {name: row.get(name, "") for name in (columns.start, columns.end) if name is not None}
    wrong = [
        f"{name}: {text!r} is not a whole number of milliseconds or frames"
        for name, text in given.items()
        if _number(text) is None
    ]
    yield from wrong
    if wrong:
        return
    start, end = _span(row, columns)
    if end and start >= end:
        yield f"{columns.end}: {end} is not beyond {columns.start}, {start}"


def _span(row: Mapping[str, str], columns: SignalColumns) -> tuple[int, int]:
    start, end = (
        0 if name is None else _number(row.get(name, "")) or 0
        for name in (columns.start, columns.end)
    )
    return start, end


def _number(text: str) -> int | None:
    """Return a position; absent means 0, and spreadsheets write `5` as `5.0`."""
    whole = text.strip().removesuffix(".0") or "0"
    return int(whole) if whole.isascii() and whole.isdigit() else None


def _row(fields: Mapping[str, str], *, line: int, columns: Columns) -> Row:
    texts = columns.texts
    return Row(
        line=line,
        signals=tuple(_cell(fields, one) for one in columns.signals),
        encoder_prompt=fields.get(texts.encoder_prompt or "", ""),
        decoder_prompt=fields.get(texts.decoder_prompt or "", ""),
        output=fields[texts.output],
    )


def _cell(fields: Mapping[str, str], columns: SignalColumns) -> Cell:
    start, end = _span(fields, columns)
    return Cell(text=fields[columns.signal], start=start, end=end)
