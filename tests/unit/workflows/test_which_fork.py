"""What a fork begins with, and whether the folder's run is that fork already."""

from pathlib import Path

import pytest

from mmrun.checkpoints.reference import parse
from mmrun.errors import UsageError
from mmrun.tracking.store import Run
from mmrun.workflows.which_fork import Origin, origin_asked, origin_of, refuse_other
from mmrun.workflows.which_run import Claims

SOURCE, FORK, OTHER = "1" * 32, "2" * 32, "3" * 32
FOLDER = Path("out")


def run(run_id: str = FORK, *, begun_from: str | None = None) -> Run:
    tags = {}
    if begun_from is not None:
        tags = {"mmrun.forked_from": begun_from.partition(".")[0], "mmrun.started_from": begun_from}
    return Run(run_id=run_id, experiment_id="0", name="", status="RUNNING", tags=tags)


def asked(words: str) -> Origin:
    reference = parse(words)
    assert reference is not None
    return origin_asked(reference, Claims(reference=reference.run_id))


@pytest.mark.parametrize(
    ("words", "claims", "meant"),
    [
        pytest.param(f"{SOURCE}@500", Claims(reference=SOURCE), f"{SOURCE}@500", id="a run"),
        pytest.param("500", Claims(reference=SOURCE), f"{SOURCE}@500", id="a step of a known run"),
        pytest.param("", Claims(environment=SOURCE), f"{SOURCE}@latest", id="MLFLOW_RUN_ID alone"),
        pytest.param("best", Claims(environment=SOURCE), f"{SOURCE}@best", id="of MLFLOW_RUN_ID"),
        pytest.param(
            f"{SOURCE}@7.a2",
            Claims(reference=SOURCE, environment=FORK, folder=FORK),
            f"{SOURCE}@7.a2",
            id="MLFLOW_RUN_ID is the fork itself",
        ),
    ],
)
def test_the_checkpoint_is_named_with_its_run(words: str, claims: Claims, meant: str) -> None:
    origin = origin_asked(parse(words), claims)

    assert (origin.run_id, origin.reference.text) == (SOURCE, meant)
    assert origin.reference.run_id == SOURCE


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        pytest.param(Claims(), "needs a checkpoint of a run", id="nothing"),
        pytest.param(Claims(folder=FORK), "needs a checkpoint of a run", id="the folder's own"),
        pytest.param(
            Claims(reference=SOURCE, environment=OTHER), "two runs are meant", id="two runs"
        ),
    ],
)
def test_without_one_run_to_begin_from_it_is_refused(claims: Claims, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        origin_asked(None, claims)


@pytest.mark.parametrize(
    "words", [f"{SOURCE}@500", f"{SOURCE}@500.a2", f"{SOURCE}@latest", f"{SOURCE}@best", SOURCE]
)
def test_the_same_command_again_means_the_fork_that_was_begun(words: str) -> None:
    refuse_other(run(begun_from=f"{SOURCE}@500.a2"), asked=asked(words), folder=FOLDER)


@pytest.mark.parametrize(
    ("words", "taken_by"),
    [
        pytest.param(f"{SOURCE}@500", run(SOURCE), id="the source itself"),
        pytest.param(f"{SOURCE}@500", run(OTHER), id="another run"),
        pytest.param(
            f"{SOURCE}@500", run(begun_from=f"{OTHER}@500.a1"), id="a fork of another run"
        ),
        pytest.param(
            f"{SOURCE}@500", run(begun_from=f"{SOURCE}@400.a1"), id="a fork from another step"
        ),
        pytest.param(
            f"{SOURCE}@500.a1", run(begun_from=f"{SOURCE}@500.a2"), id="from another attempt"
        ),
    ],
)
def test_a_folder_of_something_else_is_no_place_for_a_fork(words: str, taken_by: Run) -> None:
    with pytest.raises(UsageError, match="an output folder of its own: out belongs to") as caught:
        refuse_other(taken_by, asked=asked(words), folder=FOLDER)

    assert caught.value.hint.endswith(f"--output_dir NEW --resume_from_checkpoint {words}")


def test_a_run_that_began_in_a_plain_folder_is_no_fork() -> None:
    plain = Run(
        run_id=FORK,
        experiment_id="0",
        name="",
        status="RUNNING",
        tags={"mmrun.started_from": "/plain/checkpoint-5"},
    )

    assert origin_of(plain) is None
