"""Signals are decoded once, and what is kept is what decoding gives."""

import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from mmrun.config.schema import DataSection
from mmrun.data.cache import cached, default_folder
from mmrun.errors import DataError
from mmrun.modalities.base import Array, Modality, ModelInput, Signal, Span
from mmrun.modalities.features import FeaturesModality

Cache = Literal["off", "memory", "disk"]
CACHES: tuple[Cache, ...] = ("off", "memory", "disk")
MEMORY = DataSection(cache="memory")


class Counting:
    """Gives the bytes of a file or of a text as numbers, and counts how often."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self) -> None:
        self.loads = 0

    def load(self, signal: Signal) -> Array:
        self.loads += 1
        if signal.text == "damaged":
            raise DataError("damaged", hint="none")
        content = signal.path.read_bytes() if signal.is_file() else signal.text.encode()
        chosen = np.frombuffer(content, dtype=np.uint8)[signal.span.start : signal.span.end]
        return np.asarray(chosen[:, None], dtype=np.float32)

    def length(self, signal: Signal) -> int:
        return len(signal.text)

    def augmentation(self) -> None:
        return None


class Tokens(Counting):
    gives: ClassVar[Literal["frames", "tokens"]] = "tokens"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


def written(path: Path, content: bytes = b"content") -> Signal:
    """Write a file that has been as it is for years."""
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    return Signal(text=path.name, folder=path.parent)


def on_disk(tmp_path: Path, **more: Any) -> DataSection:
    return DataSection(cache="disk", cache_dir=tmp_path / "cache", **more)


def loads(
    data: DataSection,
    *signals: Signal,
    identity: Mapping[str, Any] | None = None,
    kind: type[Counting] = Counting,
) -> int:
    """Return how often a new process decodes to load these signals in turn."""
    modality = kind()
    around = cached(modality, data=data, identity=identity or {})
    for signal in signals:
        assert np.array_equal(around.load(signal), Counting().load(signal))
    return modality.loads


def test_without_a_cache_the_modality_stays_as_it_is() -> None:
    modality = Counting()

    assert cached(modality, data=DataSection(cache="off"), identity={}) is modality


@pytest.mark.parametrize("kind", [Counting, Tokens])
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_around_a_modality_nothing_else_changes(
    tmp_path: Path, cache: Cache, kind: type[Counting]
) -> None:
    data = DataSection(cache=cache, cache_dir=tmp_path)

    around = cached(kind(), data=data, identity={})

    assert around.gives == kind.gives
    assert around.length(Signal(text="four")) == 4
    assert around.augmentation() is None


def test_in_memory_each_signal_is_decoded_once(media: Path) -> None:
    one, other = written(media / "one"), written(media / "other")

    assert loads(MEMORY, one, other, one, other, Signal(text="a text"), Signal(text="a text")) == 3


def test_memory_that_is_full_keeps_what_it_has() -> None:
    texts = [Signal(text=str(number) * 100_000) for number in range(4)]

    assert loads(DataSection(cache="memory", cache_size_mb=1), *texts, *texts) == 4 + 2


def test_no_more_of_an_array_is_kept_than_was_asked_for() -> None:
    class Slices(Counting):
        def load(self, signal: Signal) -> Array:
            return np.zeros((10_000, 1), dtype=np.float32)[:2]

    kept = cached(Slices(), data=MEMORY, identity={}).load(Signal(text="a"))

    assert kept.base is None


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_what_a_cache_hands_out_cannot_be_written_to(tmp_path: Path, cache: Cache) -> None:
    around = cached(Counting(), data=DataSection(cache=cache, cache_dir=tmp_path), identity={})

    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            around.load(Signal(text="a"))[0] = 1


def test_on_disk_another_process_finds_what_was_decoded(tmp_path: Path, media: Path) -> None:
    signals = [written(media / "one"), Signal(text="a text"), Signal(text="no name " * 99)]

    assert loads(on_disk(tmp_path), *signals) == 3
    assert loads(on_disk(tmp_path), *signals) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda signal: {"signal": Signal(text="other text")}, id="text"),
        pytest.param(
            lambda signal: {"signal": Signal(**{**_of(signal), "span": Span(start=1)})}, id="span"
        ),
        pytest.param(lambda signal: {"identity": {"stride": 2}}, id="settings"),
        pytest.param(lambda signal: {"kind": type("Other", (Counting,), {})}, id="class"),
    ],
)
def test_on_disk_what_decides_the_values_decides_what_is_found(
    tmp_path: Path, media: Path, change: Any
) -> None:
    signal = written(media / "one")
    loads(on_disk(tmp_path), signal, Signal(text="a text"))
    changed = change(signal)

    assert loads(on_disk(tmp_path), changed.pop("signal", signal), **changed) == 1


def _of(signal: Signal) -> dict[str, Any]:
    return {"text": signal.text, "folder": signal.folder}


def test_on_disk_a_changed_file_is_decoded_anew(tmp_path: Path, media: Path) -> None:
    signal = written(media / "one", b"before")
    loads(on_disk(tmp_path), signal)

    written(media / "one", b"behind")  # as long, and with the same time stamp

    assert loads(on_disk(tmp_path), signal) == 1


def test_on_disk_a_copy_of_a_file_is_found_by_its_content(tmp_path: Path, media: Path) -> None:
    signal = written(media / "one")
    loads(on_disk(tmp_path), signal)
    copied = tmp_path / "elsewhere"
    shutil.copytree(media, copied)

    assert loads(on_disk(tmp_path), Signal(text="one", folder=copied)) == 0


def test_on_disk_a_file_of_this_moment_is_not_kept(tmp_path: Path, media: Path) -> None:
    (media / "one").write_bytes(b"it may change again within a tick of the clock")
    signal = Signal(text="one", folder=media)

    assert loads(on_disk(tmp_path), signal, signal) == 2


def test_on_disk_a_folder_is_not_kept(tmp_path: Path, media: Path) -> None:
    signal = Signal(text=media.name, folder=media.parent)

    assert loads(on_disk(tmp_path), signal, signal) == 2


def test_on_disk_ids_of_a_tokenizer_are_not_kept(tmp_path: Path) -> None:
    signal = Signal(text="a")

    assert loads(on_disk(tmp_path), signal, signal, kind=Tokens) == 1
    assert loads(on_disk(tmp_path), signal, kind=Tokens) == 1


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_an_error_is_not_kept(tmp_path: Path, cache: Cache) -> None:
    modality = Counting()
    around = cached(modality, data=DataSection(cache=cache, cache_dir=tmp_path), identity={})

    for _ in range(2):
        with pytest.raises(DataError, match="damaged"):
            around.load(Signal(text="damaged"))

    assert modality.loads == 2


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_travels_to_a_worker_process(tmp_path: Path, cache: Cache) -> None:
    around = cached(Counting(), data=DataSection(cache=cache, cache_dir=tmp_path), identity={})

    travelled: Modality = pickle.loads(pickle.dumps(around))

    assert travelled.load(Signal(text="a")).tolist() == [[97.0]]


def test_the_values_of_features_are_the_same_with_every_cache(tmp_path: Path, media: Path) -> None:
    values = np.array([[0.1, -0.0, 3e-42], [1e30, -7.5, 1 / 3]], dtype=np.float32)
    np.save(media / "a.npy", values)
    os.utime(media / "a.npy", (1e9, 1e9))
    signal = Signal(text="a.npy", folder=media)
    found = []
    for cache in CACHES:
        data = DataSection(cache=cache, cache_dir=tmp_path / "cache")
        modality = FeaturesModality({}, model=ModelInput(feature_size=3))
        around = cached(modality, data=data, identity={})
        found += [around.load(signal).tobytes() for _ in range(2)]

    assert set(found) == {values.tobytes()}


def test_by_default_the_runs_of_a_user_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert default_folder() == Path("/somewhere/mmrun/decoded")
