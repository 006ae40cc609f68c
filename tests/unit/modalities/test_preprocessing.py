import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrun.errors import ConfigError
from mmrun.modalities.preprocessing import load_preprocessor, looked_up, table_of


def test_images_become_what_the_processor_makes_of_them(clip: str) -> None:
    white = Image.new("RGB", (300, 250), "white")

    pixels = load_preprocessor(clip)([white, white])

    assert pixels.shape == (2, 3, 224, 224)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[1, :, 7, 9], [1.9303361, 2.0748837, 2.145897], rtol=1e-6)


def test_where_an_image_is_only_scaled_a_table_gives_the_same_numbers(clip: str) -> None:
    preprocess = load_preprocessor(clip)
    grey = np.random.default_rng(1).integers(256, size=(224, 224), dtype=np.uint8)

    table = table_of(preprocess, width=224, height=224)

    assert table is not None
    processed = preprocess([Image.fromarray(grey).convert("RGB")])[0]
    np.testing.assert_array_equal(looked_up(table, grey), processed)


@pytest.mark.parametrize("size", [(225, 224), (64, 64), (4, 4)])
def test_where_an_image_is_resized_there_is_no_table(clip: str, size: tuple[int, int]) -> None:
    assert table_of(load_preprocessor(clip), width=size[0], height=size[1]) is None


def test_a_folder_without_a_processor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds nothing that transformers can read") as caught:
        load_preprocessor(str(tmp_path))

    assert "preprocessor_config.json" in (caught.value.hint or "")


def test_a_processor_of_waves_is_refused(tmp_path: Path) -> None:
    config = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))

    with pytest.raises(ConfigError, match="custom_preprocessor_path"):
        load_preprocessor(str(tmp_path))
