"""Files that a modality's settings name, kept with the processor: a font, an image processor.

A checkpoint is enough to go on from on another machine, where those paths mean nothing.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ENDING = "_path"
_FOLDER = "enclosed"
_LARGEST = 1 << 20
"""Of a folder, what is larger stays where it is: weights, which no processor is read from."""


def files_named_in(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files and folders that ``settings`` name, by the setting: what ends in ``_path``.

    A name of the hub is none of them.
    """
    paths = {
        key: Path(value).expanduser()
        for key, value in settings.items()
        if key.endswith(_ENDING) and isinstance(value, str)
    }
    return {key: path for key, path in paths.items() if path.exists()}


def enclose(files: Mapping[str, Path], *, stream: str, to: Path) -> dict[str, str]:
    """Copy ``files`` below the folder of a processor; return where they lie in it, by setting."""
    return {
        key: _copy(path, _FOLDER, stream, key, to=to).relative_to(to).as_posix()
        for key, path in files.items()
    }


def _copy(path: Path, *parts: str, to: Path) -> Path:
    folder = to.joinpath(*parts)
    copy = folder / path.name
    if copy.exists() and copy.samefile(path):  # saved to where it was read from
        return copy
    if path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        return copy
    copy.mkdir(parents=True, exist_ok=True)
    for file in path.iterdir():
        if file.is_file() and file.stat().st_size <= _LARGEST:
            shutil.copyfile(file, copy / file.name)
    return copy
