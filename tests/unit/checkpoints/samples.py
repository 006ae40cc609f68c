"""Small checkpoints, and an artifact store in a folder that outlives the process."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmrun import files
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Description, Manifest, Selection
from mmrun.checkpoints.policy import Lineage, Retention
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.uploader import Listener
from mmrun.errors import TrackingError
from mmrun.tracking.store import Artifact, UnreachableError

RUN = "0123456789abcdef0123456789abcdef"
LOSS = Selection(metric="eval_loss", greater_is_better=False)


class FolderStore:
    """An ``ArtifactStore`` in a folder; ``away`` makes every request fail."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.away = False
        self.keeps_all = False
        self.requests: list[str] = []

    def upload(self, file: Path, *, to: str) -> None:
        self._request(f"upload {to}/{file.name}")
        target = self.root / to / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)

    def download(self, path: str, *, to: Path) -> None:
        self._request(f"download {path}")
        if not (self.root / path).is_file():
            raise TrackingError(f"no artifact {path}")
        shutil.copyfile(self.root / path, to)

    def read(self, path: str) -> bytes | None:
        self._request(f"read {path}")
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def write(self, path: str, content: bytes) -> None:
        self._request(f"write {path}")
        files.write_whole(self.root / path, content)

    def delete(self, path: str) -> None:
        self._request(f"delete {path}")
        if self.keeps_all:
            raise TrackingError("this back-end cannot delete")
        target = self.root / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def _request(self, what: str) -> None:
        self.requests.append(what)
        if self.away:
            raise UnreachableError("the store does not answer")

    def list(self, folder: str = "") -> list[Artifact]:
        self._request(f"list {folder}")
        base = self.root / folder
        return [
            Artifact(
                path=path.relative_to(self.root).as_posix(),
                is_folder=path.is_dir(),
                size=None if path.is_dir() else path.stat().st_size or None,
            )
            for path in (sorted(base.iterdir()) if base.is_dir() else [])
        ]


class Between(FolderStore):
    """A store in which others do something just before the first request that is ``awaited``."""

    def __init__(
        self,
        root: Path,
        *,
        awaited: Callable[[str], bool] = lambda _: False,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(root)
        self.awaited = awaited
        self.then = then

    def _request(self, what: str) -> None:
        if self.awaited(what):
            self.awaited = lambda _: False
            self.then()
        super()._request(what)


class Place:
    """An output folder and a store, and how a run saves there."""

    def __init__(
        self, root: Path, *, lineage: Lineage = (), store: FolderStore | None = None
    ) -> None:
        self.root = root
        self.local = LocalCheckpoints(root / "output/train")
        self.store = store or FolderStore(root / "store")
        self.remote = RemoteCheckpoints(self.store)
        self.spool = root / "output/spool"
        self.lineage = lineage

    def publisher(
        self,
        *,
        retention: Retention | None = None,
        resumed_from: Manifest | None = None,
        listener: Listener | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> Publisher:
        return Publisher(
            self.local,
            self.remote,
            run_id=RUN,
            spool=self.spool,
            retention=retention or Retention(last=10),
            lineage=self.lineage,
            resumed_from=resumed_from,
            listener=listener,
            may_write=may_write,
        )

    def publish(
        self,
        *steps: int,
        publisher: Publisher | None = None,
        attempt: int = 1,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        publisher = publisher or self.publisher()
        for step in steps:
            partial = write_files(self.local.partial(step), step=step)
            publisher.publish(partial, description(step, attempt=attempt, metrics=metrics))
            publisher.drain(0)

    def save(self, *steps: int, attempt: int = 1, loss: float | None = None) -> None:
        """Save on disk only."""
        metrics = {} if loss is None else {"eval_loss": loss}
        for step in steps:
            partial = write_files(self.local.partial(step), step=step)
            self.local.finish(partial, description(step, attempt=attempt, metrics=metrics))

    def stored(self) -> Sequence[str]:
        return [saved.name for saved in RemoteCheckpoints(self.store).look()[0]]

    def on_disk(self) -> Sequence[str]:
        return [saved.name for saved, _ in self.local.list()]


def description(
    step: int,
    *,
    attempt: int = 1,
    metrics: Mapping[str, float] | None = None,
    run_id: str = RUN,
) -> Description:
    return Description(
        run_id=run_id,
        step=step,
        epoch=step / 100,
        attempt=attempt,
        metrics=metrics or {},
        selection=LOSS,
        config_fingerprint="c" * 64,
        data_version="sha256:" + "d" * 64,
        versions={"torch": "2.13.0"},
    )


def write_files(folder: Path, *, step: int) -> Path:
    """Write what a Trainer writes, in a few bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(f"weights of {step}".encode() * 50)
    (folder / "optimizer.pt").write_bytes(f"optimizer of {step}".encode() * 50)
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    (folder / "training_args.bin").write_bytes(b"a pickle with hub_token")
    (folder / "nested").mkdir(exist_ok=True)
    (folder / "nested/empty.txt").touch()
    return folder
