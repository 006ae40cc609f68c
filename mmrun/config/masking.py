"""Secrets, told by the name of their key or by their place in an address, are never shown.

``masked`` is for settings on their way into a file, ``hidden`` for any text on its way to a person:
it also replaces what this process has read as a secret, since nobody knows what a library puts into
its errors.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

MASK = "***"
_SHORTEST = 8
"""Shorter secrets are words that occur elsewhere, too; only their key or place hides them."""
_SECRET = re.compile(
    r"(^|_)(password|passwd|pwd|secret|token|(api|access|account|private|secret)_?key"
    r"|credentials?)$",
    re.IGNORECASE,
)
_SPECIAL_TOKEN = re.compile(
    r"(^|_)(bos|eos|pad|unk|sep|cls|mask|start|end|lang|language|image|video|audio)_token$"
)
_LOGIN = re.compile(r"(?<=://)([^/?#:@\s]*):(?!\d+(?:[^\w@:]|$))([^/?#\s]*|[^@\s]*)@")
_TOKEN_AS_NAME = re.compile(r"(https?://)([^/?#:@\s]{20,})@")
_QUERY = re.compile(
    r"([?&;][^=&;?\s]*(?:password|passwd|pwd|token(?!i[sz])|secret|credential|signature|\bsig"
    r"|(?:api|access|account)_?key|odbc_connect)[^=&;?\s]*=)([^&\s]+)",
    re.IGNORECASE,
)
_LINE = re.compile(
    r"(?im)^([-+ ].*?(?:token(?!s|i[sz])|password|passwd|secret|credential|api_?key)"
    r"[\w-]*[\"']?\s*[:=]\s*)\S.*$"
)
_ASSIGNED = re.compile(r"([\w-]+)[\"']?[ \t]*:[ \t]*[\"']?([^\s\"',}\]]+)")
_known: set[str] = set()


def is_secret(name: str) -> bool:
    """Return whether a key of this name holds a secret: ``hub_token`` does, ``pad_token`` not."""
    plain = name.replace("-", "_")
    return bool(_SECRET.search(plain)) and not _SPECIAL_TOKEN.search(plain)


def masked(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain tree with its secrets replaced by ``***``."""
    return {name: _masked(name, value) for name, value in tree.items()}


def without_masks(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was masked when the tree was stored: it is not the secret."""
    return {
        name: without_masks(value) if isinstance(value, dict) else value
        for name, value in tree.items()
        if not _is_masked(value)
    }


def without_secrets(text: str) -> str:
    """Return a text with the passwords and tokens of every address in it as ``***``."""
    text = _LOGIN.sub(rf"\1:{MASK}@", text)
    text = _TOKEN_AS_NAME.sub(rf"\1{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", text)


def remember(tree: Mapping[str, Any]) -> None:
    """Take note of the secrets in a plain tree, so that ``hidden`` knows them."""
    for secret in _secrets(tree):
        forms = {secret, unquote(secret), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        _known.update(form for form in forms if len(form) >= _SHORTEST)


def remember_words(words: Sequence[str]) -> None:
    """Take note of the secrets on a command line, however wrong the rest of it is."""
    for word, following in pairwise([*words, ""]):
        name, _, value = word.partition("=")
        if not value and not following.startswith("--"):
            value = following
        remember({name.rpartition(".")[2].lstrip("-"): value, "": word})


def remember_file(text: str) -> None:
    """Take note of the secrets in an experiment file that is not even YAML."""
    for name, value in _ASSIGNED.findall(text):
        remember({name: value})
    remember({"": text})


def hidden(text: str) -> str:
    """Return a text for people without any secret."""
    for secret in sorted(_known.copy(), key=len, reverse=True):  # other threads may add one
        text = text.replace(secret, MASK)
    return without_secrets(text)


def hidden_lines(text: str) -> str:
    """Return the lines of a diff without what looks like the assignment of a secret."""
    return hidden(_LINE.sub(rf"\1{MASK}", text))


def _masked(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_masked(name, member) for member in value]
    if is_secret(name):
        return MASK
    if isinstance(value, Mapping):
        return masked(value)
    return without_secrets(value) if isinstance(value, str) else value


def _is_masked(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_masked(member) for member in value)
    if not isinstance(value, str):
        return False
    return value == MASK or any(f"{before}{MASK}" in value for before in ("//", ":", "="))


def _secrets(tree: Any, *, inside: bool = False) -> Iterator[str]:
    """Yield every secret; ``inside`` one, all is."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _secrets(value, inside=inside or is_secret(str(name)))
    elif isinstance(tree, list | tuple):
        for member in tree:
            yield from _secrets(member, inside=inside)
    elif inside and tree is not None and not isinstance(tree, bool):
        yield str(tree)
    elif isinstance(tree, str):
        yield from (found[2] for found in _LOGIN.finditer(tree))
        yield from (found[2] for found in _TOKEN_AS_NAME.finditer(tree))
        yield from (found[2] for found in _QUERY.finditer(tree))
