"""What counts of several attempts, and what changed between them."""

import math
from dataclasses import replace

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.attempts import (
    AttemptRecord,
    Overlap,
    Start,
    changes,
    effective_history,
    is_timing,
    with_divergences,
)
from mmrun.tracking.replay import Change, Divergence
from mmrun.tracking.store import Point
from tests.unit.tracking.points import point

FIRST = Start(attempt=1, from_step=0, started_ms=1000)
SECOND = Start(attempt=2, from_step=20, started_ms=2000)
THIRD = Start(attempt=3, from_step=30, started_ms=3000)


@pytest.mark.parametrize(
    ("points", "lineage", "confirmed", "values"),
    [
        pytest.param(
            [(10, 1100, 1.0), (20, 1200, 2.0)], [FIRST], {}, {10: 1.0, 20: 2.0}, id="one attempt"
        ),
        pytest.param(
            [(20, 1200, 2.0), (30, 1300, 3.0), (30, 2100, 3.5)],
            [FIRST, SECOND],
            {},
            {20: 2.0, 30: 3.5},
            id="a later attempt replaces what it did again",
        ),
        pytest.param(
            [(20, 1200, 2.0), (30, 1300, 3.0), (40, 1400, 4.0)],
            [FIRST, SECOND],
            {},
            {20: 2.0},
            id="what nobody did again does not count",
        ),
        pytest.param(
            [(30, 1300, 3.0), (40, 1400, 4.0)],
            [FIRST, SECOND],
            {2: {"loss": [[30, 30]]}},
            {30: 3.0},
            id="a confirmed point counts",
        ),
        pytest.param(
            [(30, 1300, 3.0), (40, 1400, 4.0)],
            [FIRST, SECOND],
            {2: {"other": [[30, 40]]}},
            {},
            id="confirmed for another metric only",
        ),
        pytest.param(
            [(30, 1300, 3.0), (40, 1400, 4.0)],
            [FIRST, SECOND, THIRD],
            {2: {"loss": [[30, 40]]}},
            {30: 3.0},
            id="what the second confirmed, the third must confirm beyond its start",
        ),
        pytest.param(
            [(30, 1300, 3.0), (40, 1400, 4.0)],
            [FIRST, SECOND, THIRD],
            {2: {"loss": [[30, 40]]}, 3: {"loss": [[40, 40]]}},
            {30: 3.0, 40: 4.0},
            id="confirmed by both",
        ),
        pytest.param(
            [(20, 1200, 2.0), (20, 2000, 2.5)],
            [FIRST, SECOND],
            {},
            {20: 2.5},
            id="the step of the checkpoint itself, logged again",
        ),
        pytest.param(
            [(10, 500, 1.0), (20, 600, 2.0)],
            [SECOND],
            {},
            {10: 1.0, 20: 2.0},
            id="a history copied to a fork is older than its first attempt",
        ),
        pytest.param(
            [(10, 1100, 1.0), (10, 1100, 1.0), (10, 1150, 1.5)],
            [FIRST],
            {},
            {10: 1.5},
            id="one value a step",
        ),
    ],
)
def test_effective_history(
    points: list[tuple[int, int, float]],
    lineage: list[Start],
    confirmed: dict[int, dict[str, list[list[int]]]],
    values: dict[int, float],
) -> None:
    given = [point(value, step=step, at=at) for step, at, value in points]

    history = effective_history(given, lineage=lineage, confirmed=confirmed)

    assert {p.step: p.value for p in history} == values
    assert len(history) == len(values)


def test_the_order_of_the_points_does_not_matter() -> None:
    points = [point(n, step=n * 10, at=1000 + n, key=key) for n in range(5) for key in "ab"]

    history = effective_history(reversed(points), lineage=[SECOND, FIRST], confirmed={})

    assert [(p.key, p.step) for p in history] == [(k, s) for k in "ab" for s in (0, 10, 20)]


@pytest.mark.parametrize(
    ("earlier", "now", "decision"),
    [
        pytest.param(point(0.1 + 0.2, step=30), point(0.1 + 0.2, step=30), "confirm", id="equal"),
        pytest.param(point(0.3, step=30), point(0.1 + 0.2, step=30), "diverge", id="last bit"),
        pytest.param(point(math.nan, step=30), point(math.nan, step=30), "confirm", id="NaN"),
        pytest.param(point(math.nan, step=30), point(1.0, step=30), "diverge", id="NaN and not"),
        pytest.param(point(1.0, step=30), point(1.0, step=40), "log", id="a new step"),
        pytest.param(point(1.0, step=10), point(1.0, step=10), "log", id="before the start"),
        pytest.param(point(1.0, step=20), point(1.0, step=20), "confirm", id="at the start"),
        pytest.param(
            point(1.0, step=30), point(1.0, step=30, key="other"), "log", id="another metric"
        ),
        pytest.param(
            point(1.0, step=30, key="eval_runtime"),
            point(2.0, step=30, key="eval_runtime"),
            "confirm",
            id="a timing stays as it was",
        ),
        pytest.param(
            point(1.0, step=30, key="eval_runtime"),
            point(2.0, step=40, key="eval_runtime"),
            "log",
            id="a new timing",
        ),
    ],
)
def test_what_the_overlap_decides(earlier: Point, now: Point, decision: str) -> None:
    assert Overlap([earlier], from_step=20).decide(now) == decision


def test_a_confirmed_range_never_spans_a_step_that_was_not_confirmed() -> None:
    overlap = Overlap([point(s, step=s) for s in (30, 35, 40, 50, 60)], from_step=20)
    for step in (30, 40, 50):
        overlap.decide(point(step, step=step))

    assert overlap.confirmed() == {"loss": [[30, 30], [40, 50]]}


def test_every_divergence_is_remembered() -> None:
    overlap = Overlap([point(s, step=s) for s in (30, 40, 50)], from_step=20)
    for step in (30, 40, 50):
        overlap.decide(point(step if step == 30 else -1.0, step=step))

    assert overlap.divergences == [
        Divergence("loss", 40, 40, -1.0),
        Divergence("loss", 50, 50, -1.0),
    ]


def test_replaying_an_overlap_keeps_the_history_of_a_run_left_alone() -> None:
    alone = [point(s / 7, step=s, at=1000 + s) for s in range(10, 70, 10)]
    overlap = Overlap(alone[:4], from_step=20)
    again = [point(p.value, step=p.step, at=2000 + p.step) for p in alone[2:]]
    logged = alone[:4] + [p for p in again if overlap.decide(p) != "confirm"]

    history = effective_history(logged, lineage=[FIRST, SECOND], confirmed={2: overlap.confirmed()})

    assert [(p.step, p.value) for p in history] == [(p.step, p.value) for p in alone]
    assert len(logged) == len(alone)


@pytest.mark.parametrize(
    ("key", "timing"),
    [
        ("train_runtime", True),
        ("eval_samples_per_second", True),
        ("eval/steps_per_second", True),
        ("mmrun/upload_s", True),
        ("mmrun/queue_bytes", True),
        ("loss", False),
        ("eval_s", False),
        ("learning_rate", False),
    ],
)
def test_which_metrics_measure_the_machine(key: str, timing: bool) -> None:
    assert is_timing(key) is timing


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ({"training.learning_rate": "1e-05"}, {"training.learning_rate": "5e-06"}, True),
        ({}, {"training.weight_decay": "0.1"}, True),
        ({"training.weight_decay": "0.1"}, {}, True),
        ({"training.max_steps": "5"}, {"training.max_steps": "5"}, False),
        ({"training.output_dir": "a"}, {"training.output_dir": "b"}, False),
        ({"tracking.uri": "a"}, {}, False),
        ({"setup.do_model": "True"}, {}, False),
        ({"setup.seed": "1"}, {"setup.seed": "2"}, True),
        ({"processor.tokenizer_path": "/a/tok"}, {"processor.tokenizer_path": "/b/tok"}, False),
        ({"processor.tokenizer_path": "/a/tok"}, {"processor.tokenizer_path": "/a/tik"}, True),
        ({"data.train_metadata_file": "d/t.tsv"}, {"data.train_metadata_file": "/d/t.tsv"}, False),
        ({"data.train_metadata_file": "v1/t.tsv"}, {"data.train_metadata_file": "v2/t.tsv"}, True),
    ],
)
def test_what_counts_as_a_change(old: dict[str, str], new: dict[str, str], changed: bool) -> None:
    key = next(iter(old | new))

    assert changes(old, new) == ({key: (old.get(key), new.get(key))} if changed else {})


RECORD = AttemptRecord(
    attempt=2,
    run_id="0" * 32,
    from_step=20,
    started_ms=2000,
    config={"training": {"learning_rate": 1e-5}},
    host="ümlaut",
    pid=7,
    lineage=(FIRST, SECOND),
    overrides={"training.learning_rate": ("1e-4", None)},
    confirmed={"loss": [[30, 40]]},
    changes={"training.learning_rate": (Change(2, "1e-4", None),)},
)


def test_a_record_survives_its_journey() -> None:
    assert AttemptRecord.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RECORD.to_json().replace('"format": 1', '"format": 2'), "has format 2"),
        ("{}", "cannot be read"),
        ("[", "cannot be read"),
        ('{"format": 1, "lineage": [], "overrides": {}, "new": 1}', "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_understood_is_refused(text: str, problem: str) -> None:
    with pytest.raises(TrackingError, match=problem):
        AttemptRecord.from_json(text)


def test_a_record_counts_divergences() -> None:
    record = with_divergences(
        replace(RECORD, replay="overridden@10"),
        [Divergence("loss", 50, 1.0, 2.0), Divergence("loss", 40, 1.0, 2.0)],
    )

    assert (record.diverged, record.diverged_at, record.replay) == (2, 40, "diverged@40")
    assert with_divergences(record, []).replay == "diverged@40"
