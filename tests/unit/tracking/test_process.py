"""How old a process is; who it is and whether it lives is tested with the lease."""

import subprocess
import sys
import time

from mmrun.tracking.process import age_s

NAP_S = 0.3


def test_the_age_of_a_process_grows_with_the_clock() -> None:
    before, begun = age_s(), time.monotonic()
    time.sleep(NAP_S)
    after, passed = age_s(), time.monotonic() - begun

    assert before is not None
    assert after is not None
    assert abs(after - before - passed) < NAP_S / 2


def test_a_process_is_as_old_as_it_lives() -> None:
    code = "from mmrun.tracking.process import age_s; print(age_s())"
    begun = time.monotonic()

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert 0 <= float(said.stdout) <= time.monotonic() - begun + 0.02  # the kernel counts in ticks
