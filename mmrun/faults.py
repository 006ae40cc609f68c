"""Named moments at which a test can kill this process.

``MMRUN_KILL_AT=checkpoint.renamed@50`` sends SIGKILL to the process when it reaches the moment
``checkpoint.renamed`` of step 50 (``NAME`` alone: the first time). Threads race, so moments can be
put in order: with ``upload.manifest@18,step@20`` whoever reaches step 20 waits there until the
manifest of step 18 was sent, and then dies. The last one is the end, or the one with a mark: with
``upload.files@18!,step@19`` step 19 waits for the death at the files of step 18. Without the
variable a moment costs one dictionary look-up. What a process finds after such a death is what the
recovery tests are about.
"""

import os
import signal
import threading

_LONGEST_WAIT_S = 120.0

_passed: set[str] = set()
_changed = threading.Condition()


def reach(moment: str, *, step: int | None = None) -> None:
    """Die here, or wait here for another thread, if the environment asks for it."""
    wanted = os.environ.get("MMRUN_KILL_AT")
    if wanted is None:
        return
    moments = [one.rstrip("!") for one in wanted.split(",")]
    marked = [one.rstrip("!") for one in wanted.split(",") if one.endswith("!")]
    for place, one in enumerate(moments):
        name, _, at = one.partition("@")
        if name == moment and (not at or (step is not None and int(at) == step)):
            _pass(one, after=moments[:place], end=one == (marked or moments)[-1])


def _pass(moment: str, *, after: list[str], end: bool) -> None:
    with _changed:
        in_order = _changed.wait_for(lambda: _passed.issuperset(after), timeout=_LONGEST_WAIT_S)
        if not in_order:
            raise TimeoutError(f"{moment} was reached, {', '.join(after)} was not")
        if end:
            os.kill(os.getpid(), signal.SIGKILL)
        _passed.add(moment)
        _changed.notify_all()
