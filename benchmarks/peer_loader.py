"""Samples a second of multimodalhugs' loader: run by the Python that it is installed for.

It reads a task (JSON) from standard input, and prints the samples a second of each epoch.
"""

import importlib
import json
import sys
import time
from typing import Any


def main() -> None:
    """Go through the loader as often as the task says."""
    task = json.load(sys.stdin)
    loader = _loader(task)
    rates = []
    for _ in range(task["epochs"]):
        began = time.process_time()
        samples = sum(len(batch["labels"]) for batch in loader)
        rates.append(samples / (time.process_time() - began))
    print(json.dumps(rates))


def _loader(task: dict[str, Any]) -> Any:
    torch = importlib.import_module("torch")
    datasets = importlib.import_module("datasets")
    transformers = importlib.import_module("transformers")
    processors = importlib.import_module("multimodalhugs.processors")
    meta = importlib.import_module("multimodalhugs.processors.meta_processor")
    data = importlib.import_module("multimodalhugs.data")

    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(task["tokenizer"])
    slots = []
    for slot in task["slots"]:
        kind = getattr(processors, slot.pop("processor_class"))
        settings = slot.pop("processor_kwargs")
        if "role" in settings:
            settings["tokenizer"] = tokenizer
        slots.append(meta.ProcessorSlot(processor=kind(**settings), **slot))
    processor = meta.MultimodalMetaProcessor(slots=slots, tokenizer=tokenizer)
    rows = datasets.Dataset.from_list(task["rows"])
    return torch.utils.data.DataLoader(
        rows.with_transform(processor._transform_get_items_output),  # noqa: SLF001 (as it does)
        batch_size=task["batch"],
        shuffle=True,
        collate_fn=data.DataCollatorMultimodalSeq2Seq(processor),
    )


if __name__ == "__main__":
    main()
