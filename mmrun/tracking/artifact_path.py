"""Names of artifacts that every store keeps as they are; no I/O."""

import re

from mmrun.errors import TrackingError

_CUT_OR_DECODED = re.compile(r"[#?%\\\x00-\x1f\x7f]")
"""Over HTTP a name is cut at ``#`` and ``?``, and ``%20`` comes back as a blank."""


def checked(path: str) -> str:
    """Return ``path``, or refuse one that is empty, leaves the run or would arrive changed."""
    segments = path.split("/")
    if not path or any(segment in {"", ".", ".."} for segment in segments):
        raise TrackingError(f"{path!r} is not a path inside the artifacts of a run")
    if _CUT_OR_DECODED.search(path):
        raise TrackingError(
            f"the artifact name {path!r} has a character that a tracking server would change",
            hint="rename the file without '#', '?', '%' and backslashes",
        )
    return path


def checked_folder(path: str) -> str:
    """Return ``path`` like ``checked``; the empty path is the root of the artifacts."""
    return checked(path) if path else path
