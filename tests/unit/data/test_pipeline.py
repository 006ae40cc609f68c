from typing import Any

import pytest

from mmrun.config.schema import DataSection, ProcessorSection
from mmrun.data.pipeline import Pipeline, expand, resolve_pipeline
from mmrun.errors import ConfigError

FULL = Pipeline(
    modality="features",
    settings={"skip_frames_stride": 2},
    tokenizer_path="tok",
    new_vocabulary="__de__",
)


def resolved(*, dataset_type: str | None = None, **processor: Any) -> Pipeline:
    return resolve_pipeline(
        ProcessorSection(**processor), data=DataSection(dataset_type=dataset_type)
    )


def test_the_shorthand_says_everything() -> None:
    found = resolved(
        pipeline="features2text",
        tokenizer_path="tok",
        new_vocabulary="__de__",
        modality_kwargs={"skip_frames_stride": 2},
    )

    assert found == FULL


def test_the_dataset_type_alone_is_enough() -> None:
    assert resolved(dataset_type="image2text").modality == "image"


def test_slots_mean_what_they_are_the_long_form_of() -> None:
    assert resolved(slots=tuple(expand(FULL))) == FULL


def test_slots_may_leave_out_defaults() -> None:
    slots = expand(FULL)
    del slots[0]["column_map"], slots[0]["is_label"], slots[1]["output_mask_key"]
    del slots[2]["processor_kwargs"]["role"]

    assert resolved(slots=tuple(slots)) == FULL


@pytest.mark.parametrize(
    ("number", "key", "value"),
    [
        (0, "output_data_key", "video_frames"),
        (1, "column_map", {"output": "target"}),
        (2, "processor_kwargs", {"role": "input", "tokenizer_path": "other"}),
        (3, "is_label", True),
        (3, "speed", 1),
    ],
)
def test_a_slot_that_differs_is_named(number: int, key: str, value: object) -> None:
    slots = expand(FULL)
    slots[number][key] = value

    with pytest.raises(ConfigError, match=rf"processor\.slots\[{number}\]\.{key}: "):
        resolved(slots=tuple(slots))


def test_another_number_of_slots_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 3 slots"):
        resolved(slots=tuple(expand(FULL)[:3]))


def test_slots_and_shorthand_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"processor\.pipeline: cannot be given beside"):
        resolved(slots=tuple(expand(FULL)), pipeline="features2text")


def test_two_names_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset_type: 'image2text' contradicts"):
        resolved(dataset_type="image2text", pipeline="features2text")


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="the modality is not given"):
        resolved()
