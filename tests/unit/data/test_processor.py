from pathlib import Path

import pytest

from mmrun.config.schema import ModelSection
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import Stream, build_processor, load_processor
from mmrun.errors import ConfigError, PluginError


def pipeline(modality: str = "features", **settings: object) -> Pipeline:
    slot = InputSlot(modality=modality, settings=settings)
    return Pipeline(inputs=(slot,), new_vocabulary="__de__")


def test_a_processor_is_the_same_after_saving(tmp_path: Path) -> None:
    processor = build_processor(
        pipeline(skip_frames_stride=2), model=ModelSection(feat_dim=7), texts=["four two"]
    )
    processor.save_pretrained(tmp_path)

    loaded = load_processor(tmp_path)

    assert loaded.inputs == (
        Stream(
            name="input_frames",
            mask="attention_mask",
            modality="features",
            settings={"skip_frames_stride": 2},
            feature_size=7,
        ),
    )
    assert loaded.prompted
    assert loaded.new_tokens == ["__de__"]
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_settings_are_checked_before_anything_is_learnt() -> None:
    with pytest.raises(ConfigError, match="did you mean 'skip_frames_stride'"):
        build_processor(pipeline(skip_frame_stride=2), model=ModelSection(), texts=[])


def test_an_unknown_modality_is_a_plug_in_error() -> None:
    with pytest.raises(PluginError, match="unknown modality 'smell'"):
        build_processor(pipeline("smell"), model=ModelSection(), texts=[])
