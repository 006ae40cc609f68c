from pathlib import Path

import pytest

from mmrun.data.tokenizer import extend_tokenizer, load_tokenizer, package_missing, train_tokenizer
from mmrun.data.vocabulary import new_tokens
from mmrun.errors import ConfigError

TEXTS = ["four two seven", "two two", "seven"] * 4


@pytest.mark.parametrize("text", ["four two", "007", 'a "quote"', "null", "é 四 🙂", "two  four"])
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS)

    ids = tokenizer(text)["input_ids"]

    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_frequent_words_are_one_token() -> None:
    assert len(train_tokenizer(TEXTS)("four two seven")["input_ids"]) == 3


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS).get_vocab() == train_tokenizer(TEXTS).get_vocab()


def test_special_tokens_have_the_ids_of_translation_models() -> None:
    tokenizer = train_tokenizer(TEXTS)

    assert [tokenizer.bos_token_id, tokenizer.pad_token_id] == [0, 1]
    assert [tokenizer.eos_token_id, tokenizer.unk_token_id] == [2, 3]


def test_a_package_that_a_tokenizer_needs_is_named() -> None:
    # As transformers says it; whether the package is there depends on the machine.
    missing = ImportError("\nMarianTokenizer requires the SentencePiece library but it was not f")

    error = package_missing(missing, name="models/opus")

    assert str(error).startswith("processor.tokenizer_path: models/opus: MarianTokenizer requires")
    assert error.hint == "pip install sentencepiece"


def test_a_stored_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS)
    extend_tokenizer(tokenizer, "__de__")
    tokenizer.save_pretrained(tmp_path)

    loaded = load_tokenizer(str(tmp_path))

    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded("__de__ four")["input_ids"] == tokenizer("__de__ four")["input_ids"]


def test_new_tokens_are_whole_and_left_out_of_decoded_text() -> None:
    tokenizer = train_tokenizer(TEXTS)

    assert extend_tokenizer(tokenizer, "__de__, <s>,__en__") == ["__de__", "__en__"]
    ids = tokenizer("__en__ four")["input_ids"]
    assert str(tokenizer.decode(ids, skip_special_tokens=True)).strip() == "four"


def test_new_tokens_come_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("__de__\n\n__en__\n__de__\n")

    assert new_tokens(str(path)) == ["__de__", "__en__"]


def test_a_dictionary_with_counts_is_a_file_of_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("__de__ 1\n__en__ 20\n")

    assert new_tokens(str(path)) == ["__de__", "__en__"]
    assert caplog.text == ""


def test_a_missing_file_of_tokens_is_not_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"new_vocabulary: there is no file .*gone\.txt"):
        new_tokens(str(tmp_path / "gone.txt"))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the folder holds nothing that transformers can read"):
        load_tokenizer(str(tmp_path))
