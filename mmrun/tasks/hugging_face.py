"""What mmrun makes, by the Auto classes of transformers."""

from typing import Any

from transformers import AutoProcessor

from mmrun.data.processor import MultimodalProcessor
from mmrun.models.build import register_models
from mmrun.models.configuration import MultimodalEmbedderConfig


def register() -> None:
    """Make ``AutoConfig``, ``AutoModelForSeq2SeqLM`` and ``AutoProcessor`` read what mmrun wrote.

    Calling it again changes nothing.
    """
    register_models()
    auto: Any = AutoProcessor
    auto.register(MultimodalEmbedderConfig, MultimodalProcessor, exist_ok=True)
