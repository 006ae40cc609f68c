"""Videos and an image processor, made for the tests of modalities."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 40, 48
PIXELS = HEIGHT * WIDTH * 3

PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}


def moving(count: int, *, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Return random pictures, each of them the one before, moved to the right."""
    shape = (height // 4, width // 4, 3)
    tiles = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first = tiles.repeat(4, axis=0).repeat(4, axis=1)
    return [np.roll(first, 3 * step, axis=1) for step in range(count)]


def write_video(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    rate: Fraction | int = 25,
    lossless: bool = True,
    key_frame_every: int = 10,
    times_ms: Sequence[int] | None = None,
    index_first: bool = False,
) -> Path:
    """Write ``pictures``; what is read of a ``lossless`` file does not depend on its encoder."""
    codec, pixels = ("ffv1", "bgr0") if lossless else ("libx264", "yuv420p")
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (HEIGHT, WIDTH)
        stream.pix_fmt, stream.gop_size = pixels, key_frame_every
        if not lossless:
            stream.options = {"x264-params": "scenecut=0"}  # no key frames but those asked for
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()  # for a file without a picture, too
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_processor(folder: Path) -> Path:
    """Write the configuration of an image processor of the kind that CLIP has."""
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder
