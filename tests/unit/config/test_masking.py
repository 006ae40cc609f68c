"""No secret leaves by a file, a message or a log line."""

import json
import logging
from pathlib import Path

import pytest

from mmrun.config.loading import Override, load_experiment
from mmrun.config.masking import (
    hidden,
    hidden_lines,
    is_secret,
    masked,
    remember,
    remember_words,
    without_masks,
    without_secrets,
)
from mmrun.errors import ConfigError, UsageError

SECRET = "hf_tellNobody"


@pytest.mark.parametrize(
    "name",
    [
        "hub_token",
        "HF_TOKEN",
        "hub-token",
        "password",
        "db_passwd",
        "client_secret",
        "api_key",
        "apikey",
        "secret_access_key",
        "credentials",
    ],
)
def test_a_key_that_holds_a_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "bos_token",
        "eos_token",
        "pad_token",
        "mask_token",
        "forced_bos_token",
        "image_token",
        "pad_token_id",
        "max_new_tokens",
        "tokenizer_path",
        "include_num_input_tokens_seen",
        "new_vocabulary",
        "keys_to_ignore",
    ],
)
def test_a_key_that_only_sounds_so(name: str) -> None:
    assert not is_secret(name)


def test_settings_are_stored_without_their_secrets() -> None:
    tree = {
        "training": {"hub_token": SECRET, "include_num_input_tokens_seen": "all"},
        "tracking": {"uri": f"postgresql://me:{SECRET}@db/mlflow", "experiment": "mine"},
        "generation": {"pad_token_id": 1, "max_new_tokens": 5, "use_auth_token": True},
        "processor": {
            "tokenizer_path": "a",
            "new_vocabulary": "<s>,</s>",
            "slots": [{"api_key": SECRET, "pad_token": "<pad>"}, {"password": 12345678}],
            "modality_kwargs": {"credentials": {"user": "me", "file": SECRET}},
        },
    }

    stored = masked(tree)

    assert SECRET not in json.dumps(stored)
    assert "12345678" not in json.dumps(stored)
    assert stored["tracking"] == {"uri": "postgresql://me:***@db/mlflow", "experiment": "mine"}
    assert stored["generation"] == tree["generation"]
    assert stored["processor"]["new_vocabulary"] == "<s>,</s>"
    assert stored["processor"]["slots"][0]["pad_token"] == "<pad>"
    assert stored["training"]["include_num_input_tokens_seen"] == "all"


def test_what_was_masked_is_left_out_when_it_is_used_again() -> None:
    tree = {
        "training": {"hub_token": "secret123", "seed": 1},
        "tracking": {"uri": "http://h/?token=secret123", "run_name": "***ing"},
        "data": {"a": "postgresql://u:secret123@h", "b": ["x", "https://h?sig=secret123"]},
    }

    again = without_masks(masked(tree))

    assert again == {"training": {"seed": 1}, "tracking": {"run_name": "***ing"}, "data": {}}


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ann:pw@host:1/x", "http://ann:***@host:1/x"),
        ("postgresql+psycopg2://u:p%40w@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("postgresql://u:p@w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p/w@h/db", "postgresql://u:***@h/db"),
        ("https://ghp_0123456789012345678@host/x", "https://***@host/x"),
        ("mssql:///?odbc_connect=PWD%3Dx&a=1", "mssql:///?odbc_connect=***&a=1"),
        ("postgresql://h/db?user=u&password=pw", "postgresql://h/db?user=u&password=***"),
        ("https://h/c?sv=1&sig=abc%3D&se=2", "https://h/c?sv=1&sig=***&se=2"),
        ("Endpoint=x;AccountKey=abc==", "Endpoint=x;AccountKey=***"),
        ("http://host:5000", "http://host:5000"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://host:5000?mail=a@b", "http://host:5000?mail=a@b"),
        ("wasbs://a-container-of-some-length@host/x", "wasbs://a-container-of-some-length@host/x"),
        ("http://h/?tokenizer=a", "http://h/?tokenizer=a"),
        ("sqlite:////a b/m.db", "sqlite:////a b/m.db"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown
    assert without_secrets(f"at {uri} it is") == f"at {shown} it is"


def test_what_was_read_as_a_secret_is_hidden_wherever_it_turns_up() -> None:
    remember({"training": {"hub_token": 'quote"d-secret'}, "uri": "http://me:pass%40word@h"})

    for text in ('quote"d-secret', json.dumps('quote"d-secret'), "pass%40word", "pass@word"):
        assert hidden(f"before {text} after").replace('"', "") == "before *** after"


def test_a_short_secret_does_not_garble_every_text() -> None:
    remember({"password": "test"})

    assert hidden("a test of the tester") == "a test of the tester"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--hub_token", "fromTheLine1"],
        ["train", "--hub-token=fromTheLine2"],
        ["train", "--hub_token=", "fromTheLine3"],
        ["train", "--set", "training.hub_token=fromTheLine4"],
        ["train", "--set", "training.hub_token", "fromTheLine5"],
        ["checkpoints", "list", "--tracking_uri", "postgresql://u:fromTheLine6@h/db"],
    ],
    ids=" ".join,
)
def test_a_secret_on_the_command_line_is_known_before_it_is_read(words: list[str]) -> None:
    remember_words(words)

    assert "fromTheLine" not in hidden(repr(words))
    assert words[0] in hidden(repr(words))


def test_the_lines_of_a_diff_assign_no_secret() -> None:
    diff = f"+hub_token: {SECRET}\n+tokenizer_path: x\n-uri: http://h?token={SECRET}\n"

    assert hidden_lines(diff) == "+hub_token: ***\n+tokenizer_path: x\n-uri: http://h?token=***\n"


def loaded(folder: Path, text: str, *overrides: Override) -> None:
    (folder / "e.yaml").write_text(text, encoding="utf-8")
    load_experiment(folder / "e.yaml", overrides=overrides)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"training: {{hub_token: [1, {SECRET}]}}\n", id="another type"),
        pytest.param(f"training: {{hub_tokken: {SECRET}}}\n", id="a misspelt key"),
        pytest.param(f"training: {{hub_token: abc, hub_token: {SECRET}}}\n", id="a key twice"),
        pytest.param(f"training: {{hub_token: '{SECRET}${{oc.no:X}}'}}\n", id="no reference"),
        pytest.param(f"tracking: postgresql://u:{SECRET}@h/db\n", id="a section as a text"),
        pytest.param(f"tracking: {{uri: [http://h?token={SECRET}]}}\n", id="an address in a list"),
        pytest.param(f"processor: {{modality_kwargs: [password: {SECRET}]}}\n", id="in a list"),
    ],
)
def test_an_error_about_a_secret_does_not_tell_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"e\.yaml") as caught:
        loaded(tmp_path, text)

    assert SECRET not in " ".join([str(caught.value), *caught.value.more, caught.value.hint])


def test_a_note_about_a_secret_does_not_tell_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded(tmp_path, f"training: {{push_to_hub_token: {SECRET}}}\n")

    assert "push_to_hub_token: is read as training.hub_token: ***" in caplog.text


def test_a_secret_of_the_environment_is_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "fromTheEnvironment")
    loaded(tmp_path, "training: {hub_token: '${oc.env:MY_TOKEN}'}\n")

    assert hidden("it was fromTheEnvironment") == "it was ***"


def test_an_override_about_a_secret_does_not_tell_it() -> None:
    text = f"[{{api_key: {SECRET}}}]"
    override = Override(key="processor.modality_kwargs", text=text, source="--modality_kwargs")

    with pytest.raises(UsageError, match="--modality_kwargs") as caught:
        load_experiment(None, overrides=[override])

    assert SECRET not in str(caught.value)
