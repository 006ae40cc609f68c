"""The tokens that an experiment adds to its tokenizer: a list with commas, or a file of lines."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmrun.errors import ConfigError

logger = logging.getLogger(__name__)

VOCABULARY = "processor.new_vocabulary"
_SHOWN = 10


def new_tokens(vocabulary: str) -> list[str]:
    """Return the tokens of a list with commas, or of a file with one a line, each once.

    In a file the first word of a line is the token, so that a dictionary with counts is one, too.
    What looks like a mistake is said: a token that is there twice, or several in one line.
    """
    if not vocabulary.strip():
        return []
    lines = _vocabulary_lines(vocabulary)
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines or vocabulary.split(","), start=1):
        token = (line.split() or [""])[0] if lines else line.strip()
        if token:
            places.setdefault(token, []).append(number)
    twice = [
        f"{token} ({'lines' if lines else 'places'} {', '.join(map(str, where))})"
        for token, where in places.items()
        if len(where) > 1
    ]
    source = f"{VOCABULARY}: {vocabulary}" if lines else VOCABULARY
    if twice:
        logger.warning("%s: tokens that are there twice count once: %s", source, some(twice))
    if lines and not places:
        logger.warning("%s: holds no token", source)
    if lines:
        _suspect_lists(lines, source=source)
    return list(places)


def _vocabulary_lines(vocabulary: str) -> list[str] | None:
    """Return the lines of the file that is meant; None if the tokens themselves are given."""
    path = Path(vocabulary).expanduser()
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{VOCABULARY}: {vocabulary}:{line}: is not UTF-8", hint=f"save {vocabulary} as UTF-8"
        ) from error
    except FileNotFoundError as error:
        # A token may hold a slash, as `</s>` does; no folder has the name of its first half.
        if path.suffix == ".txt" or path.is_absolute() or _names_place(vocabulary):
            raise ConfigError(
                f"{VOCABULARY}: there is no file {vocabulary}",
                hint="name a file with one token a line, or write the tokens with commas between "
                "them",
            ) from error
    except (IsADirectoryError, PermissionError) as error:
        if not path.suffix and len(path.parts) == 1:
            return None  # a language code, say, and a folder that happens to have its name
        raise ConfigError(
            f"{VOCABULARY}: {vocabulary} cannot be read: {error.strerror}",
            hint="name a file with one token a line that you may read",
        ) from error
    except OSError:  # a long list is no name of a file
        return None
    return None


def _names_place(vocabulary: str) -> bool:
    return "/" in vocabulary[:-1] and Path(vocabulary).parent.is_dir()


def _suspect_lists(lines: Sequence[str], *, source: str) -> None:
    """Warn of lines that may be meant as several tokens; a count behind the token is none."""
    several = []
    for number, line in enumerate(lines, start=1):
        token, _, rest = line.strip().partition(" ")
        if "," in token or not (rest.strip() or "0").isdigit():
            several.append(f"{line.strip()!r} (line {number})")
    if several:
        logger.warning(
            "%s: the first word of a line is one token, with its commas: %s", source, some(several)
        )


def some(names: Sequence[str]) -> str:
    """Return the first ten of ``names``, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
