"""From manifests to a dataset on disk, and from there to samples, loaded when asked for."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from torch.utils.data import Dataset

from mmrun.config.schema import SPLITS, DataSection, Split
from mmrun.data.manifest import Row, raise_all
from mmrun.data.processor import MultimodalProcessor
from mmrun.data.sampler import Draw
from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, Modality, Span
from mmrun.progress import progress

logger = logging.getLogger(__name__)

_LIMITS = {
    "train": "max_train_samples",
    "validation": "max_eval_samples",
    "test": "max_predict_samples",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row with its signal loaded; ``signal`` has time first."""

    signal: Array
    encoder_prompt: str
    decoder_prompt: str
    output: str


def checked_rows(
    rows: Sequence[Row], *, data: DataSection, split: Split, modality: Modality
) -> list[dict[str, Any]]:
    """Load every signal once, to see that it can be, and note how long it is.

    Rows longer than ``data.max_frames`` are left out, and that is said.
    """
    manifest = _manifest(data, split)
    measured = partial(_measured, manifest=manifest, modality=modality)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(
            progress(pool.map(measured, rows), total=len(rows), label=f"{split}: checking files")
        )
    raise_all(
        [result for result in results if isinstance(result, str)],
        hint=f"correct {manifest} or the files that it names",
    )
    lengths = [result for result in results if isinstance(result, int)]
    kept = [
        {**asdict(row), "length": length}
        for row, length in zip(rows, lengths, strict=True)
        if data.max_frames is None or length <= data.max_frames
    ]
    return _none_lost(kept, total=len(rows), data=data, manifest=manifest)


def write_dataset(rows: Mapping[Split, list[dict[str, Any]]], to: Path) -> None:
    """Write the rows of all splits to a folder; signals stay where they are."""
    datasets.DatasetDict(
        {split: datasets.Dataset.from_list(found) for split, found in rows.items()}
    ).save_to_disk(str(to))


def _measured(row: Row, *, manifest: Path, modality: Modality) -> int | str:
    """Return the number of frames, or what is wrong with the row."""
    try:
        return len(_load(row.signal, _span(row.signal_start, row.signal_end), manifest, modality))
    except DataError as error:
        return f"{manifest}:{row.line}: signal: {error}"


def _none_lost(
    kept: list[dict[str, Any]], *, total: int, data: DataSection, manifest: Path
) -> list[dict[str, Any]]:
    if not kept:
        raise DataError(
            f"{manifest}: every row is longer than data.max_frames, {data.max_frames}",
            hint="raise data.max_frames",
        )
    if len(kept) < total:
        logger.warning(
            "%s: %d of %d rows are longer than data.max_frames (%s) and left out",
            manifest,
            total - len(kept),
            total,
            data.max_frames,
        )
    return kept


def _load(signal: str, span: Span, manifest: Path, modality: Modality) -> Array:
    return modality.load(manifest.parent / signal, span=span)


def _span(start: int, end: int) -> Span:
    return Span(start=start, end=end or None)


def _manifest(data: DataSection, split: Split) -> Path:
    path = data.manifest(split)
    if path is None:
        raise ConfigError(
            f"data.{split}_metadata_file: is not given",
            hint=f"name the TSV of the {split} split in the experiment file",
        )
    return path


class SampleDataset(Dataset[Sample]):
    """The rows of one split; a sample's signal is read when it is asked for, in any process.

    An index gives the sample as it is; a draw from the training set is augmented.
    """

    def __init__(self, rows: datasets.Dataset, *, manifest: Path, modality: Modality) -> None:
        self._rows = rows
        self._manifest = manifest
        self._modality = modality
        self._augment = modality.augmentation()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, wanted: int | Draw) -> Sample:
        (sample,) = self.__getitems__([wanted])
        return sample

    def __getitems__(self, wanted: Sequence[int | Draw]) -> list[Sample]:
        """Return many samples; one look-up in the table is faster than one for each."""
        columns = self._rows[[one.sample if isinstance(one, Draw) else one for one in wanted]]
        rows = zip(*columns.values(), strict=True)
        return [
            self._sample(dict(zip(columns, row, strict=True)), of=one)
            for one, row in zip(wanted, rows, strict=True)
        ]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> list[int]:
        """The number of frames of each sample, as it was when the dataset was built."""
        return list(self._rows["length"])

    def column(self, name: str) -> list[str]:
        """Return one text column of all rows, without loading a signal."""
        return list(self._rows[name])

    def _sample(self, row: dict[str, Any], *, of: int | Draw) -> Sample:
        span = _span(row["signal_start"], row["signal_end"])
        try:
            signal = _load(row["signal"], span, self._manifest, self._modality)
        except DataError as error:
            problem = f"{self._manifest}:{row['line']}: signal: {error}"
            raise DataError(problem, hint=error.hint) from error
        if self._augment is not None and isinstance(of, Draw):
            signal = self._augment(signal, of.random())
        return Sample(
            signal=signal,
            encoder_prompt=row["encoder_prompt"],
            decoder_prompt=row["decoder_prompt"],
            output=row["output"],
        )


def load_dataset_actor(
    folder: Path, *, data: DataSection, processor: MultimodalProcessor
) -> dict[Split, SampleDataset]:
    """Open the dataset that ``write_dataset`` wrote.

    Paths are taken from the folders of the manifests in ``data``, so that the dataset can be used
    wherever they lie; ``max_train_samples`` and its like are applied here.
    """
    modality = processor.build_modality()
    found = datasets.load_from_disk(str(folder))
    return {
        split: SampleDataset(
            _limited(found[split], limit=getattr(data, _LIMITS[split])),
            manifest=_manifest(data, split),
            modality=modality,
        )
        for split in _present(found)
    }


def _present(found: Iterable[str]) -> list[Split]:
    return [split for split in SPLITS if split in set(found)]


def _limited(rows: datasets.Dataset, *, limit: int | None) -> datasets.Dataset:
    return rows if limit is None else rows.select(range(min(limit, len(rows))))
