"""What the processor section means, written short (`pipeline`) or in full (`slots`); no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmrun.config.schema import DataSection, ProcessorSection
from mmrun.errors import ConfigError
from mmrun.modalities.base import modality_name

_CLASS_SUFFIX = "ModalityProcessor"
_SPAN = {"signal_start": "signal_start", "signal_end": "signal_end"}
_FULL_HINT = "write processor.pipeline, or the four slots that it stands for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One signal in, text out, with prompts for encoder and decoder."""

    modality: str
    settings: Mapping[str, Any]
    tokenizer_path: str | None
    new_vocabulary: str | None


def resolve_pipeline(processor: ProcessorSection, *, data: DataSection) -> Pipeline:
    """Return what the two sections say together, or refuse what contradicts itself."""
    if processor.slots is not None:
        return _agreed(_from_slots(processor), data=data)
    name = processor.pipeline or data.dataset_type
    if name is None:
        raise ConfigError(
            "data.dataset_type: the modality is not given",
            hint="write data.dataset_type: features2text, or give --modality features2text",
        )
    pipeline = Pipeline(
        modality=modality_name(name),
        settings=processor.modality_kwargs,
        tokenizer_path=processor.tokenizer_path,
        new_vocabulary=processor.new_vocabulary,
    )
    return _agreed(pipeline, data=data)


def _agreed(pipeline: Pipeline, *, data: DataSection) -> Pipeline:
    named = data.dataset_type
    if named is not None and modality_name(named) != pipeline.modality:
        raise ConfigError(
            f"data.dataset_type: {named!r} contradicts the processor section, which is for "
            f"{pipeline.modality!r}",
            hint="make the two equal, or remove one of them",
        )
    return pipeline


def _from_slots(processor: ProcessorSection) -> Pipeline:
    """Take slots that equal what a `pipeline` expands to; others are refused by their number."""
    slots = processor.slots or ()
    for key in ("pipeline", "tokenizer_path", "new_vocabulary", "modality_kwargs"):
        if getattr(processor, key):
            raise ConfigError(
                f"processor.{key}: cannot be given beside processor.slots",
                hint="remove it; the slots say it already",
            )
    first: Mapping[str, Any] = slots[0] if slots else {}
    name = str(first.get("processor_class", "")).removesuffix(_CLASS_SUFFIX).lower()
    text: Mapping[str, Any] = slots[1].get("processor_kwargs", {}) if len(slots) > 1 else {}
    pipeline = Pipeline(
        modality=name,
        settings=first.get("processor_kwargs", {}),
        tokenizer_path=text.get("tokenizer_path"),
        new_vocabulary=text.get("new_vocabulary"),
    )
    _compare(slots, expand(pipeline))
    return pipeline


def expand(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return the slots that a pipeline stands for, with every field written out."""
    shared = {
        key: value
        for key in ("tokenizer_path", "new_vocabulary")
        if (value := getattr(pipeline, key)) is not None
    }
    return [
        _slot(
            f"{pipeline.modality.capitalize()}{_CLASS_SUFFIX}",
            dict(pipeline.settings),
            keys=("input_frames", "attention_mask"),
            columns={"signal": "signal", **_SPAN},
        ),
        _slot(
            f"Text{_CLASS_SUFFIX}",
            {**shared, "role": "target"},
            keys=("labels", None),
            columns={"decoder_prompt": "target_prefix", "output": "target"},
            is_label=True,
        ),
        _slot(
            f"Text{_CLASS_SUFFIX}",
            {**shared, "role": "input"},
            keys=("encoder_prompt", "encoder_prompt_length_padding_mask"),
            columns={"encoder_prompt": "signal"},
        ),
        _slot(
            f"Text{_CLASS_SUFFIX}",
            {**shared, "role": "input"},
            keys=("decoder_input_ids", "decoder_attention_mask"),
            columns={"decoder_prompt": "signal"},
        ),
    ]


def _slot(
    name: str,
    settings: Mapping[str, Any],
    *,
    keys: tuple[str, str | None],
    columns: Mapping[str, str],
    is_label: bool = False,
) -> dict[str, Any]:
    return {
        "processor_class": name,
        "processor_kwargs": settings,
        "output_data_key": keys[0],
        "output_mask_key": keys[1],
        "column_map": columns,
        "is_label": is_label,
    }


def _compare(slots: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> None:
    if len(slots) != len(wanted):
        raise ConfigError(
            f"processor.slots: has {len(slots)} slots; so far mmrun takes the {len(wanted)} that a "
            "pipeline stands for",
            hint=_FULL_HINT,
        )
    for number, (slot, expected) in enumerate(zip(slots, wanted, strict=True)):
        for key in {**expected, **slot}:
            if not _same(key, slot, expected):
                raise ConfigError(
                    f"processor.slots[{number}].{key}: is {slot.get(key)!r}; so far mmrun takes "
                    f"only {expected.get(key)!r} here",
                    hint=_FULL_HINT,
                )


def _same(key: str, slot: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    if key not in expected:
        return False
    if key == "processor_kwargs" and expected[key].get("role") == "input":
        return bool({"role": "input", **slot.get(key, {})} == expected[key])
    if key == "column_map" and "signal" in expected[key]:
        # A signal that has no span in time may leave these columns out of its map.
        return bool({**_SPAN, **slot.get(key, {"signal": "signal"})} == expected[key])
    absent = {"processor_kwargs": {}, "is_label": False}.get(key)
    return bool(slot.get(key, absent) == expected[key])
