"""`mmrun demo run`: the whole pipeline on real handwriting, killed half-way and resumed."""

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic

import mmrun
from mmrun.config.loading import load_experiment
from mmrun.config.schema import Experiment
from mmrun.errors import MmrunError, UsageError
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import RunFile, read_holder, read_run_file
from mmrun.tracking.tail import last_step

logger = logging.getLogger(__name__)

_FILES = ("MLproject", "dvc.yaml", "params.yaml")
_MARK = ".mmrun-demo"
_POLL_S = 0.1
_SAMPLES = 3


def run_demo(folder: Path) -> None:
    """Run the pipeline in ``folder``, kill the training once, resume it, and say how it ended.

    A demo that ran there before is replaced; its run stays in the folder's MLflow database.
    """
    started = monotonic()
    project = _fresh_project(folder.absolute())
    experiment = load_experiment(project / "params.yaml")
    output_dir = _output_dir(experiment, project=project)
    logger.info("dvc repro, and SIGKILL to the training when it is half-way")
    _reproduce_until(project, _half_way(experiment, output_dir))
    killed_at = last_step(output_dir / "journal")
    logger.info("killed at step %d; the same command again", killed_at)
    _reproduce(project)
    record = _record(output_dir)
    lines = [
        "",
        *_run_lines(record, killed_at=killed_at),
        *_result_lines(output_dir / "generate"),
        f"time                {monotonic() - started:.0f} s",
        *_page_lines(record),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _fresh_project(folder: Path) -> Path:
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise UsageError(
            f"{folder} holds something that is not a demo",
            hint="name a folder that does not exist yet",
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    for name in _FILES:
        shutil.copyfile(_template_folder() / name, folder / name)
    if not (folder / ".dvc").exists():
        _call_dvc(folder, "init", "--no-scm", "--quiet")
    return folder


def _template_folder() -> Path:
    """Return where the project's files lie: in an installed package, or at a checkout's root."""
    package = Path(mmrun.__file__).parent
    shipped = package / "project"
    return shipped if shipped.is_dir() else package.parent


def _output_dir(experiment: Experiment, *, project: Path) -> Path:
    if experiment.training.output_dir is None:
        raise UsageError("params.yaml has no training.output_dir", hint="write one there")
    return project / experiment.training.output_dir


def _half_way(experiment: Experiment, output_dir: Path) -> Callable[[], bool]:
    """Return what kills the trainer once it is half-way, and says whether it did."""
    arguments = experiment.training.arguments
    # Between two checkpoints, so that there are steps that must be done again.
    step = arguments["max_steps"] // 2 + arguments["save_steps"] // 2

    def kill() -> bool:
        holder = read_holder(output_dir) if last_step(output_dir / "journal") >= step else None
        if holder is not None:
            os.kill(holder, signal.SIGKILL)
        return holder is not None

    return kill


def _reproduce_until(project: Path, kill: Callable[[], bool]) -> None:
    """Run the pipeline until ``kill`` has ended the training, which makes DVC fail."""
    killed = False
    with _dvc(project, "repro") as process:
        while process.poll() is None:
            killed = killed or kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
    if not killed:
        raise _failed(project)


def _reproduce(project: Path) -> None:
    _call_dvc(project, "repro")


def _call_dvc(project: Path, *arguments: str) -> None:
    with _dvc(project, *arguments) as process:
        process.wait()
    if process.returncode != 0:
        raise _failed(project)


def _failed(project: Path) -> MmrunError:
    return MmrunError(
        "the pipeline ended before its time; what it said is above",
        hint=f"mend it, then 'cd {project} && dvc repro' goes on where it stopped",
    )


@contextmanager
def _dvc(project: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start DVC in ``project`` and show what it says, to the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        reader = Thread(target=_show, args=(process.stdout,), daemon=True)
        reader.start()
        yield process
        reader.join()


def _environment() -> dict[str, str]:
    """Return this process's environment without what would lead the demo to another run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "DVC_", "MMRUN_"))
    }
    scripts = str(Path(sys.executable).parent)
    # So small a model gains nothing from a second thread, and waits for it when cores are shared.
    threads = {"OMP_NUM_THREADS": kept.get("OMP_NUM_THREADS", "1")}
    return (
        kept
        | threads
        | {
            "PATH": os.pathsep.join([scripts, kept.get("PATH", "")]),
            "DO_NOT_TRACK": "1",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    )


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        if line.strip():
            logger.info("  | %s", line.rstrip())


def _record(output_dir: Path) -> RunFile:
    record = read_run_file(output_dir)
    if record is None:
        raise MmrunError(f"{output_dir} has no run.json after the training")
    return record


def _run_lines(record: RunFile, *, killed_at: int) -> list[str]:
    store = MlflowStore(record.tracking_uri)
    run = store.read(record.run_id)
    points = [point for key in run.metrics for point in store.history(record.run_id, key)]
    times = Counter((point.key, point.step) for point in points)
    return [
        f"killed at step      {killed_at}",
        f"resumed from step   {record.lineage[-1][1]}",
        f"run                 {run.run_id} ({run.status}, {len(record.lineage)} attempts)",
        f"metric points       {len(points)}",
        f"duplicates          {sum(count - 1 for count in times.values())}",
    ]


def _result_lines(generated: Path) -> list[str]:
    scores = json.loads((generated / "scores.json").read_text(encoding="utf-8"))
    predictions = max(generated.glob("*/predictions.jsonl"), key=lambda path: path.stat().st_mtime)
    samples = predictions.read_text(encoding="utf-8").splitlines()[:_SAMPLES]
    shown = ", ".join(f"{key} {value:.4g}" for key, value in scores.items() if _is_score(value))
    return [f"test scores         {shown}", *map(_sample_line, samples)]


def _is_score(value: object) -> bool:
    return isinstance(value, float)


def _sample_line(text: str) -> str:
    sample = json.loads(text)
    return f"  {sample['prediction']}   (truth: {sample['reference']})"


def _page_lines(record: RunFile) -> list[str]:
    mlflow = Path(sys.executable).with_name("mlflow")
    command = shlex.join([str(mlflow), "ui", "--backend-store-uri", record.tracking_uri])
    page = f"http://127.0.0.1:5000/#/experiments/{record.experiment_id}/runs/{record.run_id}"
    return ["", "see the run in the MLflow UI:", f"  {command}", f"  {page}"]
