"""What counts of several attempts: each step as the last one that did it had it."""

from dataclasses import replace

import pytest

from mmrun.tracking.attempts import AttemptRecord, Overlap, Start
from mmrun.tracking.history import Trail, effective_history, trail_of
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
            [(30, 1300, 3.0), (30, 2100, 3.5), (40, 1400, 4.0), (40, 3100, 4.5)],
            [FIRST, SECOND, Start(attempt=3, from_step=20, started_ms=3000)],
            {3: {"loss": [[30, 30, 1300]]}},
            {30: 3.0, 40: 4.5},
            id="of two attempts the one that was met",
        ),
        pytest.param(
            [(30, 1300, 3.0), (30, 2100, 3.5)],
            [FIRST, SECOND, Start(attempt=3, from_step=20, started_ms=3000)],
            {3: {"loss": [[20, 40, 2100]]}},
            {30: 3.5},
            id="which need not be the one that it went on from",
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

    history = effective_history(given, Trail(lineage=lineage, confirmed=confirmed))

    assert {p.step: p.value for p in history} == values
    assert len(history) == len(values)


def test_the_order_of_the_points_does_not_matter() -> None:
    points = [point(n, step=n * 10, at=1000 + n, key=key) for n in range(5) for key in "ab"]

    history = effective_history(reversed(points), Trail(lineage=[SECOND, FIRST]))

    assert [(p.key, p.step) for p in history] == [(k, s) for k in "ab" for s in (0, 10, 20)]


def test_replaying_an_overlap_keeps_the_history_of_a_run_left_alone() -> None:
    alone = [point(s / 7, step=s, at=1000 + s) for s in range(10, 70, 10)]
    overlap = Overlap(alone[:4], from_step=20)
    again = [point(p.value, step=p.step, at=2000 + p.step) for p in alone[2:]]
    logged = alone[:4] + [p for p in again if overlap.decide(p) != "confirm"]

    trail = Trail(lineage=[FIRST, SECOND], confirmed={2: overlap.confirmed()})
    history = effective_history(logged, trail)

    assert [(p.step, p.value) for p in history] == [(p.step, p.value) for p in alone]
    assert len(logged) == len(alone)


# Attempts that did not lead to where the run stands

OLD_BRANCH = [
    *(point(step / 10, step=step, at=1000 + step) for step in (10, 20, 30, 40)),
    point(2.5, step=30, at=2100),  # the second began at 20
    point(9.0, step=50, at=3100),  # the third went on from what the first had saved at 40
]
BRANCHED = Trail(
    lineage=[FIRST, SECOND, Start(attempt=3, from_step=40, started_ms=3000)], parents={3: 1}
)


def test_a_resume_from_a_superseded_checkpoint_leaves_the_attempt_between_out() -> None:
    history = effective_history(OLD_BRANCH, BRANCHED)

    assert {p.step: p.value for p in history} == {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0, 50: 9.0}


@pytest.mark.parametrize(
    ("until", "values"),
    [
        pytest.param(1, {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0}, id="the first"),
        pytest.param(2, {10: 1.0, 20: 2.0, 30: 2.5}, id="the one that led nowhere"),
        pytest.param(3, {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0, 50: 9.0}, id="the last"),
    ],
)
def test_the_history_of_an_earlier_attempt_does_not_know_what_came_later(
    until: int, values: dict[int, float]
) -> None:
    history = effective_history(OLD_BRANCH, BRANCHED, until=until)

    assert {p.step: p.value for p in history} == values


@pytest.mark.parametrize(("at", "attempt"), [(999, None), (1000, 1), (1999, 1), (2000, 2)])
def test_a_time_stamp_names_its_attempt(at: int, attempt: int | None) -> None:
    assert Trail(lineage=[FIRST, SECOND]).attempt_of(point(at=at)) == attempt


# Put together from what was recorded

RECORD = AttemptRecord(
    attempt=1,
    run_id="0" * 32,
    from_step=0,
    started_ms=1000,
    config={},
    host="here",
    pid=1,
    lineage=(FIRST,),
)
KILLED = replace(
    RECORD,
    attempt=2,
    from_step=20,
    lineage=(FIRST, SECOND),
    started_from=f"{RECORD.run_id}@20.a1",
    confirmed={"loss": [[30, 30]]},
)


def test_what_a_killed_attempt_confirmed_is_in_its_record_and_in_its_journal() -> None:
    trail = trail_of([RECORD, KILLED], journaled={2: {"loss": [[30, 30], [40, 40]]}})

    points = [point(step=step, at=1000 + step) for step in (20, 30, 40, 50)]
    assert [p.step for p in effective_history(points, trail)] == [20, 30, 40]


def test_an_attempt_of_which_there_is_no_record_is_known_by_later_ones() -> None:
    assert trail_of([KILLED], journaled={}).lineage == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("started_from", "parents"),
    [
        pytest.param(f"{RECORD.run_id}@20.a1", {2: 1}, id="a checkpoint of the run"),
        pytest.param(f"{RECORD.run_id}@20", {}, id="written before attempts were named"),
        pytest.param(f"{'1' * 32}@20.a1", {}, id="another run"),
        pytest.param("/plain/checkpoint-20", {}, id="a folder"),
        pytest.param(None, {}, id="nothing"),
    ],
)
def test_the_attempt_that_saved_the_checkpoint_is_read_from_the_record(
    started_from: str | None, parents: dict[int, int]
) -> None:
    record = replace(KILLED, started_from=started_from)

    assert trail_of([record], journaled={}).parents == parents
