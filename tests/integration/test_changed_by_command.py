"""What the command line changes at a resume: model, data, processor, and what is a default."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.runs import Runs


def changed(here: Runs, *settings: str, steps: str) -> None:
    """Go on with the run in ``out``, with settings of any section."""
    here.trained("out", *(word for one in settings for word in ("--set", one)), steps=steps)


def weights(here: Runs, step: int) -> Mapping[str, torch.Tensor]:
    files = checkpoint(here, step).glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def checkpoint(here: Runs, step: int) -> Path:
    return here.folder / "out" / "train" / f"checkpoint-{step}"


def moved(here: Runs, *, since: int, to: int) -> set[bool]:
    """Tell which parameters of the backbone moved: all, none, or some of them."""
    before, after = weights(here, since), weights(here, to)
    return {
        not torch.equal(before[name], after[name])
        for name in before
        if name.startswith("backbone.") and "bias" not in name
    }


def values(here: Runs, key: str) -> dict[int, float]:
    points = here.store.history(here.run_of("out"), key)
    return {point.step: point.value for point in points}


def overrides(here: Runs, attempt: int) -> dict[str, Any]:
    record = json.loads(here.artifact(here.run_of("out"), f"attempts/{attempt}.json"))
    found: dict[str, Any] = record["overrides"]
    return found


def test_a_default_on_the_command_line_wins_and_nothing_remembers_it(here: Runs) -> None:
    here.trained("out", "--learning_rate", "0.02", steps="1")
    here.trained("out", "--learning_rate", "5e-5", steps="2")
    here.trained("out", steps="3")

    assert values(here, "learning_rate") == {1: 0.02, 2: 5e-5, 3: 0.01}
    assert overrides(here, 2)["training.learning_rate"] == ["0.02", "5e-05"]


def test_a_frozen_backbone_does_not_move_any_more_and_moves_again(here: Runs) -> None:
    here.trained("out", steps="2")
    before = weights(here, 2)

    changed(here, "model.freeze_backbone=true", steps="4")
    changed(here, "model.freeze_backbone=false", steps="6")

    assert moved(here, since=2, to=4) == {False}
    assert True in moved(here, since=4, to=6)
    mapper = [name for name in before if "mapper" in name]
    assert mapper
    assert not any(torch.equal(before[name], weights(here, 4)[name]) for name in mapper)


def test_a_changed_dropout_is_in_the_model_and_in_the_loss(here: Runs) -> None:
    here.trained("out", steps="2")
    changed(here, "model.backbone_config.dropout=0.9", steps="3")
    here.trained("out2", steps="3")

    config = json.loads((checkpoint(here, 3) / "config.json").read_text(encoding="utf-8"))
    assert json.dumps(config).count('"dropout": 0.9') == 1
    alone = {p.step: p.value for p in here.store.history(here.run_of("out2"), "loss")}
    assert values(here, "loss")[2] == alone[2]
    assert values(here, "loss")[3] != alone[3]


def test_changed_settings_of_the_modality_are_in_the_loss(here: Runs) -> None:
    here.trained("out", steps="2")
    changed(here, "processor.modality_kwargs.skip_frames_stride=2", steps="3")
    here.trained("out2", steps="3")

    alone = {p.step: p.value for p in here.store.history(here.run_of("out2"), "loss")}
    assert values(here, "loss")[3] != alone[3]


def test_other_samples_make_other_epochs(here: Runs) -> None:
    here.trained("out", steps="2")
    changed(here, "data.max_train_samples=12", "training.num_train_epochs=2", steps="-1")

    assert max(values(here, "loss")) == 2 * 3
    rows = (here.folder / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (here.folder / "fewer.tsv").write_text("".join(rows[:9]), encoding="utf-8")

    changed(here, "data.train_metadata_file=fewer.tsv", "training.num_train_epochs=5", steps="-1")

    assert max(values(here, "loss")) == 6 + 3 * 2
    assert overrides(here, 3)["data.train_metadata_file"][1] == "fewer.tsv"


def test_rows_that_are_too_long_now_are_left_out(here: Runs) -> None:
    here.trained("out", steps="1")
    changed(here, "data.max_frames=3", "training.num_train_epochs=2", steps="-1")

    # One step was done of an epoch of 23 rows in batches of 4; of four rows one has four frames.
    assert max(values(here, "loss")) == 1 + 4 + 5


def test_evaluation_is_generated_with_the_settings_of_today(here: Runs) -> None:
    scored = ("--eval_strategy", "steps", "--eval_steps", "1", "--predict_with_generate")
    options = (*scored, "--metric_name", "chrf")
    here.trained("out", *options, steps="5")
    changed = ("--learning_rate", "0", "--set", "generation.max_length=2")
    here.trained("out", *options, *changed, steps="6")

    scores = values(here, "eval_chrf")
    assert scores[5] != scores[6]  # the weights are the same


def test_a_new_vocabulary_does_not_fit_the_checkpoint(here: Runs) -> None:
    here.trained("out", steps="1")

    said = here.train("out", "--set", "processor.new_vocabulary=__xx__,__yy__", steps="2")

    assert said.code == 5
    assert "error: the model section does not fit checkpoint-1: " in said.text
    assert "shared.weight is " in said.text or "embed_tokens.weight is " in said.text


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        (("--group_by_length", "true"), "train_sampling_strategy", "group_by_length"),
        (("--evaluation_strategy", "epoch"), "eval_strategy", "epoch"),
    ],
)
def test_a_name_that_transformers_dropped_is_translated_at_a_resume(
    here: Runs, option: tuple[str, str], key: str, value: str
) -> None:
    here.trained("out", steps="1")

    said = here.train("out", *option, steps="2")

    assert said.code == 0, said.text
    assert f"{option[0]}: is read as training.{key}: {value}" in said.text
    assert overrides(here, 2)[f"training.{key}"] == [None, value]
