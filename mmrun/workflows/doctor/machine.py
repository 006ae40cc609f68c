"""What is installed, and what there is to compute with."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from mmrun.data.pipeline import resolve_pipeline
from mmrun.errors import ConfigError, PluginError
from mmrun.modalities.base import GROUP, load_modality, modality_name
from mmrun.training.metrics import check_metrics
from mmrun.workflows.checkpoints.sizes import in_words
from mmrun.workflows.doctor.finding import Finding, fail, ok, warn
from mmrun.workflows.doctor.patient import Patient

_SHOWN = ("mmrun", "torch", "transformers", "datasets", "mlflow", "dvc")


def versions(_: Patient) -> Iterator[Finding]:
    """Compare what is installed with what this mmrun supports."""
    wrong = [problem for text in requires("mmrun") or () if (problem := _problem(text))]
    for fact, remedy in wrong:
        yield fail(fact, remedy, exit_code=PluginError.exit_code)
    if not wrong:
        found = [f"{name} {version(name)}" for name in _SHOWN]
        yield ok(", ".join([f"Python {sys.version.partition(' ')[0]}", *found]))


def plug_ins(patient: Patient) -> Iterator[Finding]:
    """Load every modality that is installed."""
    experiment = patient.experiment
    wanted = {
        modality_name(one)
        for one in (experiment.data.dataset_type, experiment.processor.pipeline)
        if one is not None
    }
    with suppress(ConfigError):  # which is told of the data
        wanted |= set(resolve_pipeline(experiment.processor, data=experiment.data).modalities)
    names = {entry.name for entry in entry_points(group=GROUP)}
    loaded, absent = [], []
    for name in sorted(names | wanted):
        try:
            load_modality(name)
            loaded.append(name)
        except PluginError as error:
            if name in wanted:
                yield fail(str(error), error.hint, exit_code=error.exit_code)
            elif isinstance(error.__cause__, ModuleNotFoundError):
                absent.append(f"{name} is not installed ({error.hint})")
            else:
                yield warn(str(error), error.hint)
    try:
        check_metrics(experiment.training.metric_name)
    except (ConfigError, PluginError) as error:
        yield fail(str(error), error.hint, exit_code=error.exit_code)
    yield ok("; ".join([f"{', '.join(loaded) or 'none'} can be used", *absent]))


def device(_: Patient) -> Iterator[Finding]:
    """Say what a training computes on."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            yield ok(f"GPU {number}: {name}, {in_words(free)} of {in_words(total)} free")
    elif torch.backends.mps.is_available():
        yield ok("Apple GPU (MPS)")
    elif Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        yield warn(
            f"CPU: an NVIDIA driver is here, and torch {torch.__version__} finds no GPU",
            "install a torch that was built for the CUDA of this driver; see nvidia-smi",
        )
    else:
        yield ok("CPU: there is no GPU")


def _problem(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a requirement, and what mends it."""
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed", remedy
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} {found} is outside {requirement.specifier}", remedy
