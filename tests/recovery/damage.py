"""What can happen to a file, and to a whole checkpoint."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrun.checkpoints import manifest as manifests


def flip(path: Path) -> None:
    """Change one bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Lose the second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Lose everything but the name."""
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [flip, cut, empty, Path.unlink]


def seal(folder: Path, **changed: Any) -> None:
    """Describe what lies in a folder now as its writer would, with some fields ``changed``."""
    tree = json.loads((folder / "manifest.json").read_text())
    tree.pop("digest")
    for entry in tree["files"]:
        content = (folder / entry["path"]).read_bytes()
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    tree |= changed
    (folder / "manifest.json").write_text(json.dumps({**tree, "digest": manifests.seal(tree)}))
