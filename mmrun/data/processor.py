"""Everything that turns a row into numbers, saved and loaded as one."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from mmrun.config.schema import DataSection, ModelSection
from mmrun.data.cache import cached
from mmrun.data.enclosed import enclose, files_named_in
from mmrun.data.identity import content_of
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.tokenizer import extend_tokenizer, load_tokenizer, train_tokenizer
from mmrun.data.vocabulary import new_tokens as vocabulary_of
from mmrun.data.vocabulary import some
from mmrun.errors import CheckpointError
from mmrun.modalities.base import Modality, ModelInput, Tokenizer, load_modality

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One input as it is processed: a modality with its settings, and what the model takes."""

    name: str
    """Of its tensor in a batch."""
    mask: str
    modality: str
    settings: Mapping[str, Any]
    feature_size: int
    extracted: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    """Copies of the files that the settings name, by the setting; they win over those."""

    def build(
        self, tokenizer: Tokenizer | None = None, *, cache: DataSection | None = None
    ) -> Modality:
        """Return the modality, with the cache that ``cache`` asks for, if it is given.

        Without a tokenizer it is there to be asked about its settings.
        """
        model = ModelInput(
            feature_size=self.feature_size, extracted=self.extracted, tokenizer=tokenizer
        )
        modality = load_modality(self.modality)({**self.settings, **self.files}, model=model)
        if cache is None:
            return modality
        return cached(modality, data=cache, identity=self.identity())

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the values, wherever the files that are named lie."""
        contents = {key: content_of(path) for key, path in self._files().items()}
        of = {key: getattr(self, key) for key in ("modality", "feature_size", "extracted")}
        return {**of, "settings": {**self.settings, **contents}}

    def _files(self) -> dict[str, Path]:
        return files_named_in({**self.settings, **self.files})

    def enclosed(self, to: Path) -> dict[str, Any]:
        """Return this with its files copied below ``to``, as it is written down there."""
        return {**asdict(self), "files": enclose(self._files(), stream=self.name, to=to)}

    @property
    def tokens(self) -> bool:
        """Whether it gives ids that the backbone embeds itself."""
        return load_modality(self.modality).gives == "tokens"


class MultimodalProcessor(ProcessorMixin):
    """A tokenizer for prompts and labels, and for each input a modality with its settings."""

    # Not keyword-only: transformers reads the names it may fill in from the positional parameters.
    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        streams: Sequence[Mapping[str, Any]],
        prompted: bool = True,
        new_tokens: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer)
        self.streams = [dict(stream) for stream in streams]
        self.prompted = prompted
        self.new_tokens = list(new_tokens)

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """The streams, in the order of a sample's signals."""
        return tuple(Stream(**stream) for stream in self.streams)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Write everything to a folder, with copies of the files that the settings name."""
        portable = copy(self)
        portable.streams = [stream.enclosed(Path(save_directory)) for stream in self.inputs]
        return ProcessorMixin.save_pretrained(portable, save_directory, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Read what ``save_pretrained`` wrote."""
        processor = super().from_pretrained(*args, **kwargs)
        folder = Path(args[0] if args else kwargs["pretrained_model_name_or_path"]).absolute()
        for stream in processor.streams:
            stream["files"] = {key: str(folder / name) for key, name in stream["files"].items()}
        return processor

    def build_modalities(self, cache: DataSection | None = None) -> list[Modality]:
        """Return the modality of each stream, with its settings and the cache that is asked for."""
        return [stream.build(self.tokenizer, cache=cache) for stream in self.inputs]


def streams_of(pipeline: Pipeline, *, model: ModelSection) -> tuple[Stream, ...]:
    """Return what each input slot of ``pipeline`` gives the model.

    An unknown modality or a wrong setting is refused.
    """
    streams = tuple(stream_of(slot, model=model) for slot in pipeline.inputs)
    for stream in streams:
        stream.build()
    return streams


def stream_of(slot: InputSlot, *, model: ModelSection) -> Stream:
    """Return what an input slot gives the model; nothing is looked at."""
    section = model.stream(slot.name)
    return Stream(
        name=slot.name,
        mask=slot.mask,
        modality=slot.modality,
        settings=dict(slot.settings),
        feature_size=section.feat_dim,
        extracted=section.feature_extractor_type is not None,
    )


def build_processor(
    pipeline: Pipeline, *, model: ModelSection, texts: Iterable[str]
) -> MultimodalProcessor:
    """Load the tokenizer, or train one on ``texts``, and add the new vocabulary."""
    streams = streams_of(pipeline, model=model)
    if pipeline.tokenizer_path is not None:
        tokenizer = load_tokenizer(pipeline.tokenizer_path)
    else:
        tokenizer = train_tokenizer(texts)
        logger.info("trained a tokenizer on the train split: %d tokens", len(tokenizer))
    new_tokens = extend_tokenizer(tokenizer, pipeline.new_vocabulary or "")
    return MultimodalProcessor(
        tokenizer,
        streams=[asdict(stream) for stream in streams],
        prompted=pipeline.texts.prompted,
        new_tokens=new_tokens,
    )


def changed_processor(
    saved: MultimodalProcessor, pipeline: Pipeline, *, model: ModelSection, tokens: bool
) -> MultimodalProcessor:
    """Return ``saved`` with the settings of ``pipeline``: those of a training that goes on.

    It keeps its tokenizer, unless what ``pipeline`` says of ``tokens`` was changed, and of its
    files those whose setting is the same and which are not where that says.

    Raises:
        CheckpointError: the weights of ``saved`` would stand for other tokens.
    """
    kept = {stream.name: stream for stream in saved.inputs}
    streams = []
    for slot in pipeline.inputs:
        stream = stream_of(slot, model=model)
        before = kept.get(slot.name)
        if before is not None:
            stream = replace(stream, files=_still_missing(stream, before))
        stream.build()
        streams.append(stream)
    tokenizer, new_tokens = saved.tokenizer, list(saved.new_tokens)
    if tokens:
        tokenizer, new_tokens = _changed_tokenizer(saved, pipeline)
    return MultimodalProcessor(
        tokenizer,
        streams=[asdict(stream) for stream in streams],
        prompted=pipeline.texts.prompted,
        new_tokens=new_tokens,
    )


def _changed_tokenizer(saved: MultimodalProcessor, pipeline: Pipeline) -> tuple[Any, list[str]]:
    before: Mapping[str, int] = saved.tokenizer.get_vocab()
    if pipeline.tokenizer_path is not None:
        tokenizer, new_tokens = load_tokenizer(pipeline.tokenizer_path), []
    else:
        tokenizer, new_tokens = saved.tokenizer, list(saved.new_tokens)
    new_tokens += extend_tokenizer(tokenizer, pipeline.new_vocabulary or "")
    now: Mapping[str, int] = tokenizer.get_vocab()
    named = set(vocabulary_of(pipeline.new_vocabulary or ""))
    moved = sorted(
        token
        for token, id_ in before.items()
        if now.get(token) != id_ or (token in saved.new_tokens and token not in named)
    )
    if moved:
        raise CheckpointError(
            f"the processor section gives {len(moved)} of the checkpoint's tokens another id, or "
            f"none ({some(moved)}): its weights would stand for other tokens",
            hint="keep tokenizer_path and new_vocabulary, or begin a new run",
        )
    return tokenizer, new_tokens


def _still_missing(stream: Stream, before: Stream) -> dict[str, str]:
    """Return the files of ``before`` that ``stream`` names too, and that are only with it."""
    here = files_named_in(stream.settings)
    return {
        key: path
        for key, path in before.files.items()
        if key not in here and stream.settings.get(key) == before.settings.get(key)
    }


def load_processor(folder: Path) -> MultimodalProcessor:
    """Read what ``save_pretrained`` wrote."""
    configurations = logging.getLogger("transformers.configuration_utils")
    before = configurations.level
    # In a checkpoint the model's configuration lies beside; the tokenizer takes it for its own
    # and warns of its type.
    configurations.setLevel(logging.ERROR)
    try:
        processor: MultimodalProcessor = MultimodalProcessor.from_pretrained(str(folder))
    finally:
        configurations.setLevel(before)
    return processor
