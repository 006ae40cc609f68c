"""Everything that turns a row into numbers, saved and loaded as one."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from mmrun.config.schema import ModelSection
from mmrun.data.pipeline import Pipeline
from mmrun.data.tokenizer import extend_tokenizer, load_tokenizer, train_tokenizer
from mmrun.modalities.base import Modality, load_modality

logger = logging.getLogger(__name__)


class MultimodalProcessor(ProcessorMixin):
    """A tokenizer for prompts and labels, and a modality with its settings for the signal."""

    # Not keyword-only: transformers reads the names it may fill in from the positional parameters.
    def __init__(  # noqa: PLR0917
        self,
        tokenizer: PreTrainedTokenizerBase,
        modality: str,
        settings: Mapping[str, Any],
        feature_size: int,
        extracted: bool = False,
        new_tokens: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer)
        self.modality = modality
        self.settings = dict(settings)
        self.feature_size = feature_size
        self.extracted = extracted
        self.new_tokens = list(new_tokens)

    def build_modality(self) -> Modality:
        """Return the modality, with these settings."""
        return load_modality(self.modality)(
            self.settings, feature_size=self.feature_size, extracted=self.extracted
        )


def build_modality(pipeline: Pipeline, *, model: ModelSection) -> Modality:
    """Return the modality of ``pipeline``; an unknown one or a wrong setting is refused."""
    return load_modality(pipeline.modality)(
        pipeline.settings,
        feature_size=model.feat_dim,
        extracted=model.feature_extractor_type is not None,
    )


def build_processor(
    pipeline: Pipeline, *, model: ModelSection, texts: Iterable[str]
) -> MultimodalProcessor:
    """Load the tokenizer, or train one on ``texts``, and add the new vocabulary."""
    build_modality(pipeline, model=model)
    if pipeline.tokenizer_path is not None:
        tokenizer = load_tokenizer(pipeline.tokenizer_path)
    else:
        tokenizer = train_tokenizer(texts)
        logger.info("trained a tokenizer on the train split: %d tokens", len(tokenizer))
    new_tokens = extend_tokenizer(tokenizer, pipeline.new_vocabulary or "")
    return MultimodalProcessor(
        tokenizer,
        modality=pipeline.modality,
        settings=pipeline.settings,
        feature_size=model.feat_dim,
        extracted=model.feature_extractor_type is not None,
        new_tokens=new_tokens,
    )


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
