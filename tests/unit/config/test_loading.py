import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mmrun.config.loading import (
    Override,
    fingerprint,
    flat,
    load_experiment,
    plain,
)
from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError, UsageError

WHOLE = """\
data:
  dataset_type: features2text
  train_metadata_file: data/train.tsv
  validation_metadata_file: ~/val.tsv
processor:
  pipeline: features2text
  new_vocabulary: "__dgs__,__de__"
  modality_kwargs: {skip_frames_stride: 2}
model:
  feat_dim: 64
  adapter_ksize: [5, 5]
  backbone_config: {d_model: 128, activation_function: relu}
setup: {do_model: true, seed: 1}
training:
  output_dir: outputs/demo
  learning_rate: 1e-5
  max_steps: 500
  metric_name: "sacrebleu, chrf"
  report_to: [mlflow, wandb]
  eval_strategy: no
generation: {num_beams: 5, do_sample: true}
tracking: {experiment: mine, keep_best: 0}
"""


def load(folder: Path, text: str, *overrides: Override, name: str = "e.yaml") -> Experiment:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_experiment(path, overrides=overrides)


def option(key: str, text: str) -> Override:
    return Override(key=key, text=text, source=f"--{key.rpartition('.')[2]}")


def problems(error: ConfigError | UsageError, folder: Path) -> list[str]:
    return [text.replace(f"{folder}/", "") for text in (str(error), *error.more)]


def test_a_whole_file_becomes_a_typed_experiment(tmp_path: Path) -> None:
    experiment = load(tmp_path, WHOLE)

    assert experiment.data.train_metadata_file == Path("data/train.tsv")
    assert experiment.data.validation_metadata_file == Path.home() / "val.tsv"
    assert experiment.model.adapter_ksize == (5, 5)
    assert experiment.training.metric_name == ("sacrebleu", "chrf")
    assert experiment.training.report_to == ("wandb",)
    assert experiment.training.arguments == {
        "learning_rate": 1e-5,
        "max_steps": 500,
        "eval_strategy": "no",
    }
    assert experiment.generation.num_beams == 5
    assert experiment.generation.options == {"do_sample": True}


def test_sections_that_are_left_out_or_empty_have_their_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "data:\nmodel: {}\n") == Experiment()


def test_a_key_without_a_value_has_its_default(tmp_path: Path) -> None:
    experiment = load(tmp_path, "model: {feat_dim: }\ntraining: {learning_rate: , tf32: }\n")

    assert experiment.model.feat_dim == 512
    assert experiment.training.arguments == {"tf32": None}


def test_the_task_has_an_alias(tmp_path: Path) -> None:
    assert load(tmp_path, "task: seq2seq\n").task == "translation"


def test_every_problem_is_told_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    text = """\
model:
  fead_dim: 3
  feat_dim: wide
  multimodal_mapper_type: liner
training:
  lerning_rate: 1
  max_steps: abc
  warmup_steps: [1]
trainin: {}
data: 5
"""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)

    assert problems(caught.value, tmp_path) == [
        "e.yaml:2: model.fead_dim: unknown key; did you mean 'feat_dim'?",
        "e.yaml:3: model.feat_dim: must be a valid integer, not 'wide'",
        "e.yaml:4: model.multimodal_mapper_type: must be 'linear', 'adapter' or 'cnn_adapter',"
        " not 'liner'",
        "e.yaml:6: training.lerning_rate: unknown key; did you mean 'learning_rate'?",
        "e.yaml:7: training.max_steps: must be a whole number, not 'abc'",
        "e.yaml:8: training.warmup_steps: must be a number, not [1]",
        "e.yaml:9: trainin: unknown section; did you mean 'training'?",
        "e.yaml:10: data: must hold keys, not 5",
    ]
    assert caught.value.hint == f"correct {tmp_path / 'e.yaml'}"


def test_one_unknown_key_has_the_nearest_as_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lerning_rate: unknown key") as caught:
        load(tmp_path, "training: {lerning_rate: 1}\n")

    assert caught.value.hint == "write 'learning_rate' instead of 'lerning_rate'"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("save_only_model: true", "cannot be resumed", id="no optimizer"),
        pytest.param("resume_from_checkpoint: x", "on the command line", id="reference"),
        pytest.param("report_to: all", "'all' is not a tracker", id="all trackers"),
        pytest.param("save_total_limit: 0", "greater than 0", id="keep none"),
        pytest.param("warmup_ratio: 1.0", "all of training would be warm-up", id="all warm-up"),
    ],
)
def test_what_mmrun_owns_is_refused_where_it_would_break_a_promise(
    tmp_path: Path, line: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"e.yaml:2: training\..*{reason}"):
        load(tmp_path, f"training:\n  {line}\n")


def test_the_command_line_wins_even_with_a_default(tmp_path: Path) -> None:
    experiment = load(
        tmp_path,
        "training: {learning_rate: 1e-5}\nmodel: {feat_dim: 7}\n",
        option("training.learning_rate", "5e-05"),
        option("model.feat_dim", "512"),
    )

    assert experiment.training.arguments["learning_rate"] == 5e-05
    assert experiment.model.feat_dim == 512


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        pytest.param("data.train_metadata_file", "a.tsv", Path("a.tsv"), id="path"),
        pytest.param("data.dataset_type", "no", "no", id="a text that looks like a boolean"),
        pytest.param("data.max_frames", "null", None, id="null"),
        pytest.param("setup.do_model", "true", True, id="boolean"),
        pytest.param("model.multimodal_mapper_dropout", "0.5", 0.5, id="number"),
        pytest.param("model.adapter_ksize", "(5,5)", (5, 5), id="tuple"),
        pytest.param("model.backbone_config", "{d_model: 8}", {"d_model": 8}, id="mapping"),
        pytest.param("training.metric_name", "bleu,chrf", ("bleu", "chrf"), id="names"),
        pytest.param("training.run_name", "1e3", "1e3", id="text that looks like a number"),
        pytest.param("tracking.server_loss_s", "5", 5.0, id="seconds"),
    ],
)
def test_an_override_gets_the_type_of_its_field(key: str, text: str, value: object) -> None:
    experiment = load_experiment(None, overrides=[option(key, text)])

    section, name = key.split(".")
    assert getattr(getattr(experiment, section), name) == value


def test_an_override_reaches_inside_a_mapping(tmp_path: Path) -> None:
    experiment = load(
        tmp_path, WHOLE, Override(key="model.backbone_config.d_model", text="32", source="--set")
    )

    assert experiment.model.backbone_config == {"d_model": 32, "activation_function": "relu"}


def test_an_override_of_generate_is_a_value_of_yaml() -> None:
    experiment = load_experiment(None, overrides=[option("generation.do_sample", "true")])

    assert experiment.generation.options == {"do_sample": True}


def test_a_bad_override_is_a_usage_error_that_names_the_option() -> None:
    with pytest.raises(UsageError, match="--max_steps: must be a whole number, not 'abc'"):
        load_experiment(None, overrides=[option("training.max_steps", "abc")])


def test_an_unknown_section_in_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    override = Override(key="trainng.max_steps", text="1", source="--set")

    with pytest.raises(UsageError, match="--set trainng: unknown section"):
        load(tmp_path, WHOLE, override)


def test_problems_in_the_file_and_on_the_command_line_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "model: {feat_dim: x}\n", option("training.max_steps", "abc"))

    assert len(caught.value.more) == 1


def test_an_override_repairs_a_value_of_the_file(tmp_path: Path) -> None:
    experiment = load(tmp_path, "model: {feat_dim: x}\n", option("model.feat_dim", "5"))

    assert experiment.model.feat_dim == 5


def test_values_refer_to_each_other_after_the_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMRUN_TEST_NAME", "here")
    text = """\
training: {output_dir: a, max_steps: 5, save_steps: "${training.max_steps}"}
setup: {output_dir: "${training.output_dir}/setup"}
tracking: {experiment: "${oc.env:MMRUN_TEST_NAME}"}
"""
    experiment = load(tmp_path, text, option("training.output_dir", "b"))

    assert experiment.setup.output_dir == Path("b/setup")
    assert experiment.training.arguments["save_steps"] == 5
    assert experiment.tracking.experiment == "here"


def test_a_reference_to_nothing_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"e.yaml:2: setup.output_dir: cannot resolve"):
        load(tmp_path, 'setup:\n  output_dir: "${training.nothing}"\n')


def test_names_of_other_versions_are_told_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = """\
training:
  do_train: true
  evaluation_strategy: steps
  group_by_length: true
  warmup_ratio: 0.1
  no_cuda: true
  per_gpu_train_batch_size: 4
data: {shuffle: true}
"""
    with caplog.at_level(logging.WARNING):
        experiment = load(tmp_path, text)

    assert experiment.training.arguments == {
        "eval_strategy": "steps",
        "train_sampling_strategy": "group_by_length",
        "warmup_steps": 0.1,
        "use_cpu": True,
        "per_device_train_batch_size": 4,
    }
    assert len(caplog.records) == 1
    assert "e.yaml:2: training.do_train: has no effect" in caplog.text
    assert "e.yaml:8: data.shuffle: has no effect" in caplog.text
    assert "e.yaml:5: training.warmup_ratio: is read as training.warmup_steps: 0.1" in caplog.text


def test_settings_of_a_modality_may_stand_in_the_processor_section(tmp_path: Path) -> None:
    text = "processor: {reduce_holistic_poses: true, width: 8, modality_kwargs: {width: 9}}"

    experiment = load(tmp_path, text)

    assert experiment.processor.modality_kwargs == {"reduce_holistic_poses": True, "width": 9}


def test_a_switch_of_another_version_that_is_off_leaves_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = load(tmp_path, "training: {group_by_length: false}\n")

    assert experiment == Experiment()
    assert not caplog.records


def test_a_successor_that_is_given_too_wins(tmp_path: Path) -> None:
    experiment = load(tmp_path, "training: {warmup_ratio: 0.1, warmup_steps: 7}\n")

    assert experiment.training.arguments == {"warmup_steps": 7}


def test_an_old_name_on_the_command_line_wins_over_its_successor_in_the_file(
    tmp_path: Path,
) -> None:
    override = option("training.warmup_ratio", "0.1")

    experiment = load(tmp_path, "training: {warmup_steps: 7}\n", override)

    assert experiment.training.arguments == {"warmup_steps": 0.1}


def test_an_actor_asked_for_on_the_command_line_is_not_ignored() -> None:
    with pytest.raises(UsageError, match="--model_name_or_path"):
        load_experiment(None, overrides=[option("model.model_name_or_path", "x")])


def test_the_plain_form_gives_the_experiment_back(tmp_path: Path) -> None:
    experiment = load(tmp_path, WHOLE)

    stored = json.loads(json.dumps(plain(experiment)))

    assert load_experiment(None, base=stored) == experiment


def test_the_plain_form_of_defaults_is_empty() -> None:
    assert plain(Experiment()) == {}


def test_the_plain_form_has_the_names_of_a_file(tmp_path: Path) -> None:
    tree = plain(load(tmp_path, WHOLE))

    assert tree["training"]["learning_rate"] == 1e-5
    assert tree["training"]["metric_name"] == "sacrebleu,chrf"
    assert tree["generation"] == {"num_beams": 5, "do_sample": True}


def test_overrides_go_on_top_of_a_stored_configuration() -> None:
    base = {"training": {"learning_rate": 1e-4, "hub_token": "***"}}

    experiment = load_experiment(None, base=base, overrides=[option("training.max_steps", "5")])

    assert experiment.training.arguments == {"learning_rate": 1e-4, "max_steps": 5}


def test_a_stored_text_is_not_resolved_again() -> None:
    base = {"training": {"run_name": "costs ${amount}"}}

    assert load_experiment(None, base=base).training.run_name == "costs ${amount}"


def test_a_stored_configuration_is_left_as_it_was() -> None:
    base: dict[str, Any] = {"training": {"learning_rate": 1e-4}}

    load_experiment(None, base=base, overrides=[option("training.learning_rate", "1")])

    assert base == {"training": {"learning_rate": 1e-4}}


def test_equal_values_have_equal_flat_texts(tmp_path: Path) -> None:
    first = flat(load(tmp_path, "training: {learning_rate: 0.0001, warmup_steps: 500}\n"))
    second = flat(load(tmp_path, "training: {learning_rate: 1e-4, warmup_steps: 500.0}\n"))

    assert first == second == {"training.learning_rate": "0.0001", "training.warmup_steps": "500"}


def test_what_stands_in_a_slot_has_a_key_of_its_own(tmp_path: Path) -> None:
    texts = flat(
        load(tmp_path, "processor: {slots: [{processor_kwargs: {tokenizer_path: /a/tok}}]}\n")
    )

    assert texts == {"processor.slots.0.processor_kwargs.tokenizer_path": "/a/tok"}


def test_the_flat_form_has_one_text_for_each_key(tmp_path: Path) -> None:
    texts = flat(load(tmp_path, WHOLE))

    assert texts["model.backbone_config.d_model"] == "128"
    assert texts["model.adapter_ksize"] == "[5,5]"
    assert texts["setup.do_model"] == "true"
    assert texts["training.report_to"] == '["wandb"]'


@pytest.mark.parametrize(
    ("key", "text", "same"),
    [
        pytest.param("training.output_dir", "elsewhere", True, id="output folder"),
        pytest.param("training.run_name", "other", True, id="run name"),
        pytest.param("tracking.uri", "http://x", True, id="tracking"),
        pytest.param("setup.output_dir", "elsewhere", True, id="actors' folder"),
        pytest.param("training.learning_rate", "0.00001", True, id="the same, written otherwise"),
        pytest.param("training.learning_rate", "1e-3", False, id="learning rate"),
        pytest.param("model.feat_dim", "65", False, id="model"),
        pytest.param("data.max_frames", "65", False, id="data"),
        pytest.param("setup.seed", "2", False, id="seed of the weights"),
    ],
)
def test_the_fingerprint_is_of_what_decides_the_outcome(
    tmp_path: Path, key: str, text: str, *, same: bool
) -> None:
    plainly = fingerprint(load(tmp_path, WHOLE))

    changed = fingerprint(load(tmp_path, WHOLE, option(key, text)))

    assert (changed == plainly) is same
