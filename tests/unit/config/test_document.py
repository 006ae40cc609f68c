from pathlib import Path

import pytest

from mmrun.config.document import Document, Place, parse_value, read_document
from mmrun.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e-4", 1e-4, id="a number without a point"),
        pytest.param("no", "no", id="Norwegian"),
        pytest.param("12:30", "12:30", id="a time"),
        pytest.param("2024-01-31", "2024-01-31", id="a date stays as it is written"),
        pytest.param("~", None, id="null"),
        pytest.param("true", True, id="true"),
        pytest.param("'5'", "5", id="quoted"),
        pytest.param("[1, {a: b}]", [1, {"a": "b"}], id="nested"),
    ],
)
def test_values_are_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    document = read_document(written(tmp_path, f"a:\n  b: {text}\n"))

    assert document.values == {"a": {"b": value}}
    assert type(document.values["a"]["b"]) is type(value)


def test_each_key_has_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a:\n  b: 1\n\n  c:\n    d: 2\n")

    document = read_document(path)

    assert document.place(("a", "c", "d")).of(("a", "c", "d")) == f"{path}:5: a.c.d"


def test_merged_keys_are_there_and_have_the_place_of_what_holds_them(tmp_path: Path) -> None:
    path = written(tmp_path, "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n")

    document = read_document(path)

    assert document.values["b"] == {"x": 1, "y": 2}
    assert document.place(("b", "x")).line == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("# nothing\n", "is empty", id="only a comment"),
        pytest.param("- a\n", "does not hold sections", id="a list"),
        pytest.param("a: [1\n", "not valid YAML", id="an open bracket"),
        pytest.param("a: 1\na: 2\n", "e.yaml:2: not valid YAML: found duplicate key", id="twice"),
        pytest.param("\ta: 1\n", "e.yaml:1: not valid YAML", id="a tab"),
        pytest.param("a: !x 1\n", "e.yaml:1: a: a TaggedScalar", id="a tag"),
    ],
)
def test_a_file_that_is_no_experiment_says_why(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read_document(written(tmp_path, text))

    assert caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no experiment file at .*nothing\.yaml"):
        read_document(tmp_path / "nothing.yaml")


def test_a_folder_is_no_experiment_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_document(tmp_path)


def test_a_file_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_bytes(b"a: \xff\n")

    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(tmp_path / "e.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("no", "no"),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("a: 1", "a: 1"),
        ("x # y", "x # y"),
        ("[", "["),
        ("null", None),
    ],
)
def test_text_from_the_command_line_is_a_value_of_yaml(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_nothing_can_be_put_below_a_value() -> None:
    document = Document(values={"a": 1})

    with pytest.raises(TypeError, match="a holds a value"):
        document.put(("a", "b"), 2, place=Place(option="--set"))
