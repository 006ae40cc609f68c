"""What holds for every modality that mmrun brings along."""

import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pose_format import Pose, PoseHeader
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmrun.errors import DataError
from mmrun.modalities.base import GROUP, Modality, ModelInput, Signal, Span, load_modality
from tests.unit.modalities.videos import moving, write_video

FRAMES = 7


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a signal of a modality is made, and how it is read."""

    make: Callable[[Path], str]
    """Return what stands in the manifest."""
    size: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    span: Span | None = None
    """A part of the signal, for modalities that know parts."""


def features(folder: Path) -> str:
    np.save(folder / "a.npy", np.arange(FRAMES * 3.0).reshape(FRAMES, 3))
    return "a.npy"


def image(folder: Path) -> str:
    pixels = np.arange(6 * 20 * 3, dtype=np.uint8).reshape(6, 20, 3)
    Image.fromarray(pixels).save(folder / "a.png")
    return "a.png"


def pose(folder: Path) -> str:
    part = PoseHeaderComponent("stick", ["head", "hand"], [(0, 1)], [(255, 0, 0)], "XYC")
    points = np.random.default_rng(0).random((FRAMES, 1, 2, 2), dtype=np.float32) * 100
    body = NumPyPoseBody(25.0, points, np.ones((FRAMES, 1, 2), dtype=np.float32))
    header = PoseHeader(0.2, PoseHeaderDimensions(100, 100, 0), [part])
    with (folder / "a.pose").open("wb") as file:
        Pose(header, body).write(file)
    return "a.pose"


def video(folder: Path) -> str:
    return write_video(folder / "a.mkv", moving(FRAMES)).name


KINDS = {
    "features": Kind(make=features, size=3, span=Span(start=2, end=5)),
    "image": Kind(make=image, size=6 * 3 * 2),
    "pose": Kind(make=pose, size=4, span=Span(start=80, end=200)),
    "signwriting": Kind(
        make=lambda _: "M518x529S14c20481x471S27106503x489 S38800464x496",
        size=3 * 32 * 32,
        settings={"width": 32, "height": 32},
    ),
    "text": Kind(make=lambda _: "two words and two"),
    "video": Kind(
        make=video,
        size=3 * 8 * 8,
        settings={"width": 8, "height": 8},
        span=Span(start=80, end=200),
    ),
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<unk>": 0, "two": 1, "words": 2, "and": 3}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain)  # type: ignore[no-untyped-call]


def built(name: str) -> Modality:
    kind = KINDS[name]
    model = ModelInput(feature_size=kind.size, tokenizer=tokenizer())
    return load_modality(name)(kind.settings, model=model)


def made(name: str, folder: Path, *, span: Span | None = None) -> Signal:
    return Signal(text=KINDS[name].make(folder), folder=folder, span=span or Span())


every = pytest.mark.parametrize("name", KINDS)


def test_no_modality_is_left_out_here() -> None:
    ours = {
        entry.name
        for entry in entry_points(group=GROUP)
        if entry.dist is not None and entry.dist.name == "mmrun"
    }

    assert ours == set(KINDS)


@every
def test_it_gives_what_it_says(name: str, tmp_path: Path) -> None:
    modality = built(name)

    loaded = modality.load(made(name, tmp_path))

    if modality.gives == "tokens":
        assert loaded.ndim == 1
        assert loaded.dtype == np.dtype(np.int64)
    else:
        assert loaded.shape[1:] == (KINDS[name].size,)
        assert loaded.dtype == np.dtype(np.float32)


@every
def test_the_length_is_that_of_what_is_loaded(name: str, tmp_path: Path) -> None:
    modality = built(name)
    signal = made(name, tmp_path)

    assert modality.length(signal) == len(modality.load(signal))


@every
def test_a_span_is_a_part_or_is_refused(name: str, tmp_path: Path) -> None:
    modality = built(name)
    span = KINDS[name].span
    part = made(name, tmp_path, span=span or Span(start=1))

    if span is None:
        with pytest.raises(DataError, match="no span"):
            modality.load(part)
    else:
        assert 0 < modality.length(part) == len(modality.load(part)) < FRAMES


@every
def test_threads_and_another_process_load_the_same(name: str, tmp_path: Path) -> None:
    modality = built(name)
    signal = made(name, tmp_path)
    alone = modality.load(signal).tobytes()

    with ThreadPoolExecutor(4) as pool:
        together = [array.tobytes() for array in pool.map(modality.load, [signal] * 8)]
    sent = pickle.loads(pickle.dumps(modality)).load(signal).tobytes()

    assert {*together, sent} == {alone}


@pytest.mark.parametrize("name", ["features", "image", "pose", "video"])
@pytest.mark.parametrize("ask", ["load", "length"])
def test_a_missing_file_is_named(name: str, ask: str, tmp_path: Path) -> None:
    signal = Signal(text=f"gone{Path(KINDS[name].make(tmp_path)).suffix}", folder=tmp_path)

    with pytest.raises(DataError, match="gone"):
        getattr(built(name), ask)(signal)
