"""Named moments at which a test can kill this process.

``MMRUN_KILL_AT=checkpoint.renamed@50`` sends SIGKILL to the process when it reaches the moment
``checkpoint.renamed`` of step 50 (``NAME`` alone: the first time). Without the variable a moment
costs one dictionary look-up. What a process finds after such a death is what the recovery tests
are about.
"""

import os
import signal


def reach(moment: str, *, step: int | None = None) -> None:
    """Die here if the environment asks for it."""
    wanted = os.environ.get("MMRUN_KILL_AT")
    if wanted is None:
        return
    name, _, at = wanted.partition("@")
    if name == moment and (not at or (step is not None and int(at) == step)):
        os.kill(os.getpid(), signal.SIGKILL)
