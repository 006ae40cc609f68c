"""Where the tokenizer comes from: a folder, the hub, or the text of the train split."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mmrun.errors import ConfigError
from mmrun.hub import pretrained

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
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(
            f"processor.tokenizer_path: {name}: {found.why_not}",
            hint="name a folder with a tokenizer, or remove tokenizer_path to train one",
        ) from error
    _require_ends(tokenizer, name=name)
    return tokenizer


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
    new = [token for token in new_tokens(vocabulary) if token not in known]
    tokenizer.add_tokens(new, special_tokens=True)
    return new


def new_tokens(vocabulary: str) -> list[str]:
    """Return the tokens of a list with commas, or of a file with one a line."""
    if not vocabulary.strip():
        return []
    path = Path(vocabulary).expanduser()
    try:
        in_file = path.is_file()
    except OSError:  # a long list is no name of a file
        in_file = False
    if not in_file and (path.suffix == ".txt" or path.is_absolute()):
        raise ConfigError(
            f"processor.new_vocabulary: there is no file {vocabulary}",
            hint="name a file with one token a line, or write the tokens with commas between them",
        )
    parts = path.read_text(encoding="utf-8").split("\n") if in_file else vocabulary.split(",")
    return list(dict.fromkeys(token for part in parts if (token := part.strip())))
