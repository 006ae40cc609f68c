import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrun.errors import ConfigError
from mmrun.modalities.preprocessor import Preprocessor
from tests.unit.modalities.videos import PROCESSOR, moving, write_processor


def straight(folder: Path, frames: list[Any]) -> Any:
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor
    processor = loader.from_pretrained(str(folder), backend="pil", local_files_only=True)
    made = processor(images=frames, input_data_format="channels_last", return_tensors="np")
    return made["pixel_values"]


def configured(folder: Path, **changes: Any) -> Path:
    write_processor(folder)
    content = json.dumps({**PROCESSOR, **changes})
    (folder / "preprocessor_config.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as CLIP has it"),
        pytest.param({"do_normalize": False}, id="not normalized"),
        pytest.param({"do_resize": False, "do_center_crop": False}, id="not resized"),
        pytest.param({"do_rescale": False}, id="not rescaled"),
    ],
)
def test_values_are_those_of_transformers_bit_for_bit(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = configured(tmp_path / "processor", **changes)

    made = Preprocessor(str(folder))(moving(3))

    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, straight(folder, moving(3)).astype(np.float32))


def test_a_processor_that_makes_one_video_of_all_frames_gives_the_frames(tmp_path: Path) -> None:
    folder = configured(tmp_path / "processor", image_processor_type="VideoMAEImageProcessor")

    assert Preprocessor(str(folder))(moving(4)).shape == (4, 3, 32, 32)


def test_a_processor_that_makes_another_shape_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path / "processor", image_processor_type="LlavaNextImageProcessor")
    processor = Preprocessor(str(folder))

    with pytest.raises(ConfigError, match=r"must be \[frames, channels, height, width\]"):
        processor(moving(2))


def test_a_folder_that_holds_no_processor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the folder holds nothing") as caught:
        Preprocessor(str(tmp_path))

    assert "preprocessor_config.json" in caught.value.hint


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="custom_preprocessor_path: there is no folder"):
        Preprocessor(str(tmp_path / "gone"))


def test_a_processor_of_waves_is_refused(tmp_path: Path) -> None:
    config = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))

    with pytest.raises(ConfigError, match="custom_preprocessor_path"):
        Preprocessor(str(tmp_path))
