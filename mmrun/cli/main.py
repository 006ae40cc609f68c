"""The entry point: listens to signals first, then imports what runs commands."""

from collections.abc import Sequence

from mmrun.cli.early import Signals


def main() -> None:
    """Run the command line of this process, and end with its exit code."""
    signals = Signals.listening()

    from mmrun.cli.running import run_process

    raise SystemExit(run_process(signals))


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    from mmrun.cli.running import run

    return run(argv)
