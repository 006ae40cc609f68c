"""Search what was written and said for secrets."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path


def contents(folder: Path, *, but: Collection[str] = ()) -> Mapping[str, bytes]:
    """Return every file below ``folder``, by its path there, except those named ``but``."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    read = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return {name: content for name, content in read.items() if name not in but}


def with_secret(texts: Mapping[str, bytes], secrets: Iterable[str]) -> list[str]:
    """Return the names of the texts that have one of ``secrets`` in them."""
    searched = [secret.encode() for secret in secrets]
    return [name for name, text in texts.items() if any(secret in text for secret in searched)]
