"""The TSV that names an experiment's samples: a tab separates, a line ends, and nothing else.

There is no quoting and there are no special words: `null`, `NA`, `007` and a lone `"` are text.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mmrun.config.schema import Split
from mmrun.errors import DataError

logger = logging.getLogger(__name__)

REQUIRED = ("signal", "output")
OPTIONAL = ("signal_start", "signal_end", "encoder_prompt", "decoder_prompt")
_SHOWN = 10
"""Of many problems in one file, this many are said, and the rest counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sample, as the manifest has it."""

    line: int
    signal: str
    """A path, relative to the manifest's folder or absolute."""
    signal_start: int
    signal_end: int
    """The unit of the span is the modality's; an end of 0 is the end of the file."""
    encoder_prompt: str
    decoder_prompt: str
    output: str


def read_manifest(path: Path, *, split: Split) -> list[Row]:
    """Read every row, or raise one ``DataError`` with the problems of the whole file."""
    lines = _lines(path, split=split)
    columns = _columns(lines[0], path=path) if lines else ()
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        found = list(_problems(fields, columns))
        problems += [f"{path}:{number}: {problem}" for problem in found]
        if not found:
            rows.append(_row(dict(zip(columns, fields, strict=True)), line=number))
    raise_all(problems, hint="correct these lines; a tab separates the fields, there is no quoting")
    if not rows:
        raise DataError(
            f"{path}: the {split} split has no rows", hint=f"add rows to {path}, one sample a line"
        )
    return rows


def raise_all(problems: Sequence[str], *, hint: str) -> None:
    """Raise a ``DataError`` that tells the first ten of ``problems``, if there are any."""
    if not problems:
        return
    first, *more = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        more.append(f"... and {len(problems) - _SHOWN} more")
    raise DataError(first, hint=hint, more=tuple(more))


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
        raise DataError(f"{path}:{line}: is not UTF-8", hint=f"save {path} as UTF-8") from error
    return [line.removesuffix("\r") for line in text.split("\n")]


def _columns(header: str, *, path: Path) -> tuple[str, ...]:
    names = tuple(header.split("\t"))
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(
            f"{path}:1: {doubled[0]}: the column is there twice",
            hint="rename or remove one of them",
        )
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        near = get_close_matches(missing[0], names, n=1)
        raise DataError(
            f"{path}:1: {', '.join(missing)}: the column is missing; there are {', '.join(names)}",
            hint=f"rename {near[0]!r} to {missing[0]!r}"
            if near
            else f"the first line names the columns, tabs between them: {' '.join(REQUIRED)} ...",
        )
    extra = [name for name in names if name not in (*REQUIRED, *OPTIONAL)]
    if extra:
        logger.warning("%s: columns that mmrun does not use: %s", path, ", ".join(extra))
    return names


def _problems(fields: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    if len(fields) != len(columns):
        yield f"has {len(fields)} fields, the first line has {len(columns)}"
        return
    row = dict(zip(columns, fields, strict=True))
    for name in REQUIRED:
        if not row[name].strip():
            yield f"{name}: is empty"
    start, end = (row.get(name, "") for name in ("signal_start", "signal_end"))
    wrong = [
        f"{name}: {text!r} is not a whole number of 0 or more"
        for name, text in (("signal_start", start), ("signal_end", end))
        if _number(text) is None
    ]
    yield from wrong
    if not wrong and (_number(end) or 0) and (_number(start) or 0) >= (_number(end) or 0):
        yield f"signal_end: {end} is not beyond signal_start, {start}"


def _number(text: str) -> int | None:
    """Return a position; absent means 0, and spreadsheets write `5` as `5.0`."""
    whole = text.strip().removesuffix(".0") or "0"
    return int(whole) if whole.isascii() and whole.isdigit() else None


def _row(fields: dict[str, str], *, line: int) -> Row:
    return Row(
        line=line,
        signal=fields["signal"],
        signal_start=_number(fields.get("signal_start", "")) or 0,
        signal_end=_number(fields.get("signal_end", "")) or 0,
        encoder_prompt=fields.get("encoder_prompt", ""),
        decoder_prompt=fields.get("decoder_prompt", ""),
        output=fields["output"],
    )
