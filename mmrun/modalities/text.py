"""Text as it stands in the manifest, as ids of the tokenizer that the backbone embeds itself."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    read_settings,
)


class TextSettings(Settings):
    """Nothing can be set: the tokenizer is that of prompts and labels."""

    without_effect: ClassVar[Mapping[str, str]] = {
        "role": "the slot says whether a text is read or written",
        "tokenizer_path": "all texts have one tokenizer, that of processor.tokenizer_path",
        "new_vocabulary": "all texts have one tokenizer, extended by processor.new_vocabulary",
    }


class TextModality:
    """Loads ids ``[T]``, without the special tokens that the tokenizer would add.

    The model puts the encoder prompt before them (a language code, say) and an end after them.
    """

    gives: ClassVar[Literal["frames", "tokens"]] = "tokens"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        if model.extracted:
            raise ConfigError(
                "model.feature_extractor_type: a text has no pixels or waves to extract from",
                hint="remove the feature extractor; the backbone embeds the tokens itself",
            )
        read_settings(TextSettings, settings)
        self._tokenizer = model.tokenizer

    def length(self, signal: Signal) -> int:
        """Return the number of tokens."""
        return len(self.load(signal))

    def load(self, signal: Signal) -> Array:
        """Return the ids of the text."""
        if self._tokenizer is None:
            raise ConfigError(
                "a text cannot be read before there is a tokenizer",
                hint="build the processor first: mmrun setup --do_processor",
            )
        if not signal.span.whole:
            raise DataError("a text has no span", hint="set signal_start and signal_end to 0")
        ids = self._tokenizer(signal.text, add_special_tokens=False)["input_ids"]
        if not signal.text.strip() or not ids:
            raise DataError("the text is empty", hint="write a text, or remove the row")
        return np.asarray(ids, dtype=np.int64)

    def augmentation(self) -> Augmentation | None:
        """Return None: texts are not changed."""
        return None
