"""The training arguments of the installed transformers, read from its source.

Importing transformers costs seconds, and a misspelt name should be refused before that; so its
source is parsed, never run.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmrun.errors import PluginError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingField:
    """One field of ``Seq2SeqTrainingArguments``, as the source declares it."""

    name: str
    kinds: tuple[str, ...]
    """The alternatives of its annotation: ``("int", "None")`` for ``int | None``."""
    default: str
    help: str
    choices: tuple[str, ...] = ()
    """The values of its enumeration, where it has one."""

    @property
    def optional(self) -> bool:
        """Whether it may be ``None``."""
        return "None" in self.kinds

    @property
    def boolean(self) -> bool:
        """Whether ``--name`` alone means true."""
        return set(self.kinds) <= {"bool", "None"}


@cache
def training_fields() -> Mapping[str, TrainingField]:
    """Return every training argument by name, in the order of the source."""
    general = _parsed("training_args.py")
    enumerations = _enumerations(general) | _enumerations(_parsed("trainer_utils.py"))
    found: dict[str, TrainingField] = {}
    for tree, name in (
        (general, "TrainingArguments"),
        (_parsed("training_args_seq2seq.py"), "Seq2SeqTrainingArguments"),
    ):
        found |= {field.name: field for field in _fields(_class(tree, name), enumerations)}
    return found


def training_value(arguments: Mapping[str, Any], name: str) -> Any:
    """Return a training argument as it was given, or else the default of transformers.

    For a name whose default is written down as a plain value in the source.
    """
    if name in arguments:
        return arguments[name]
    return ast.literal_eval(training_fields()[name].default)


@cache
def generation_names() -> frozenset[str]:
    """Return the names that ``GenerationConfig`` accepts."""
    config = _class(_parsed("generation/configuration_utils.py"), "GenerationConfig")
    popped = (
        node.args[0].value
        for node in ast.walk(config)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "kwargs.pop"
        and isinstance(node.args[0], ast.Constant)
    )
    names = {name for name in popped if isinstance(name, str) and not name.startswith("_")}
    return frozenset(names - {"transformers_version"})


@cache
def _parsed(module: str) -> ast.Module:
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise PluginError(
            "the package 'transformers' is not installed", hint="pip install transformers"
        )
    source = Path(spec.submodule_search_locations[0]) / module
    return ast.parse(source.read_text(encoding="utf-8"))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in _classes(tree) if node.name == name)


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def _enumerations(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Return the values of every enumeration of strings in a module."""
    return {
        node.name: tuple(
            statement.value.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
        for node in _classes(tree)
        if any("Enum" in ast.unparse(base) for base in node.bases)
    }


def _fields(
    node: ast.ClassDef, enumerations: Mapping[str, tuple[str, ...]]
) -> Iterator[TrainingField]:
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kinds = tuple(_alternatives(statement.annotation))
        default, text = _declared(statement.value)
        yield TrainingField(
            name=statement.target.id,
            kinds=kinds,
            default=default,
            help=text,
            choices=next((enumerations[kind] for kind in kinds if kind in enumerations), ()),
        )


def _alternatives(annotation: ast.expr) -> Iterator[str]:
    """Yield the members of ``a | b``, ``Union[a, b]`` or ``Optional[a]``."""
    if isinstance(annotation, ast.BinOp):
        yield from _alternatives(annotation.left)
        yield from _alternatives(annotation.right)
        return
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value)
        if outer == "Optional":
            yield from _alternatives(annotation.slice)
            yield "None"
            return
        if outer == "Union" and isinstance(annotation.slice, ast.Tuple):
            for member in annotation.slice.elts:
                yield from _alternatives(member)
            return
    yield ast.unparse(annotation)


def _declared(value: ast.expr | None) -> tuple[str, str]:
    """Return the default, as text, and the help of ``field(default=…, metadata={…})``."""
    if not isinstance(value, ast.Call):
        return ("", "") if value is None else (ast.unparse(value), "")
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    default = given.get("default")
    factory = "[]" if "default_factory" in given else ""
    metadata = given.get("metadata")
    return (factory if default is None else ast.unparse(default), _help(metadata))


def _help(metadata: ast.expr | None) -> str:
    if not isinstance(metadata, ast.Dict):
        return ""
    for key, text in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "help" and isinstance(text, ast.Constant):
            return " ".join(str(text.value).replace("%%", "%").split())
    return ""
