"""Kinds of input: files or texts, the settings that read them, and the library's own way."""

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmrun.workflows.demo_data import write_demo_data

_SIDE = 224
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SIGNS = (
    "M546x518S30a00482x483S16d10519x484S16d18450x484S20500508x466",
    "M518x529S14c20481x471S27106503x489",
    "M530x538S37602508x462S15a11493x494S20e00488x510S22f03469x517",
)

_SIDES = ("LEFT", "RIGHT")
_BODY = (
    "NOSE",
    *(f"{side}_EYE{part}" for side in _SIDES for part in ("_INNER", "", "_OUTER")),
    *(f"{side}_EAR" for side in _SIDES),
    *(f"MOUTH_{side}" for side in _SIDES),
    *(
        f"{side}_{part}"
        for part in (
            *("SHOULDER", "ELBOW", "WRIST", "PINKY", "INDEX", "THUMB"),
            *("HIP", "KNEE", "ANKLE", "HEEL", "FOOT_INDEX"),
        )
        for side in _SIDES
    ),
)
_HAND = (
    *("WRIST", "THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP"),
    *(
        f"{finger}_{joint}"
        for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
        for joint in ("MCP", "PIP", "DIP", "TIP")
    ),
)
_HOLISTIC = {
    "POSE_LANDMARKS": _BODY,
    "FACE_LANDMARKS": tuple(map(str, range(468))),
    "LEFT_HAND_LANDMARKS": _HAND,
    "RIGHT_HAND_LANDMARKS": _HAND,
    "POSE_WORLD_LANDMARKS": _BODY,
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is read, and with which settings, by mmrun and by multimodalhugs."""

    name: str
    modality: str
    library: str
    """What the plain loop uses."""
    signals: Sequence[str]
    """As a manifest names them: files below the folder, or texts."""
    plain: Callable[[str], Any]
    """Makes of one signal what the modality makes of it, with the library alone."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] | None = None
    """The settings of multimodalhugs, where other ones mean the same."""
    feature_size: int = 64
    extracted: bool = False
    batch: int = 32
    """Of large signals fewer make a batch."""


def kinds(folder: Path, *, tokenize: Callable[[str], Any]) -> list[Kind]:
    """Write the signals of every kind below ``folder``."""
    processor = folder / "processor"
    _image_processor(processor)
    found = [
        _features(folder),
        _texts(tokenize),
        _images(folder),
        _rendered(),
        _signs(processor),
        _poses(folder),
        _videos(folder, processor),
    ]
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1e9, 1e9))  # what is younger than two seconds is not kept on disk
    return found


def texts(number: int, *, seed: int = 0) -> list[str]:
    """Return short texts, of which hardly one is there twice."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(_WORDS, size=random.integers(4, 9))) for _ in range(number)]


def _features(folder: Path) -> Kind:
    write_demo_data(folder / "features")
    lines = (folder / "features/train.tsv").read_text(encoding="utf-8").splitlines()
    names = ["features/" + line.split("\t")[0] for line in lines[1:]]
    return Kind(
        name="features `[T ≤ 5, 64]`",
        modality="features",
        library="`np.load`",
        signals=names,
        plain=lambda name: np.load(folder / name),
    )


def _texts(tokenize: Callable[[str], Any]) -> Kind:
    return Kind(
        name="text, 4 to 8 words",
        modality="text",
        library="tokenizer",
        signals=texts(2000),
        plain=tokenize,
    )


def _images(folder: Path) -> Kind:
    from PIL import Image

    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    names = [f"images/{number}.png" for number in range(500)]
    for name in names:
        small = Image.fromarray(random.integers(0, 255, (4, 16, 3), dtype=np.uint8))
        small.resize((128, 32), Image.Resampling.BILINEAR).save(folder / name)

    def plain(name: str) -> Any:
        with Image.open(folder / name) as image:
            return np.asarray(image.convert("RGB"), dtype=np.float32) / 255

    return Kind(
        name="PNG 32 x 128",
        modality="image",
        library="Pillow",
        signals=names,
        plain=plain,
        theirs={"normalize_image": False},
        extracted=True,
    )


def _rendered() -> Kind:
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    path = str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    font = functools.cache(lambda: ImageFont.truetype(path, 16))

    def plain(text: str) -> Any:
        images = []
        for word in text.split():
            image = Image.new("RGB", (_SIDE, _SIDE), "white")
            ImageDraw.Draw(image).text((112, 112), word, fill="black", font=font(), anchor="mm")
            images.append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
        return np.stack(images)

    settings = {"font_path": path, "width": _SIDE, "height": _SIDE, "normalize_image": False}
    return Kind(
        name="text drawn, 224 x 224",
        batch=8,
        modality="image",
        library="Pillow",
        signals=texts(100),
        plain=plain,
        settings=settings,
        extracted=True,
    )


def _signs(processor: Path) -> Kind:
    from PIL import Image
    from signwriting.visualizer.visualize import signwriting_to_image

    random = np.random.default_rng(0)
    process = functools.cache(lambda: _loaded(processor))

    def plain(text: str) -> Any:
        images = []
        for sign in text.split():
            canvas = Image.new("RGB", (_SIDE, _SIDE), "white")
            drawn = signwriting_to_image(sign)
            at = ((_SIDE - drawn.width) // 2, (_SIDE - drawn.height) // 2)
            canvas.paste(drawn, at, drawn)
            images.append(canvas)
        return process()(images)

    return Kind(
        name="SignWriting, 1 to 3 signs, 224 x 224",
        batch=8,
        modality="signwriting",
        library="`signwriting`, transformers",
        signals=[" ".join(random.choice(_SIGNS, random.integers(1, 4))) for _ in range(100)],
        plain=plain,
        settings={"custom_preprocessor_path": str(processor)},
        extracted=True,
    )


def _poses(folder: Path) -> Kind:
    from pose_format import Pose
    from pose_format.utils.generic import pose_hide_legs, reduce_holistic

    (folder / "poses").mkdir()
    random = np.random.default_rng(0)
    names = [f"poses/{number}.pose" for number in range(100)]
    for name in names:
        _write_pose(folder / name, frames=int(random.integers(16, 23)), random=random)

    def plain(name: str) -> Any:
        pose = Pose.read((folder / name).read_bytes())
        pose_hide_legs(pose)
        body = reduce_holistic(pose).normalize().body
        return body.data.filled(0).reshape(len(body.data), -1).astype(np.float32)

    return Kind(
        name="poses of 16 to 22 frames",
        modality="pose",
        library="`pose-format`",
        signals=names,
        plain=plain,
        feature_size=plain(names[0]).shape[1],
    )


def _write_pose(path: Path, *, frames: int, random: np.random.Generator) -> None:
    """Write what MediaPipe Holistic sees: by the names of its parts and points."""
    from pose_format import Pose, PoseHeader
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

    parts = [
        PoseHeaderComponent(name, list(points), [(0, 1)], [(255, 0, 0)], "XYZC")
        for name, points in _HOLISTIC.items()
    ]
    points = sum(map(len, _HOLISTIC.values()))
    data = random.normal(500, 100, (frames, 1, points, 3)).astype(np.float32)
    confidence = random.random((frames, 1, points), dtype=np.float32)
    header = PoseHeader(0.2, PoseHeaderDimensions(1000, 1000, 1000), parts)
    with path.open("wb") as file:
        Pose(header, NumPyPoseBody(25.0, data, confidence)).write(file)


def _videos(folder: Path, processor: Path) -> Kind:
    import av

    (folder / "videos").mkdir()
    random = np.random.default_rng(0)
    names = [f"videos/{number}.mp4" for number in range(20)]
    for name in names:
        _write_video(folder / name, frames=int(random.integers(16, 23)), random=random)
    process = functools.cache(lambda: _loaded(processor))

    def plain(name: str) -> Any:
        with av.open(str(folder / name), "r") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return process()(frames)

    return Kind(
        name="video of 16 to 22 frames, 250 x 250",
        batch=4,
        modality="video",
        library="PyAV, transformers",
        signals=names,
        plain=plain,
        settings={"custom_preprocessor_path": str(processor)},
        extracted=True,
    )


def _write_video(path: Path, *, frames: int, random: np.random.Generator) -> None:
    import av
    from PIL import Image

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 250, 250, "yuv420p"
        for _ in range(frames):
            small = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            pixels = np.asarray(small.resize((250, 250)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _image_processor(folder: Path) -> None:
    """Write the settings of CLIP's image processor, as any version of transformers reads them."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": _SIDE, "width": _SIDE},
        "size": {"shortest_edge": _SIDE},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _loaded(folder: Path) -> Callable[[Sequence[Any]], Any]:
    from transformers import AutoImageProcessor

    from_pretrained: Any = AutoImageProcessor.from_pretrained
    processor = from_pretrained(str(folder), backend="pil")
    return lambda images: processor(images=images, return_tensors="np")["pixel_values"]
