import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmrun.config.loading import load_experiment
from mmrun.config.schema import Experiment
from mmrun.data.dataset import load_dataset_actor
from mmrun.data.processor import load_processor
from mmrun.errors import ConfigError, DataError, PluginError, UsageError
from mmrun.models.build import load_model
from mmrun.workflows.actors import (
    STEPS,
    Actors,
    fingerprints,
    missing_steps,
    read_actors,
    with_modality,
)
from mmrun.workflows.setup import run_setup, setup_command

HEADER = "signal\toutput\n"
FILE = """\
# the experiment of a test
data:
  dataset_type: features2text  # what goes in
  train_metadata_file: {folder}/train.tsv
  validation_metadata_file: {folder}/validation.tsv
model:
  feat_dim: 3
  backbone_config: {{d_model: 16, encoder_layers: 1, decoder_layers: 1,
    encoder_attention_heads: 2, decoder_attention_heads: 2}}
setup:
  update_config: {update}
training:
  output_dir: {folder}/out
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for split, rows in {"train": 4, "validation": 2}.items():
        lines = [f"{split}{row}.npy\tfour two {row:02}" for row in range(rows)]
        (tmp_path / f"{split}.tsv").write_text(HEADER + "\n".join(lines) + "\n")
        for row in range(rows):
            np.save(tmp_path / f"{split}{row}.npy", np.full((row + 1, 3), row, dtype=np.float32))
    return tmp_path


def experiment(project: Path, *, update: bool = False, **sections: Any) -> Experiment:
    path = project / "experiment.yaml"
    path.write_text(FILE.format(folder=project, update=str(update).lower()))
    read = load_experiment(path)
    changed = {
        name: getattr(read, name).model_copy(update=values) for name, values in sections.items()
    }
    return read.model_copy(update=changed)


def made(project: Path, **sections: Any) -> Actors:
    return run_setup(experiment(project, **sections), folder=project / "out/setup")


def snapshot(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def test_setup_makes_what_training_loads(project: Path) -> None:
    wanted = experiment(project)

    actors = run_setup(wanted, folder=project / "out/setup")

    processor = load_processor(actors.processor)
    splits = load_dataset_actor(actors.dataset, data=wanted.data, processor=processor)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 4, "validation": 2}
    assert load_model(actors.model).config.vocab_size == len(processor.tokenizer)
    assert read_actors(actors.folder) == actors
    assert not missing_steps(wanted, actors.folder)


def test_the_paths_in_actors_paths_are_relative(project: Path) -> None:
    actors = made(project)

    assert str(project) not in (actors.folder / "actors_paths.yaml").read_text()


def test_what_setup_was_told_of_the_modality_holds_where_the_file_says_nothing(
    project: Path,
) -> None:
    made(project)
    told = experiment(project)
    unsaid = experiment(project, data={"dataset_type": None})

    found = with_modality(unsaid, output_dir=project / "out", setup_path=None)

    assert found == told
    assert not missing_steps(found, project / "out/setup")


def test_without_a_setup_the_modality_stays_unknown(project: Path) -> None:
    unsaid = experiment(project, data={"dataset_type": None})

    assert with_modality(unsaid, output_dir=project / "out", setup_path=None) == unsaid


def test_setup_twice_gives_the_same_bytes(project: Path) -> None:
    first = dict(snapshot(made(project).folder))
    again = run_setup(experiment(project), folder=project / "elsewhere/setup")

    assert dict(snapshot(again.folder)) == first


def test_what_is_up_to_date_is_left_alone(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    actors = made(project)
    before = {path: path.stat().st_mtime_ns for path in actors.model.iterdir()}

    with caplog.at_level(logging.INFO):
        made(project)

    assert {path: path.stat().st_mtime_ns for path in actors.model.iterdir()} == before
    assert caplog.text.count("up to date") == len(STEPS)


def test_a_changed_manifest_is_noticed(project: Path) -> None:
    actors = made(project)
    with (project / "validation.tsv").open("a") as manifest:
        manifest.write("validation0.npy\tseven\n")

    assert "dataset" in missing_steps(experiment(project), actors.folder)
    again = made(project)

    dataset = load_dataset_actor(
        again.dataset, data=experiment(project).data, processor=load_processor(again.processor)
    )
    assert len(dataset["validation"]) == 3


@pytest.mark.parametrize(
    ("sections", "stale"),
    [
        ({"model": {"freeze_backbone": True}}, {"model"}),
        ({"model": {"feat_dim": 4}}, {"dataset", "processor", "model"}),
        ({"processor": {"new_vocabulary": "__de__"}}, {"processor", "model"}),
        ({"data": {"max_frames": 2}}, {"dataset"}),
        ({"data": {"max_length": 2}}, {"dataset"}),
        ({"data": {"cache": "disk"}}, set()),
        ({"data": {"on_bad_sample": "skip"}}, set()),
        ({"setup": {"seed": 7}}, {"model"}),
        ({"training": {"run_name": "other"}}, set()),
        ({"data": {"max_train_samples": 2}}, set()),
    ],
)
def test_only_what_depends_on_a_change_is_made_again(
    project: Path, sections: dict[str, Any], stale: set[str]
) -> None:
    actors = made(project)

    assert missing_steps(experiment(project, **sections), actors.folder) == stale


def test_a_mistake_leaves_everything_as_it_was(project: Path) -> None:
    actors = made(project)
    before = dict(snapshot(project / "out"))
    (project / "train.tsv").write_text(HEADER + "gone.npy\tfour\n")

    with pytest.raises(DataError, match=r"train\.tsv:2: signal: there is no file"):
        made(project)

    assert dict(snapshot(project / "out")) == before
    assert actors.dataset.is_dir()


def test_a_mistake_in_the_model_leaves_no_dataset_behind(project: Path) -> None:
    with pytest.raises(ConfigError, match="d_modle"):
        made(project, model={"backbone_config": {"d_modle": 3}})

    assert not (project / "out").exists()


def test_the_problems_of_all_manifests_are_said_at_once(project: Path) -> None:
    for split in ("train", "validation"):
        (project / f"{split}.tsv").write_text(HEADER + "a.npy\t\n")

    with pytest.raises(DataError, match=r"train\.tsv:2: output: is empty") as caught:
        made(project)

    assert "validation.tsv:2: output: is empty" in caught.value.more[0]


def test_an_unknown_modality_is_refused(project: Path) -> None:
    with pytest.raises(PluginError, match="unknown modality 'smell'"):
        made(project, data={"dataset_type": "smell2text"})


def test_the_model_alone_needs_a_processor(project: Path) -> None:
    with pytest.raises(UsageError, match="needs a processor"):
        run_setup(experiment(project), folder=project / "out/setup", steps=["model"])


def test_the_actors_can_be_made_one_by_one(project: Path) -> None:
    for step in ("dataset", "processor", "model"):
        run_setup(experiment(project), folder=project / "out/setup", steps=[step])

    assert not missing_steps(experiment(project), project / "out/setup")
    assert read_actors(project / "out/setup").model.is_dir()


def test_the_dataset_can_be_made_again_from_scratch(project: Path) -> None:
    actors = made(project)
    (actors.dataset / "mmrun.json").touch()
    inode = actors.dataset.stat().st_ino

    run_setup(experiment(project), folder=actors.folder, rebuild_dataset=True)

    assert actors.dataset.stat().st_ino != inode


def test_an_actor_of_another_format_is_made_again(project: Path) -> None:
    actors = made(project)
    mark = actors.model / "mmrun.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "format": 99}))

    assert missing_steps(experiment(project), actors.folder) == {"model"}


def test_reading_actors_that_are_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no actors") as caught:
        read_actors(tmp_path)

    assert "mmrun setup" in caught.value.hint


def test_the_command_writes_where_the_file_says(project: Path) -> None:
    actors = setup_command(
        experiment(project),
        output_dir=None,
        rebuild_dataset=False,
        config_path=project / "experiment.yaml",
    )

    assert actors.folder == project / "out/setup"


def test_the_command_makes_only_what_was_chosen(project: Path) -> None:
    setup_command(
        experiment(project, setup={"do_dataset": True}),
        output_dir=project / "other",
        rebuild_dataset=False,
        config_path=project / "experiment.yaml",
    )

    assert [path.name for path in (project / "other/setup").iterdir()] == ["dataset"]


def test_the_file_is_updated_with_its_comments_kept(project: Path) -> None:
    wanted = experiment(project, update=True)
    path = project / "experiment.yaml"
    before = path.read_text()

    setup_command(wanted, output_dir=project / "other", rebuild_dataset=False, config_path=path)

    after = path.read_text()
    assert "# what goes in" in after
    assert load_experiment(path).setup.output_dir == project / "other"
    assert set(before.split()) - set(after.split()) == set()


def test_the_file_is_not_updated_under_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "setup")

    with pytest.raises(UsageError, match="--update_config would change the experiment file"):
        setup_command(
            experiment(project, update=True),
            output_dir=None,
            rebuild_dataset=False,
            config_path=project / "experiment.yaml",
        )

    assert not (project / "out").exists()


def test_without_a_folder_the_command_asks_for_one(project: Path) -> None:
    with pytest.raises(UsageError, match="no folder for what setup makes"):
        setup_command(
            experiment(project, training={"output_dir": None}),
            output_dir=None,
            rebuild_dataset=False,
            config_path=project / "experiment.yaml",
        )


def test_files_are_read_to_their_end_where_that_is_asked_for(project: Path) -> None:
    actors = made(project)
    np.save(project / "validation0.npy", np.full((1, 3), np.nan, dtype=np.float32))
    made(project)

    with pytest.raises(DataError, match=r"validation\.tsv:2: signal: .*NaN"):
        setup_command(
            experiment(project, setup={"check_files": True}),
            output_dir=None,
            rebuild_dataset=False,
            config_path=project / "experiment.yaml",
        )

    assert actors.dataset.is_dir()


def test_the_length_of_a_text_is_counted_with_the_tokenizer_that_is_made(project: Path) -> None:
    with pytest.raises(DataError, match=r"no row is left: .*data\.max_length \(1\) tokens"):
        made(project, data={"max_length": 1})


def test_a_file_of_another_size_is_measured_again(project: Path) -> None:
    actors = made(project)
    np.save(project / "validation0.npy", np.zeros((7, 3), dtype=np.float32))

    assert missing_steps(experiment(project), actors.folder) == {"dataset"}


def test_a_model_is_not_made_for_a_processor_of_other_settings(project: Path) -> None:
    made(project)
    changed = experiment(project, processor={"new_vocabulary": "__de__"})

    with pytest.raises(UsageError, match="was made from other settings") as caught:
        run_setup(changed, folder=project / "out/setup", steps=["model"])

    assert "--do_processor" in caught.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"output_mask_key": "mask"}, id="the name of a mask"),
        pytest.param({"processor_class": "TextModalityProcessor"}, id="the kind of a stream"),
    ],
)
def test_a_model_of_other_streams_is_made_again(project: Path, changed: dict[str, str]) -> None:
    signal = {"processor_class": "FeaturesModalityProcessor", "output_data_key": "input_frames"}
    target = {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": {"role": "target"},
        "output_data_key": "labels",
        "column_map": {"output": "target"},
    }
    data = {"dataset_type": None}
    actors = made(project, data=data, processor={"slots": [signal, target]})

    other = experiment(project, data=data, processor={"slots": [{**signal, **changed}, target]})

    assert "model" in missing_steps(other, actors.folder)


def test_a_model_is_made_again_when_its_tokenizer_learns_from_another_column(project: Path) -> None:
    signal = {"processor_class": "FeaturesModalityProcessor", "output_data_key": "input_frames"}
    target = {
        "processor_class": "TextModalityProcessor",
        "processor_kwargs": {"role": "target"},
        "output_data_key": "labels",
    }
    data = {"dataset_type": None}

    def written(column: str) -> dict[str, Any]:
        return {"slots": [signal, {**target, "column_map": {column: "target"}}]}

    actors = made(project, data=data, processor=written("output"))

    other = experiment(project, data=data, processor=written("signal"))

    assert {"processor", "model"} <= missing_steps(other, actors.folder)


def test_weights_that_were_trained_further_are_others(project: Path) -> None:
    folder = project / "backbone"
    backbone = load_model(made(project).model).backbone
    backbone.save_pretrained(folder)
    given = {"pretrained_backbone": str(folder), "backbone_config": None}
    tokenizer = {"tokenizer_path": str(project / "out/setup/processor")}
    first = fingerprints(experiment(project, model=given, processor=tokenizer))

    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(0.1)
    backbone.save_pretrained(folder)

    assert fingerprints(experiment(project, model=given, processor=tokenizer)) != first


def test_rows_that_were_left_out_are_looked_at_again_where_that_is_an_error(project: Path) -> None:
    (project / "validation0.npy").write_bytes(b"broken")
    actors = made(project, data={"on_bad_sample": "skip"})

    assert missing_steps(experiment(project), actors.folder) == {"dataset"}
    with pytest.raises(DataError, match=r"validation\.tsv:2: signal: "):
        made(project)


def test_a_row_that_is_longer_than_the_backbone_can_read_is_named(project: Path) -> None:
    np.save(project / "validation0.npy", np.zeros((50, 3), dtype=np.float32))
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    backbone = {"d_model": 16, "max_position_embeddings": 32, **layers, **heads}
    model = {"backbone_type": "bart", "max_length": 16, "backbone_config": backbone}

    with pytest.raises(DataError, match=r"validation\.tsv:2: takes 51 positions") as caught:
        made(project, model=model)

    assert "data.max_frames" in caught.value.hint
    assert not (project / "out").exists()
