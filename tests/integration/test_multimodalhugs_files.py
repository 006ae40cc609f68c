"""Files with the keys of multimodalhugs 0.5, as they are, go through setup and ten steps."""

import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import ImageFont
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from mmrun.cli.main import run as mmrun
from tests.unit.modalities.poses import random_pose

STEPS = 10
ROWS = {"train": 6, "validation": 2, "test": 2}
WORDS = ["rain", "in", "the", "north", "and", "sun", "south"]
SIGNS = [
    "M525x535S2e748483x510S10011501x466S2e704510x500S10019476x475",
    "M518x529S14c20481x471S27106503x489",
]
SIZE = 32
DATA = """
  train_metadata_file: "{kind}/train.tsv"
  validation_metadata_file: "{kind}/validation.tsv"
  test_metadata_file: "{kind}/test.tsv"
"""
TEXT_SLOTS = """
    - processor_class: TextModalityProcessor
      processor_kwargs:
        tokenizer_path: "backbone"
        new_vocabulary: "{new}"
        role: target
      output_data_key: labels
      is_label: true
      column_map:
        decoder_prompt: target_prefix
        output: target
    - processor_class: TextModalityProcessor
      processor_kwargs:
        tokenizer_path: "backbone"
        new_vocabulary: "{new}"
        role: input
      output_data_key: encoder_prompt
      output_mask_key: encoder_prompt_length_padding_mask
      column_map:
        encoder_prompt: signal
    - processor_class: TextModalityProcessor
      processor_kwargs:
        tokenizer_path: "backbone"
        new_vocabulary: "{new}"
        role: input
      output_data_key: decoder_input_ids
      output_mask_key: decoder_attention_mask
      column_map:
        decoder_prompt: signal
"""
MODEL = """
  type: "multimodal_embedder"
  multimodal_mapper_type: "linear"
  multimodal_mapper_layer_norm_before: true
  multimodal_mapper_dropout: 0.1
  backbone_type: "m2m_100"
  pretrained_backbone: "backbone"
  max_length: 6
"""
SETUP = """
setup:
  output_dir: "of/the/file"
  do_dataset: true
  do_processor: true
  do_model: true
  update_config: false
"""
POSES_IN_SLOTS = (
    f"""
data:
  dataset_type: "pose2text"
  {DATA.format(kind="poses").strip()}
  shuffle: True
  max_frames: 300
model:
  {MODEL.strip()}
  feat_dim: 534
processor:
  slots:
    - processor_class: PoseModalityProcessor
      processor_kwargs:
        reduce_holistic_poses: true
      output_data_key: input_frames
      output_mask_key: attention_mask
      column_map:
        signal: signal
        signal_start: signal_start
        signal_end: signal_end
    {TEXT_SLOTS.format(new="__asl__").strip()}
"""
    + SETUP
    + """
training:
  run_name: "poses"
  logging_dir: "logs"
  do_train: True
  do_eval: True
  predict_with_generate: true
  save_strategy: "steps"
  eval_strategy: "steps"
  eval_steps: 5
  logging_steps: 5
  save_steps: 5
  per_device_train_batch_size: 2
  per_device_eval_batch_size: 2
  gradient_accumulation_steps: 2
  label_smoothing_factor: 0.1
  learning_rate: 5e-05
  load_best_model_at_end: True
  dataloader_num_workers: 1
  dataloader_prefetch_factor: 2
  metric_name: bleu, chrf
  metric_for_best_model: 'bleu'
  weight_decay: 0
  adam_beta1: 0.9
  adam_beta2: 0.998
  max_grad_norm: 0.0
  num_train_epochs: 1
  max_steps: 500000
  lr_scheduler_type: "inverse_sqrt"
  warmup_steps: 8000
  save_total_limit: 10
  early_stopping_patience: 10
  seed: 3435
  dataloader_drop_last: false
"""
)
TEXTS_AS_IMAGES = f"""
data:
  {DATA.format(kind="texts").strip()}
model:
  {MODEL.strip()}
  feature_extractor_type: clip
  feat_dim: 16
  freeze_backbone: false
  freeze_lm_head: false
  feature_extractor_config:
    initializer_factor: 1.0
    logit_scale_init_value: 2.6592
    projection_dim: 16
    hidden_size: 8
    vision_config:
      _name_or_path: ''
      add_cross_attention: false
      architectures:
      dropout: 0.0
      hidden_size: 8
      id2label: {{'0': LABEL_0}}
      image_size: {SIZE}
      intermediate_size: 8
      max_length: 20
      model_type: clip_vision_model
      num_attention_heads: 1
      num_beams: 1
      num_hidden_layers: 1
      patch_size: 16
      projection_dim: 16
      pruned_heads: {{}}
      torch_dtype:
      transformers_version: 4.16.0.dev0
      use_bfloat16: false
processor:
  slots:
    - processor_class: ImageModalityProcessor
      processor_kwargs:
        font_path: font.ttf
        width: {SIZE}
        height: {SIZE}
        mean: '[0.98, 0.97, 0.96]'
        std: '[0.13, 0.12, 0.11]'
      output_data_key: input_frames
      output_mask_key: attention_mask
    {TEXT_SLOTS.replace('new_vocabulary: "{new}"', "").strip()}
training:
  run_name: images
  output_dir: out
  do_train: true
  do_eval: true
  do_predict: true
  logging_strategy: steps
  evaluation_strategy: steps
  eval_steps: 5
  save_strategy: steps
  save_steps: 5
  logging_steps: 5
  per_device_train_batch_size: 2
  save_total_limit: 2
  learning_rate: 7e-04
  overwrite_output_dir: true
  predict_with_generate: true
  metric_for_best_model: chrf
  greater_is_better: true
  metric_name: chrf
  load_best_model_at_end: true
  early_stopping_patience: 10
  eval_delay: 5
  fp16: false
  use_cpu: true
  use_mps_device: false
  lr_scheduler_type: polynomial
"""
SIGNS_IN_SLOTS = (
    f"""
data:
  dataset_type: "signwriting2text"
  {DATA.format(kind="signs").strip()}
model:
  {MODEL.strip()}
  feature_extractor_type: "clip"
  pretrained_feature_extractor: "clip"
  feat_dim: 16
  feature_extractor_config: {{initializer_factor: 1.0}}
processor:
  slots:
    - processor_class: SignwritingModalityProcessor
      processor_kwargs:
        custom_preprocessor_path: clip
        width: {SIZE}
        height: {SIZE}
        channels: 3
        invert_frame: true
      output_data_key: input_frames
      output_mask_key: attention_mask
    {TEXT_SLOTS.format(new="languages.txt").strip()}
"""
    + SETUP
    + """
training:
  run_name: "signs"
  do_train: true
  eval_strategy: "steps"
  eval_steps: 5
  save_steps: 5
  max_steps: 200000
  per_device_train_batch_size: 2
  max_grad_norm: 0.0
  lr_scheduler_type: "inverse_sqrt"
  warmup_steps: 20000
  predict_with_generate: true
  metric_name: sacrebleu
  metric_for_best_model: sacrebleu
  greater_is_better: true
  fp16: True
"""
)
SHORTHAND = f"""
data:
  dataset_type: text2text
  {DATA.format(kind="texts").strip()}
processor:
  pipeline: text2text
  text_tokenizer_path: backbone
  new_vocabulary: "__vhe__,__en__"
model:
  name: small
  type: multimodal_embedder
  backbone_type: m2m_100
  pretrained_backbone:
  backbone_config:
    vocab_size: 20
    bos_token_id: 0
    pad_token_id: 1
    eos_token_id: 2
    decoder_start_token_id: 2
    d_model: 16
    encoder_layers: 1
    encoder_attention_heads: 1
    decoder_layers: 1
    decoder_attention_heads: 1
    decoder_ffn_dim: 16
    encoder_ffn_dim: 16
    max_length: 6
  use_backbone_max_length: true
  vl_factor: 1
  init_lang_abbr: avg
training:
  save_steps: 5
  evaluation_strategy: epoch
  warmup_ratio: 0.5
  group_by_length: true
  per_device_train_batch_size: 2
"""
FILES = {
    "slots": (
        POSES_IN_SLOTS,
        "bleu",
        {"data.shuffle", "training.logging_dir", "training.do_train", "training.do_eval"},
    ),
    "font and extractor": (
        TEXTS_AS_IMAGES,
        "chrf",
        {"training.do_train", "training.do_eval", "training.do_predict", "training.use_mps_device"}
        | {"training.evaluation_strategy"},
    ),
    "signs": (SIGNS_IN_SLOTS, "sacrebleu", {"training.do_train"}),
    "shorthand": (
        SHORTHAND,
        "loss",
        {"model.name", "model.vl_factor", "model.init_lang_abbr", "processor.text_tokenizer_path"}
        | {"training.evaluation_strategy", "training.warmup_ratio", "training.group_by_length"},
    ),
}
MODALITIES = {"font and extractor": ("--modality", "image2text")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of each kind, and what stands in for what the files name on the hub."""
    folder = tmp_path_factory.mktemp("files")
    _write_backbone(folder / "backbone")
    part = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    part |= {"num_attention_heads": 1}
    vision = {**part, "image_size": SIZE, "patch_size": 16}
    clip = CLIPConfig(
        projection_dim=16, text_config={**part, "vocab_size": 9}, vision_config=vision
    )
    CLIPModel(clip).save_pretrained(folder / "clip")
    size = {"height": SIZE, "width": SIZE}
    CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder / "clip")
    (folder / "font.ttf").write_bytes(ImageFont.load_default(10).path.getvalue())  # type: ignore[union-attr]
    (folder / "languages.txt").write_text("__ase__\n__en__\n")
    (folder / "poses").mkdir()
    for row in range(max(ROWS.values())):
        random_pose(folder / "poses" / f"{row}.pose", frames=3 + row)
    _write_manifests(folder / "poses", [f"{row}.pose" for row in range(6)], prompt="__asl__")
    _write_manifests(folder / "texts", ["rain and sun", "the north"], prompt="__vhe__")
    _write_manifests(folder / "signs", [*SIGNS, " ".join(SIGNS)], prompt="__ase__")
    return folder


def _write_backbone(place: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(place)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )
    M2M100ForConditionalGeneration(config).save_pretrained(place)


def _write_manifests(folder: Path, signals: list[str], *, prompt: str) -> None:
    folder.mkdir(exist_ok=True)
    header = "signal\tsignal_start\tsignal_end\tencoder_prompt\tdecoder_prompt\toutput"
    for split, rows in ROWS.items():
        lines = [
            f"{signals[row % len(signals)]}\t0\t0\t{prompt}\t__en__\t{WORDS[row]} and sun"
            for row in range(rows)
        ]
        (folder / f"{split}.tsv").write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(project)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    shutil.rmtree(project / "out", ignore_errors=True)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield project
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("light_machine")
@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_through_setup_and_ten_steps(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, metric, named = FILES[name]
    (here / "config.yaml").write_text(text)
    words = ["--config_path", "config.yaml", "--output_dir", "out"]

    assert mmrun(["setup", *words, *MODALITIES.get(name, ())]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    code = mmrun(["train", "--task", "translation", *words, "--max_steps", str(STEPS)])

    assert code == 0, capsys.readouterr().err
    assert set(re.findall(r"config\.yaml:\d+: ([\w.]+): ", said)) == named
    assert f"eval_{metric}" in _logged(here, step=STEPS)
    assert (here / f"out/train/checkpoint-{STEPS}/manifest.json").is_file()


def _logged(folder: Path, *, step: int) -> set[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "SELECT key FROM latest_metrics JOIN runs USING (run_uuid) WHERE step = ?"
        return {key for (key,) in database.execute(query, [step])}
