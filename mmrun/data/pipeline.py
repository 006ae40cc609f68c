"""What the processor section means, written short (`pipeline`) or in full (`slots`); no I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from mmrun.config.schema import DataSection, ProcessorSection
from mmrun.data.manifest import Columns, SignalColumns, TextColumns
from mmrun.errors import ConfigError
from mmrun.modalities.base import modality_name

_CLASS_SUFFIX = "ModalityProcessor"
_TEXT = "text"
_WITHOUT_SPANS = frozenset({"image", "signwriting", "text"})
_KEYS = (
    "processor_class",
    "processor_kwargs",
    "output_data_key",
    "output_mask_key",
    "column_map",
    "is_label",
)
_LABELS, _ENCODER_PROMPT, _DECODER_PROMPT = "labels", "encoder_prompt", "decoder_input_ids"
_MASKS: Mapping[str, str] = {
    "input_frames": "attention_mask",
    _ENCODER_PROMPT: "encoder_prompt_length_padding_mask",
    _DECODER_PROMPT: "decoder_attention_mask",
}
_UNIT = "signal_start_end_unit"
_HINT = "docs/modalities.md has the slots that 'processor.pipeline' stands for"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSlot:
    """One signal of a row, and the stream of the model that it goes to."""

    modality: str
    settings: Mapping[str, Any]
    name: str = "input_frames"
    """Of the stream, and of its tensor in a batch."""
    mask: str = "attention_mask"
    columns: SignalColumns = field(default_factory=SignalColumns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Signals in, text out, with prompts for encoder and decoder."""

    inputs: tuple[InputSlot, ...]
    texts: TextColumns = field(default_factory=TextColumns)
    tokenizer_path: str | None = None
    new_vocabulary: str | None = None

    @property
    def columns(self) -> Columns:
        """The columns of the manifest that are read."""
        return Columns(signals=tuple(one.columns for one in self.inputs), texts=self.texts)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, one for each stream."""
        return tuple(one.modality for one in self.inputs)


def resolve_pipeline(processor: ProcessorSection, *, data: DataSection) -> Pipeline:
    """Return what the two sections say together, or refuse what contradicts itself."""
    if processor.slots is not None:
        return _agreed(_from_slots(processor), data=data)
    return _agreed(_from_name(processor, data=data), data=data)


def _from_name(processor: ProcessorSection, *, data: DataSection) -> Pipeline:
    name = processor.pipeline or data.dataset_type
    if name is None:
        raise ConfigError(
            "data.dataset_type: the modality is not given",
            hint="write data.dataset_type: features2text, or give --modality features2text",
        )
    signal = InputSlot(modality=modality_name(name), settings=processor.modality_kwargs)
    return Pipeline(
        inputs=(signal,),
        tokenizer_path=processor.tokenizer_path,
        new_vocabulary=processor.new_vocabulary,
    )


def _agreed(pipeline: Pipeline, *, data: DataSection) -> Pipeline:
    named = data.dataset_type
    if named is not None and modality_name(named) not in pipeline.modalities:
        raise ConfigError(
            f"data.dataset_type: {named!r} contradicts the processor section, which is for "
            f"{' and '.join(map(repr, pipeline.modalities))}",
            hint="make the two equal, or remove one of them",
        )
    unit = data.signal_start_end_unit
    if unit is None:
        return pipeline
    inputs = tuple(_with_unit(slot, unit=unit) for slot in pipeline.inputs)
    return replace(pipeline, inputs=inputs)


def _with_unit(slot: InputSlot, *, unit: str) -> InputSlot:
    """Give the unit of spans to an input that does not say it."""
    if slot.modality in _WITHOUT_SPANS:
        return slot
    own = slot.settings.get(_UNIT, unit)
    if own != unit:
        raise ConfigError(
            f"data.{_UNIT}: is {unit!r}, the settings of {slot.name} say {own!r}",
            hint="write it once, in the settings of the input",
        )
    return replace(slot, settings={**slot.settings, _UNIT: unit})


# The full form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """One entry of `processor.slots`, its fields read."""

    key: str
    """Where it stands in the experiment file."""
    modality: str
    settings: Mapping[str, Any]
    name: str
    mask: str
    columns: Mapping[str, str]
    """Column of the manifest by the parameter that it fills."""

    @property
    def is_target(self) -> bool:
        return self.modality == _TEXT and self.settings.get("role") == "target"

    @property
    def is_prompt(self) -> bool:
        return self.modality == _TEXT and self.name in {_ENCODER_PROMPT, _DECODER_PROMPT}


def _from_slots(processor: ProcessorSection) -> Pipeline:
    for key in ("pipeline", "tokenizer_path", "new_vocabulary", "modality_kwargs"):
        if getattr(processor, key):
            raise ConfigError(
                f"processor.{key}: cannot be given beside processor.slots",
                hint="remove it; the slots say it already",
            )
    slots = [_read(slot, number=number) for number, slot in enumerate(processor.slots or ())]
    _refuse_doubled(slots)
    inputs = [slot for slot in slots if not (slot.is_target or slot.is_prompt)]
    if not inputs:
        raise ConfigError("processor.slots: none of them is an input", hint=_HINT)
    return Pipeline(
        inputs=tuple(map(_input, inputs)),
        texts=_texts(slots),
        tokenizer_path=_shared("tokenizer_path", slots),
        new_vocabulary=_shared("new_vocabulary", slots),
    )


def _read(slot: Mapping[str, Any], *, number: int) -> _Slot:
    """Check the form of one slot."""
    place = f"processor.slots[{number}]"
    for key in slot:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            raise ConfigError(
                f"{place}.{key}: is not a key of a slot"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the keys are {', '.join(_KEYS)}",
            )
    for key in ("processor_class", "output_data_key"):
        if not isinstance(slot.get(key), str):
            raise ConfigError(f"{place}.{key}: is not given", hint=_HINT)
    settings, columns = slot.get("processor_kwargs") or {}, slot.get("column_map")
    for key, value in (("processor_kwargs", settings), ("column_map", columns or {})):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}.{key}: must hold keys, not {value!r}", hint=_HINT)
    name = slot["output_data_key"]
    read = _Slot(
        key=place,
        modality=modality_name(slot["processor_class"].removesuffix(_CLASS_SUFFIX).lower()),
        settings=settings,
        name=name,
        mask=slot.get("output_mask_key") or _MASKS.get(name, f"{name}_attention_mask"),
        columns=_by_parameter(columns or {"signal": "signal"}, place=place),
    )
    if slot.get("is_label") and not read.is_target:
        raise ConfigError(
            f"{place}.is_label: a label is text that is written",
            hint="use TextModalityProcessor with processor_kwargs: {role: target}",
        )
    return read


def _by_parameter(columns: Mapping[Any, Any], *, place: str) -> dict[str, str]:
    found = {str(parameter): str(column) for column, parameter in columns.items()}
    if len(found) < len(columns):
        raise ConfigError(
            f"{place}.column_map: two columns fill the same parameter",
            hint="name one column for each parameter",
        )
    return found


def _refuse_doubled(slots: Sequence[_Slot]) -> None:
    seen: dict[str, str] = {}
    for slot in slots:
        keys = [("output_data_key", slot.name)]
        keys += [] if slot.is_target else [("output_mask_key", slot.mask)]
        for key, value in keys:
            if value in seen:
                raise ConfigError(
                    f"{slot.key}.{key}: {value!r} is the key of {seen[value]} already",
                    hint="give each slot keys of its own",
                )
            seen[value] = slot.key


def _input(slot: _Slot) -> InputSlot:
    if slot.name in {_LABELS, _ENCODER_PROMPT, _DECODER_PROMPT}:
        raise ConfigError(
            f"{slot.key}.output_data_key: {slot.name!r} is the key of a text slot",
            hint="choose a name for the stream, for instance input_frames",
        )
    columns = _checked(slot, required=("signal",), optional=("signal_start", "signal_end"))
    own = {"role", "tokenizer_path", "new_vocabulary"} if slot.modality == _TEXT else set()
    return InputSlot(
        modality=slot.modality,
        settings={key: value for key, value in slot.settings.items() if key not in own},
        name=slot.name,
        mask=slot.mask,
        columns=SignalColumns(
            signal=columns["signal"],
            start=columns.get("signal_start"),
            end=columns.get("signal_end"),
        ),
    )


def _texts(slots: Sequence[_Slot]) -> TextColumns:
    """Return where the texts of a row stand."""
    targets = [slot for slot in slots if slot.is_target]
    if len(targets) != 1:
        raise ConfigError(
            f"processor.slots: {len(targets)} of them have the role 'target', and one is needed",
            hint=_HINT,
        )
    target = targets[0]
    if target.name != _LABELS:
        raise ConfigError(
            f"{target.key}.output_data_key: is {target.name!r}, and the model takes 'labels'",
            hint="write output_data_key: labels",
        )
    columns = _checked(target, required=("target",), optional=("target_prefix",))
    prompts = {slot.name: slot for slot in slots if slot.is_prompt}
    prompt_columns = {
        name: _checked(slot, required=("signal",))["signal"] for name, slot in prompts.items()
    }
    prefix, prompt = columns.get("target_prefix"), prompt_columns.get(_DECODER_PROMPT)
    if prompt is not None and prompt != prefix:
        raise ConfigError(
            f"{prompts[_DECODER_PROMPT].key}.column_map: the decoder is prompted with the column "
            f"{prompt!r}, and trained after {prefix!r}",
            hint="map the same column to target_prefix in the slot of the labels",
        )
    return TextColumns(
        output=columns["target"],
        decoder_prompt=prefix,
        encoder_prompt=prompt_columns.get(_ENCODER_PROMPT),
        prompted=prompt is not None,
    )


def _checked(
    slot: _Slot, *, required: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, str]:
    """Return the slot's columns, if they fill what there is to fill."""
    known = (*required, *optional)
    for parameter, column in slot.columns.items():
        if parameter not in known:
            raise ConfigError(
                f"{slot.key}.column_map.{column}: {parameter!r} is no parameter of this slot",
                hint=f"the parameters are {', '.join(known)}",
            )
    for parameter in required:
        if parameter not in slot.columns:
            raise ConfigError(
                f"{slot.key}.column_map: no column fills {parameter!r}",
                hint=f"write COLUMN: {parameter}",
            )
    return slot.columns


def _shared(setting: str, slots: Sequence[_Slot]) -> str | None:
    """Return what the text slots say alike: the model has one table of tokens."""
    found: dict[str, str] = {}
    for slot, value in _given(setting, slots):
        found.setdefault(value, slot.key)
        if len(found) > 1:
            (other, where), _ = found.items()
            raise ConfigError(
                f"{slot.key}.processor_kwargs.{setting}: is {value!r}, in {where} it is {other!r}",
                hint="the model has one table of tokens: write the same in all text slots",
            )
    return next(iter(found), None)


def _given(setting: str, slots: Sequence[_Slot]) -> Iterator[tuple[_Slot, str]]:
    for slot in slots:
        if slot.modality == _TEXT and slot.settings.get(setting) is not None:
            yield slot, str(slot.settings[setting])
