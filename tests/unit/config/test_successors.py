from collections.abc import Mapping

import pytest

from mmrun.config.schema import Experiment
from mmrun.config.sections import SECTIONS, known_names
from mmrun.config.successors import (
    REFUSED,
    RENAMED,
    WITHOUT_EFFECT,
    refused,
    successor,
    without_effect,
)
from mmrun.config.training_fields import training_fields


def test_every_successor_is_a_name_that_is_known() -> None:
    for section, names in RENAMED.items():
        known = known_names(section) | training_fields().keys()
        assert {heir.name.partition(".")[0] for heir in names.values()} <= known


def test_what_is_said_to_be_dropped_is_not_in_the_installed_version() -> None:
    assert not RENAMED["training"].keys() & training_fields().keys()


def test_every_section_is_one_of_the_experiment() -> None:
    assert set(SECTIONS) == set(Experiment.model_fields) - {"task"}
    assert WITHOUT_EFFECT.keys() | REFUSED.keys() | RENAMED.keys() <= SECTIONS.keys()


@pytest.mark.parametrize("table", [WITHOUT_EFFECT, REFUSED, RENAMED])
def test_no_key_that_a_section_takes_is_left_out_refused_or_renamed(
    table: Mapping[str, Mapping[str, object]],
) -> None:
    for section, names in table.items():
        assert not names.keys() & SECTIONS[section].model_fields.keys()


def test_a_name_that_the_installed_version_knows_is_not_translated() -> None:
    assert successor("training", "no_cuda", installed={"use_cpu": 1, "no_cuda": 1}) is None
    assert without_effect("training", "logging_dir", installed={"logging_dir": 1}) is None


@pytest.mark.parametrize("value", [None, False, "false"])
def test_a_value_that_changes_nothing_is_not_refused(value: object) -> None:
    assert refused("data", "max_source_tokens", value) is None


def test_a_key_that_would_change_the_outcome_is_refused() -> None:
    assert refused("data", "max_source_tokens", 3) is not None
