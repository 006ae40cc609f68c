"""From a dataset on disk to samples, loaded when asked for."""

import logging
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
from torch.utils.data import Dataset

from mmrun.config.schema import SPLITS, DataSection, Split
from mmrun.data.manifest import Cell
from mmrun.data.processor import MultimodalProcessor
from mmrun.data.rows import cells_of, error_of_row, signal_of
from mmrun.data.sampler import Draw
from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, Loaded, Modality

logger = logging.getLogger(__name__)

_LIMITS = {
    "train": "max_train_samples",
    "validation": "max_eval_samples",
    "test": "max_predict_samples",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row with its signals loaded."""

    signals: tuple[Loaded, ...]
    """One for each stream, in their order; each has time first."""
    encoder_prompt: str
    decoder_prompt: str
    output: str
    broken: bool = False
    """Whether a signal could not be read: then all of them are empty, and the sample does not
    count."""


def write_dataset(rows: Mapping[Split, list[dict[str, Any]]], to: Path) -> None:
    """Write the rows of all splits to a folder; signals stay where they are."""
    datasets.DatasetDict(
        {split: datasets.Dataset.from_list(found) for split, found in rows.items()}
    ).save_to_disk(str(to))


def manifest_of(data: DataSection, split: Split) -> Path:
    """Return the manifest of ``split``, which must be given."""
    path = data.manifest(split)
    if path is None:
        raise ConfigError(
            f"data.{split}_metadata_file: is not given",
            hint=f"name the TSV of the {split} split in the experiment file",
        )
    return path


class _Told:
    """Which rows were spoken of, in any process that was forked from this one.

    The workers of an epoch or an evaluation end with it, and know nothing of those before them.
    """

    def __init__(self, rows: int) -> None:
        self._flags = mmap.mmap(-1, max(rows, 1))

    def first(self, row: int) -> bool:
        """Tell whether this is the first time for ``row``."""
        before = self._flags[row]
        self._flags[row] = 1
        return not before

    def __getstate__(self) -> bytes:
        return self._flags[:]  # for worker processes that are not forked

    def __setstate__(self, flags: bytes) -> None:
        self._flags = mmap.mmap(-1, len(flags))
        self._flags[:] = flags


class SampleDataset(Dataset[Sample]):
    """The rows of one split; a sample's signals are read when it is asked for, in any process.

    An index gives the sample as it is; a draw from the training set is augmented.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        *,
        manifest: Path,
        modalities: Mapping[str, Modality],
        skip_bad: bool = False,
    ) -> None:
        """Read ``rows`` with the modality of each stream, by the stream's name.

        With ``skip_bad`` a signal that cannot be read gives a broken sample, and a warning.
        """
        self._rows = rows
        self._manifest = manifest
        self._folder = manifest.parent
        self._modalities = dict(modalities)
        self._augmentations = [one.augmentation() for one in self._modalities.values()]
        self._augmented = any(one is not None for one in self._augmentations)
        self.skips = skip_bad
        """Whether a sample may be broken."""
        self._told = _Told(len(rows))
        self._empty: tuple[Loaded, ...] | None = None

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
        return list(self._rows["length"][:])

    def column(self, name: str) -> list[str]:
        """Return one text column of all rows, without loading a signal.

        `signal` is what the manifest says of the first stream.
        """
        if name == "signal":
            return [signals[0] for signals in self._rows["signals"]]
        return list(self._rows[name])

    def _sample(self, row: Mapping[str, Any], *, of: int | Draw) -> Sample:
        try:
            signals = self._loaded(row)
        except DataError as error:
            if not self.skips:
                raise
            if self._told.first(of.sample if isinstance(of, Draw) else of):
                logger.warning("skipped: %s", error)
            signals, broken = self._nothing(), True
        else:
            broken = False
        if self._augmented and isinstance(of, Draw) and not broken:
            signals = self._changed(signals, of)
        return Sample(
            signals=signals,
            encoder_prompt=row["encoder_prompt"],
            decoder_prompt=row["decoder_prompt"],
            output=row["output"],
            broken=broken,
        )

    def _loaded(self, row: Mapping[str, Any]) -> tuple[Loaded, ...]:
        return tuple(
            self._load(cell, name=name, line=row["line"])
            for cell, name in zip(cells_of(row), self._modalities, strict=True)
        )

    def _load(self, cell: Cell, *, name: str, line: int) -> Loaded:
        signal = signal_of(cell, folder=self._folder)
        try:
            return self._modalities[name].load(signal)
        except DataError as error:
            column = "signal" if len(self._modalities) == 1 else name
            place = f"{self._manifest}:{line}: {column}"
            raise error_of_row(error, signal=signal, place=place) from error

    def _changed(self, signals: tuple[Loaded, ...], draw: Draw) -> tuple[Loaded, ...]:
        random = draw.random()
        return tuple(
            signal if augment is None else augment(cast("Array", signal), random)
            for signal, augment in zip(signals, self._augmentations, strict=True)
        )

    def _nothing(self) -> tuple[Loaded, ...]:
        """Return signals without a frame, in the form of those of the first row that is whole."""
        if self._empty is None:
            self._empty = tuple(signal[:0] for signal in self._first_whole())
        return self._empty

    def _first_whole(self) -> tuple[Loaded, ...]:
        for row in self._rows:
            try:
                return self._loaded(row)
            except DataError:
                continue
        raise DataError(
            f"{self._manifest}: not one of its signals can be read",
            hint="mmrun setup --check_files says what is wrong with each",
        )


def load_dataset_actor(
    folder: Path, *, data: DataSection, processor: MultimodalProcessor
) -> dict[Split, SampleDataset]:
    """Open the dataset that ``write_dataset`` wrote.

    Paths are taken from the folders of the manifests in ``data``, so that the dataset can be used
    wherever they lie; ``max_train_samples`` and its like are applied here.
    """
    modalities = {
        stream.name: modality
        for stream, modality in zip(
            processor.inputs, processor.build_modalities(cache=data), strict=True
        )
    }
    found = datasets.load_from_disk(str(folder))
    return {
        split: SampleDataset(
            _limited(found[split], limit=getattr(data, _LIMITS[split])),
            manifest=manifest_of(data, split),
            modalities=modalities,
            skip_bad=data.on_bad_sample == "skip",
        )
        for split in _present(found)
    }


def _present(found: Iterable[str]) -> list[Split]:
    return [split for split in SPLITS if split in set(found)]


def _limited(rows: datasets.Dataset, *, limit: int | None) -> datasets.Dataset:
    return rows if limit is None else rows.select(range(min(limit, len(rows))))
