"""Signals and a manifest in a folder of their own."""

from pathlib import Path
from typing import Any

import numpy as np

from mmrun.config.schema import DataSection, ModelSection
from mmrun.data.dataset import SampleDataset, load_dataset_actor, write_dataset
from mmrun.data.manifest import read_manifest
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import MultimodalProcessor, streams_of
from mmrun.data.rows import Reading, measured_rows

SIZE = 2
MODEL = ModelSection(feat_dim=SIZE)
PIPELINE = Pipeline(inputs=(InputSlot(modality="features", settings={}),))


class Project:
    """A folder with signals and the manifest of a train split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "train.tsv"
        self.lines = ["signal\tsignal_start\tsignal_end\tencoder_prompt\tdecoder_prompt\toutput"]

    def add(self, output: str, *, frames: int = 1, span: str = "0\t0", prompts: str = "\t") -> Path:
        """Store a signal whose values are its number, and name it in the manifest."""
        number = len(self.lines)
        path = self.folder / f"{number}.npy"
        np.save(path, np.full((frames, SIZE), number, dtype=np.float32))
        self.lines.append(f"{path.name}\t{span}\t{prompts}\t{output}")
        return path

    def data(self, **more: Any) -> DataSection:
        self.manifest.write_text("".join(f"{line}\n" for line in self.lines))
        return DataSection(train_metadata_file=self.manifest, **more)

    def rows(self, data: DataSection, *, whole: bool = False) -> list[dict[str, Any]]:
        used = measured_rows(
            read_manifest(self.manifest, split="train", columns=PIPELINE.columns),
            data=data,
            split="train",
            reading=Reading(
                manifest=self.manifest,
                columns=PIPELINE.columns,
                modalities=[stream.build() for stream in streams_of(PIPELINE, model=MODEL)],
            ),
            tokens=lambda row: len(row.output.split()) + 1,
            whole=whole,
        )
        return used.rows

    def dataset(self, processor: MultimodalProcessor, **more: Any) -> SampleDataset:
        data = self.data(**more)
        write_dataset({"train": self.rows(data)}, self.folder / "dataset")
        return load_dataset_actor(self.folder / "dataset", data=data, processor=processor)["train"]
