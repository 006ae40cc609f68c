import pytest
from pydantic import PositiveInt

from mmrun.errors import ConfigError, PluginError
from mmrun.modalities.base import Settings, Span, load_modality, modality_name, read_settings
from mmrun.modalities.features import FeaturesModality


class Some(Settings):
    width: PositiveInt | None = None
    height: PositiveInt | None = None


@pytest.mark.parametrize("name", ["features2text", "features"])
def test_a_pipeline_and_its_modality_are_the_same_name(name: str) -> None:
    assert load_modality(modality_name(name)) is FeaturesModality


def test_an_unknown_modality_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(PluginError, match="unknown modality 'feature'; did you mean 'features'"):
        load_modality("feature")


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"modality_kwargs\.widht: .* did you mean 'width'"):
        read_settings(Some, {"widht": 3})


def test_all_wrong_settings_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match="width") as caught:
        read_settings(Some, {"width": 0, "height": "tall"})

    assert len(caught.value.more) == 1
    assert "modality_kwargs.height" in caught.value.more[0]


def test_a_span_without_ends_is_the_whole_signal() -> None:
    assert Span().whole
    assert not Span(start=1).whole
