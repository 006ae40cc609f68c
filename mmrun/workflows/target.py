"""What a command is about: an output folder, which knows its run, or a run."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.policy import Lineage
from mmrun.checkpoints.reference import Reference, parse
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.address import absolute, sqlite_file, tracking_uri
from mmrun.tracking.offline_store import unknown_run
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import RunStore, UnreachableError
from mmrun.workflows.records import last_record

NOWHERE = LocalCheckpoints(Path("/nonexistent"))
"""The checkpoints on this machine, for a run that was named by its id."""

_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A run, and the places in which its checkpoints and metrics may be."""

    local: LocalCheckpoints
    spool: Spool
    journal: Path
    run_id: str | None
    store: RunStore | None
    lineage: Lineage = ()
    warning: str | None = None

    def stored(self) -> tuple[RunStore, str]:
        """Return the store and the run; without them the command has nothing to work on."""
        if self.store is None or self.run_id is None:
            raise TrackingError(
                self.warning or "no run is known that a store could be asked for",
                hint="give the id of the run, and --tracking_uri if it is not in the usual place",
            )
        return self.store, self.run_id

    def remote(self) -> RemoteCheckpoints | None:
        """Return the checkpoints in the store, if there is one."""
        if self.store is None or self.run_id is None:
            return None
        return RemoteCheckpoints(self.store.artifacts(self.run_id))

    def archive(self) -> Archive:
        """Return the checkpoints, wherever they are."""
        return Archive(self.local, self.remote(), run_id=self.run_id, spool=self.spool.folder)


def find_target(words: str, *, uri: str | None) -> Target:
    """Return what ``words`` mean: an output folder, which knows its run, or the id of a run.

    Raises:
        UsageError: they are neither.
        TrackingError: a run's store cannot be reached, and there is no folder to look at instead.
    """
    return _of_folder(Path(words), uri=uri) or _of_run(words, uri=uri)


def find_referred(
    words: str, *, output_dir: Path | None, uri: str | None
) -> tuple[Reference, Target | None]:
    """Return the checkpoint that ``words`` point at, and whose it is; None for a folder."""
    reference = parse(words)
    if reference is None:
        raise UsageError(f"{words!r} points at no checkpoint", hint="write RUN_ID@latest")
    if reference.path is not None:
        return reference, None
    if reference.run_id is not None:
        if output_dir is not None:
            target = find_target(str(output_dir), uri=uri)
            if target.run_id == reference.run_id:
                return reference, target
        return reference, find_target(reference.run_id, uri=uri)
    if output_dir is None:
        raise UsageError(
            f"{words!r} does not say of which run",
            hint=f"write RUN_ID@{words}, or give --output_dir, too",
        )
    return reference, find_target(str(output_dir), uri=uri)


def lineage_of(target: Target) -> Lineage:
    """Return the attempts of the run, those that another machine has made since, too."""
    if target.store is None or target.run_id is None:
        return target.lineage
    record = last_record(target.store, target.run_id)
    stored = record.lineage if record is not None else ()
    return sorted({*target.lineage, *((start.attempt, start.from_step) for start in stored)})


def only_local(error: TrackingError) -> str:
    """Return the warning that a store was not asked."""
    return f"the store could not be reached, only what is on this machine is shown: {error}"


def _of_folder(folder: Path, *, uri: str | None) -> Target | None:
    if not folder.is_dir():
        return None
    train = folder / "train" if (folder / "train").is_dir() else folder
    run_file = read_run_file(folder)
    local = LocalCheckpoints(train)
    runs = {manifest.run_id for _, manifest in local.list()}
    if run_file is None and not any(local.entries()):
        raise UsageError(
            f"{folder} has neither a run.json nor a checkpoint: no training wrote to it",
            hint="give the folder that 'mmrun train' wrote to, or the id of a run",
        )
    run_id = run_file.run_id if run_file else next(iter(runs), None) if len(runs) == 1 else None
    store, warning = None, None
    if run_id is not None and unknown_run(folder) == run_id:
        warning = f"the run was trained offline, and 'mmrun sync {folder}' has not recorded it yet"
    elif run_id is not None:
        try:
            store = _open(uri, recorded=run_file.tracking_uri if run_file else None)
        except TrackingError as error:
            warning = only_local(error)
    return Target(
        local=local,
        spool=Spool(folder / "spool", run_id=run_id),
        journal=folder / "journal",
        run_id=run_id,
        store=store,
        lineage=run_file.lineage if run_file else (),
        warning=warning,
    )


def _of_run(words: str, *, uri: str | None) -> Target:
    if not _RUN.fullmatch(words):
        raise UsageError(
            f"{words!r} is neither an output folder nor the id of a run",
            hint="give the folder that 'mmrun train' wrote to, or the run's 32 characters",
        )
    store = _open(uri, recorded=None)
    try:
        store.read(words)
    except UnreachableError:
        raise
    except TrackingError as error:
        raise UsageError(
            f"{words} is neither an output folder nor a run: {error}",
            hint=error.hint or "check MLFLOW_TRACKING_URI",
        ) from error
    return Target(
        local=NOWHERE,
        spool=Spool(NOWHERE.folder),
        journal=NOWHERE.folder,
        run_id=words,
        store=store,
    )


def _open(given: str | None, *, recorded: str | None) -> RunStore:
    """Open the store of the run; a database that is not there is not made."""
    here = Path.cwd()
    uri = absolute(given, folder=here) if given else tracking_uri(recorded, project=here)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise UnreachableError(
            f"there is no database {file}",
            hint="set MLFLOW_TRACKING_URI, or --tracking_uri, to where the run is recorded",
        )
    from mmrun.tracking.mlflow_store import MlflowStore

    return MlflowStore(uri, patience_s=3)
