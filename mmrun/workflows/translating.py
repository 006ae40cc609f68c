"""Translate the rows of a split, those that were translated before left out."""

import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrun.collector import collect_as_usual
from mmrun.config.schema import Experiment, Split
from mmrun.progress import hide_library_bars, progress
from mmrun.workflows.actors import Actors
from mmrun.workflows.kept_rows import KeptRows
from mmrun.workflows.predictions import Translated

if TYPE_CHECKING:
    from mmrun.data.dataset import SampleDataset
    from mmrun.data.processor import MultimodalProcessor

logger = logging.getLogger(__name__)

_SAMPLE_COLUMNS = ("signal", "encoder_prompt", "decoder_prompt")
_BATCH = 8


def translate(
    experiment: Experiment, checkpoint: Path, actors: Actors, *, split: Split, kept: KeptRows
) -> Translated:
    """Translate what ``kept`` does not have yet, and score all rows that can be read."""
    from mmrun.data.dataset import load_dataset_actor
    from mmrun.data.processor import load_processor
    from mmrun.training.metrics import score

    hide_library_bars()
    own = (checkpoint / "processor_config.json").exists()
    processor = load_processor(checkpoint if own else actors.processor)
    datasets = load_dataset_actor(actors.dataset, data=experiment.data, processor=processor)
    dataset = datasets[split]
    _write_rest(experiment, checkpoint, processor=processor, dataset=dataset, kept=kept)
    written = [kept.rows[row] for row in range(len(dataset))]
    references = dataset.column("output")
    read = [row for row, one in enumerate(written) if one.candidates]
    return Translated(
        given={
            **{name: dataset.column(name) for name in _SAMPLE_COLUMNS},
            "reference": references,
        },
        written=written,
        scores=score(
            experiment.training.metric_name,
            predictions=[written[row].text for row in read],
            references=[references[row] for row in read],
        ),
    )


def _write_rest(
    experiment: Experiment,
    checkpoint: Path,
    *,
    processor: "MultimodalProcessor",
    dataset: "SampleDataset",
    kept: KeptRows,
) -> None:
    from torch.utils.data import DataLoader

    from mmrun.tasks.translation import check_room, collator
    from mmrun.tasks.writing import Writer
    from mmrun.training.workers import begin_worker

    given = experiment.training.arguments
    size = int(given.get("per_device_eval_batch_size", _BATCH))
    batches = batches_of(dataset.lengths, size=size, done=kept.rows)
    if kept.rows:
        logger.info("%d of %d rows are translated already", len(kept.rows), len(dataset))
    if not batches:
        return
    model = _model(checkpoint, arguments=given)
    collect_as_usual()
    seed = int(given.get("seed", 42))
    writer = Writer(model, processor=processor, section=experiment.generation, seed=seed)
    if writer.limit is not None:
        check_room(writer.limit, processor=processor, dataset=dataset)
    prompts = dataset.column("decoder_prompt")
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator(processor, data=experiment.data),
        num_workers=int(given.get("dataloader_num_workers", 0)),
        worker_init_fn=begin_worker(),
    )
    try:
        bar = progress(loader, total=len(batches), label="generate", unit="batches")
        for rows, batch in zip(batches, bar, strict=True):
            written = writer.write(batch, prompts=[prompts[row] for row in rows], row=rows[0])
            kept.add(rows, written)
    except KeyboardInterrupt:  # any wish to stop is one
        logger.info("%d of %d rows are translated and kept", len(kept.rows), len(dataset))
        raise


def batches_of(lengths: Sequence[int], *, size: int, done: Container[int] = ()) -> list[list[int]]:
    """Return the rows of each batch, of those that are not done.

    Long ones come first: rows of one length need no padding, and what does not fit into the memory
    shows at once. Where whole batches are done, the others are as they would have been.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    left = [row for row in order if row not in done]
    return [left[start : start + size] for start in range(0, len(left), size)]


def _model(checkpoint: Path, *, arguments: Mapping[str, Any]) -> Any:
    """Return the model on its device, in the precision that evaluations have."""
    import torch

    from mmrun.models.build import load_model

    use_cpu = bool(arguments.get("use_cpu"))
    device = None if use_cpu else torch.accelerator.current_accelerator()
    dtype = None
    if arguments.get("bf16_full_eval"):
        dtype = torch.bfloat16
    elif arguments.get("fp16_full_eval"):
        dtype = torch.float16
    model: Any = load_model(checkpoint)
    return model.to(device or torch.device("cpu"), dtype=dtype).eval()
