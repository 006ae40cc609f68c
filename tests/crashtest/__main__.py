"""Kill trainings at random, resume them, and fail on the first difference."""

import argparse
import random
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from tests.crashtest.campaign import Campaign


def main() -> None:
    """Print a line per kill and per run, and a total; exit with 1 where something differs."""
    parser = argparse.ArgumentParser(prog="make crashtest", description=__doc__)
    parser.add_argument("kills", type=int, metavar="N", help="how often to kill")
    parser.add_argument("--seed", type=int, help="of all choices; printed if it is not given")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    begun = time.monotonic()
    folder = Path(mkdtemp(prefix="mmrun-crashtest-"))
    _say(f"seed {seed}, in {folder}")
    campaign = Campaign(folder, seed=seed, say=_say)
    odd = campaign.go_on(options.kills)
    for line in odd:
        _say(line)
    minutes = (time.monotonic() - begun) / 60
    found = "a difference" if odd else "0 differences"
    _say(f"{campaign.kills} kills, {campaign.runs} runs, {found}; seed {seed}, {minutes:.0f} min")
    sys.exit(1 if odd else 0)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
