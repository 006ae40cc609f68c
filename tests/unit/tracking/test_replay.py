"""What explains that a value came out otherwise, and what the tag says of it."""

import pytest

from mmrun.tracking.replay import (
    Change,
    Changes,
    Divergence,
    Explanation,
    can_change,
    in_words,
    replay_tag,
    with_changes,
)
from tests.unit.tracking.points import point


def divergence(step: int, *because: str) -> Divergence:
    return Divergence("loss", step, 1.0, 2.0, because)


@pytest.mark.parametrize(
    ("setting", "metric", "can"),
    [
        ("training.learning_rate", "loss", True),
        ("training.learning_rate", "eval_loss", True),
        ("training.max_steps", "learning_rate", True),
        ("training.seed", "loss", True),
        ("training.optim", "grad_norm", True),
        ("model.backbone_config.dropout", "loss", True),
        ("data.max_frames", "loss", True),
        ("processor.modality_kwargs.noise", "loss", True),
        ("training.dataloader_drop_last", "loss", True),
        ("training.save_steps", "loss", False),
        ("training.save_strategy", "eval_loss", False),
        ("training.run_name", "loss", False),
        ("training.report_to", "loss", False),
        ("training.average_last", "loss", False),
        ("training.early_stopping_patience", "eval_loss", False),
        ("training.dataloader_num_workers", "loss", False),
        ("training.log_level", "loss", False),
        ("tracking.keep_last", "loss", False),
        ("tracking.run_name", "loss", False),
        ("setup.seed", "loss", False),
        ("data.test_metadata_file", "eval_loss", False),
        ("training.eval_steps", "loss", False),
        ("training.eval_steps", "eval_loss", False),
        ("training.metric_for_best_model", "eval_loss", False),
        ("training.per_device_eval_batch_size", "eval_loss", True),
        ("training.per_device_eval_batch_size", "loss", False),
        ("generation.num_beams", "eval_chrf", True),
        ("generation.num_beams", "loss", False),
        ("training.generation_max_length", "eval_chrf", True),
        ("data.validation_metadata_file", "eval_loss", True),
        ("data.validation_metadata_file", "loss", False),
        ("training.logging_steps", "loss", True),
        ("training.logging_steps", "train_loss", True),
        ("training.logging_nan_inf_filter", "train_loss", True),
        ("training.logging_steps", "grad_norm", False),
        ("processes", "loss", True),
        ("processes", "eval_loss", True),
        ("training.logging_steps", "eval_loss", False),
    ],
)
def test_which_settings_can_change_which_values(setting: str, metric: str, can: bool) -> None:
    assert can_change(setting, metric) is can


@pytest.mark.parametrize(
    "setting",
    [
        "training.eval_steps",
        "training.per_device_eval_batch_size",
        "training.metric_for_best_model",
        "generation.num_beams",
    ],
)
def test_evaluation_moves_a_training_whose_schedule_looks_back(setting: str) -> None:
    assert can_change(setting, "loss", looks_back=True)


SEED, SAVING = "training.seed", "training.save_steps"


@pytest.mark.parametrize(
    ("logged_at", "changes", "because"),
    [
        pytest.param(1500, {}, (), id="nothing was changed"),
        pytest.param(1500, {SEED: [Change(2, "1", "2")]}, (SEED,), id="changed after it"),
        pytest.param(2500, {SEED: [Change(3, "1", "2")]}, (SEED,), id="changed by this attempt"),
        pytest.param(2500, {SEED: [Change(2, "1", "2")]}, (), id="changed before it"),
        pytest.param(1500, {SAVING: [Change(2, "1", "2")]}, (), id="changed, but of no effect"),
        pytest.param(500, {SEED: [Change(1, "1", "2")]}, (SEED,), id="older than every attempt"),
        pytest.param(
            1500, {SEED: [Change(2, "1", "2"), Change(3, "2", "1")]}, (), id="changed and back"
        ),
        pytest.param(
            2500,
            {SEED: [Change(2, "1", "2"), Change(3, "2", "1")]},
            (SEED,),
            id="logged in between",
        ),
    ],
)
def test_only_what_is_other_than_then_explains(
    logged_at: int, changes: Changes, because: tuple[str, ...]
) -> None:
    explanation = Explanation(started={1: 1000, 2: 2000, 3: 3000}, changes=changes)

    assert explanation.of(point(at=logged_at)) == because


def test_changes_add_up_over_attempts() -> None:
    second = with_changes({}, {SEED: ("1", "2")}, attempt=2)
    third = with_changes(second, {SEED: ("2", "3"), SAVING: (None, "5")}, attempt=3)

    assert third == {
        SAVING: (Change(3, None, "5"),),
        SEED: (Change(2, "1", "2"), Change(3, "2", "3")),
    }


@pytest.mark.parametrize(
    ("found", "before", "tag"),
    [
        pytest.param([], None, None, id="nothing"),
        pytest.param([], "diverged@3", "diverged@3", id="nothing new"),
        pytest.param([divergence(9), divergence(7)], None, "diverged@7", id="the first step"),
        pytest.param([divergence(9, "training.seed")], None, "overridden@9", id="explained"),
        pytest.param(
            [divergence(7, "training.seed"), divergence(9)], None, "diverged@9", id="one is not"
        ),
        pytest.param([divergence(9)], "overridden@3", "diverged@9", id="worse than before"),
        pytest.param([divergence(9)], "diverged@3", "diverged@3", id="the first of all attempts"),
        pytest.param(
            [divergence(9, "training.seed")], "diverged@3", "diverged@3", id="nothing is hidden"
        ),
    ],
)
def test_the_tag(found: list[Divergence], before: str | None, tag: str | None) -> None:
    assert replay_tag(found, before=before) == tag


@pytest.mark.parametrize(
    ("because", "circumstances", "end"),
    [
        pytest.param((), (), "and no setting was changed that explains it", id="no reason"),
        pytest.param((), ("the code",), "; changed since: the code", id="code"),
        pytest.param(("training.seed",), ("the code",), "; changed since: training.seed", id="set"),
    ],
)
def test_the_words(because: tuple[str, ...], circumstances: tuple[str, ...], end: str) -> None:
    text = in_words(divergence(7, *because), circumstances=circumstances)

    assert text.startswith("step 7: loss is 2.0 now, and was 1.0 before the interruption")
    assert text.endswith(end)
