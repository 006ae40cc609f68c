"""What a training is made of: arguments, data, processor, model, all ready to use."""

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrun.checkpoints.manifest import Selection
from mmrun.config.loading import plain
from mmrun.config.schema import Experiment, Split
from mmrun.data.pipeline import resolve_pipeline
from mmrun.errors import ConfigError
from mmrun.progress import hide_library_bars
from mmrun.training.processes import Leader
from mmrun.workflows.actors import (
    Actors,
    actors_folder,
    built_streams,
    missing_steps,
    stream_names,
)
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.place import Place
from mmrun.workflows.setup import run_setup

if TYPE_CHECKING:
    from mmrun.data.processor import MultimodalProcessor
    from mmrun.training.saving import CheckpointSink
    from mmrun.training.stopping import StopWish
    from mmrun.training.trainer import ResumableTrainer

logger = logging.getLogger(__name__)

_OF_THE_PROCESSOR = frozenset({"data.dataset_type", "data.signal_start_end_unit"})
"""Keys of another section that decide how a signal is read."""
_OF_THE_TOKENS = frozenset({"tokenizer_path", "new_vocabulary"})
_NEEDED = ("mmrun.data.dataset", "mmrun.models.build", "mmrun.training.trainer")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that `Seq2SeqTrainer` needs, and where the actors lie."""

    arguments: Any
    model: Any
    processor: "MultimodalProcessor"
    datasets: Mapping[Split, Any]
    experiment: Experiment
    actors: Path

    @property
    def selection(self) -> Selection | None:
        """What the best checkpoint is chosen by; None without evaluation."""
        metric = self.arguments.metric_for_best_model
        if metric is None or str(self.arguments.eval_strategy) == "no":
            return None
        name = metric if metric.startswith("eval_") else f"eval_{metric}"
        return Selection(metric=name, greater_is_better=bool(self.arguments.greater_is_better))

    def trainer(
        self,
        *,
        sink: "CheckpointSink",
        stop: "StopWish",
        log: Callable[[Mapping[str, float], int], None],
    ) -> "ResumableTrainer":
        """Return the trainer of this recipe."""
        from transformers import PrinterCallback

        from mmrun.tasks.translation import collator, compute_metrics
        from mmrun.training.arguments import REFUSALS, refusal
        from mmrun.training.trainer import ResumableTrainer

        validation = self.datasets.get("validation")
        names = self.experiment.training.metric_name if self._scores else ()
        try:
            trainer = ResumableTrainer(
                sink=sink,
                stop=stop,
                log=log,
                model=self.model,
                args=self.arguments,
                data_collator=collator(self.processor, data=self.experiment.data),
                train_dataset=self.datasets["train"],
                eval_dataset=validation if str(self.arguments.eval_strategy) != "no" else None,
                processing_class=self.processor,
                compute_metrics=(
                    compute_metrics(names, processor=self.processor, dataset=validation)
                    if validation is not None
                    else None
                ),
                callbacks=self._callbacks(),
            )
        except REFUSALS as error:
            raise refusal(error) from error
        trainer.remove_callback(PrinterCallback)  # log lines are said once, by the session
        return trainer

    @property
    def _scores(self) -> bool:
        return bool(self.arguments.predict_with_generate)

    def _callbacks(self) -> list[Any]:
        from transformers import EarlyStoppingCallback

        # It warns that the best model is not loaded at the end: `checkpoint-best` has it anyway.
        logging.getLogger("transformers.trainer_callback").setLevel(logging.ERROR)
        patience = self.experiment.training.early_stopping_patience
        return [EarlyStoppingCallback(early_stopping_patience=patience)] if patience else []


def import_libraries() -> None:
    """Import what a recipe and its training need: most of the time until the first step."""
    for module in _NEEDED:
        importlib.import_module(module)


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What a recipe is made from; every process of a training makes its own from the same."""

    experiment: Experiment
    actors: Actors
    checkpoint: Path | None
    with_actors: bool
    """Whether the checkpoint is mmrun's: it has processor and model in it then."""
    made_anew: bool
    """Whether processor and model are to be made as the experiment says it now."""
    retokenized: bool = False
    """Whether what it says of tokens is another thing now."""

    def for_others(self) -> dict[str, Any]:
        """Return what other processes do not know from the arguments' experiment."""
        return {
            "actors": str(self.actors.folder),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "with_actors": self.with_actors,
            "made_anew": self.made_anew,
            "retokenized": self.retokenized,
        }

    @classmethod
    def from_first(cls, told: Mapping[str, Any], *, experiment: Experiment) -> "Ingredients":
        """Return what ``for_others`` tells."""
        return cls(
            experiment=experiment,
            actors=Actors.of(Path(told["actors"])),
            checkpoint=None if told["checkpoint"] is None else Path(told["checkpoint"]),
            with_actors=told["with_actors"],
            made_anew=told["made_anew"],
            retokenized=told["retokenized"],
        )


def prepare_recipe(beginning: Beginning, *, setup_path: Path | None, leader: Leader) -> Recipe:
    """Make what is missing and load it."""
    from mmrun.training.arguments import build_arguments
    from mmrun.training.readable import check_readable

    hide_library_bars()
    if beginning.checkpoint is not None:
        manifest = beginning.found.manifest if beginning.found is not None else None
        check_readable(beginning.checkpoint, versions=manifest.versions if manifest else {})
    experiment = beginning.place.experiment
    output_dir = beginning.place.output_dir
    # The arguments open the group of processes: who waits for others there hears no signal.
    told = {"experiment": shared(experiment), "output_dir": str(output_dir)}
    leader.order("arguments", awaited=True, **told)
    arguments = build_arguments(experiment, output_dir=output_dir)
    ingredients = Ingredients(
        experiment=experiment,
        actors=_actors(beginning, setup_path=setup_path),
        checkpoint=beginning.checkpoint,
        with_actors=_own(beginning),
        made_anew=_made_anew(beginning),
        retokenized=_retokenized(beginning),
    )
    leader.order("recipe", **ingredients.for_others())
    return load_recipe(ingredients, arguments=arguments)


def shared(experiment: Experiment) -> dict[str, Any]:
    """Return what other processes need of it: not where the run is recorded, nor a password."""
    return {name: section for name, section in plain(experiment).items() if name != "tracking"}


def load_recipe(ingredients: Ingredients, *, arguments: Any) -> Recipe:
    """Load what ``ingredients`` name.

    On a resume, processor and model come from the checkpoint, unless their section was changed:
    then they are made anew, and the checkpoint's weights must fit.
    """
    from mmrun.data.dataset import load_dataset_actor
    from mmrun.training.arguments import check_optimizer
    from mmrun.training.refused import refuse_empty_epoch

    experiment, actors = ingredients.experiment, ingredients.actors
    processor = _processor(ingredients)
    datasets = load_dataset_actor(actors.dataset, data=experiment.data, processor=processor)
    if "train" not in datasets:
        raise ConfigError(
            "data.train_metadata_file: is not given", hint="name the TSV of the train split"
        )
    refuse_empty_epoch(
        samples=len(datasets["train"]),
        batch=arguments.train_batch_size * arguments.world_size,
        drop_last=arguments.dataloader_drop_last,
    )
    model = _model(ingredients, processor)
    check_optimizer(arguments, model)
    return Recipe(
        arguments=arguments,
        model=model,
        processor=processor,
        datasets=datasets,
        experiment=experiment,
        actors=actors.folder,
    )


def setup_folder(place: Place, setup_path: Path | None) -> Path:
    """Return where the actors are, or are to be made."""
    own = place.output_dir
    found = actors_folder(place.experiment, output_dir=own, setup_path=setup_path)
    return found or own / "setup"


def _own(beginning: Beginning) -> bool:
    """Whether the checkpoint is mmrun's: it has processor and model in it then."""
    return beginning.found is not None and beginning.found.manifest is not None


def _made_anew(beginning: Beginning) -> bool:
    """Whether processor and model are to be made as the experiment says it now."""
    return any(
        key.partition(".")[0] in {"processor", "model"} or key in _OF_THE_PROCESSOR
        for key in beginning.changed
    )


def _retokenized(beginning: Beginning) -> bool:
    return any(
        key.startswith("processor.") and key.rpartition(".")[2] in _OF_THE_TOKENS
        for key in beginning.changed
    )


def _actors(beginning: Beginning, *, setup_path: Path | None) -> Actors:
    folder = setup_folder(beginning.place, setup_path)
    experiment, checkpoint = beginning.place.experiment, beginning.checkpoint
    missing, actors = missing_steps(experiment, folder), Actors.of(folder)
    if checkpoint is None or not _own(beginning):
        if missing:
            run_setup(experiment, folder=folder, steps=missing)
        return actors
    own = Ingredients(
        experiment=experiment,
        actors=actors,
        checkpoint=checkpoint,
        with_actors=True,
        made_anew=_made_anew(beginning),
        retokenized=_retokenized(beginning),
    )
    if "processor" in missing and actors.processor.is_dir() and not own.made_anew:
        logger.warning(
            "the processor in %s is of other files or data than there are now; the training goes "
            "on with the checkpoint's",
            actors.folder,
        )
    names = stream_names(checkpoint)
    if own.made_anew:
        pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
        names = [slot.name for slot in pipeline.inputs]
    if "dataset" in missing or built_streams(folder) != names:
        reader = _saved_processor(own, checkpoint)
        run_setup(experiment, folder=folder, steps=["dataset"], reader=reader, rebuild_dataset=True)
    return actors


def _processor(ingredients: Ingredients) -> "MultimodalProcessor":
    from mmrun.data.processor import load_processor

    checkpoint = ingredients.checkpoint
    if checkpoint is None or not ingredients.with_actors:
        return load_processor(ingredients.actors.processor)
    return _saved_processor(ingredients, checkpoint)


def _saved_processor(ingredients: Ingredients, checkpoint: Path) -> "MultimodalProcessor":
    """Return the processor of a checkpoint, with what the experiment says otherwise now.

    Its tokenizer is never learnt again: with another one the weights would mean something else.
    """
    from mmrun.data.processor import changed_processor, load_processor

    saved, experiment = load_processor(checkpoint), ingredients.experiment
    if not ingredients.made_anew:
        return saved
    pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
    return changed_processor(
        saved, pipeline, model=experiment.model, tokens=ingredients.retokenized
    )


def _model(ingredients: Ingredients, processor: "MultimodalProcessor") -> Any:
    from mmrun.models.build import build_model, load_model
    from mmrun.tasks.translation import inputs_of
    from mmrun.training.fit import load_weights

    experiment, checkpoint = ingredients.experiment, ingredients.checkpoint
    if checkpoint is None:
        return load_model(ingredients.actors.model)
    if not ingredients.with_actors:
        model = load_model(ingredients.actors.model)
    elif ingredients.made_anew:
        model = build_model(
            experiment.model,
            tokenizer=processor.tokenizer,
            new_tokens=processor.new_tokens,
            seed=experiment.setup.seed,
            inputs=inputs_of(processor),
        )
    else:
        return load_model(checkpoint)
    load_weights(model, checkpoint)
    return model
