"""An experiment whose training state has the wanted size."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mmrun.workflows.demo_data import write_demo_data

MMRUN = Path(sys.executable).with_name("mmrun")
EXPERIMENT = """\
data:
  dataset_type: features2text
  train_metadata_file: data/train.tsv
  validation_metadata_file: data/validation.tsv
processor:
  pipeline: features2text
model:
  backbone_type: m2m_100
  backbone_config:
    d_model: {width}
    encoder_layers: 2
    decoder_layers: 2
    encoder_ffn_dim: {inner}
    decoder_ffn_dim: {inner}
    encoder_attention_heads: 2
    decoder_attention_heads: 2
{mapper}  feat_dim: 64
  max_length: 32
  freeze_backbone: {frozen}
training:
  output_dir: out
  max_steps: {steps}
  per_device_train_batch_size: 2
  learning_rate: 0.0001
  logging_steps: {log_every}
  eval_strategy: "no"
  save_strategy: steps
  save_steps: {save_every}
  save_total_limit: 2
  seed: 7
tracking:
  keep_last: {keep}
"""

_ADAPTER = "  multimodal_mapper_type: adapter\n  multimodal_mapper_factor: 1\n"
_BYTES = 12
"""Of one trained parameter: itself, and the two moments that AdamW keeps."""
_LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the state is, and a training with it."""

    name: str
    width: int
    inner: int

    @classmethod
    def of(cls, megabytes: int) -> "Size":
        """Return the size of a model whose weights and AdamW state have so many megabytes."""
        width = 512
        inner = round(megabytes * 1e6 / _BYTES / _LAYERS / (2 * width))
        return cls(name=f"{megabytes} MB", width=width, inner=inner)


SMALL = Size(name="1 MB", width=32, inner=224)


def write_project(
    folder: Path,
    size: Size,
    *,
    steps: int,
    save_every: int,
    log_every: int = 10,
    keep: int = 2,
    frozen: bool = False,
) -> None:
    """Write an experiment file and its data into ``folder``.

    ``frozen`` leaves about 1 % of the parameters to be trained: those of an adapter.
    """
    folder.mkdir(parents=True)
    write_demo_data(folder / "data")
    text = EXPERIMENT.format(
        width=size.width,
        inner=size.inner,
        steps=steps,
        save_every=save_every,
        log_every=log_every,
        keep=keep,
        frozen=str(frozen).lower(),
        mapper=_ADAPTER if frozen else "",
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")


def mmrun(project: Path, words: str, *, uri: str | None = None) -> str:
    """Run a command of the installed command line, which must succeed; return what it said."""
    done = subprocess.run(
        [MMRUN, *words.split()],
        cwd=project,
        env=outside() | ({"MLFLOW_TRACKING_URI": uri} if uri is not None else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"mmrun {words}:\n{done.stdout}")
    return done.stdout


def outside() -> dict[str, str]:
    """Return this process's environment without what would lead a project to other runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
