"""Where the tokenizer comes from: a folder, the hub, or the text of the train split."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mmrun.data.vocabulary import VOCABULARY, new_tokens, some
from mmrun.errors import ConfigError, PluginError
from mmrun.hub import pretrained

logger = logging.getLogger(__name__)

_LARGEST_VOCABULARY = 8000
_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""In this order their ids are 0 to 3, as the configurations of translation models expect."""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Learn byte pairs from ``texts``: any text can be written with them, and read back as it was.

    The same texts give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_LARGEST_VOCABULARY,
        min_frequency=2,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Read a tokenizer from a folder, or from the hub where there is one."""
    found = pretrained(name, key="processor.tokenizer_path")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            found.source, local_files_only=found.local_files_only
        )
    except ImportError as error:
        raise package_missing(error, name=name) from error
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"processor.tokenizer_path: {name}: {found.why_not}",
            hint="name a folder with a tokenizer, or remove tokenizer_path to train one",
        ) from error
    _require_ends(tokenizer, name=name)
    return tokenizer


def package_missing(error: ImportError, *, name: str) -> PluginError:
    """Return the error for a tokenizer that another package reads, which is not installed."""
    first = str(error).strip().split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0]
    pieces = "sentencepiece" in first.lower()
    return PluginError(
        f"processor.tokenizer_path: {name}: {first}",
        hint="pip install sentencepiece" if pieces else "install the package that it names",
    )


def ids_to_read(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts that the encoder reads, without special tokens."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def ids_to_write(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts that the decoder writes, without special tokens.

    Marian's tokenizers have a model of pieces for each of their two languages.
    """
    if not hasattr(tokenizer, "spm_target"):
        return ids_to_read(tokenizer, texts)
    ids: list[list[int]] = tokenizer(text_target=list(texts), add_special_tokens=False)["input_ids"]
    return ids


def _require_ends(tokenizer: Any, *, name: str) -> None:
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"processor.tokenizer_path: {name}: has no end-of-sequence token",
            hint="set eos_token in its tokenizer_config.json",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def extend_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary: str) -> list[str]:
    """Add the tokens of ``processor.new_vocabulary``; return those that were new."""
    known = tokenizer.get_vocab()
    wanted = new_tokens(vocabulary)
    new = [token for token in wanted if token not in known]
    if len(new) < len(wanted):
        there = [token for token in wanted if token in known]
        logger.info("%s: the tokenizer has them already: %s", VOCABULARY, some(there))
    tokenizer.add_tokens(new, special_tokens=True)
    return new
