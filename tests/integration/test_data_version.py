"""The digest of tracked data is the one that the real DVC computes."""

import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from mmrun.config.schema import DataSection, Experiment
from mmrun.provenance.data import data_version


def test_a_folder_that_dvc_added_bears_its_digest(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub folder").mkdir(parents=True)
    for name in ("b", "a", "ü", "sub folder/c", "sub folder.x"):
        (data / f"{name}.npy").write_bytes(name.encode())
    (data / "train.tsv").write_text("signal\toutput\na.npy\tone\nsub folder/c.npy\ttwo\n")
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "data"]):
        subprocess.run(
            [sys.executable, "-m", "dvc", *command],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        )
    recorded = YAML(typ="safe").load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"]

    version = data_version(Experiment(data=DataSection(train_metadata_file=data / "train.tsv")))

    assert version.split()[0] == f"dvc:{recorded}"
