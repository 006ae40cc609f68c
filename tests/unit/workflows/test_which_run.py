"""Which run is meant, from everything that can point at one."""

import pytest

from mmrun.errors import UsageError
from mmrun.workflows.which_run import Claims, which_run

ONE, TWO = "1" * 32, "2" * 32


@pytest.mark.parametrize(
    ("claims", "fresh", "run"),
    [
        pytest.param(Claims(), False, None, id="nothing points at a run"),
        pytest.param(Claims(reference=ONE), False, ONE, id="a reference"),
        pytest.param(Claims(environment=ONE), False, ONE, id="MLFLOW_RUN_ID"),
        pytest.param(Claims(folder=ONE), False, ONE, id="the output folder"),
        pytest.param(
            Claims(reference=ONE, environment=ONE, folder=ONE), False, ONE, id="all the same"
        ),
        pytest.param(Claims(), True, None, id="a new one"),
        pytest.param(Claims(folder=ONE), True, None, id="a new one in place of the folder's"),
        pytest.param(Claims(folder=ONE, reference=TWO), True, TWO, id="a reference elsewhere"),
        pytest.param(Claims(folder=ONE, environment=TWO), True, TWO, id="another MLFLOW_RUN_ID"),
    ],
)
def test_one_run_is_meant(claims: Claims, fresh: bool, run: str | None) -> None:
    assert which_run(claims, fresh=fresh) == run


@pytest.mark.parametrize(
    ("claims", "fresh"),
    [
        pytest.param(Claims(reference=ONE, environment=TWO), False, id="reference, environment"),
        pytest.param(Claims(reference=ONE, folder=TWO), False, id="reference, folder"),
        pytest.param(Claims(environment=ONE, folder=TWO), False, id="environment, folder"),
        pytest.param(Claims(reference=ONE, environment=TWO), True, id="in place of nothing"),
        pytest.param(
            Claims(reference=ONE, environment=TWO, folder=TWO), False, id="two against one"
        ),
    ],
)
def test_two_runs_are_refused_and_both_named(claims: Claims, fresh: bool) -> None:
    with pytest.raises(UsageError, match="two runs are meant") as caught:
        which_run(claims, fresh=fresh)

    assert ONE in str(caught.value)
    assert TWO in str(caught.value)


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        pytest.param(Claims(reference=ONE, folder=ONE), "--resume_from_checkpoint", id="reference"),
        pytest.param(Claims(environment=ONE, folder=ONE), "MLFLOW_RUN_ID", id="environment"),
    ],
)
def test_a_run_cannot_be_overwritten_and_continued(claims: Claims, named: str) -> None:
    with pytest.raises(UsageError, match="overwrite_output_dir true") as caught:
        which_run(claims, fresh=True)

    assert named in str(caught.value)
