"""A training as it is usually written: the Trainer, and the MLflow callback of transformers.

``python -m benchmarks.stock [CHECKPOINT]``, in a project whose actors mmrun has made. The
environment says which run it is.
"""

import os
import sys
from pathlib import Path

import mlflow
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from mmrun.config.schema import DataSection
from mmrun.data.dataset import load_dataset_actor
from mmrun.data.processor import load_processor
from mmrun.models.build import load_model
from mmrun.tasks.translation import collator

SETUP = Path("out/setup")
OUTPUT = Path("stock")
ARGUMENTS = Seq2SeqTrainingArguments(
    output_dir=str(OUTPUT),
    max_steps=1000,
    per_device_train_batch_size=2,
    learning_rate=1e-4,
    logging_steps=1,
    save_strategy="steps",
    save_steps=4,
    save_total_limit=2,
    seed=7,
    report_to=["mlflow"],
)


def main(names: list[str]) -> None:
    """Train, from the checkpoint where one is named."""
    checkpoint = _folder(names[0]) if names else None
    processor = load_processor(SETUP / "processor")
    data = DataSection(
        dataset_type="features2text",
        train_metadata_file=Path("data/train.tsv"),
        validation_metadata_file=Path("data/validation.tsv"),
    )
    datasets = load_dataset_actor(SETUP / "dataset", data=data, processor=processor)
    trainer = Seq2SeqTrainer(
        model=load_model(SETUP / "model"),
        args=ARGUMENTS,
        data_collator=collator(processor, data=data),
        train_dataset=datasets["train"],
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=checkpoint)


def _folder(name: str) -> str:
    """Return where a checkpoint is; what is not here any more is fetched from the run."""
    if not (OUTPUT / name).exists():
        mlflow.artifacts.download_artifacts(
            run_id=os.environ["MLFLOW_RUN_ID"], artifact_path=name, dst_path=str(OUTPUT)
        )
    return str(OUTPUT / name)


if __name__ == "__main__":
    main(sys.argv[1:])
