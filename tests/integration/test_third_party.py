"""A modality in a package of its own: `tests/packages/sound`, the one that the docs show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

PACKAGE = Path(__file__).parents[1] / "packages/sound"
MMRUN = Path(sys.executable).with_name("mmrun")
ROWS = 8


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the package; return where it lies."""
    base = tmp_path_factory.mktemp("sound")
    shutil.copytree(PACKAGE, base / "source")  # building writes beside the source
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", base / "site", "./source"],
        cwd=base,
        check=True,
    )
    return base / "site"


def mmrun(*words: str, folder: Path, site: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site or "")}
    return subprocess.run(
        [MMRUN, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def write_experiment(folder: Path) -> None:
    lines = ["signal\toutput"]
    for row in range(ROWS):
        np.save(folder / f"{row}.npy", np.sin(np.arange(40 + row, dtype=np.float32)))
        lines.append(f"{row}.npy\t{'high' if row % 2 else 'low'}")
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    experiment = {
        "data": {"dataset_type": "sound2text", "train_metadata_file": "train.tsv"},
        "processor": {"modality_kwargs": {"gain": 2.0, "jitter": 0.5}},
        "model": {"feat_dim": 8, "backbone_config": {"d_model": 16, **layers}},
        "training": {"output_dir": "out", "max_steps": 2, "use_cpu": True},
    }
    with (folder / "experiment.yaml").open("w") as file:
        YAML().dump(experiment, file)


def test_a_modality_of_another_package_is_trained_with(installed: Path, tmp_path: Path) -> None:
    write_experiment(tmp_path)

    done = mmrun("train", "--config_path", "experiment.yaml", folder=tmp_path, site=installed)

    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "out/train/checkpoint-2/processor_config.json").read_text())
    assert kept["streams"][0]["modality"] == "sound"


def test_its_settings_are_checked_as_those_of_any_other(installed: Path, tmp_path: Path) -> None:
    write_experiment(tmp_path)

    done = mmrun(
        "setup",
        *("--config_path", "experiment.yaml", "--set", "processor.modality_kwargs={gian: 2}"),
        folder=tmp_path,
        site=installed,
    )

    assert done.returncode == 3
    assert "processor.modality_kwargs.gian: is not a setting" in done.stderr
    assert "did you mean 'gain'?" in done.stderr


def test_without_the_package_it_is_unknown(tmp_path: Path) -> None:
    write_experiment(tmp_path)

    done = mmrun("setup", "--config_path", "experiment.yaml", folder=tmp_path, site=None)

    assert done.returncode == 7
    assert "unknown modality 'sound'" in done.stderr
