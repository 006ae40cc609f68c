"""From where an attempt goes on, and what is different from the one before; changes nothing."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun.checkpoints.archive import Archive, NothingSaved
from mmrun.checkpoints.at_once import beside
from mmrun.checkpoints.found import Found, found_at
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.reference import LATEST
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.config.loading import flat
from mmrun.config.schema import Experiment
from mmrun.errors import CheckpointError, DataError
from mmrun.provenance.data import data_version, same_data
from mmrun.provenance.source import SourceState, source_state
from mmrun.tracking.attempts import PROCESSES, changes
from mmrun.tracking.offline_store import unknown_run
from mmrun.training.processes import Launched
from mmrun.workflows.inheritance import Inheritance, bring, inheritance
from mmrun.workflows.past import Past, read_past, source_past
from mmrun.workflows.place import Place

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Everything that is decided before an attempt is opened."""

    place: Place
    past: Past
    before: Past
    """What the attempt is compared with: ``past``, or the source's where a fork begins."""
    found: Found | None
    checkpoint: Path | None
    """The folder of ``found``, if it was brought here."""
    data: str
    processes: int
    """How many share each step."""
    changed: Mapping[str, tuple[Any, Any]]
    source: SourceState
    inheritance: Inheritance | None = None
    """What a fork takes over, where it begins."""

    @property
    def step(self) -> int:
        """The step of the checkpoint, or 0."""
        return 0 if self.found is None else self.found.step

    @property
    def circumstances(self) -> tuple[str, ...]:
        """What else than settings is different from the last attempt, in words."""
        last, source = self.before.last, self.source
        if last is None:
            return ()
        different = {
            "the code": last.git != source.git_revision or source.dirty,
            "the data": data_differs(self.before, self.data),
            "the machine": last.host != source.host,
        }
        versions = changes(last.versions, source.versions)
        return (
            *(what for what, differs in different.items() if differs),
            *(f"{name} {old} → {new}" for name, (old, new) in versions.items()),
        )

    @property
    def started_from(self) -> str | None:
        """The checkpoint in words, for the record."""
        if self.found is None:
            return None
        if self._source is not None:
            return self._source
        return self.found.manifest.reference if self.found.manifest else str(self.found.path)

    @property
    def forked_from(self) -> str | None:
        """The source's checkpoint for people, where a fork begins."""
        return self._source and self._source.partition(".a")[0]

    @property
    def _source(self) -> str | None:
        """The checkpoint that a fork begins with, even if it has its copy, but no attempt yet."""
        if self.inheritance is not None:
            return self.inheritance.manifest.reference
        origin = self.place.origin
        return origin.checkpoint if origin is not None and not self.past.attempts else None


def begin(
    place: Place,
    *,
    accept_data_change: bool,
    only_look: bool,
    meanwhile: Callable[[], None] = lambda: None,
) -> Beginning:
    """Compare data and configuration with the last attempt's, and find the checkpoint.

    Args:
        place: Where the training happens.
        accept_data_change: Whether other data behind the same paths is wanted.
        only_look: Whether nothing may change: the checkpoint is not brought here then.
        meanwhile: What this thread is to do while another one finds and verifies the checkpoint.

    Raises:
        DataError: the data behind the same paths changed.
        CheckpointError: the reference means nothing, or nothing is whole.
    """
    past = read_past(place.store, place.run, place.run_file) if place.run else Past()
    earlier = source_past(past, store=place.store, origin=place.origin)
    processes = Launched.of(os.environ).size
    changed = _changed(earlier, place.experiment, processes=processes)
    cache = None if only_look else place.output_dir / ".digests.json"
    data = data_version(place.experiment, cache=cache)
    if data_differs(earlier, data) and not accept_data_change:
        _refuse_changed_data(changed)
    finding = beside(lambda: _find_checkpoint(place, past, only_look=only_look))
    meanwhile()
    found, checkpoint = finding()
    if found is not None:
        _refuse_average(found)
    return Beginning(
        place=place,
        past=past,
        before=earlier,
        found=found,
        checkpoint=checkpoint,
        data=data,
        processes=processes,
        changed=changed,
        source=source_state(),
        inheritance=inheritance(place, found, checkpoint),
    )


def _changed(
    earlier: Past, experiment: Experiment, *, processes: int
) -> dict[str, tuple[str | None, str | None]]:
    """Return what the last attempt was started with otherwise: settings, and the launcher's one."""
    if earlier.last is None:
        return {}
    then = {**earlier.flat_config, PROCESSES: str(earlier.last.processes)}
    return changes(then, {**flat(experiment), PROCESSES: str(processes)})


def _refuse_average(found: Found) -> None:
    if found.manifest is not None and found.manifest.average_of:
        raise CheckpointError(
            f"{found.path} is a mean of checkpoints, which has no optimizer's state to go on with",
            hint="use it with 'mmrun generate --model_name_or_path', or resume from a checkpoint",
        )


def data_differs(past: Past, data: str) -> bool:
    """Tell whether ``data`` is another version than that of the last attempt."""
    before = past.last.data_version if past.last is not None else None
    return before is not None and not same_data(before, data)


def _refuse_changed_data(changed: Mapping[str, tuple[Any, Any]]) -> None:
    if any(key.endswith("_metadata_file") for key in changed):
        return  # other data was chosen, and that is recorded
    raise DataError(
        "the data behind the same paths changed since the last attempt of the run",
        hint="put it back ('dvc checkout'), or accept the change with --accept-data-change",
    )


def archive(place: Place) -> Archive:
    """Return the checkpoints of the place's run, here and in the store."""
    local = LocalCheckpoints(place.output_dir / "train")
    if place.run is None:
        return Archive(local, None, run_id=None)
    remote = None if place.offline else RemoteCheckpoints(place.store.artifacts(place.run_id))
    return Archive(local, remote, run_id=place.run_id, spool=place.output_dir / "spool")


def _find_checkpoint(
    place: Place, past: Past, *, only_look: bool
) -> tuple[Found | None, Path | None]:
    if place.run is None and place.reference is None:
        return _of_origin(place, only_look=only_look)
    reference = place.reference or LATEST
    try:
        if only_look:
            return archive(place).resolve(reference, lineage=past.lineage), None
        return archive(place).obtain(reference, lineage=past.lineage)
    except NothingSaved:
        if place.reference is not None:
            raise
        if place.offline and unknown_run(place.output_dir) is None:
            raise CheckpointError(
                f"run {place.run_id} has no checkpoint in {place.output_dir}, and with --offline "
                "nobody asks the store for one",
                hint="leave --offline out when the server answers",
            ) from None
        if place.origin is not None:
            return _of_origin(place, only_look=only_look)
        if (plain := _plain_origin(past)) is not None:
            return found_at(plain), plain
        logger.info("run %s has no checkpoint yet: it starts again at step 0", place.run_id)
        return None, None


def _of_origin(place: Place, *, only_look: bool) -> tuple[Found | None, Path | None]:
    if place.origin is None:
        return None, None
    return bring(place, place.origin, only_look=only_look)


def _plain_origin(past: Past) -> Path | None:
    """Return the folder of another program that the run began from and has not got beyond."""
    started_from = past.last.started_from if past.last is not None else None
    if started_from is None or not Path(started_from).is_dir():
        return None
    return Path(started_from)
