from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from mmrun.config.schema import DataSection, ProcessorSection
from mmrun.data.manifest import SignalColumns, TextColumns
from mmrun.data.pipeline import InputSlot, Pipeline, resolve_pipeline
from mmrun.errors import ConfigError

FULL = Pipeline(
    inputs=(InputSlot(modality="features", settings={"skip_frames_stride": 2}),),
    tokenizer_path="tok",
    new_vocabulary="__de__",
)
TEXT: Mapping[str, Any] = {"tokenizer_path": "tok", "new_vocabulary": "__de__"}
SLOTS: tuple[dict[str, Any], ...] = (
    {
        "processor_class": "FeaturesModalityProcessor",
        "processor_kwargs": {"skip_frames_stride": 2},
        "output_data_key": "input_frames",
        "output_mask_key": "attention_mask",
        "column_map": {
            "signal": "signal",
            "signal_start": "signal_start",
            "signal_end": "signal_end",
        },
        "is_label": False,
    },
    {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": {**TEXT, "role": "target"},
        "output_data_key": "labels",
        "is_label": True,
        "column_map": {"decoder_prompt": "target_prefix", "output": "target"},
    },
    {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": {**TEXT, "role": "input"},
        "output_data_key": "encoder_prompt",
        "output_mask_key": "encoder_prompt_length_padding_mask",
        "column_map": {"encoder_prompt": "signal"},
    },
    {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": {**TEXT, "role": "input"},
        "output_data_key": "decoder_input_ids",
        "output_mask_key": "decoder_attention_mask",
        "column_map": {"decoder_prompt": "signal"},
    },
)
"""The long form of ``FULL``."""


def resolved(*, dataset_type: str | None = None, **processor: Any) -> Pipeline:
    return resolve_pipeline(
        ProcessorSection(**processor), data=DataSection(dataset_type=dataset_type)
    )


def changed(number: int, key: str, value: object) -> tuple[dict[str, Any], ...]:
    slots = deepcopy(SLOTS)
    slots[number][key] = value
    return slots


def test_the_shorthand_says_everything() -> None:
    found = resolved(
        pipeline="features2text",
        tokenizer_path="tok",
        new_vocabulary="__de__",
        modality_kwargs={"skip_frames_stride": 2},
    )

    assert found == FULL


def test_the_unit_of_spans_may_stand_in_the_data_section() -> None:
    data = DataSection(dataset_type="pose2text", signal_start_end_unit="frames")

    found = resolve_pipeline(ProcessorSection(), data=data)

    assert found.inputs[0].settings == {"signal_start_end_unit": "frames"}


def test_two_units_of_spans_are_refused() -> None:
    data = DataSection(dataset_type="pose2text", signal_start_end_unit="frames")
    own = ProcessorSection(modality_kwargs={"signal_start_end_unit": "milliseconds"})

    with pytest.raises(ConfigError, match=r"data\.signal_start_end_unit: is 'frames', the set"):
        resolve_pipeline(own, data=data)


def test_the_dataset_type_alone_is_enough() -> None:
    assert resolved(dataset_type="image2text").modalities == ("image",)


def test_slots_mean_what_they_are_the_long_form_of() -> None:
    assert resolved(slots=SLOTS) == FULL


def test_slots_may_leave_out_defaults() -> None:
    slots = deepcopy(SLOTS)
    del slots[0]["is_label"], slots[0]["output_mask_key"], slots[2]["processor_kwargs"]

    assert resolved(slots=slots) == FULL


def test_without_a_column_map_a_signal_has_no_span() -> None:
    slots = deepcopy(SLOTS)
    del slots[0]["column_map"]

    (signal,) = resolved(slots=slots).inputs

    assert signal.columns == SignalColumns(start=None, end=None)


def test_there_may_be_several_streams_with_columns_and_masks_of_their_own() -> None:
    hands = {
        "processor_class": "PoseModalityProcessor",
        "output_data_key": "hands",
        "output_mask_key": "hands_mask",
        "column_map": {"hands_file": "signal", "hands_from": "signal_start"},
    }
    said = {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": TEXT,
        "output_data_key": "said",
        "column_map": {"transcript": "signal"},
    }

    found = resolved(slots=(*SLOTS, hands, said))

    assert found.inputs[1:] == (
        InputSlot(
            modality="pose",
            settings={},
            name="hands",
            mask="hands_mask",
            columns=SignalColumns(signal="hands_file", start="hands_from", end=None),
        ),
        InputSlot(
            modality="text",
            settings={},
            name="said",
            mask="said_attention_mask",
            columns=SignalColumns(signal="transcript", start=None, end=None),
        ),
    )
    assert found.columns.required == ("signal", "hands_file", "transcript", "output")


def test_texts_may_stand_in_columns_of_any_name() -> None:
    slots = changed(1, "column_map", {"start": "target_prefix", "german": "target"})
    slots[2]["column_map"] = {"task": "signal"}
    slots[3]["column_map"] = {"start": "signal"}

    assert resolved(slots=slots).texts == TextColumns(
        output="german", decoder_prompt="start", encoder_prompt="task"
    )


def test_without_slots_for_prompts_the_decoder_writes_its_own() -> None:
    assert resolved(slots=SLOTS[:2]).texts == TextColumns(encoder_prompt=None, prompted=False)


@pytest.mark.parametrize(
    ("number", "key", "value", "problem"),
    [
        pytest.param(3, "speed", 1, "is not a key of a slot", id="unknown"),
        pytest.param(0, "output_datakey", "x", "did you mean 'output_data_key'", id="misspelt"),
        pytest.param(0, "processor_class", None, "is not given", id="no class"),
        pytest.param(0, "processor_kwargs", [1], "must hold keys", id="no mapping"),
        pytest.param(0, "is_label", True, "a label is text", id="label of frames"),
        pytest.param(0, "output_data_key", "labels", "is the key of", id="doubled"),
        pytest.param(2, "output_mask_key", "attention_mask", "is the key of", id="doubled mask"),
        pytest.param(1, "output_data_key", "targets", "the model takes 'labels'", id="labels"),
        pytest.param(1, "column_map", {"decoder_prompt": "target_prefix"}, "'target'", id="none"),
        pytest.param(1, "column_map", {"output": "target"}, "trained after None", id="prefix"),
        pytest.param(0, "column_map", {"signal": "signal", "a": "b"}, "'b' is no", id="parameter"),
        pytest.param(0, "column_map", {"a": "signal", "b": "signal"}, "two columns", id="twice"),
        pytest.param(2, "processor_kwargs", {"tokenizer_path": "b"}, "it is 'tok'", id="tokenizer"),
    ],
)
def test_a_slot_that_makes_no_sense_is_named(
    number: int, key: str, value: object, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        resolved(slots=changed(number, key, value))

    assert str(caught.value).startswith("processor.slots[")


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        pytest.param(SLOTS[1:], "none of them is an input", id="no input"),
        pytest.param((SLOTS[0], *SLOTS[2:]), "0 of them have the role 'target'", id="no target"),
    ],
)
def test_slots_without_what_is_needed_are_refused(
    slots: tuple[dict[str, Any], ...], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        resolved(slots=slots)


def test_slots_and_shorthand_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"processor\.pipeline: cannot be given beside"):
        resolved(slots=SLOTS, pipeline="features2text")


def test_two_names_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset_type: 'image2text' contradicts"):
        resolved(dataset_type="image2text", pipeline="features2text")


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="the modality is not given"):
        resolved()


def test_the_unit_of_spans_is_for_inputs_that_have_spans() -> None:
    said = {"processor_class": "TextModalityProcessor", "output_data_key": "said"}

    found = resolve_pipeline(
        ProcessorSection(slots=(*SLOTS, said)),
        data=DataSection(signal_start_end_unit="milliseconds"),
    )

    assert [slot.settings.get("signal_start_end_unit") for slot in found.inputs] == [
        "milliseconds",
        None,
    ]
