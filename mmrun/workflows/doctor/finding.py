"""What a check finds, and how one is made that hangs or fails without holding up the others."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from mmrun.config.masking import hidden
from mmrun.errors import MmrunError
from mmrun.workflows.doctor.patient import Patient

Verdict = Literal["ok", "warn", "fail"]
_OTHER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, what it is like, and what to do where that is not good."""

    check: str = ""
    verdict: Verdict
    fact: str
    remedy: str = ""
    exit_code: int = 0
    """Of the family of errors that a training would end with; only of what fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something to look at."""

    name: str
    look: Callable[[Patient], Iterable[Finding]]
    limit_s: float
    """How long it may take; what hangs is left behind."""
    exit_code: int = _OTHER
    """Where it hangs, or fails in an unknown way."""


def ok(fact: str) -> Finding:
    """Return that all is well."""
    return Finding(verdict="ok", fact=fact)


def warn(fact: str, remedy: str) -> Finding:
    """Return what a training can do with, but people may regret."""
    return Finding(verdict="warn", fact=fact, remedy=remedy)


def fail(fact: str, remedy: str, *, exit_code: int) -> Finding:
    """Return what a training cannot do with."""
    return Finding(verdict="fail", fact=fact, remedy=remedy, exit_code=exit_code)


def failed(error: MmrunError) -> Finding:
    """Return what a training would end with."""
    remedy = error.hint or "see docs/errors.md"
    return fail(str(error), remedy, exit_code=error.exit_code)


def findings_of(check: Check, patient: Patient) -> list[Finding]:
    """Look, for no longer than the limit; whatever goes wrong is a finding, too."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(check.look(patient))
        except MmrunError as error:
            found.append(failed(error))
        except Exception as error:  # noqa: BLE001 (the other checks do not depend on this one)
            fact = f"could not be looked at: {type(error).__name__}: {error}"
            remedy = "the other lines do not depend on it; report it if it is ours"
            found.append(fail(fact, remedy, exit_code=check.exit_code))

    # Not a pool: the interpreter would wait at its end for a thread that hangs.
    thread = threading.Thread(target=look, name=f"mmrun-doctor-{check.name}", daemon=True)
    thread.start()
    thread.join(check.limit_s)
    if thread.is_alive():
        fact = f"no answer within {check.limit_s:.0f} s"
        return [_shown(check, fail(fact, "look at what hangs there", exit_code=check.exit_code))]
    return [_shown(check, finding) for finding in found]


def _shown(check: Check, finding: Finding) -> Finding:
    """Return the finding in one line, without a secret."""
    fact, remedy = (" ".join(hidden(text).split()) for text in (finding.fact, finding.remedy))
    return replace(finding, check=check.name, fact=fact, remedy=remedy)
