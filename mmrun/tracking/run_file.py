"""`OUTPUT_DIR/run.json`: which run this folder belongs to."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrun.errors import UsageError
from mmrun.files import write_whole

FORMAT = 1
NAME = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """The run of an output folder, and what its attempts started from.

    ``lineage`` has a pair (attempt, step it started from) for every attempt so far: what is
    needed to tell superseded checkpoints when the server is out of reach.
    """

    run_id: str
    tracking_uri: str
    experiment_id: str
    lineage: tuple[tuple[int, int], ...] = ()
    config_fingerprint: str = ""
    dvc_experiment: str = ""


def read_run_file(output_dir: Path) -> RunFile | None:
    """Return what `run.json` says, or None where there is none."""
    path = output_dir / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint="give the folder that 'mmrun train' wrote to",
        ) from error
    try:
        content = json.loads(text)
        found = content.pop("format")
        if found != FORMAT:
            raise UsageError(
                f"{path} has format {found}; this mmrun reads format {FORMAT}",
                hint="use the mmrun that wrote it, or another --output_dir",
            )
        content["lineage"] = tuple((attempt, step) for attempt, step in content["lineage"])
        return RunFile(**content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged: {error}",
            hint="remove it; the run is then known by its checkpoints, or give RUN_ID@latest",
        ) from error


def write_run_file(output_dir: Path, run: RunFile) -> None:
    """Write `run.json` whole."""
    content = {"format": FORMAT, **asdict(run)}
    write_whole(output_dir / NAME, json.dumps(content, indent=1) + "\n")


def read_holder(output_dir: Path) -> int | None:
    """Return the process id that works in the folder now, or None."""
    try:
        said = (output_dir / ".mmrun.pid").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    match = re.match(r"process (\d+)", said)
    return int(match[1]) if match else None
