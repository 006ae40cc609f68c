"""What counts of several attempts, and what changed between them."""

import json
import math
from dataclasses import replace

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.attempts import (
    AttemptRecord,
    Overlap,
    Start,
    changes,
    is_timing,
    with_divergences,
)
from mmrun.tracking.attempts_table import KEPT
from mmrun.tracking.replay import Change, Divergence, Explanation
from mmrun.tracking.store import Point
from tests.unit.tracking.points import point

FIRST = Start(attempt=1, from_step=0, started_ms=1000)
SECOND = Start(attempt=2, from_step=20, started_ms=2000)


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


def test_beyond_the_last_step_that_was_logged_the_overlap_is_over() -> None:
    overlap = Overlap([point(step=15), point(step=30), point(step=25, key="lr")], from_step=20)

    assert [overlap.is_over(step) for step in (20, 30, 31)] == [False, False, True]
    assert Overlap([], from_step=20).is_over(0)


def test_a_confirmed_range_never_spans_a_step_that_was_not_confirmed() -> None:
    overlap = Overlap([point(s, step=s) for s in (30, 35, 40, 50, 60)], from_step=20)
    for step in (30, 40, 50):
        overlap.decide(point(step, step=step))

    assert overlap.confirmed() == {"loss": [[30, 30, 1000], [40, 50, 1000]]}


def test_a_confirmed_range_is_of_one_attempt() -> None:
    met = [point(s, step=s, at=100 * s) for s in (30, 40, 50, 60)]
    explanation = Explanation(started={1: 1000, 2: 5000, 3: 9000})
    overlap = Overlap(met, from_step=20, explanation=explanation)
    for before in met:
        overlap.decide(before)

    assert overlap.confirmed() == {"loss": [[30, 40, 3000], [50, 60, 5000]]}


def test_every_divergence_is_remembered() -> None:
    overlap = Overlap([point(s, step=s) for s in (30, 40, 50)], from_step=20)
    for step in (30, 40, 50):
        overlap.decide(point(step if step == 30 else -1.0, step=step))

    assert overlap.divergences == [
        Divergence("loss", 40, 40, -1.0),
        Divergence("loss", 50, 50, -1.0),
    ]


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


def test_a_record_that_does_not_say_so_is_of_one_process() -> None:
    old = {key: value for key, value in json.loads(RECORD.to_json()).items() if key != "processes"}

    assert AttemptRecord.from_json(json.dumps(old)).processes == 1


def test_a_record_tells_the_rows_of_all_attempts() -> None:
    first = replace(RECORD, attempt=1, lineage=(FIRST,), from_step=0, ended="killed")

    second = AttemptRecord.from_json(replace(RECORD, earlier=first.rows).to_json())

    assert [(row.attempt, row.ended) for row in second.rows] == [(1, "killed"), (2, None)]
    assert dict(second.rows[0].changed) == RECORD.overrides


def test_of_attempts_before_rows_were_kept_only_the_start_is_known() -> None:
    old = {key: value for key, value in json.loads(RECORD.to_json()).items() if key != "earlier"}

    first, second = AttemptRecord.from_json(json.dumps(old)).rows

    assert (first.attempt, first.from_step, first.to_step) == (1, FIRST.from_step, None)
    assert second.host == "ümlaut"


def test_a_record_carries_a_bounded_number_of_rows() -> None:
    record = replace(RECORD, attempt=1, lineage=(FIRST,))
    for attempt in range(2, KEPT + 10):
        start = Start(attempt=attempt, from_step=0, started_ms=attempt)
        lineage = (*record.lineage, start)
        record = replace(RECORD, attempt=attempt, lineage=lineage, earlier=record.rows)

    assert len(record.rows) == KEPT
    assert record.rows[-1].attempt == KEPT + 9


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
