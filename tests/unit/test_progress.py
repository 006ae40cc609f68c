"""How far long work is."""

import io
import logging
import sys

import pytest

from mmrun import progress as module
from mmrun.progress import progress


class Terminal(io.StringIO):
    """What looks like a terminal."""

    def isatty(self) -> bool:
        return True


def test_items_come_through_in_order() -> None:
    assert list(progress(iter("abc"), total=3, label="reading")) == ["a", "b", "c"]


def test_short_work_says_nothing_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        list(progress(range(3), total=3, label="reading"))

    assert not caplog.text


def test_long_work_says_how_far_it_is_in_plain_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.0)

    with caplog.at_level(logging.INFO):
        list(progress(range(3), total=3, label="reading", unit="files"))

    assert caplog.messages == ["reading: 1 of 3 files", "reading: 2 of 3 files"]


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    assert list(progress(range(3), total=3, label="reading")) == [0, 1, 2]

    assert "reading" in terminal.getvalue()
