"""One attempt of a run: opened, trained to its end, closed with the truth about it."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmrun import faults, stopwatch
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Description, Selection
from mmrun.checkpoints.policy import Lineage
from mmrun.checkpoints.publisher import Publisher
from mmrun.collector import collect_as_usual
from mmrun.config.loading import fingerprint, plain
from mmrun.config.masking import masked
from mmrun.config.training_fields import training_value
from mmrun.tracking.attempts import AttemptRecord, Overlap, Start
from mmrun.tracking.journal import Clock, Journal
from mmrun.tracking.lease import Lease
from mmrun.tracking.pending import read_pending
from mmrun.tracking.process import age_s
from mmrun.tracking.replay import Explanation, with_changes
from mmrun.tracking.sender import Sender
from mmrun.training.processes import Leader
from mmrun.training.schedules import LOOKING_BACK
from mmrun.training.stopping import StopWish
from mmrun.workflows.attempt import Attempt, Saver
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.closing import FLUSH_S, SERVER_LOST, end, fail
from mmrun.workflows.done import FINISHED, is_done, refuse_without_effect, stays_stopped
from mmrun.workflows.failure import forget_error
from mmrun.workflows.inheritance import make_own, remove_scratch
from mmrun.workflows.killed import KILLED, as_killed
from mmrun.workflows.new_run import (
    record_parameters,
    record_run,
    said_if_refused,
    upload_provenance,
)
from mmrun.workflows.overlap import Earlier, read_earlier
from mmrun.workflows.publishing import Hints, publisher_of
from mmrun.workflows.recipe import Recipe
from mmrun.workflows.records import keep_record, save_record, say_state, summary

if TYPE_CHECKING:
    from mmrun.training.trainer import ResumableTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Session:
    """What works together during one attempt."""

    beginning: Beginning
    attempt: Attempt
    sender: Sender
    publisher: Publisher
    last: AttemptRecord | None
    """The attempt before, with all that is known of its end."""
    trainer: "ResumableTrainer"
    wish: StopWish
    lease: Lease

    @property
    def grace_s(self) -> float:
        """How long saving and sending may take after a signal."""
        return self.beginning.place.experiment.tracking.grace_s

    @property
    def lineage(self) -> Lineage:
        """The attempts of the run, with this one, and the step where each began."""
        return _steps(self.attempt.record)


def work(
    beginning: Beginning, *, recipe: Recipe, wish: StopWish, lease: Lease, leader: Leader
) -> str:
    """Train to the end, from the checkpoint or from step 0, and return what is to be said."""
    with said_if_refused(beginning, wish=wish, lease=lease):
        beginning = _settled(beginning)
        session = _prepare(beginning, recipe, wish=wish, lease=lease)
        total = session.trainer.total_steps(beginning.checkpoint)
        if _was_done(session, total):
            return _finish_quietly(session)
    session.trainer.stay_stopped = stays_stopped(
        stopped_early=session.trainer.stopped_early_before, changed=beginning.changed
    )
    wish.training = True
    try:
        _open(session, actors=recipe.actors)
        leader.order("train", stay_stopped=session.trainer.stay_stopped)
        collect_as_usual()
        with leader.answering():
            session.trainer.go_on(beginning.checkpoint)
        return end(session)
    except BaseException as error:
        wish.over = True  # before anything is called: a signal would end it half-way
        told = fail(session, error)
        if told is error:
            raise
        raise told from error


def _settled(beginning: Beginning) -> Beginning:
    """Let a fork have its first checkpoint; from then on it is a run like any other."""
    if beginning.inheritance is not None and beginning.checkpoint is not None:
        found, checkpoint = make_own(
            beginning.inheritance,
            beginning.checkpoint,
            place=beginning.place,
            attempt=beginning.past.attempts + 1,
        )
        beginning = replace(beginning, found=found, checkpoint=checkpoint)
    remove_scratch(beginning.place.output_dir)
    return beginning


def _prepare(beginning: Beginning, recipe: Recipe, *, wish: StopWish, lease: Lease) -> Session:
    from mmrun.training.first_step import FirstStep

    place = beginning.place
    earlier = _earlier(beginning)
    clock = Clock(after_ms=earlier.newest_ms)
    last = _as_it_ended(beginning)
    record = _record(beginning, last=last, started_ms=clock.now_ms())
    journal = Journal(place.output_dir / "journal", attempt=record.attempt)
    sender = Sender(
        place.store,
        place.run_id,
        journal,
        lineage=beginning.past.lineage,
        starts=beginning.past.known_starts,
        sends=not place.offline,
    )
    attempt = Attempt(
        record,
        store=place.store,
        journal=journal,
        sender=sender,
        overlap=Overlap(
            earlier.points,
            from_step=beginning.step,
            explanation=_explanation(beginning, record),
            stored=earlier.stored,
        ),
        clock=clock,
        circumstances=beginning.circumstances,
    )
    local = LocalCheckpoints(place.output_dir / "train", run_id=place.run_id)
    publisher = publisher_of(
        place,
        lineage=_steps(record),
        lease=lease,
        listener=attempt,
        resumed_from=beginning.found.manifest if beginning.found is not None else None,
    )
    description = _description(beginning, record, recipe.selection)
    saver = Saver(local, publisher, description=description, attempt=attempt, check=lease.check)
    log = _watched(attempt, beginning, sender=sender, wish=wish, lease=lease)
    trainer = recipe.trainer(sink=saver, stop=wish, log=log)
    trainer.add_callback(FirstStep(lambda step: log(_start_up(), step)))
    return Session(
        beginning=beginning,
        attempt=attempt,
        sender=sender,
        publisher=publisher,
        last=last,
        trainer=trainer,
        wish=wish,
        lease=lease,
    )


def _earlier(beginning: Beginning) -> Earlier:
    place, past = beginning.place, beginning.past
    carried = read_pending(beginning.checkpoint) if beginning.checkpoint is not None else []
    earlier = Earlier()
    if place.run is not None and past.attempts:
        journal = place.output_dir / "journal"
        earlier = read_earlier(
            place.store, place.run_id, past=past, journal=journal, from_step=beginning.step
        )
    times = (point.timestamp_ms for point in carried)
    return replace(
        earlier,
        points=[*earlier.points, *carried],
        newest_ms=max([earlier.newest_ms, past.last_ms, *times]),
    )


def _record(beginning: Beginning, *, last: AttemptRecord | None, started_ms: int) -> AttemptRecord:
    past, source = beginning.past, beginning.source
    number = past.attempts + 1
    start = Start(attempt=number, from_step=beginning.step, started_ms=started_ms)
    return AttemptRecord(
        attempt=number,
        run_id=beginning.place.run_id,
        from_step=beginning.step,
        started_ms=started_ms,
        config=masked(plain(beginning.place.experiment)),
        host=source.host,
        pid=os.getpid(),
        processes=beginning.processes,
        offline=beginning.place.offline,
        lineage=(*past.starts, start),
        earlier=last.rows if last else (),
        started_from=beginning.started_from,
        overrides=dict(beginning.changed),
        changes=with_changes(last.changes if last else {}, beginning.changed, attempt=number),
        replay=last.replay if last else None,
        versions=source.versions,
        git=source.git_revision,
        data_version=beginning.data,
    )


def _explanation(beginning: Beginning, record: AttemptRecord) -> Explanation:
    arguments = beginning.place.experiment.training.arguments
    return Explanation(
        started={start.attempt: start.started_ms for start in record.lineage},
        changes=record.changes,
        looks_back=training_value(arguments, "lr_scheduler_type") in LOOKING_BACK,
    )


def _steps(record: AttemptRecord) -> tuple[tuple[int, int], ...]:
    return tuple((start.attempt, start.from_step) for start in record.lineage)


def _description(
    beginning: Beginning, record: AttemptRecord, selection: Selection | None
) -> Description:
    return Description(
        run_id=record.run_id,
        step=record.from_step,
        attempt=record.attempt,
        selection=selection,
        config_fingerprint=fingerprint(beginning.place.experiment),
        data_version=beginning.data,
        git_revision=record.git,
        versions=dict(record.versions),
    )


def _watched(
    attempt: Attempt, beginning: Beginning, *, sender: Sender, wish: StopWish, lease: Lease
) -> Callable[[Mapping[str, float], int], None]:
    """Return what receives the log lines: it stops where the lease or the server is lost."""
    tracking = beginning.place.experiment.tracking

    def log(values: Mapping[str, float], step: int) -> None:
        lease.check()
        attempt.log(values, step)
        if not sys.stderr.isatty():  # the progress bar of the Trainer says it there
            logger.info("step %d: %s", step, _in_words(values))
        away = sender.away_since
        patient = tracking.on_server_loss == "continue" or away is None or wish.reason is not None
        if not patient and time.monotonic() - (away or 0.0) > tracking.server_loss_s:
            wish.reason = SERVER_LOST

    return log


def _start_up() -> Mapping[str, float]:
    """Return how long it took until the first step was done, and how much of that for digests."""
    age = age_s()
    lived = {} if age is None else {"mmrun/first_step_s": age}
    return {**lived, "mmrun/verify_s": stopwatch.digests.seconds}


def _in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.6g}" for key, value in values.items())


def _was_done(session: Session, total: int) -> bool:
    beginning = session.beginning
    last = beginning.past.last
    return is_done(
        ended=last.ended if last is not None else None,
        step=beginning.step,
        total=total,
        stopped_early=session.trainer.stopped_early_before,
        changed=beginning.changed,
    )


def _finish_quietly(session: Session) -> str:
    beginning = session.beginning
    refuse_without_effect(beginning.changed, step=beginning.step, run_id=beginning.place.run_id)
    place = beginning.place
    # No attempt was opened, so none supersedes anything.
    publisher = publisher_of(
        place,
        lineage=beginning.past.lineage,
        lease=session.lease,
        listener=Hints(place.store, place.run_id),
    )
    with session.sender:
        publisher.recover()
        session.sender.drain(FLUSH_S)
        unsent = publisher.drain(FLUSH_S, patient=lambda: session.wish.reason is None)
        publisher.stop()
    _mend_status(beginning)
    text = f"run {beginning.place.run_id} is already done at step {beginning.step}"
    return f"{text}; still unsent: {', '.join(unsent)}" if unsent else text


def _mend_status(beginning: Beginning) -> None:
    """Say that the run is finished, where the process that finished it died before it could."""
    run, last = beginning.place.run, beginning.past.last
    if run is None or last is None or beginning.place.offline:  # there, what stands is not known
        return
    if run.tags.get("mmrun.status") != FINISHED:
        say_state(beginning.place.store, last, FINISHED)
        forget_error(beginning.place.store, run.run_id)
    if run.status != "FINISHED":
        beginning.place.store.set_status(run.run_id, "FINISHED")


def _open(session: Session, *, actors: Path) -> None:
    beginning, record = session.beginning, session.attempt.record
    _close_killed(session)
    if not beginning.past.attempts:
        record_parameters(beginning.place)
    session.attempt.open()
    if beginning.past.attempts:
        forget_error(beginning.place.store, record.run_id)
    faults.reach("attempt.opened")
    record_run(beginning.place, _steps(record))
    session.publisher.recover()
    if beginning.checkpoint is not None and (carried := read_pending(beginning.checkpoint)):
        session.attempt.take_over(carried)
    session.sender.start()
    upload_provenance(beginning, attempt=record.attempt, actors=actors)
    _say_where(beginning, attempt=record.attempt)


def _close_killed(session: Session) -> None:
    """Say of the attempt before that it was killed, if it could not say how it ended."""
    recorded, closed = session.beginning.past.last, session.last
    if closed is None or closed == recorded:
        return
    place = session.beginning.place
    store = place.store
    keep_record(place.output_dir / "journal", closed)
    save_record(store, closed)
    store.set_tags(closed.run_id, summary(closed, KILLED))  # the next one's table says it too


def _as_it_ended(beginning: Beginning) -> AttemptRecord | None:
    """Return the record of the attempt before; of one that just died, with what it left here."""
    last, found = beginning.past.last, beginning.found
    if last is None or last.ended not in (None, KILLED):
        return last
    saved = found.manifest if found is not None else None
    return as_killed(last, journal=beginning.place.output_dir / "journal", saved=saved)


def _say_where(beginning: Beginning, *, attempt: int) -> None:
    run_id = beginning.place.run_id
    if beginning.forked_from is not None:
        source = beginning.forked_from
        logger.info("run %s, a fork of %s: attempt %d", run_id, source, attempt)
    elif attempt == 1:
        offline = ", offline" if beginning.place.offline else ""
        logger.info("run %s%s, attempt 1, from step %d", run_id, offline, beginning.step)
    else:
        logger.info("run %s goes on: attempt %d, from step %d", run_id, attempt, beginning.step)
    for key, (old, new) in beginning.changed.items():
        logger.info("changed: %s: %s → %s", key, old, new)
