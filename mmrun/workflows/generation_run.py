"""The run that records what was translated: a child of the training's run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mmrun.checkpoints.found import Found
from mmrun.config.loading import plain
from mmrun.config.masking import masked
from mmrun.config.schema import Experiment, Split
from mmrun.errors import StopRequested, TrackingError
from mmrun.tracking import launcher
from mmrun.tracking.journal import Clock
from mmrun.tracking.store import Point, Run, RunStatus
from mmrun.workflows.generation_identity import identity, origin
from mmrun.workflows.place import Place

ROLE = "generation"
_IDENTITY_TAG = "mmrun.generation"


class GenerationRun:
    """One run for a checkpoint, a split and a way to generate; a repetition finds it again."""

    def __init__(self, place: Place, found: Found, *, name: str, split: Split, data: str) -> None:
        self._store = place.store
        self._step = found.step
        tags = {
            launcher.ROLE_TAG: ROLE,
            _IDENTITY_TAG: identity(place.experiment, origin(found), data=data, split=split),
            "mmrun.checkpoint": origin(found),
            "mmrun.data": data,
            "mlflow.source.name": "mmrun generate",
        }
        if place.run is not None:
            tags["mlflow.parentRunId"] = place.run.run_id
        params = _params(place.experiment, checkpoint=origin(found), split=split)
        self._run = _opened(place, tags=tags, params=params, name=f"{split} of {name}")

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Say how the work ends."""
        self._store.set_status(self._run.run_id, "RUNNING")
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, StopRequested))
            status: RunStatus = "KILLED" if stopped else "FAILED"
            with suppress(TrackingError):  # what went wrong first is what to say
                self._store.set_status(self._run.run_id, status)
            raise
        self._store.set_status(self._run.run_id, "FINISHED")

    def log(
        self,
        columns: Mapping[str, Sequence[object]],
        *,
        scores: Mapping[str, float],
        files: Sequence[Path],
    ) -> None:
        """Store the scores, the files, and a table that MLflow's page shows."""
        now_ms = Clock().now_ms()
        points = [
            Point(key=name, step=self._step, timestamp_ms=now_ms, value=value)
            for name, value in scores.items()
            if self._run.metrics.get(name) != value  # a repetition adds no second point
        ]
        if points:
            self._store.log_points(self._run.run_id, points)
        for file in files:
            self._store.artifacts(self._run.run_id).upload(file, to="")
        self._store.log_table(self._run.run_id, columns, path="predictions.json")


def _opened(place: Place, *, tags: Mapping[str, str], params: Mapping[str, str], name: str) -> Run:
    """Return the run of this: a launcher's own, an earlier one like it, or a new one."""
    store, parent, launched = place.store, place.run, place.launched
    if launched is not None and _may_use(launched):
        store.set_tags(launched.run_id, tags)
        return launched
    if parent is not None:
        wanted = {key: tags[key] for key in (_IDENTITY_TAG, launcher.ROLE_TAG)}
        same = store.find(experiment_id=parent.experiment_id, tags=wanted)
        if same:
            return same[0]
    run = store.create(
        experiment=place.experiment.tracking.experiment,
        experiment_id=parent.experiment_id if parent is not None else None,
        name=name,
        tags=tags,
    )
    store.log_params(run.run_id, params)
    return run


def _may_use(launched: Run) -> bool:
    """Whether the run is there for this: one that a training was started with is not."""
    return launcher.is_launched(launched) and launched.tags.get(launcher.ROLE_TAG) != launcher.ROLE


def _params(experiment: Experiment, *, checkpoint: str, split: Split) -> dict[str, str]:
    options = masked(plain(experiment)).get("generation", {})
    shown = {f"generation.{name}": str(value) for name, value in options.items()}
    return {**shown, "checkpoint": checkpoint, "split": split}
