"""``train --average_last N``: the mean of the last checkpoints, when the training is done."""

import logging
import shutil

from mmrun.checkpoints.found import Found, found_at
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import MANIFEST
from mmrun.checkpoints.policy import Lineage, live, newest_first
from mmrun.errors import CheckpointError, TrackingError
from mmrun.workflows.checkpoints.average import write_average
from mmrun.workflows.output_folder import AVERAGE
from mmrun.workflows.place import Place

logger = logging.getLogger(__name__)


def average_last(place: Place, count: int, *, lineage: Lineage) -> None:
    """Write the mean of the newest ``count`` checkpoints on this disk, and store it with the run.

    It lies in ``OUTPUT_DIR/average`` and, where checkpoints are stored at all, among the run's
    artifacts under ``average/``, its manifest last.
    """
    found = _newest(
        LocalCheckpoints(place.output_dir / "train", run_id=place.run_id), count, lineage=lineage
    )
    if len(found) < count:
        logger.warning("average_last: only %d of %d checkpoints are here", len(found), count)
    if not found:
        return
    folder = place.output_dir / AVERAGE
    shutil.rmtree(folder, ignore_errors=True)
    manifest = write_average(found, to=folder)
    logger.info("the mean of %s is in %s", ", ".join(manifest.average_of), folder)
    if not place.experiment.tracking.log_checkpoints:
        return
    try:
        artifacts = place.store.artifacts(place.run_id)
        for name in [*(entry.path for entry in manifest.files), MANIFEST]:
            artifacts.upload(folder / name, to=AVERAGE)
    except TrackingError as error:
        logger.warning("the mean was not stored, it is in %s only: %s", folder, error)


def _newest(local: LocalCheckpoints, count: int, *, lineage: Lineage) -> list[Found]:
    whole: list[Found] = []
    for saved in newest_first(live((saved for saved, _ in local.list()), lineage)):
        if len(whole) == count:
            break
        try:
            whole.append(found_at(local.path(saved.name)))
        except CheckpointError as error:
            logger.warning("average_last: passed over: %s", error)
    return whole[::-1]
