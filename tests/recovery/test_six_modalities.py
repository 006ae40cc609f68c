"""A training of each modality that is killed and goes on ends as one that was left alone."""

import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from mmrun.config.schema import Split
from mmrun.workflows.demo_data import KINDS, Kind, manifest
from tests.recovery.project import Project, assert_one_run_like

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = 12
ROWS: Mapping[Split, int] = {"train": 44, "validation": 6}
"""5.5 batches of 8: the kill is in the second epoch, and a whole one lies before it."""
OPTIONS = (
    "--output_dir=out",
    f"--max_steps={STEPS}",
    "--per_device_train_batch_size=8",
    "--save_steps=5",
    "--logging_steps=2",
    "--eval_steps=6",
    "--set=data.test_metadata_file=null",
)


def write_example(project: Project, kind: Kind) -> None:
    """Write the first rows of the example's data, and its experiment file for twelve steps."""
    folder = project.folder / "data" / kind
    samples = (sample for _, sample in KINDS[kind](0))
    for split, rows in ROWS.items():
        for name, content in manifest(split, islice(samples, rows)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    shutil.copyfile(EXAMPLES / f"{kind}.yaml", project.folder / "experiment.yaml")


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_killed_is_one_run(tmp_path: Path, kind: Kind) -> None:
    alone, killed = Project(tmp_path / "alone"), Project(tmp_path / "killed")
    for project in (alone, killed):
        write_example(project, kind)
    alone.train_to_the_end(*OPTIONS)

    killed.train_until("upload.manifest@5,step@7", *OPTIONS)
    said = killed.train_to_the_end(*OPTIONS)

    assert "step 5" in said
    assert_one_run_like(killed, alone, step=STEPS)
