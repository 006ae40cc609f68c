from pathlib import Path

import pytest

from mmrun.checkpoints.reference import Reference, parse
from mmrun.errors import UsageError

RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", {"which": "latest"}),
        ("true", {"which": "latest"}),
        ("True", {"which": "latest"}),
        ("best", {"which": "best"}),
        ("checkpoint-last", {"which": "latest"}),
        ("checkpoint-best", {"which": "best"}),
        (f"{RUN}@checkpoint-best", {"which": "best", "run_id": RUN}),
        ("500", {"which": 500}),
        ("0", {"which": 0}),
        ("500.a2", {"which": 500, "attempt": 2}),
        (RUN, {"which": "latest", "run_id": RUN}),
        (f"{RUN}@latest", {"which": "latest", "run_id": RUN}),
        (f"{RUN}@best", {"which": "best", "run_id": RUN}),
        (f"{RUN}@500", {"which": 500, "run_id": RUN}),
        (f"{RUN}@500.a1", {"which": 500, "run_id": RUN, "attempt": 1}),
        (f"runs:/{RUN}", {"which": "latest", "run_id": RUN}),
        (
            f"runs:/{RUN}/checkpoints/checkpoint-500",
            {"which": 500, "run_id": RUN, "name": "checkpoint-500"},
        ),
        (
            f"runs:/{RUN}/checkpoints/checkpoint-500.a3/",
            {"which": 500, "run_id": RUN, "attempt": 3, "name": "checkpoint-500.a3"},
        ),
        (
            f"mlflow-artifacts:/1/{RUN}/artifacts/checkpoints/checkpoint-500",
            {"which": 500, "run_id": RUN, "name": "checkpoint-500"},
        ),
        (
            f"s3://bucket/some/where/7/{RUN}/artifacts/checkpoints/checkpoint-7",
            {"which": 7, "run_id": RUN, "name": "checkpoint-7"},
        ),
        ("s3://bucket/elsewhere", {"uri": "s3://bucket/elsewhere"}),
        ("file:///somewhere/a%20b", {"path": Path("/somewhere/a b")}),
        ("outputs/train/checkpoint-5", {"path": Path("outputs/train/checkpoint-5")}),
        ("checkpoint-5", {"path": Path("checkpoint-5")}),
        ("./x", {"path": Path("x")}),
    ],
)
def test_a_reference_means(text: str, expected: dict[str, object]) -> None:
    reference = parse(text)

    assert reference is not None
    found = {
        key: value
        for key in ("which", "run_id", "attempt", "name", "path", "uri")
        if (value := getattr(reference, key)) is not None
    }
    assert found == expected


def test_a_link_that_lies_here_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parse("checkpoint-best") == Reference(
        text="checkpoint-best", path=Path("checkpoint-best")
    )


@pytest.mark.parametrize("text", ["", " ", "false", "False"])
def test_no_reference(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("newest", "latest, best, a step"),
        ("-5", "latest, best, a step"),
        (f"{RUN}@newest", f"{RUN}@latest"),
        (f"{RUN}@500.a0", f"{RUN}@latest"),
        (f"runs:/{RUN}/model", "runs:/RUN_ID/checkpoints/checkpoint-STEP"),
        ("abc@500", "latest, best, a step"),
    ],
)
def test_what_points_at_nothing_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="points at no checkpoint") as caught:
        parse(text)

    assert hint in caught.value.hint


def test_only_latest_and_best_may_be_replaced_by_another() -> None:
    assert not Reference(text="latest", which="latest").named
    assert Reference(text="5", which=5).named
    assert Reference(text="x/y", path=Path("x/y")).named
