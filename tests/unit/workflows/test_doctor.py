"""One line for each thing that a training needs, whatever goes wrong while it is looked at."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import FileEntry
from mmrun.config.masking import remember
from mmrun.config.schema import Experiment
from mmrun.errors import DataError
from mmrun.tracking.journal import Journal
from mmrun.tracking.run_file import RunFile
from mmrun.workflows.doctor.command import doctor_command
from mmrun.workflows.doctor.finding import Check, Finding, fail, findings_of, ok, warn
from mmrun.workflows.doctor.folder import disk, run_here, waiting
from mmrun.workflows.doctor.machine import plug_ins, versions
from mmrun.workflows.doctor.patient import Patient
from tests.unit.checkpoints.samples import Place
from tests.unit.tracking.points import point


def patient(output_dir: Path | None = None, *, experiment: Experiment | None = None) -> Patient:
    return Patient(
        config_path=None,
        named=False,
        experiment=experiment or Experiment(),
        config_error=None,
        output_dir=output_dir,
        run_file=None,
        folder_error=None,
        uri="sqlite:///nothing.db",
    )


def check(look: Callable[[Patient], Iterable[Finding]], *, limit_s: float = 10) -> Check:
    return Check(name="it", look=look, limit_s=limit_s, exit_code=4)


def one(found: Iterable[Finding]) -> Finding:
    (finding,) = found
    return finding


def diagnosis(
    *looks: Callable[[Patient], Iterable[Finding]], form: str = "table"
) -> tuple[int, str]:
    said: list[str] = []
    code = doctor_command(
        format=form,  # type: ignore[arg-type]
        say=said.append,
        checks=[check(look) for look in looks],
    )
    return code, "\n".join(said)


def test_each_finding_is_a_line_with_its_remedy() -> None:
    code, said = diagnosis(lambda _: [ok("good"), warn("so so", "mend it")])

    assert code == 0
    assert said.splitlines() == [
        "ok    it  good",
        "warn  it  so so; try: mend it",
        "1 ok, 1 warning, 0 failed",
    ]


def test_the_exit_code_is_of_the_first_thing_that_fails() -> None:
    code, _ = diagnosis(
        lambda _: [warn("so so", "mend it")],
        lambda _: [fail("bad", "mend it", exit_code=6)],
        lambda _: [fail("worse", "mend it", exit_code=3)],
    )

    assert code == 6


def test_json_has_the_same_findings() -> None:
    code, said = diagnosis(lambda _: [fail("bad", "mend it", exit_code=6)], form="json")

    tree = json.loads(said)
    assert tree["exit_code"] == code == 6
    assert tree["findings"] == [
        {"check": "it", "verdict": "fail", "fact": "bad", "remedy": "mend it", "exit_code": 6}
    ]


def test_what_raises_is_a_finding_and_the_next_goes_on() -> None:
    def refused(_: Patient) -> Iterator[Finding]:
        yield ok("so far")
        raise DataError("no such file", hint="dvc pull")

    def broken(_: Patient) -> Iterator[Finding]:
        raise ZeroDivisionError("of ours")

    code, said = diagnosis(refused, broken, lambda _: [ok("good")])

    assert code == 4
    lines = said.splitlines()
    assert lines[:2] == ["ok    it  so far", "fail  it  no such file; try: dvc pull"]
    assert "fail  it  could not be looked at: ZeroDivisionError: of ours" in lines[2]
    assert lines[3] == "ok    it  good"


def test_what_hangs_is_left_behind() -> None:
    end = threading.Event()

    def hangs(_: Patient) -> Iterator[Finding]:
        end.wait()
        yield ok("too late")

    found = one(findings_of(check(hangs, limit_s=0.05), patient()))
    end.set()

    assert (found.verdict, found.exit_code) == ("fail", 4)
    assert "no answer within" in found.fact


def test_no_finding_tells_a_secret() -> None:
    remember({"password": "a secret word"})

    found = one(
        findings_of(check(lambda _: [warn("it is a secret word", "drop a secret word")]), patient())
    )

    assert (found.fact, found.remedy) == ("it is ***", "drop ***")


def test_a_finding_is_one_line_whatever_a_library_says() -> None:
    found = one(findings_of(check(lambda _: [ok("first\n  second")]), patient()))

    assert found.fact == "first second"


def test_what_was_not_sent_is_told_with_the_command_that_does(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", attempt=1).append([point(), point(step=2)])

    found = one(waiting(patient(tmp_path)))

    assert (found.verdict, found.remedy) == ("warn", f"mmrun sync {tmp_path}")
    assert "2 metric points" in found.fact


def test_a_folder_in_which_all_was_sent_is_good(tmp_path: Path) -> None:
    assert one(waiting(patient(tmp_path))).verdict == "ok"


def test_a_disk_without_room_for_a_checkpoint_fails(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.save(5)
    ((_, manifest),) = place.local.list()
    huge = FileEntry(path="huge.bin", size=10**17, sha256="0" * 64)
    manifests.write(
        place.local.path("checkpoint-5"), manifest.model_copy(update={"files": (huge,)})
    )

    found = list(disk(patient(tmp_path / "output")))

    assert [one.verdict for one in found] == ["fail", "warn"]
    assert found[0].exit_code == 5
    assert "2 checkpoints of 100000000.0 GB (as the newest)" in found[0].fact


def test_before_the_first_checkpoint_the_model_tells_how_big_one_will_be(tmp_path: Path) -> None:
    (tmp_path / "setup/model").mkdir(parents=True)
    (tmp_path / "setup/model/model.safetensors").write_bytes(b"x" * 1000)

    found = next(iter(disk(patient(tmp_path))))

    assert found.verdict == "ok"
    assert "2 checkpoints of 3.0 kB (by the size of the model)" in found.fact


def test_a_folder_with_something_else_is_refused_as_a_training_does(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()

    found = one(findings_of(check(run_here), patient(tmp_path)))

    assert (found.verdict, found.exit_code) == ("fail", 2)


def test_a_run_that_cannot_be_asked_for_is_named(tmp_path: Path) -> None:
    known = patient(tmp_path)
    known.run_file = RunFile(run_id="a" * 32, tracking_uri="http://x", experiment_id="1")

    found = one(run_here(known))

    assert found.verdict == "warn"
    assert "a" * 32 in found.fact


def test_the_installed_versions_are_supported() -> None:
    found = one(versions(patient()))

    assert found.verdict == "ok"
    assert "transformers 5." in found.fact


def test_a_modality_that_is_wanted_and_not_there_fails() -> None:
    wanted = Experiment.model_validate({"data": {"dataset_type": "featurs2text"}})

    found = list(plug_ins(patient(experiment=wanted)))

    assert [one.verdict for one in found] == ["fail", "ok"]
    assert found[0].exit_code == 7
    assert "did you mean 'features'?" in found[0].fact
