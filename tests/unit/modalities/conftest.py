import json
from pathlib import Path

import pytest
from PIL import ImageFont

CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A folder with the settings of CLIP's image processor; it has no weights."""
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP))
    return str(folder)


@pytest.fixture
def font(tmp_path: Path) -> str:
    """The font that Pillow carries with it: some hundred characters, none with an accent."""
    path = tmp_path / "plain.ttf"
    path.write_bytes(ImageFont.load_default(10).path.getvalue())  # type: ignore[union-attr]
    return str(path)
