"""How fast samples are read and put into batches, by kind of input."""

import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from benchmarks.signals import Kind, kinds, texts
from benchmarks.table import table

TITLE = "Samples a second, by kind of input"

_ROUNDS = 3
_PEER = "MMRUN_BENCH_PEER"
_NOT_RUN = "not run"
_PLAIN = {"encoder_prompt": "", "decoder_prompt": ""}
_CLASSES = {
    "features": "FeaturesModalityProcessor",
    "image": "ImageModalityProcessor",
    "pose": "PoseModalityProcessor",
    "signwriting": "SignwritingModalityProcessor",
    "text": "TextModalityProcessor",
    "video": "VideoModalityProcessor",
}
_HEAD = (
    "input",
    "library",
    "plain loop",
    "mmrun",
    "memory",
    "disk, first",
    "disk",
    "multimodalhugs",
    "later",
    "mmrun / multimodalhugs",
    "later",
)


def run(folder: Path) -> str:
    """Measure every kind of input that can be loaded here."""
    import datasets
    import torch

    from mmrun.data.tokenizer import train_tokenizer

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    tokenizer: Any = train_tokenizer(texts(500, seed=1))
    _save(tokenizer, folder / "tokenizer")
    written = kinds(
        folder, tokenize=lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    rows = [_row(kind, folder) for kind in written]
    return (
        f"{table(_HEAD, rows)}\n\nSamples in a second of processor time: the fastest of {_ROUNDS} "
        "rounds in turn, batches of 32 (8 of large images, 4 of videos), one thread, no worker "
        "processes. The files are in the system's memory."
    )


def _save(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer so that the libraries of two years ago read it, too."""
    tokenizer.save_pretrained(str(folder))
    _change(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    _change(folder / "tokenizer.json", {"model": {**model, "merges": merges}})


def _change(file: Path, values: Mapping[str, Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


def _row(kind: Kind, folder: Path) -> list[object]:
    rounds = [_round(kind, folder) for _ in range(_ROUNDS)]
    plain, off, memory, first, disk = (max(rates) for rates in zip(*rounds, strict=True))
    theirs = _peer(kind, folder)
    compared = (
        (_NOT_RUN,) * 4
        if theirs is None
        else (*map(_whole, theirs), f"{off / theirs[0]:.1f}", f"{memory / theirs[1]:.1f}")
    )
    shown = [_whole(rate) for rate in (off, memory, first, disk)]
    return [kind.name, kind.library, _whole(plain), *shown, *compared]


def _round(kind: Kind, folder: Path) -> tuple[float, ...]:
    """Return the rates of the plain loop, without a cache, and with each, first and later."""
    plain = _rate((kind.plain(one) for one in kind.signals), total=len(kind.signals))
    (off,) = _epochs(kind, folder, cache="off", number=1)
    _, memory = _epochs(kind, folder, cache="memory", number=2)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (first,) = _epochs(kind, folder, cache="disk", number=1)
    (disk,) = _epochs(kind, folder, cache="disk", number=1)
    return plain, off, memory, first, disk


def _epochs(
    kind: Kind, folder: Path, *, cache: Literal["off", "memory", "disk"], number: int
) -> list[float]:
    """Return the samples a second of each epoch of a loader that begins anew."""
    loader = _loader(kind, folder, cache=cache)
    return [_rate(loader, total=len(kind.signals)) for _ in range(number)]


def _rate(work: Iterable[Any], *, total: int) -> float:
    began = time.process_time()
    deque(work, maxlen=0)
    return total / (time.process_time() - began)


def _loader(kind: Kind, folder: Path, *, cache: Literal["off", "memory", "disk"]) -> Any:
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    from mmrun.config.schema import DataSection
    from mmrun.data.collator import Collator
    from mmrun.data.dataset import load_dataset_actor, write_dataset
    from mmrun.data.processor import MultimodalProcessor, Stream

    stream = Stream(
        name="input_frames",
        mask="attention_mask",
        modality=kind.modality,
        settings=kind.settings,
        feature_size=kind.feature_size,
        extracted=kind.extracted,
    )
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "tokenizer"))
    processor = MultimodalProcessor(tokenizer, streams=[dataclasses.asdict(stream)])
    data = DataSection(
        train_metadata_file=folder / "train.tsv", cache=cache, cache_dir=folder / "cache"
    )
    actor = folder / f"dataset-{kind.modality}"
    if not actor.exists() or cache == "off":
        write_dataset({"train": _rows(kind)}, actor)
    dataset = load_dataset_actor(actor, data=data, processor=processor)["train"]
    return DataLoader(dataset, batch_size=kind.batch, shuffle=True, collate_fn=Collator(processor))


def _rows(kind: Kind) -> list[dict[str, Any]]:
    outputs = texts(len(kind.signals), seed=2)
    return [
        {
            "line": line,
            "signals": [signal],
            "starts": [0],
            "ends": [0],
            "output": output,
            "length": 1,
            **_PLAIN,
        }
        for line, (signal, output) in enumerate(zip(kind.signals, outputs, strict=True), start=2)
    ]


def _peer(kind: Kind, folder: Path) -> tuple[float, float] | None:
    """Return the rates of multimodalhugs in the first epoch and the fastest later one."""
    python = os.environ.get(_PEER)
    if python is None:
        return None
    task = {
        "tokenizer": str(folder / "tokenizer"),
        "slots": _slots(kind),
        "rows": _their_rows(kind, folder),
        "batch": kind.batch,
        "epochs": _ROUNDS + 1,
    }
    done = subprocess.run(
        [python, str(Path(__file__).with_name("peer_loader.py"))],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{python}:\n{done.stderr}")
    first, *later = json.loads(done.stdout.splitlines()[-1])
    return first, max(later)


def _slots(kind: Kind) -> list[dict[str, Any]]:
    """Return the slots of a pipeline as its configuration files write them."""
    settings = kind.settings if kind.theirs is None else kind.theirs
    signal = {
        "processor_class": _CLASSES[kind.modality],
        "processor_kwargs": {**settings, **({"role": "input"} if kind.modality == "text" else {})},
        "output_data_key": "input_frames",
        "output_mask_key": "attention_mask",
        "column_map": {"signal": "signal"},
    }
    label = {
        "processor_class": _CLASSES["text"],
        "processor_kwargs": {"role": "target"},
        "output_data_key": "labels",
        "column_map": {"decoder_prompt": "target_prefix", "output": "target"},
        "is_label": True,
    }
    return [signal, label]


def _their_rows(kind: Kind, folder: Path) -> list[dict[str, str]]:
    named = [str(folder / signal) for signal in kind.signals]
    files = Path(named[0]).is_file()
    return [
        {"signal": path if files else row["signals"][0], "output": row["output"], **_PLAIN}
        for path, row in zip(named, _rows(kind), strict=True)
    ]


def _whole(rate: float) -> int:
    return round(rate)
