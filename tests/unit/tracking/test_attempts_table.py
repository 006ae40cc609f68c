"""The table of attempts in a run's description, beside what its user wrote."""

from typing import Any

import pytest

from mmrun.tracking.attempts_table import BEGIN, END, LIMIT, Row, described

MINUTE_MS = 60_000
STARTED_MS = 1_700_000_000_000


def row(attempt: int, **changed: Any) -> Row:
    return Row(
        attempt=attempt,
        from_step=changed.pop("from_step", 0),
        to_step=changed.pop("to_step", 10),
        ended=changed.pop("ended", "killed"),
        host="node-1",
        started_ms=STARTED_MS,
        ended_ms=STARTED_MS + 90 * MINUTE_MS,
        changed=changed,
    )


def rows_in(description: str) -> list[list[str]]:
    """Return the cells of the rows, without the head."""
    lines = [line for line in description.splitlines() if line.startswith("|")]
    cells = [line.replace("&emsp;", "").strip("|").split(" | ") for line in lines[2:]]
    return [[cell.strip() for cell in row] for row in cells]


def test_the_newest_attempt_is_on_top() -> None:
    text = described("", [row(1), row(2, from_step=10, to_step=20, ended="finished")])

    newest, oldest = rows_in(text)
    assert newest == ["2", "10 to 20", "finished", "", "node-1", "2023-11-14 22:13", "1 h 30 min"]
    assert oldest[:3] == ["1", "0 to 10", "killed"]


def test_one_that_runs_has_no_end() -> None:
    running = row(1, to_step=None, ended=None)._replace(ended_ms=None)

    (cells,) = rows_in(described("", [running]))

    assert cells == ["1", "from 0", "running", "", "node-1", "2023-11-14 22:13", ""]


def test_what_was_changed_is_said_with_both_values() -> None:
    changes: dict[str, Any] = {"training.learning_rate": ("0.1", "0.2"), "data.max": (None, "3")}

    (cells,) = rows_in(described("", [row(2, **changes)]))

    assert cells[3] == (r"training.learning\_rate: 0.1 → 0.2<br>data.max: not set → 3")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("a|b", r"a\|b", id="a bar"),
        pytest.param("a\nb", "a b", id="lines"),
        pytest.param("<b>*x*</b>", r"\<b\>\*x\*\</b\>", id="markup"),
        pytest.param("x" * 200, "x" * 59 + "…", id="a long one"),
    ],
)
def test_no_value_breaks_the_table(value: str, shown: str) -> None:
    (cells,) = rows_in(described("", [row(1, key=(value, "1"))]))

    assert cells[3] == f"key: {shown} → 1"


def test_of_many_changes_the_rest_is_counted() -> None:
    changes = {f"key{number}": ("0", "1") for number in range(20)}

    (cells,) = rows_in(described("", [row(1, **changes)]))

    assert cells[3].endswith("<br>and 12 more")


def test_what_the_user_wrote_stays_before_and_after() -> None:
    once = described("My run.", [row(1)])
    edited = f"{once}\n\nLooks good | so far."

    twice = described(edited, [row(1), row(2)])

    assert twice.startswith("My run.\n\n<!--")
    assert twice.endswith("-->\n\nLooks good | so far.")
    assert twice.count(BEGIN) == twice.count(END) == 1
    assert len(rows_in(twice)) == 2


def test_saying_it_again_changes_nothing() -> None:
    once = described("Mine.", [row(1)])

    assert described(once, [row(1)]) == once


def test_a_user_who_removed_the_last_line_of_ours_keeps_his_own() -> None:
    text = described("", [row(1)]).replace(END, "") + "My own words."

    again = described(text, [row(1), row(2)])

    assert again.endswith(f"{END}\n\nMy own words.")
    assert again.count(BEGIN) == 1


def test_a_description_that_is_full_keeps_the_newest_and_counts_the_others() -> None:
    changes = {f"a.long.key.{n}": ("some value", "some other value") for n in range(8)}
    rows = [row(number, **changes) for number in range(1, 31)]

    text = described("Mine.", rows)

    shown = [int(cells[0]) for cells in rows_in(text)]
    assert len(text) <= LIMIT
    assert shown == list(range(30, 30 - len(shown), -1))
    assert 5 < len(shown) < 30
    assert f"Older attempts that are not shown: {30 - len(shown)}." in text


@pytest.mark.parametrize("below", ["", f"{BEGIN}\n{END}\n\n"])
def test_no_words_are_so_long_that_mlflow_cuts_them(below: str) -> None:
    rows = [row(number) for number in range(1, 60)]

    longest = max(len(described(f"{below}{'x' * n}", rows)) for n in range(4000, 4200))

    assert longest == LIMIT


def test_what_the_user_wrote_is_never_cut() -> None:
    words = "x" * LIMIT

    assert described(words, [row(1)]) == words
