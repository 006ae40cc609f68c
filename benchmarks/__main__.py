"""Run the benchmarks, all or those that are named, and print their tables."""

import argparse
import importlib
import sys

from benchmarks.place import machine, workplace

NAMES = (
    "stall",
    "whole",
    "transfer",
    "frozen",
    "latest",
    "resume",
    "steps",
    "points",
    "long_run",
    "modalities",
)


def main() -> None:
    """Measure and print; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"{name!r} is none of: {', '.join(NAMES)}")
    _say(f"Measured on {machine()}.")
    for name in names:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        print(f"{name} …", file=sys.stderr, flush=True)
        with workplace() as folder:
            _say(f"## {benchmark.TITLE}\n\n{benchmark.run(folder)}")


def _say(text: str) -> None:
    print(f"{text}\n", flush=True)


if __name__ == "__main__":
    main()
