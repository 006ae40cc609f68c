"""Start a training, or go on with one: always one run."""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmrun.config.loading import Override
from mmrun.config.schema import Experiment
from mmrun.errors import StopRequested
from mmrun.tracking import launcher, orphan
from mmrun.tracking.held import only_while_held
from mmrun.tracking.lease import Lease, folder_lock
from mmrun.tracking.offline_store import waits
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import UnreachableError
from mmrun.training.processes import Leader
from mmrun.training.refused import refuse_impossible
from mmrun.training.stopping import StopWish, TimeOver, limited, said_in_words
from mmrun.training.unused import say_unused
from mmrun.workflows.actors import with_modality
from mmrun.workflows.beginning import begin
from mmrun.workflows.closing import LEAST_S
from mmrun.workflows.ending import deliver_ending
from mmrun.workflows.new_run import said_if_refused, start_run
from mmrun.workflows.next_rate import next_rate
from mmrun.workflows.offline import deliver
from mmrun.workflows.output_folder import clear
from mmrun.workflows.place import Place, find_place, open_store
from mmrun.workflows.plan import plan_of
from mmrun.workflows.recipe import import_libraries, prepare_recipe
from mmrun.workflows.session import work


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What the command line asked for.

    ``experiment`` is None where no file was given: the configuration of the run's last attempt is
    used then, with ``overrides`` on top.
    """

    experiment: Experiment | None
    config_path: Path | None = None
    overrides: tuple[Override, ...] = ()
    output_dir: Path | None = None
    setup_path: Path | None = None
    resume_from_checkpoint: str | None = None
    overwrite_output_dir: bool | None = None
    fork: bool = False
    dry_run: bool = False
    form: Literal["table", "json"] = "table"
    """How a dry run is written."""
    steal: bool = False
    offline: bool = False
    """Whether no server is asked; ``mmrun sync`` tells it later."""
    accept_data_change: bool = False


def train(request: TrainRequest) -> str:
    """Train to the last step and return what is to be said about it.

    Raises:
        StopRequested: a signal asked to stop; the last step is saved.
        MmrunError: whatever a user can repair, with its exit code.
    """
    request = _complete(request)
    leader = Leader.of_this_launch()
    if launcher.under_wrapper() or leader.several:
        orphan.stop_with_wrapper()
    wish = StopWish(echoed=leader.several)
    with wish.listening():
        place = _find_place(request)
        if request.dry_run:
            return _say_plan(place, request)
        _mark_launcher(place)
        with (
            leader.answering(),
            said_in_words(),
            folder_lock(place.output_dir),
            ExitStack() as held,
        ):
            return _train(place, request, wish=wish, held=held, leader=leader)


def _complete(request: TrainRequest) -> TrainRequest:
    if request.experiment is None:
        return request
    experiment = with_modality(
        request.experiment, output_dir=request.output_dir, setup_path=request.setup_path
    )
    return replace(request, experiment=experiment)


def _find_place(request: TrainRequest) -> Place:
    try:
        return _resolved(request)
    except UnreachableError as error:
        raise UnreachableError(
            str(error), hint=f"{error.hint}; or train with --offline, and 'mmrun sync' later"
        ) from error


def _resolved(request: TrainRequest) -> Place:
    waiting = _waiting(request)
    offline = request.offline or (waiting is not None and request.dry_run)
    if waiting is not None and not offline and not _is_fresh(request):
        run_file = read_run_file(waiting)
        deliver(waiting, open_store(request.experiment, run_file), steal=request.steal)
    named = os.environ.get(launcher.VARIABLE)
    place = find_place(request, fork=request.fork, offline=offline)
    if waiting is not None or offline or place.fresh or not waits(place.output_dir):
        return place
    # The folder was only known by the configuration of the run.
    request = replace(request, output_dir=place.output_dir)
    if request.dry_run:
        return find_place(request, offline=True)
    deliver(place.output_dir, place.store, steal=request.steal)
    if named is not None:
        os.environ[launcher.VARIABLE] = named
    return find_place(request, fork=request.fork)


def _waiting(request: TrainRequest) -> Path | None:
    """Return the output folder if a run that was trained offline waits in it."""
    folder = request.output_dir
    if folder is None and request.experiment is not None:
        folder = request.experiment.training.output_dir
    return folder if folder is not None and waits(folder) else None


def _is_fresh(request: TrainRequest) -> bool:
    if request.overwrite_output_dir is not None or request.experiment is None:
        return bool(request.overwrite_output_dir)
    return request.experiment.training.overwrite_output_dir is True


def _say_plan(place: Place, request: TrainRequest) -> str:
    beginning = begin(place, accept_data_change=request.accept_data_change, only_look=True)
    given = place.experiment.training.arguments
    refuse_impossible(given)
    say_unused(given)
    rate = next_rate(beginning, setup_path=request.setup_path)
    plan = plan_of(beginning, next_rate=rate)
    return plan.text() if request.form == "table" else plan.json()


def _train(
    place: Place, request: TrainRequest, *, wish: StopWish, held: ExitStack, leader: Leader
) -> str:
    lease = None
    if place.run is not None:
        lease = held.enter_context(Lease(place.store, place.run_id, steal=request.steal))
        # Whoever held it until now may have logged since the run was read.
        deliver_ending(place.store, place.output_dir / "journal")
        place = replace(place, run=place.store.read(place.run_id))
        if place.fresh:
            _make_room(place, request)
    beginning = begin(
        place,
        accept_data_change=request.accept_data_change,
        only_look=False,
        meanwhile=import_libraries,
    )
    recipe = prepare_recipe(beginning, setup_path=request.setup_path, leader=leader)
    if lease is None:
        beginning = replace(beginning, place=start_run(beginning, wish=wish))
        lease = Lease(place.store, beginning.place.run_id)
    with said_if_refused(beginning, wish=wish, lease=lease):
        if place.run is None:
            held.enter_context(lease)
        launcher.sweep(place.store, beginning.place.experiment_id)
    gated = only_while_held(beginning.place.store, lease)
    beginning = replace(beginning, place=replace(beginning.place, store=gated))
    try:
        return work(beginning, recipe=recipe, wish=wish, lease=lease, leader=leader)
    except (StopRequested, KeyboardInterrupt):
        _close_launcher(place)
        raise


def _make_room(place: Place, request: TrainRequest) -> None:
    """Remove what another run left in the folder, once it is sure that this one can go on."""
    begin(place, accept_data_change=request.accept_data_change, only_look=True)
    clear(place.output_dir)


def _mark_launcher(place: Place) -> None:
    """Mark the run of `mlflow run` if another one goes on, or is refused to: it is nobody's."""
    if place.run is not None and place.launched is not None:
        launcher.mark(place.store, place.launched, delegated_to=place.run_id)


def _close_launcher(place: Place) -> None:
    """End the run of an `mlflow run` that was killed and cannot do it itself."""
    if place.run is not None and place.launched is not None and not orphan.has_wrapper():
        with suppress(TimeOver), limited(LEAST_S):
            launcher.close(place.store, place.launched)
