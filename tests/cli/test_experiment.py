from pathlib import Path

import pytest

from mmrun.cli.command_line import Setting
from mmrun.cli.experiment import setup_of

RATE = Setting(key="training.learning_rate", text="1e-4", source="--learning_rate")


def actor(key: str, folder: str) -> Setting:
    return Setting(key=key, text=folder, source=f"--{key.rpartition('.')[2]}")


def test_actors_of_one_setup_are_taken_for_its_folder() -> None:
    named = [
        actor("data.dataset_dir", "out/setup/dataset"),
        actor("processor.processor_name_or_path", "out/setup/processor/"),
    ]

    assert setup_of([*named, RATE], setup_path=None) == ([RATE], Path("out/setup"))


@pytest.mark.parametrize(
    ("folder", "setup_path"),
    [
        pytest.param("other/setup/dataset", None, id="two setups"),
        pytest.param("out/setup/rows", None, id="not as setup calls it"),
        pytest.param("out/setup/dataset", Path("out/setup"), id="said twice"),
    ],
)
def test_other_actors_stay_settings(folder: str, setup_path: Path | None) -> None:
    settings = [
        actor("data.dataset_dir", folder),
        actor("processor.processor_name_or_path", "out/setup/processor"),
    ]

    assert setup_of(settings, setup_path=setup_path) == (settings, setup_path)
