"""The table of a run's attempts in its description, for people; no I/O.

The description is also the place where a user writes about a run: what stands outside of our part
stays as it is. Two comments mark that part; a page that shows Markdown does not show them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

BEGIN = "<!-- mmrun: attempts (written by mmrun; text outside of these lines is yours) -->"
END = "<!-- mmrun: end of attempts -->"
_BREAK = "\n\n"
_BEGINS = "<!-- mmrun: attempts"
LIMIT = 8000
"""What a tag of MLflow holds: the whole description."""
KEPT = 40
"""How many earlier attempts a record carries rows of."""
_LONGEST = 60
_CHANGES = 8
_HEAD = "| attempt | steps | ended | changed | host | began (UTC) | took |"
_RULE = "|---|---|---|---|---|---|---|"
_GAP = "&emsp;"
"""MLflow's page leaves no room between the cells of a table."""


class Row(NamedTuple):
    """What the table says of one attempt."""

    attempt: int
    from_step: int
    to_step: int | None
    ended: str | None
    """None while it runs."""
    host: str
    started_ms: int
    ended_ms: int | None = None
    changed: Mapping[str, tuple[str | None, str | None]] = {}
    """By setting, what it was before and what it is."""

    @classmethod
    def read(cls, entry: Sequence[Any]) -> "Row":
        """Return the row that JSON has as a list."""
        row = cls(*entry)
        return row._replace(changed={key: (old, new) for key, (old, new) in row.changed.items()})

    @classmethod
    def unknown(cls, attempt: int, from_step: int, started_ms: int) -> "Row":
        """Return the row of an attempt of which only its start is known."""
        return cls(attempt, from_step, None, "not known here", "", started_ms)


def described(description: str, rows: Sequence[Row]) -> str:
    """Return ``description`` with the table of ``rows``, the oldest first, in its place."""
    before, after = _apart(description)
    room = LIMIT - sum(len(part) + len(_BREAK) for part in (before, after) if part)
    own = _own(rows, room=room)
    return _BREAK.join(part for part in (before, own, after) if part)


def _apart(description: str) -> tuple[str, str]:
    """Return what stands before and after our part."""
    before, found, rest = description.partition(_BEGINS)
    if not found:
        return description.strip(), ""
    own, ended, after = rest.partition(END)
    if not ended:  # somebody removed the line: a table ends where its rows end
        lines = own.splitlines()[1:]
        own_lines = next((n for n, line in enumerate(lines) if not _is_own(line)), len(lines))
        after = "\n".join(lines[own_lines:])
    return before.strip(), after.strip()


def _is_own(line: str) -> bool:
    return not line.strip() or line.startswith("|")


def _own(rows: Sequence[Row], *, room: int) -> str:
    """Return the table with as many of the newest rows as there is room for."""
    lines = [_line(row) for row in rows]
    for shown in range(len(lines), 0, -1):
        table = _table(lines[-shown:], left_out=rows[-shown].attempt - 1)
        if len(table) <= room:
            return table
    return ""


def _table(lines: Sequence[str], *, left_out: int) -> str:
    text = [_HEAD, _RULE, *reversed(lines)]
    if left_out:
        text += [
            "",
            f"Older attempts that are not shown: {left_out}. `attempts/` has their records.",
        ]
    return "\n".join([BEGIN, "", *text, "", END])


def _line(row: Row) -> str:
    cells = (
        str(row.attempt),
        _steps(row),
        _cell(row.ended or "running"),
        _changes(row.changed),
        _cell(row.host),
        datetime.fromtimestamp(row.started_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M"),
        _took(row),
    )
    return f"| {f'{_GAP} | '.join(cells)} |"


def _steps(row: Row) -> str:
    if row.to_step is None:
        return f"from {row.from_step}"
    return f"{row.from_step} to {row.to_step}"


def _took(row: Row) -> str:
    if row.ended_ms is None:
        return ""
    minutes, seconds = divmod((row.ended_ms - row.started_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _changes(changed: Mapping[str, tuple[str | None, str | None]]) -> str:
    said = [
        f"{_cell(key)}: {_cell(old)} → {_cell(new)}"
        for key, (old, new) in list(changed.items())[:_CHANGES]
    ]
    if len(changed) > _CHANGES:
        said.append(f"and {len(changed) - _CHANGES} more")
    return "<br>".join(said)


def _cell(value: object) -> str:
    """Return a value as text that cannot break the table, nor be taken for markup."""
    if value is None:
        return "not set"
    text = " ".join(str(value).split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>#|~" else one for one in text)
