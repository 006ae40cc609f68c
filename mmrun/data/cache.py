"""Signals are decoded once: the decoded ones are kept in memory, or on disk for every run.

What is kept is what ``load`` returned, bit for bit. What is random comes afterwards.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mmrun.config.schema import DataSection
from mmrun.data.decoded import DecodedFolder
from mmrun.data.identity import identity_digest
from mmrun.files import is_settled, sha256
from mmrun.modalities.base import Augmentation, Loaded, Modality, Signal

_MB = 2**20
_SIZES_MB = {"memory": 256, "disk": 10_240}
_ENTRY_BYTES = 512
"""What an entry in memory takes beside its values."""


def cached(modality: Modality, *, data: DataSection, identity: Mapping[str, Any]) -> Modality:
    """Return ``modality`` with the cache that ``data.cache`` asks for.

    ``identity`` is what else than the signal decides what is loaded: the name of the modality, its
    settings, the numbers of the model. Ids of a tokenizer are never kept on disk: they are made as
    fast as they are read, and depend on the tokenizer.
    """
    if data.cache == "off":
        return modality
    size = (data.cache_size_mb or _SIZES_MB[data.cache]) * _MB
    if data.cache == "disk" and modality.gives == "frames":
        folder = DecodedFolder(data.cache_dir or default_folder(), bound=size)
        return OnDisk(modality, folder=folder, identity=identity_digest(modality, identity))
    if modality.gives == "tokens":
        # Where the cache is on disk, its size is not meant for the memory of each process.
        return TokensInMemory(modality, size=min(size, _SIZES_MB["memory"] * _MB))
    return InMemory(modality, size=size)


def default_folder() -> Path:
    """Return the folder that all runs of a user share."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mmrun" / "decoded"


class _Around:
    """A modality whose ``load`` is about to be replaced."""

    def __init__(self, modality: Modality) -> None:
        self._modality = modality

    def length(self, signal: Signal) -> int:
        """Ask the modality: it need not decode for it."""
        return self._modality.length(signal)

    def augmentation(self) -> Augmentation | None:
        """Return the modality's."""
        return self._modality.augmentation()


class InMemory(_Around):
    """Keeps what was loaded until the room is used up, in each process on its own.

    Nothing is pushed out for another signal: each comes once an epoch, so that what is pushed out
    would be gone when its turn comes.
    """

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, modality: Modality, *, size: int) -> None:
        super().__init__(modality)
        self._kept: dict[Signal, Loaded] = {}
        self._room = size
        self._lock = threading.Lock()

    def load(self, signal: Signal) -> Loaded:
        """Return what the modality loads, or loaded; it cannot be written to."""
        found = self._kept.get(signal)
        return self._keep(signal, self._modality.load(signal)) if found is None else found

    def _keep(self, signal: Signal, values: Loaded) -> Loaded:
        with self._lock:
            size = values.nbytes + _ENTRY_BYTES
            if size <= self._room:
                self._room -= size
                # A part of a larger array, or of a mapped file, would keep all of it.
                values = values if values.base is None else values.copy()
                self._kept[signal] = values
        values.flags.writeable = False
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}  # for worker processes that are not forked

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


class TokensInMemory(InMemory):
    """The same for ids of the tokenizer."""

    gives: ClassVar[Literal["frames", "tokens"]] = "tokens"


class OnDisk(_Around):
    """Keeps what was loaded in a folder, under the digest of all that decides it."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, modality: Modality, *, folder: DecodedFolder, identity: bytes) -> None:
        super().__init__(modality)
        self._folder = folder
        self._identity = identity

    def load(self, signal: Signal) -> Loaded:
        """Return what the modality loads, or loaded in any process; it cannot be written to."""
        try:
            status = signal.path.stat()
        except (OSError, ValueError):  # a text, not the name of a file
            return self._through(self._name("text", signal.text, signal.span), signal)
        if not stat.S_ISREG(status.st_mode):
            return self._modality.load(signal)
        return self._load_file(signal, status)

    def _load_file(self, signal: Signal, status: os.stat_result) -> Loaded:
        """Look by what the system says of the file, and by its content only where that is new."""
        path = signal.path
        short = self._name("file", str(path.absolute()), _state(status), signal.span)
        found: Loaded | None = self._folder.get(short)
        if found is not None:
            return found
        if not is_settled(status):
            return _read_only(self._modality.load(signal))
        try:
            content = sha256(path)
        except OSError:
            return self._modality.load(signal)  # which says what is wrong with it
        name = self._name("content", path.name, content, signal.span)
        values = self._through(name, signal, unless_changed=status)
        self._folder.link(short, to=name)
        return values

    def _through(
        self, name: str, signal: Signal, *, unless_changed: os.stat_result | None = None
    ) -> Loaded:
        found: Loaded | None = self._folder.get(name)
        if found is not None:
            return found
        values = _read_only(self._modality.load(signal))
        if unless_changed is None or _is_as_it_was(signal.path, unless_changed):
            self._folder.put(name, values)
        return values

    def _name(self, *parts: object) -> str:
        of = self._identity + repr(parts).encode(errors="surrogatepass")
        return hashlib.blake2b(of, digest_size=19).hexdigest()


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes whenever a file does, even if its old time stamp is put back."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _is_as_it_was(path: Path, before: os.stat_result) -> bool:
    try:
        return _state(path.stat()) == _state(before)
    except OSError:
        return False


def _read_only(values: Loaded) -> Loaded:
    whole: Loaded = np.require(values, requirements="C")
    whole.flags.writeable = False  # as those are that come from the folder
    return whole
