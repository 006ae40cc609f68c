"""Write a small file to an artifact store, read it, delete it: what every run needs of it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from mmrun.errors import TrackingError
from mmrun.tracking.mlflow_store import MlflowStore

_FILE = "probe.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What became of the file."""

    left: str = ""
    """Where it still is, as it could not be deleted; empty where it is gone."""
    why: str = ""


def local_folder(location: str) -> Path | None:
    """Return the folder that an artifact location means on the machine that uses it, if one."""
    parts = urlsplit(location)
    if parts.scheme not in {"", "file"}:
        return None
    return Path(unquote(parts.path) if parts.scheme else location)


def probe(store: MlflowStore, location: str) -> Probe:
    """Try the artifact store at ``location``, below which runs keep theirs; leave nothing there.

    Raises:
        TrackingError: it cannot be written to or read from.
    """
    name, content = f"mmrun-doctor-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    repository = store.ask(lambda: store.repository(location))
    with TemporaryDirectory(prefix="mmrun-doctor-") as scratch, _as_it_was(local_folder(location)):
        Path(scratch, _FILE).write_text(content, encoding="ascii")
        store.ask(lambda: repository.log_artifact(str(Path(scratch, _FILE)), name))
        back = Path(scratch, "back")
        back.mkdir()
        try:
            store.ask(lambda: repository.download_artifacts(f"{name}/{_FILE}", str(back)))
            if Path(back, name, _FILE).read_text(encoding="ascii") != content:
                raise TrackingError(f"{location} gives back other bytes than were written")
        finally:
            left = Probe()
            try:
                store.ask(lambda: repository.delete_artifacts(name))
            except TrackingError as error:
                left = Probe(left=f"{location.rstrip('/')}/{name}", why=str(error))
    return left


@contextmanager
def _as_it_was(folder: Path | None) -> Iterator[None]:
    """Remove the empty folders that a probe had to make."""
    chain = [] if folder is None else [folder, *folder.parents]
    made = [one for one in chain if not one.exists()]
    try:
        yield
    finally:
        for one in made:
            with suppress(OSError):  # somebody else has put something there
                one.rmdir()
