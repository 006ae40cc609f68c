import numpy as np
import pytest

from mmrun.modalities.grey_images import Grey, GreyImages, looked_up, scaled_levels, table_of
from mmrun.modalities.preprocessor import Preprocessor


def noise(height: int, width: int) -> Grey:
    return np.random.default_rng(1).integers(256, size=(height, width), dtype=np.uint8)


def test_where_an_image_is_only_scaled_a_table_gives_the_same_numbers(clip: str) -> None:
    preprocessor = Preprocessor(clip)
    grey = noise(224, 224)

    table = table_of(preprocessor, width=224, height=224)

    assert table is not None
    processed = preprocessor([grey[:, :, None].repeat(3, axis=2)])[0]
    np.testing.assert_array_equal(looked_up(table, grey[None]), processed)


@pytest.mark.parametrize("size", [(225, 224), (64, 64), (4, 4)])
def test_where_an_image_is_resized_there_is_no_table(clip: str, size: tuple[int, int]) -> None:
    assert table_of(Preprocessor(clip), width=size[0], height=size[1]) is None


@pytest.mark.parametrize("size", [(224, 224), (64, 48)])
def test_a_processor_gives_the_same_with_and_without_a_table(
    clip: str, size: tuple[int, int]
) -> None:
    preprocessor = Preprocessor(clip)
    images = np.stack([noise(size[1], size[0])] * 2)

    made = GreyImages.processed(preprocessor, width=size[0], height=size[1])(images)

    np.testing.assert_array_equal(made, GreyImages(preprocessor=preprocessor)(images))


def test_levels_go_from_0_to_1() -> None:
    images = np.array([[[0, 51, 255]]], dtype=np.uint8)

    made = GreyImages(table=scaled_levels(2))(images)

    np.testing.assert_allclose(made, [[[[0, 0.2, 1]], [[0, 0.2, 1]]]], rtol=1e-6)
