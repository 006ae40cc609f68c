import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import ModelInput, Signal, Span
from mmrun.modalities.text import TextModality

WORDS = ["<s>", "</s>", "<unk>", "one", "two", "three"]


def tokenizer() -> PreTrainedTokenizerFast:
    """One that adds special tokens, and cuts, unless it is told not to."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    words.enable_truncation(2)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, eos_token="</s>", unk_token="<unk>"
    )


def modality() -> TextModality:
    return TextModality({}, model=ModelInput(feature_size=1, tokenizer=tokenizer()))


def test_a_text_becomes_its_tokens_and_none_is_added_or_cut() -> None:
    # As multimodalhugs 0.5.4 has it, too.
    ids = modality().load(Signal(text="three two one four"))

    np.testing.assert_array_equal(ids, [5, 4, 3, 2])
    assert ids.dtype == np.int64


def test_the_length_is_the_number_of_tokens() -> None:
    assert modality().length(Signal(text="one two three one")) == 4


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        modality().length(Signal(text=text))


def test_a_text_has_no_span() -> None:
    with pytest.raises(DataError, match="a text has no span"):
        modality().load(Signal(text="one", span=Span(start=1)))


def test_a_text_needs_no_feature_extractor() -> None:
    with pytest.raises(ConfigError, match="feature_extractor_type: a text has no pixels"):
        TextModality({}, model=ModelInput(feature_size=1, extracted=True))


def test_settings_can_be_checked_before_there_is_a_tokenizer() -> None:
    with pytest.raises(ConfigError, match="max_tokens: is not a setting"):
        TextModality({"max_tokens": 3}, model=ModelInput(feature_size=1))
