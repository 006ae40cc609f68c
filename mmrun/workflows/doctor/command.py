"""What ``mmrun doctor`` does: look at all that a training needs, and say a line of each."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from mmrun.errors import ConfigError, DataError, DiskFullError, TrackingError, UsageError
from mmrun.workflows.doctor import data, folder, machine, tracking
from mmrun.workflows.doctor.finding import Check, Finding, findings_of
from mmrun.workflows.doctor.patient import patient_of

_SHORT_S, _LONG_S = 30.0, 60.0
_TRACKING = TrackingError.exit_code
CHECKS: Sequence[Check] = (
    Check(
        name="experiment file",
        look=data.experiment_file,
        limit_s=_SHORT_S,
        exit_code=ConfigError.exit_code,
    ),
    Check(name="tracking server", look=tracking.server, limit_s=_LONG_S, exit_code=_TRACKING),
    Check(name="clock", look=tracking.clock, limit_s=_SHORT_S, exit_code=_TRACKING),
    Check(name="experiment", look=tracking.experiment, limit_s=_SHORT_S, exit_code=_TRACKING),
    Check(name="artifact store", look=tracking.artifacts, limit_s=_LONG_S, exit_code=_TRACKING),
    Check(
        name="output folder",
        look=folder.run_here,
        limit_s=_SHORT_S,
        exit_code=UsageError.exit_code,
    ),
    Check(name="unsent", look=folder.waiting, limit_s=_SHORT_S, exit_code=_TRACKING),
    Check(name="disk", look=folder.disk, limit_s=_SHORT_S, exit_code=DiskFullError.exit_code),
    Check(name="data", look=data.manifests, limit_s=_SHORT_S, exit_code=DataError.exit_code),
    Check(name="DVC", look=data.dvc, limit_s=_LONG_S, exit_code=DataError.exit_code),
    Check(name="git", look=data.git, limit_s=_SHORT_S),
    Check(name="versions", look=machine.versions, limit_s=_SHORT_S),
    Check(name="plug-ins", look=machine.plug_ins, limit_s=_SHORT_S),
    Check(name="device", look=machine.device, limit_s=_LONG_S),
)


def doctor_command(
    output_dir: Path | None = None,
    *,
    format: Literal["table", "json"],  # noqa: A002 (the option's name)
    say: Callable[[str], None],
    config_path: Path | None = None,
    tracking_uri: str | None = None,
    checks: Sequence[Check] = CHECKS,
) -> int:
    """Look at everything, ``say`` it line by line, and return the exit code.

    Args:
        output_dir: What a training writes to; by default what the experiment file says.
        format: How it is written.
        say: Is told each line as soon as it is known.
        config_path: The experiment file; by default `params.yaml`, if there is one.
        tracking_uri: Where runs are recorded, if not in the usual place.
        checks: What is looked at, in this order.

    Returns:
        0 if nothing failed, else the exit code that a training would end with, by the first.
    """
    patient = patient_of(output_dir, config_path=config_path, tracking_uri_given=tracking_uri)
    found: list[Finding] = []
    width = max(len(check.name) for check in checks)
    for check in checks:
        new = findings_of(check, patient)
        found += new
        if format == "table":
            for finding in new:
                say(_line(finding, width=width))
    code = next((one.exit_code for one in found if one.verdict == "fail"), 0)
    if format == "json":
        say(json.dumps({"exit_code": code, "findings": [asdict(one) for one in found]}, indent=1))
    else:
        say(_summary(found))
    return code


def _line(finding: Finding, *, width: int) -> str:
    remedy = f"; try: {finding.remedy}" if finding.remedy else ""
    return f"{finding.verdict:<4}  {finding.check:<{width}}  {finding.fact}{remedy}"


def _summary(found: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in found)
    warnings = "1 warning" if counts["warn"] == 1 else f"{counts['warn']} warnings"
    return f"{counts['ok']} ok, {warnings}, {counts['fail']} failed"
