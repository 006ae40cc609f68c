"""On another machine a reference is enough, also for what the settings of a modality name."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import ImageFont

from tests.recovery.project import Project

WORDS = ("north", "east", "south", "west")
EXPERIMENT = """
data:
  train_metadata_file: data/train.tsv
  validation_metadata_file: data/train.tsv
  test_metadata_file: data/train.tsv
  max_length: 20
processor:
  slots:
    - processor_class: ImageModalityProcessor
      processor_kwargs: {font_path: fonts/plain.ttf, width: 32, height: 8, channels: 1}
      output_data_key: drawn
      column_map: {word: signal}
    - processor_class: TextModalityProcessor
      output_data_key: said
      column_map: {sentence: signal}
    - processor_class: TextModalityProcessor
      processor_kwargs: {role: target}
      output_data_key: labels
      column_map: {text: target}
model:
  feat_dim: 64
  max_length: 24
  backbone_config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16}
training: {output_dir: out, max_steps: 4, save_steps: 2, logging_steps: 1, use_cpu: true,
  per_device_train_batch_size: 4, metric_name: chrf}
"""
"""A text that is drawn with a font, and a text that is read."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run whose output folder, experiment file and font are gone."""
    project = Project(tmp_path_factory.mktemp("machine") / "project")
    (project.folder / "data").mkdir(parents=True)
    (project.folder / "fonts").mkdir()
    (project.folder / "experiment.yaml").write_text(EXPERIMENT)
    font = ImageFont.load_default(10)
    (project.folder / "fonts/plain.ttf").write_bytes(font.path.getvalue())  # type: ignore[union-attr]
    rows = [f"{word}\tgo {word} now\tturn to the {word}" for word in WORDS * 3]
    (project.folder / "data/train.tsv").write_text(
        "\n".join(["word\tsentence\ttext", *rows]) + "\n"
    )
    project.train_to_the_end()
    return project


@pytest.fixture
def elsewhere(trained: Project, tmp_path: Path) -> tuple[Project, str]:
    """The data, and the MLflow store, on a machine that has nothing else; and the run's id."""
    other = Project(tmp_path / "elsewhere")
    shutil.copytree(trained.folder, other.folder, ignore=shutil.ignore_patterns("out", "fonts"))
    return other, trained.run.run_id


def uri(project: Project) -> str:
    return f"sqlite:///{project.folder}/mlflow.db"


def vocabulary(folder: Path) -> object:
    return json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]


def test_a_training_goes_on_there_with_a_changed_model_and_the_same_tokens(
    trained: Project, elsewhere: tuple[Project, str]
) -> None:
    other, run_id = elsewhere
    manifest = other.folder / "data/train.tsv"
    manifest.write_text(manifest.read_text().replace("turn", "walk"))

    done = other.mmrun(
        "train",
        *("--resume_from_checkpoint", f"{run_id}@latest", "--output_dir", "out"),
        *("--max_steps", "6", "--accept-data-change"),
        *("--set", "model.freeze_decoder_embed_tokens=true"),
        MLFLOW_TRACKING_URI=uri(trained),
    )

    assert done.code == 0, done.said
    last = other.out / "train/checkpoint-6"
    assert vocabulary(last) == vocabulary(trained.out / "train/checkpoint-4")
    assert (last / "enclosed/drawn/font_path/plain.ttf").is_file()


def test_it_is_translated_with_there(trained: Project, elsewhere: tuple[Project, str]) -> None:
    other, run_id = elsewhere

    done = other.mmrun(
        "generate",
        *("--model_name_or_path", f"{run_id}@4", "--output_dir", "out"),
        MLFLOW_TRACKING_URI=uri(trained),
    )

    assert done.code == 0, done.said
    assert (other.out / "generate/checkpoint-4/predictions.tsv").is_file()


def test_what_the_checkpoint_has_itself_is_not_changed_by_the_file_without_a_word(
    trained: Project,
) -> None:
    done = trained.mmrun(
        "generate",
        *("--config_path", "experiment.yaml", "--model_name_or_path", "4"),
        *("--set", "model.max_length=20"),
    )

    assert done.code == 0, done.said
    (told,) = (line for line in done.said.splitlines() if "without effect" in line)
    assert "model.max_length" in told
    assert "checkpoint-4 has its own" in told
