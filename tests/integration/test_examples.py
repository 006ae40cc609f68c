"""The examples, as their first lines say: each reaches its score on samples it has not seen."""

import json
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmrun.training.metrics import score
from mmrun.workflows.demo_data import KINDS, Kind
from tests.recovery.project import outside

EXAMPLES = Path(__file__).parents[2] / "examples"
MMRUN = Path(sys.executable).with_name("mmrun")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What an example must reach, by its own metric."""

    metric: str
    reached: float
    above: float
    """The baselines, by at least so much."""


GOALS: Mapping[Kind, Goal] = {
    "features": Goal(metric="exact_match", reached=0.75, above=0.7),
    "images": Goal(metric="exact_match", reached=0.75, above=0.7),
    "video": Goal(metric="exact_match", reached=0.45, above=0.4),
    "pose": Goal(metric="exact_match", reached=0.55, above=0.5),
    "signwriting": Goal(metric="exact_match", reached=0.8, above=0.7),
    "text": Goal(metric="chrf", reached=35.0, above=12.0),
}
Rows = Sequence[Mapping[str, str]]


def commands(kind: Kind) -> Sequence[Sequence[str]]:
    """Return the commands that stand on top of the example."""
    lines = (EXAMPLES / f"{kind}.yaml").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line[1:]) for line in lines if line.startswith("#   mmrun ")]


def table(path: Path) -> Rows:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def most_frequent(train: Rows, test: Rows) -> Sequence[str]:
    """Answer each row with what is said most often in training, after the same prompt."""
    counted: dict[str, Counter[str]] = {}
    for row in train:
        counted.setdefault(row["decoder_prompt"], Counter())[row["output"]] += 1
    return [counted[row["decoder_prompt"]].most_common(1)[0][0] for row in test]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_reaches_its_score_on_unseen_samples(tmp_path: Path, kind: Kind) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for _, *words in commands(kind):
        done = subprocess.run(
            [MMRUN, *words],
            cwd=tmp_path,
            env=outside(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    goal = GOALS[kind]
    train, test = (table(tmp_path / f"data/{kind}/{split}.tsv") for split in ("train", "test"))
    references = [row["output"] for row in test]
    guesses = {
        "the most frequent target": most_frequent(train, test),
        "the source itself": [row["signal"] for row in test],
    }
    baselines = {
        name: score([goal.metric], predictions=texts, references=references)[goal.metric]
        for name, texts in guesses.items()
    }
    scores = tmp_path / f"outputs/{kind}/generate/scores.json"
    reached = json.loads(scores.read_text(encoding="utf-8"))[goal.metric]
    assert reached >= max(goal.reached, goal.above + max(baselines.values())), baselines
