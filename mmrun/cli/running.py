"""Runs a command; the only place where an error becomes an exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from mmrun.cli.app import app
from mmrun.cli.command_line import Settings, read_command_line
from mmrun.cli.early import Signals
from mmrun.collector import collect_rarely
from mmrun.config.masking import hidden, remember_words
from mmrun.errors import MmrunError, StopRequested, UsageError
from mmrun.training.processes import Launched, Leader
from mmrun.training.trouble import in_one_line

_INTERRUPTED = 130
_FAILED = 1


def run_process(signals: Signals) -> int:
    """Run the command line; of several processes the first one does, and the others follow."""
    collect_rarely()
    argv = sys.argv[1:]
    try:
        launched = Launched.of(os.environ)
    except UsageError as error:
        _say(error)
        return _code_of(error)
    if launched.rank > 0:
        return _exit_code(lambda: _follow(launched), argv)
    signals.interrupt()
    code = run(argv, signals=signals)
    Leader(launched).end(code)
    return code


def run(argv: Sequence[str], *, signals: Signals | None = None) -> int:
    """Run one command and return its exit code."""
    return _exit_code(lambda: _run(argv), argv, signals=signals)


def _exit_code(
    command: Callable[[], int], argv: Sequence[str], *, signals: Signals | None = None
) -> int:
    signals = signals or Signals()
    remember_words(argv)
    error: Exception | None = None
    code = 0
    try:
        code = command()
    except typer.BadParameter as wrong:
        error = _usage_error(wrong)
    except KeyboardInterrupt:
        error = signals.stop()
    except Exception as unexpected:  # noqa: BLE001 (the command line is where it ends)
        error = unexpected
    if error is not None:
        code = _code_of(error)
    signals.decide(code)
    if error is not None:
        _trace(error, verbose="--verbose" in argv)
        _say(error)
    signals.said()
    return code


def _run(argv: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    line = read_command_line(command, argv, settings_of=_settings_of)
    _refuse_several(line.argv)
    _log_to_stderr(logging.DEBUG if line.verbose else logging.INFO)
    code = command.main(
        args=line.argv, prog_name="mmrun", standalone_mode=False, obj=tuple(line.settings)
    )
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _follow(launched: Launched) -> int:
    from mmrun.workflows.follow import follow

    # What there is to say, the first process says.
    _log_to_stderr(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return follow(launched)


def _refuse_several(argv: Sequence[str]) -> None:
    """Refuse what several processes cannot do, or would all do alike."""
    launched = Launched.of(os.environ)
    if launched.several and argv[0] not in {"train", "--help", "--version"}:
        raise UsageError(
            f"mmrun {argv[0]} works in one process, and {launched.size} were started",
            hint="start it without torchrun",
        )
    if launched.several and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        # They would wait for each other at addresses that the dead ones left in its store.
        raise UsageError(
            "torchrun --max-restarts: processes that it starts again do not find each other",
            hint="leave it out; the same command goes on after a death",
        )


def _settings_of(called: str) -> Settings | None:
    from mmrun.cli.settings import settings_of  # pydantic, which --help does not need

    return settings_of(called)


def _usage_error(error: typer.BadParameter) -> UsageError:
    """Return what Typer found wrong with a value, in our form."""
    text = error.format_message().replace("Value error, ", "").rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "mmrun"
    return UsageError(f"{text[:1].lower()}{text[1:]}", hint=f"{command} --help")


def _code_of(error: Exception) -> int:
    if isinstance(error, StopRequested) and error.by_keyboard:
        return _INTERRUPTED
    return error.exit_code if isinstance(error, MmrunError) else _FAILED


def _say(error: Exception) -> None:
    if not isinstance(error, MmrunError):
        _say_unexpected(error)
        return
    if error.said:
        return
    said = "" if isinstance(error, StopRequested) else "error: "  # a wish is no error
    for problem in (str(error), *error.more):
        typer.echo(hidden(f"{said}{problem}"), err=True)
    if error.hint:
        typer.echo(hidden(f"  try: {error.hint}"), err=True)


def _say_unexpected(error: Exception) -> None:
    typer.echo(f"error: {hidden(in_one_line(error))}", err=True)
    typer.echo("  try: the same with --verbose to see where, and report it if it is ours", err=True)


def _trace(error: Exception, *, verbose: bool) -> None:
    if verbose and error.__traceback__ is not None:
        typer.echo(hidden("".join(traceback.format_exception(error))), err=True)


class _Plain(logging.Formatter):
    """Bare lines; what is more than news says so."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, with its level from WARNING on."""
        text = hidden(super().format(record))
        return f"{record.levelname.lower()}: {text}" if record.levelno > logging.INFO else text


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("mmrun").setLevel(level)
