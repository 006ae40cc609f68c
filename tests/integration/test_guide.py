"""The commands of the guide that this project started from, as they are written there.

The experiment file has the form of the multimodalhugs configuration files: a pipeline shorthand, a
local backbone and tokenizer, no `tracking` section.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from mmrun.workflows.demo_data import write_demo_data

MMRUN = Path(sys.executable).with_name("mmrun")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CONFIG = """\
data:
  train_metadata_file: data/train.tsv
  validation_metadata_file: data/validation.tsv
  test_metadata_file: data/test.tsv
processor:
  pipeline: features2text
  tokenizer_path: pretrained
  new_vocabulary: "__dgs__,__de__"
  modality_kwargs: {skip_frames_stride: 1}
model:
  type: multimodal_embedder
  multimodal_mapper_type: linear
  multimodal_mapper_layer_norm_before: true
  multimodal_mapper_dropout: 0.1
  backbone_type: bart
  pretrained_backbone: pretrained
  feat_dim: 64
  max_length: 16
  freeze_backbone: false
setup:
  do_dataset: true
  do_processor: true
  do_model: true
  update_config: false
training:
  run_name: guide
  do_train: true
  per_device_train_batch_size: 8
  eval_strategy: steps
  eval_steps: 4
  save_steps: 4
  logging_steps: 2
  max_steps: 4
  learning_rate: 1e-3
  predict_with_generate: true
  metric_name: "sacrebleu,chrf"
  metric_for_best_model: chrf
  load_best_model_at_end: true
generation: {max_length: 16, num_beams: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the configuration, small data, and a backbone with its tokenizer."""
    place = tmp_path_factory.mktemp("guide")
    write_demo_data(place / "data", kind="features", seed=0)
    for split, rows in {"train": 40, "validation": 8, "test": 8}.items():
        manifest = place / "data" / f"{split}.tsv"
        lines = manifest.read_text(encoding="utf-8").splitlines()[: rows + 1]
        manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_pretrained(place / "pretrained")
    (place / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return place


def _write_pretrained(place: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(place)
    config = BartConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=64,
    )
    BartForConditionalGeneration(config).save_pretrained(place)


def mmrun(folder: Path, command: str) -> str:
    """Run ``command`` as it is written in the guide; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(
        [MMRUN, *command.replace("\\\n", " ").replace('"', "").split()],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _step(folder: Path) -> int:
    state = folder / "outputs/train/checkpoint-last/trainer_state.json"
    step: int = json.loads(state.read_text(encoding="utf-8"))["global_step"]
    return step


def _run_id(folder: Path) -> str:
    content = json.loads((folder / "outputs/run.json").read_text(encoding="utf-8"))
    run_id: str = content["run_id"]
    return run_id


def test_the_guide_runs_as_written(folder: Path) -> None:
    said = mmrun(
        folder,
        'setup --modality "features2text" --config_path config.yaml --output_dir outputs',
    )
    assert "40 train" in said

    mmrun(folder, 'train --task "translation" --config_path config.yaml --output_dir outputs')
    run_id = _run_id(folder)
    assert _step(folder) == 4

    # Option 1: a plain boolean option would read this `false` as true.
    said = mmrun(
        folder,
        'train --task "translation" \\\n --config_path config.yaml \\\n --output_dir outputs \\\n'
        " --overwrite_output_dir false \\\n --max_steps 8",
    )
    assert "from step 4" in said
    assert (_run_id(folder), _step(folder)) == (run_id, 8)

    # Option 2: from a checkpoint that is named.
    said = mmrun(
        folder,
        'train --task "translation" --config_path config.yaml --output_dir outputs '
        "--resume_from_checkpoint outputs/train/checkpoint-4 --max_steps 10",
    )
    assert "from step 4" in said
    assert (_run_id(folder), _step(folder)) == (run_id, 10)

    said = mmrun(folder, "generate --task seq2seq --config_path config.yaml --output_dir outputs")
    assert "sacrebleu" in said
    scores = json.loads((folder / "outputs/generate/scores.json").read_text(encoding="utf-8"))
    assert set(scores) == {"sacrebleu", "chrf"}
