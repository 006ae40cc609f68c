"""``train --average_last N``: the mean of the last checkpoints, when the training is done."""

import logging
import shutil
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.found import Found, found_at
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import MANIFEST
from mmrun.checkpoints.policy import Lineage, live, newest_first
from mmrun.errors import TrackingError
from mmrun.workflows.checkpoints.average import write_average
from mmrun.workflows.place import Place

logger = logging.getLogger(__name__)

NAME = "average"


def average_last(place: Place, count: int, *, lineage: Lineage) -> None:
    """Write the mean of the newest ``count`` checkpoints on this disk, and store it with the run.

    It lies in ``OUTPUT_DIR/average`` and, where checkpoints are stored at all, among the run's
    artifacts under ``average/``, its manifest last.
    """
    found = _newest(LocalCheckpoints(place.output_dir / "train"), count, lineage=lineage)
    if len(found) < count:
        logger.warning("average_last: only %d of %d checkpoints are here", len(found), count)
    if not found:
        return
    folder = place.output_dir / NAME
    shutil.rmtree(folder, ignore_errors=True)
    manifest = write_average(found, to=folder)
    logger.info("the mean of %s is in %s", ", ".join(manifest.average_of), folder)
    if not place.experiment.tracking.log_checkpoints:
        return
    try:
        artifacts = place.store.artifacts(place.run_id)
        for name in [*(entry.path for entry in manifest.files), MANIFEST]:
            artifacts.upload(folder / name, to=NAME)
    except TrackingError as error:
        logger.warning("the mean was not stored, it is in %s only: %s", folder, error)


def _newest(local: LocalCheckpoints, count: int, *, lineage: Lineage) -> list[Found]:
    alive = newest_first(live((saved for saved, _ in local.list()), lineage))
    folders = [local.path(saved.name) for saved in alive]
    whole = [path for path in folders if _problem(path) is None][:count]
    return [found_at(path) for path in reversed(whole)]


def _problem(folder: Path) -> str | None:
    return manifests.problem_with(folder, manifests.read(folder), digests=False)
