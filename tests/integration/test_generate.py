"""`mmrun generate` through the command line: which checkpoint, what is written and recorded."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from sacrebleu.metrics.chrf import CHRF
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmrun.checkpoints.found import found_at
from mmrun.cli.main import run
from mmrun.config.loading import Override, load_experiment
from mmrun.provenance.data import data_version
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import Run
from mmrun.workflows.generation_identity import rows_identity
from mmrun.workflows.kept_rows import kept_rows

ROWS = {"train": 16, "validation": 4, "test": 5}
WORDS = ["north", "east", "south", "west", "<en>", "say:", "a\ttab"]
VOCABULARY = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
PROMPTS = ["\t", "say:\t<en>", "\t<en>", "say:\t", "\t<en> <en>"]
"""Encoder and decoder prompts of the test rows: some have none, and lengths differ."""

EXPERIMENT = """\
data:
  dataset_type: features2text
  train_metadata_file: data/train.tsv
  validation_metadata_file: data/validation.tsv
  test_metadata_file: data/test.tsv
processor:
  tokenizer_path: tokenizer
model:
  backbone_config:
    d_model: 16
    encoder_layers: 1
    decoder_layers: 1
    encoder_ffn_dim: 16
    decoder_ffn_dim: 16
    encoder_attention_heads: 2
    decoder_attention_heads: 2
  feat_dim: 4
  max_length: 16
training:
  output_dir: out
  max_steps: 6
  per_device_train_batch_size: 4
  learning_rate: 0.01
  logging_steps: 2
  eval_strategy: steps
  eval_steps: 2
  save_steps: 2
  metric_name: exact_match,chrf
  metric_for_best_model: eval_loss
  greater_is_better: true
  use_cpu: true
  seed: 3
generation: {max_length: 12}
tracking: {keep_last: 3}
"""
"""The best by the largest loss is the first one: another than the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class Project:
    """A folder in which commands run."""

    def __init__(self, folder: Path, *, uri: str | None = None) -> None:
        self.folder = folder
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"

    def run(self, *arguments: str, **environment: str) -> Said:
        """Run a command in this process, whatever its exit code."""
        out, err = StringIO(), StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
            for name, value in {"MLFLOW_TRACKING_URI": self.uri, **environment}.items():
                patch.setenv(name, value)
            code = run(arguments)
        return Said(code=code, out=out.getvalue(), err=err.getvalue())

    def generate(self, *options: str, config: str | None = "experiment.yaml") -> str:
        """Run ``mmrun generate``, which must succeed; return what it said."""
        said = self.run("generate", *(("--config_path", config) if config else ()), *options)
        assert said.code == 0, said.err
        return said.out

    def predictions(self, *options: str) -> Sequence[str]:
        """Return the predictions of ``mmrun generate --model_name_or_path 6``."""
        self.generate("--model_name_or_path", "6", *options)
        return [line["prediction"] for line in self.lines("out/generate/checkpoint-6")]

    def lines(self, folder: str) -> Sequence[Mapping[str, Any]]:
        """Return the rows of ``predictions.jsonl``."""
        text = (self.folder / folder / "predictions.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def run_id(self) -> str:
        """The run of the output folder."""
        record = read_run_file(self.folder / "out")
        assert record is not None
        return record.run_id

    @property
    def store(self) -> MlflowStore:
        """Where the project's runs are recorded."""
        return MlflowStore(self.uri)

    def foreign_run(self, tags: Mapping[str, str]) -> str:
        """Make a run beside mmrun, as `mlflow run` or a user does."""
        return self.store.create(experiment="Default", name=None, tags=tags).run_id

    def children(self) -> Sequence[Run]:
        """Return the runs below the training's run, the newest first."""
        experiment_id = self.store.read(self.run_id).experiment_id
        tags = {"mlflow.parentRunId": self.run_id}
        return self.store.find(experiment_id=experiment_id, tags=tags)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose training is done, with checkpoints of the steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("generate") / "project"
    _write_data(folder / "data")
    _write_tokenizer(folder / "tokenizer")
    (folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    project = Project(folder)
    said = project.run("train", "--config_path", "experiment.yaml")
    assert said.code == 0, said.err
    return project


def _write_data(folder: Path) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, rows in ROWS.items():
        lines = ["signal\tencoder_prompt\tdecoder_prompt\toutput"]
        for row in range(rows):
            frames = generator.normal(size=(1 + row % 3, 4)).astype(np.float32)
            np.save(folder / f"{split}-{row}.npy", frames)
            said = " ".join(WORDS[(row + word) % 4] for word in range(1 + row % 3))
            lines.append(f"{split}-{row}.npy\t{PROMPTS[row % len(PROMPTS)]}\t{said}")
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")


def _write_tokenizer(folder: Path) -> None:
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)


# Which checkpoint


def test_the_best_is_used_where_there_was_evaluation(project: Project) -> None:
    assert project.generate().startswith("checkpoint-2 (best): exact_match ")


def test_the_latest_is_used_where_there_was_none(project: Project) -> None:
    assert project.generate("--eval_strategy", "no").startswith("checkpoint-6 (latest): ")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        pytest.param("4", "checkpoint-4: ", id="a step"),
        pytest.param("best", "checkpoint-2 (best): ", id="best"),
        pytest.param("latest", "checkpoint-6 (latest): ", id="latest"),
        pytest.param("checkpoint-best", "checkpoint-2 (checkpoint-best): ", id="best, as a link"),
        pytest.param("checkpoint-last", "checkpoint-6 (checkpoint-last): ", id="last, as a link"),
        pytest.param("{run}@4", "checkpoint-4 (", id="a step of a run"),
        pytest.param(
            "out/train/checkpoint-4", "checkpoint-4 (out/train/checkpoint-4): ", id="path"
        ),
        pytest.param("out/train/checkpoint-last", "checkpoint-6 (", id="a link"),
        pytest.param("{run}@best", "checkpoint-2 (", id="best of a run"),
        pytest.param("runs:/{run}/checkpoints/checkpoint-6", "checkpoint-6 (", id="URI"),
    ],
)
def test_a_reference_names_the_checkpoint(project: Project, reference: str, name: str) -> None:
    said = project.generate("--model_name_or_path", reference.format(run=project.run_id))

    assert said.startswith(name)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--output_dir", "nowhere"], "no trained run belongs to nowhere", id="run"),
        pytest.param(["--model_name_or_path", "99"], "has no checkpoint 99", id="step"),
        pytest.param(["--model_name_or_path", "./99"], "no checkpoint folder 99", id="path"),
    ],
)
def test_what_is_not_there_ends_in_exit_code_5(
    project: Project, options: list[str], problem: str
) -> None:
    said = project.run("generate", "--config_path", "experiment.yaml", *options)

    first, hint = said.err.splitlines()
    assert (said.code, said.out) == (5, "")
    assert first.startswith("error: ")
    assert problem in first
    assert hint.startswith("  try: ")
    assert not (project.folder / "nowhere").exists()


# What is written


def test_predictions_and_scores_are_written_for_every_row(project: Project) -> None:
    folder = project.folder / "out/generate/checkpoint-2"
    project.generate()

    lines = project.lines("out/generate/checkpoint-2")
    manifest = (project.folder / "data/test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    given = [
        "\t".join([line["signal"], line["encoder_prompt"], line["decoder_prompt"]])
        + f"\t{line['reference']}"
        for line in lines
    ]
    table = (folder / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    assert given == manifest
    assert table[0].split("\t") == list(lines[0])
    assert [row.split("\t") for row in table[1:]] == [
        [str(value) for value in line.values()] for line in lines
    ]


def test_scores_are_those_of_the_predictions(project: Project) -> None:
    project.generate()

    lines = project.lines("out/generate/checkpoint-2")
    predictions = [line["prediction"] for line in lines]
    references = [line["reference"] for line in lines]
    scores = json.loads(
        (project.folder / "out/generate/checkpoint-2/scores.json").read_text(encoding="utf-8")
    )
    assert scores["chrf"] == CHRF().corpus_score(predictions, [references]).score
    right = sum(one == other for one, other in zip(predictions, references, strict=True))
    assert scores["exact_match"] == right / len(lines)
    newest = (project.folder / "out/generate/scores.json").read_text(encoding="utf-8")
    assert json.loads(newest) == scores


def test_a_tab_in_a_text_stays_in_the_lines_and_is_a_blank_in_the_table(project: Project) -> None:
    forced = ("--forced_bos_token_id", str(VOCABULARY["a\ttab"]))

    prediction = project.predictions(*forced)[0]

    table = (project.folder / "out/generate/checkpoint-6/predictions.tsv").read_text("utf-8")
    assert prediction.startswith("a\ttab")
    assert table.splitlines()[1].split("\t")[4:-1] == [prediction.replace("\t", " ")]


def test_beams_have_an_effect(project: Project) -> None:
    assert project.predictions("--num_beams", "5") != project.predictions("--num_beams", "1")


def test_lengths_have_an_effect(project: Project) -> None:
    long = project.predictions("--min_length", "10")
    short = project.predictions("--min_length", "4", "--max_length", "4")

    assert max(len(text.split()) for text in long) > 3
    assert max(len(text.split()) for text in short) <= 3


def test_rows_are_the_same_in_batches_of_any_size(project: Project) -> None:
    together = project.predictions("--batch_size", "5")

    assert project.predictions("--batch_size", "1") == together
    assert project.predictions("--per_device_eval_batch_size", "2") == together


def test_a_sampled_text_is_the_same_again_and_another_with_another_seed(project: Project) -> None:
    drawn = ("--do_sample", "true", "--top_k", "0", "--seed")

    assert project.predictions(*drawn, "1") == project.predictions(*drawn, "1")
    assert project.predictions(*drawn, "2") != project.predictions(*drawn, "1")


def test_several_metrics_are_scored_at_once(project: Project) -> None:
    said = project.generate("--metric_name", "sacrebleu,chrf++,ter,wer,cer,rouge,exact_match")

    scores = json.loads((project.folder / "out/generate/scores.json").read_text(encoding="utf-8"))
    names = {"sacrebleu", "chrfpp", "ter", "wer", "cer", "exact_match"}
    assert scores.keys() == names | {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    assert f"wer {scores['wer']:.4g}" in said
    assert project.children()[0].metrics == scores


def test_another_split_does_not_replace_the_predictions_of_the_test(project: Project) -> None:
    project.generate()
    before = project.lines("out/generate/checkpoint-2")

    said = project.generate("--split", "validation")

    lines = project.lines("out/generate/validation/checkpoint-2")
    assert "predictions in out/generate/validation/checkpoint-2/predictions.tsv" in said
    assert [line["signal"] for line in lines] == [f"validation-{row}.npy" for row in range(4)]
    assert project.lines("out/generate/checkpoint-2") == before
    assert project.children()[0].name == "validation of checkpoint-2"


def test_less_precision_gives_almost_the_same_scores(project: Project) -> None:
    project.predictions()
    whole = [line["score"] for line in project.lines("out/generate/checkpoint-6")]

    project.predictions("--bf16_full_eval", "true")

    half = [line["score"] for line in project.lines("out/generate/checkpoint-6")]
    assert half != whole
    assert half == pytest.approx(whole, rel=0.1)


def test_an_output_folder_can_be_named(project: Project, tmp_path: Path) -> None:
    options = (
        "--model_name_or_path",
        f"{project.run_id}@4",
        "--output_dir",
        str(tmp_path / "here"),
    )

    said = project.generate(*options)

    assert f"predictions in {tmp_path / 'here/generate/checkpoint-4/predictions.tsv'}" in said
    assert (tmp_path / "here/generate/checkpoint-4/predictions.tsv").is_file()


# What is needed


def test_the_folder_of_a_checkpoint_is_enough_where_the_file_names_none(project: Project) -> None:
    text = EXPERIMENT.replace("  output_dir: out\n", "").replace(
        "  dataset_type: features2text\n", ""
    )
    (project.folder / "bare.yaml").write_text(text)
    best = "out/train/checkpoint-best"

    said = project.generate("--model_name_or_path", best, config="bare.yaml")

    assert f"predictions in {project.folder / 'out/generate'}" in said


def test_a_run_is_enough_where_there_is_nothing_but_the_data(
    project: Project, tmp_path: Path
) -> None:
    shutil.copytree(project.folder / "data", tmp_path / "data")
    other = Project(tmp_path, uri=project.uri)

    said = other.generate(
        "--model_name_or_path", f"{project.run_id}@best", "--output_dir", "here", config=None
    )

    assert said.startswith("checkpoint-2 (")
    assert other.lines("here/generate/checkpoint-2") == _usual_lines(project)


def _usual_lines(project: Project) -> Sequence[Mapping[str, Any]]:
    project.generate()
    return project.lines("out/generate/checkpoint-2")


def test_the_test_split_alone_is_enough(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for path in (project.folder / "data").glob("test*"):
        shutil.copy(path, tmp_path / "data")
    other = Project(tmp_path, uri=project.uri)
    absent = ("data.train_metadata_file=null", "data.validation_metadata_file=null")

    said = other.generate(
        "--model_name_or_path",
        f"{project.run_id}@best",
        "--output_dir",
        "here",
        *(word for assignment in absent for word in ("--set", assignment)),
        config=None,
    )

    assert said.startswith("checkpoint-2 (")


def test_a_checkpoint_of_another_program_is_enough(project: Project) -> None:
    plain = project.folder / "plain"
    shutil.copytree(project.folder / "out/train/checkpoint-4", plain)
    for name in ("manifest.json", "mmrun_state.json", "processor_config.json"):
        (plain / name).unlink()

    said = project.generate("--model_name_or_path", "plain", "--output_dir", "of-plain")

    project.generate("--model_name_or_path", "4")
    assert said.startswith("plain: ")
    assert project.lines("of-plain/generate/plain") == project.lines("out/generate/checkpoint-4")


def test_actors_that_are_gone_are_made_again(project: Project) -> None:
    shutil.rmtree(project.folder / "out/setup")

    project.generate()

    assert {path.name for path in (project.folder / "out/setup").iterdir()} == {"dataset"}


def test_a_length_that_a_prompt_fills_is_refused(project: Project) -> None:
    said = project.run("generate", "--config_path", "experiment.yaml", "--max_length", "3")

    assert said.code == 3
    assert "error: generation.max_length: 3 " in said.err
    assert "  try: --max_length 4" in said.err


# What is recorded


def test_the_record_is_a_finished_child_of_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.generate("--model_name_or_path", "4", "--max_length", "11")

    child = project.children()[0]
    assert (child.status, child.name) == ("FINISHED", "test of checkpoint-4")
    assert child.params["generation.max_length"] == "11"
    assert child.tags["mmrun.checkpoint"] == f"{project.run_id}@4.a1"
    lines = project.lines("out/generate/checkpoint-4")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.uri)  # load_table forgets the client's
    table = MlflowClient(project.uri).load_table(
        child.experiment_id, "predictions.json", run_ids=[child.run_id]
    )
    assert table["prediction"].tolist() == [line["prediction"] for line in lines]
    stored = {entry.path for entry in project.store.artifacts(child.run_id).list()}
    assert {"predictions.tsv", "predictions.jsonl", "scores.json", "predictions.json"} <= stored


def test_a_repetition_uses_the_same_record(project: Project) -> None:
    project.generate("--max_length", "10")
    child, before = project.children()[0], len(project.children())

    project.generate("--max_length", "10")

    assert len(project.children()) == before
    points = project.store.history(child.run_id, "chrf")
    assert [point.step for point in points] == [2]


def test_fewer_rows_are_another_record(project: Project) -> None:
    project.generate("--max_length", "9")
    before = len(project.children())

    project.generate("--max_length", "9", "--max_predict_samples", "2")

    assert len(project.children()) == before + 1


@pytest.mark.parametrize("command", ["generate", "setup"])
def test_under_mlflow_run_the_launcher_s_run_is_the_record(project: Project, command: str) -> None:
    launched = project.foreign_run({"mlflow.project.entryPoint": command})

    said = project.run(command, "--config_path", "experiment.yaml", MLFLOW_RUN_ID=launched)

    run = project.store.read(launched)
    assert said.code == 0, said.err
    assert run.tags["mmrun.role"] == {"generate": "generation", "setup": "setup"}[command]
    stored = {entry.path for entry in project.store.artifacts(launched).list()}
    assert {"generate": "scores.json", "setup": "setup"}[command] in stored


@pytest.mark.parametrize("command", ["generate", "setup"])
def test_a_run_of_somebody_else_is_left_as_it_is(project: Project, command: str) -> None:
    theirs = project.foreign_run({"owner": "somebody"})

    said = project.run(command, "--config_path", "experiment.yaml", MLFLOW_RUN_ID=theirs)

    assert said.code == 0, said.err
    assert not any(name.startswith("mmrun.role") for name in project.store.read(theirs).tags)
    assert project.store.artifacts(theirs).list() == []


def test_an_unknown_metric_is_refused_before_anything_is_done(project: Project) -> None:
    before = len(project.children())

    said = project.run("generate", "--config_path", "experiment.yaml", "--metric_name", "sacreblue")

    assert said.code == 3
    assert "did you mean 'sacrebleu'?" in said.err
    assert len(project.children()) == before


def test_a_second_one_at_the_same_rows_is_refused_and_changes_no_record(project: Project) -> None:
    options = ("--model_name_or_path", "4", "--max_length", "7")
    project.generate(*options)
    experiment = load_experiment(
        project.folder / "experiment.yaml",
        overrides=(Override(key="generation.max_length", text="7", source="test"),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        found = found_at(Path("out/train/checkpoint-4"))
        data = data_version(experiment)
    key = rows_identity(experiment, found, data=data, split="test")

    with kept_rows(project.folder / f"out/.generate/checkpoint-4.{key}"):
        said = project.run("generate", "--config_path", "experiment.yaml", *options)

    assert said.code == 6
    assert "is in use by " in said.err
    assert project.children()[0].status == "FINISHED"


@pytest.fixture
def broken(project: Project) -> Iterator[Project]:
    """Return the project with a file of the test split that cannot be read."""
    file = project.folder / "data/test-3.npy"
    content = file.read_bytes()
    file.write_bytes(content[:20].ljust(len(content)))  # of another size it would be no row
    yield project
    file.write_bytes(content)


def test_a_failure_is_recorded_and_leaves_no_predictions(broken: Project) -> None:
    shutil.rmtree(broken.folder / "out/generate", ignore_errors=True)

    said = broken.run("generate", "--config_path", "experiment.yaml")

    assert said.code == 4, said.err
    assert "data/test.tsv:5: signal: " in said.err
    assert broken.children()[0].status == "FAILED"
    assert not (broken.folder / "out/generate").exists()


def test_a_row_that_cannot_be_read_may_be_left_out_of_the_scores(broken: Project) -> None:
    said = broken.generate("--on_bad_sample", "skip", "--model_name_or_path", "6")

    lines = broken.lines("out/generate/checkpoint-6")
    assert "; 1 of 5 rows could not be read and are not scored" in said
    assert (lines[3]["prediction"], lines[3]["score"]) == ("", None)
    read = [line for line in lines if line["score"] is not None]
    assert len(read) == 4
    chrf = CHRF().corpus_score(
        [line["prediction"] for line in read], [[line["reference"] for line in read]]
    )
    scores = json.loads((broken.folder / "out/generate/scores.json").read_text(encoding="utf-8"))
    assert scores["chrf"] == chrf.score
