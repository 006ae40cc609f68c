"""What is changed at random, from a generator that is given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmrun.errors import ConfigError, PluginError
from mmrun.modalities import base
from mmrun.modalities.augmentation import frame_dropping, in_turn, noise, shift
from mmrun.modalities.base import Array, Modality, ModelInput, Signal, load_modality
from mmrun.modalities.features import FeaturesModality
from mmrun.modalities.image import ImageModality

FRAMES = np.arange(2000, dtype=np.float32).reshape(1000, 2)
HEIGHT, WIDTH, STRIP = 4, 9, 2


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def changed(modality: Modality, signal: Array, *, seed: int = 0) -> Array:
    augment = modality.augmentation()
    assert augment is not None
    signal.flags.writeable = False  # it may be handed out again
    return augment(signal, generator(seed))


def features(**settings: Any) -> FeaturesModality:
    return FeaturesModality(settings, model=ModelInput(feature_size=2))


def image(settings: Mapping[str, Any] | None = None, *, extracted: bool = False) -> ImageModality:
    size = HEIGHT * STRIP
    return ImageModality(
        {"channels": 1, **(settings or {})},
        model=ModelInput(feature_size=size, extracted=extracted),
    )


def test_nothing_is_changed_by_default() -> None:
    assert features().augmentation() is None
    assert image().augmentation() is None
    assert in_turn(frame_dropping(0), noise(0), shift(0)) is None


def test_frames_are_dropped_and_the_others_stay_as_they_are() -> None:
    kept = changed(features(frame_dropping=0.25), FRAMES.copy())

    assert 650 < len(kept) < 850
    assert (np.diff(kept[:, 0]) > 0).all()
    assert (kept[:, 1] == kept[:, 0] + 1).all()


@pytest.mark.parametrize("seed", range(20))
def test_one_frame_is_always_kept(seed: int) -> None:
    kept = changed(features(frame_dropping=0.99), FRAMES[:3].copy(), seed=seed)

    assert len(kept) >= 1


@pytest.mark.parametrize("modality", [features(noise=0.5), image({"noise": 0.5}, extracted=True)])
def test_noise_has_the_wanted_deviation(modality: Modality) -> None:
    signal = np.ones((1, 1, 100, 100), dtype=np.float32)

    noisy = changed(modality, signal)

    assert noisy.dtype == np.float32
    assert noisy.shape == signal.shape
    assert abs((noisy - signal).std() - 0.5) < 0.02
    assert abs((noisy - signal).mean()) < 0.02


def test_an_image_is_moved_and_its_border_moves_in() -> None:
    signal = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)

    moved = {
        changed(image({"shift": 1}, extracted=True), signal, seed=n).tobytes() for n in range(200)
    }

    wide = np.pad(signal[0, 0], 1, mode="edge")
    everywhere = {wide[y : y + 5, x : x + 5].tobytes() for y in range(3) for x in range(3)}
    assert moved == everywhere


@pytest.mark.parametrize("sized", [{"height": HEIGHT}, {"strip_width": STRIP}])
def test_strips_are_moved_as_the_image_they_are_of(
    tmp_path: Path, sized: Mapping[str, int]
) -> None:
    pixels = (np.arange(HEIGHT * WIDTH) * 7).reshape(HEIGHT, WIDTH).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    plain = image(sized).load(Signal(text="image.png", folder=tmp_path))

    strips = changed(image({"shift": 2, **sized}), plain.copy(), seed=3)

    whole = np.pad(pixels, ((0, 0), (0, 1))).astype(np.float32)[None] / np.float32(255)
    change = shift(2)
    assert change is not None
    moved = change(whole, generator(3))
    assert strips.shape == plain.shape
    for number, strip in enumerate(strips):
        left = number * STRIP
        assert strip.tobytes() == moved[:, :, left : left + STRIP].tobytes()


def test_strips_of_unknown_height_cannot_be_moved() -> None:
    with pytest.raises(ConfigError, match="shift: needs to know how high"):
        image({"shift": 1})


@pytest.mark.parametrize("wrong", [{"frame_dropping": 1.0}, {"noise": -0.1}])
def test_a_setting_without_sense_is_refused(wrong: Mapping[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        features(**wrong)


def test_a_modality_without_the_method_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def load(self, signal: Signal) -> Array:
            raise NotImplementedError

    class Entry:
        name = value = "old:Old"
        dist = None

        @staticmethod
        def load() -> type[Old]:
            return Old

    monkeypatch.setattr(base, "_installed", lambda: {"old": Entry()})

    with pytest.raises(PluginError, match=r"old:Old.*has no 'gives'"):
        load_modality("old")
