from dataclasses import asdict
from pathlib import Path

import pytest

from mmrun.config.schema import ModelSection
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import (
    MultimodalProcessor,
    Stream,
    build_processor,
    changed_processor,
    load_processor,
)
from mmrun.errors import CheckpointError, ConfigError, PluginError


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


def test_files_that_the_settings_name_are_kept_with_it(tmp_path: Path) -> None:
    font, folder = tmp_path / "a.ttf", tmp_path / "clip"
    font.write_bytes(b"glyphs")
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(2 << 20))
    settings = {"font_path": str(font), "custom_preprocessor_path": str(folder), "width": 8}
    stream = Stream(
        name="pages", mask="pages_mask", modality="image", settings=settings, feature_size=7
    )
    tokenizer = build_processor(pipeline(), model=ModelSection(), texts=["a"]).tokenizer

    MultimodalProcessor(tokenizer, streams=[asdict(stream)]).save_pretrained(tmp_path / "first")
    font.unlink()
    load_processor(tmp_path / "first").save_pretrained(tmp_path / "first")
    load_processor(tmp_path / "first").save_pretrained(tmp_path / "second")
    (found,) = load_processor(tmp_path / "second").inputs

    assert found.settings == settings
    assert Path(found.files["font_path"]).read_bytes() == b"glyphs"
    kept = Path(found.files["custom_preprocessor_path"])
    assert [path.name for path in kept.iterdir()] == ["preprocessor_config.json"]
    assert tmp_path / "second" in kept.parents


def test_a_font_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    fonts = [tmp_path / name for name in ("a.ttf", "b.ttf", "c.ttf")]
    for font, content in zip(fonts, (b"same", b"same", b"other"), strict=True):
        font.write_bytes(content)

    same, moved, other = (
        Stream(
            name="pages",
            mask="pages_mask",
            modality="image",
            settings={"font_path": str(font)},
            feature_size=7,
        ).identity()
        for font in fonts
    )

    assert same == moved != other


@pytest.mark.parametrize("vocabulary", ["__de__", "__de__,__uk__", "__fr__,__de__", None])
def test_a_training_that_goes_on_loses_no_token(vocabulary: str | None) -> None:
    slot = InputSlot(modality="features", settings={})
    before = Pipeline(inputs=(slot,), new_vocabulary="__de__,__fr__")
    saved = build_processor(before, model=ModelSection(), texts=["four two"])
    now = Pipeline(inputs=(slot,), new_vocabulary=vocabulary)

    if vocabulary == "__fr__,__de__":
        kept = changed_processor(saved, now, model=ModelSection(), tokens=True)
        assert kept.tokenizer.get_vocab() == saved.tokenizer.get_vocab()
        return
    with pytest.raises(CheckpointError, match=r"another id, or none .*__fr__"):
        changed_processor(saved, now, model=ModelSection(), tokens=True)


def test_tokens_may_be_added_to_those_of_a_training() -> None:
    slot = InputSlot(modality="features", settings={})
    before = Pipeline(inputs=(slot,), new_vocabulary="__de__")
    saved = build_processor(before, model=ModelSection(), texts=["four two"])
    now = Pipeline(inputs=(slot,), new_vocabulary="__de__,__fr__")

    longer = changed_processor(saved, now, model=ModelSection(), tokens=True)

    assert longer.new_tokens == ["__de__", "__fr__"]
