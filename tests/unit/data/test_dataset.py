import logging
import os

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmrun.data.collator import Collator
from mmrun.data.processor import MultimodalProcessor
from mmrun.data.sampler import Draw
from mmrun.errors import DataError
from tests.unit.data.project import Project


def test_a_sample_is_loaded_when_it_is_asked_for(
    project: Project, processor: MultimodalProcessor
) -> None:
    project.add("four two", frames=3)
    dataset = project.dataset(processor)

    sample = dataset[0]

    np.testing.assert_array_equal(sample.signals[0], np.ones((3, 2)))
    assert sample.output == "four two"


def test_many_samples_are_the_same_as_each(
    project: Project, processor: MultimodalProcessor
) -> None:
    for text in ("four", "two", "seven"):
        project.add(text)
    dataset = project.dataset(processor)

    together = dataset.__getitems__([2, 0])

    assert [sample.output for sample in together] == ["seven", "four"]
    assert [sample.signals[0][0, 0] for sample in together] == [3, 1]


def test_spans_are_honoured(project: Project, processor: MultimodalProcessor) -> None:
    project.add("four", frames=5, span="1\t4")
    dataset = project.dataset(processor)

    assert dataset.lengths == [3]
    assert len(dataset[0].signals[0]) == 3


def test_a_worker_says_what_is_wrong_without_a_traceback(
    project: Project, processor: MultimodalProcessor
) -> None:
    path = project.add("four")
    loader = DataLoader(project.dataset(processor), collate_fn=Collator(processor), num_workers=1)
    path.unlink()

    with pytest.raises(DataError, match="there is no file") as caught:
        list(loader)

    assert str(caught.value).startswith(f"{project.manifest}:2: signal: ")
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["null", "None", "NA", "nan", "007", '"'])
def test_the_text_survives_the_dataset(
    project: Project, processor: MultimodalProcessor, text: str
) -> None:
    project.add(text)

    assert project.dataset(processor).column("output") == [text]


def test_a_file_that_broke_after_setup_is_named_with_its_row(
    project: Project, processor: MultimodalProcessor
) -> None:
    path = project.add("four")
    dataset = project.dataset(processor)
    path.write_bytes(b"broken")

    with pytest.raises(DataError, match=r"train\.tsv:2: signal: .*1\.npy cannot be read"):
        dataset[0]


def test_absolute_paths_work(project: Project, processor: MultimodalProcessor) -> None:
    path = project.add("four")
    project.lines[1] = project.lines[1].replace(path.name, str(path))

    assert len(project.dataset(processor)[0].signals[0]) == 1


def test_a_limit_of_samples_needs_no_new_dataset(
    project: Project, processor: MultimodalProcessor
) -> None:
    for text in ("four", "two", "seven"):
        project.add(text)

    assert project.dataset(processor, max_train_samples=2).column("output") == ["four", "two"]


def test_a_worker_process_loads_the_same(project: Project, processor: MultimodalProcessor) -> None:
    for text in ("four", "two"):
        project.add(text)
    dataset, collate = project.dataset(processor), Collator(processor)

    (here,) = DataLoader(dataset, batch_size=2, collate_fn=collate)
    (there,) = DataLoader(dataset, batch_size=2, collate_fn=collate, num_workers=1)

    assert here.keys() == there.keys()
    assert all((here[name] == there[name]).all() for name in here)


def test_a_draw_is_augmented_and_an_index_is_not(
    project: Project, processor: MultimodalProcessor
) -> None:
    project.add("four")
    processor.streams[0]["settings"] = {"noise": 1.0}
    dataset = project.dataset(processor)

    (plain,) = dataset.__getitems__([0])
    drawn = [dataset[Draw(sample=0, stream=stream)].signals[0] for stream in (1, 1, 2)]

    assert plain.signals[0].tolist() == [[1.0, 1.0]]
    assert drawn[0].tolist() == drawn[1].tolist() != plain.signals[0].tolist()
    assert drawn[2].tolist() != drawn[0].tolist()
    assert dataset[0].signals[0].tolist() == plain.signals[0].tolist()


def test_a_file_that_broke_is_skipped_where_that_is_wished(
    project: Project, processor: MultimodalProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    path = project.add("four")
    project.add("two", frames=3)
    dataset = project.dataset(processor, on_bad_sample="skip")
    path.write_bytes(b"broken")

    with caplog.at_level(logging.WARNING):
        broken, whole = dataset.__getitems__([0, 1])
        dataset.__getitems__([0])

    assert (broken.broken, whole.broken) == (True, False)
    assert broken.signals[0].shape == (0, 2)
    assert caplog.text.count("train.tsv:2: signal: ") == 1


def test_a_data_set_of_broken_files_alone_is_refused(
    project: Project, processor: MultimodalProcessor
) -> None:
    path = project.add("four")
    dataset = project.dataset(processor, on_bad_sample="skip")
    path.unlink()

    with pytest.raises(DataError, match="not one of its signals can be read"):
        dataset[0]


def test_a_signal_is_read_once(project: Project, processor: MultimodalProcessor) -> None:
    path = project.add("four", frames=3)
    dataset = project.dataset(processor, cache="memory")
    before = dataset[0].signals[0]
    path.unlink()

    assert dataset[0].signals[0] is before


def test_workers_share_what_is_kept_on_disk(
    project: Project, processor: MultimodalProcessor
) -> None:
    os.utime(project.add("four", frames=3), (0, 0))
    dataset = project.dataset(processor, cache="disk", cache_dir=project.folder / "cache")
    loader = DataLoader(dataset, collate_fn=Collator(processor), num_workers=1)

    batches = [*loader, *loader]

    assert batches[0]["input_frames"].equal(batches[1]["input_frames"])
    entry_and_link = list((project.folder / "cache").glob("??/*"))
    assert len(entry_and_link) == 2
