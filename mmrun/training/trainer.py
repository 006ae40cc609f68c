"""The Hugging Face Trainer, made to go on where another process stopped.

What is overridden here is private to transformers: the package is pinned to the minor version
that was read (5.23), and `tests/architecture/test_trainer_overrides.py` fails when it moves.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Seq2SeqTrainer,
    TrainerState,
    set_seed,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from mmrun import faults
from mmrun.data.sampler import EpochSampler
from mmrun.training.best import best_so_far
from mmrun.training.collective import agreed, gathered
from mmrun.training.evaluation import Evaluation, EvaluationStopped
from mmrun.training.generators import (
    GeneratorStates,
    generator_states_kept,
    start_generators,
)
from mmrun.training.loop import Loop
from mmrun.training.mean_loss import MeanLoss
from mmrun.training.optimizer import continue_optimizer, parameter_groups
from mmrun.training.ordering import Ordering
from mmrun.training.position import (
    Entry,
    Left,
    Position,
    enter,
    foreign_position,
    read_position,
    total_steps,
    write_position,
)
from mmrun.training.saving import CheckpointSink, Share, told_as_full
from mmrun.training.skipped import SkippedSamples
from mmrun.training.stopping import StopWish
from mmrun.training.weights import constant_files, save_with_frozen_apart
from mmrun.training.workers import keep_workers

logger = logging.getLogger(__name__)

STATE = "trainer_state.json"
PICKLED_ARGUMENTS = "training_args.bin"


class ResumableTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` whose attempts add up to one training.

    Args:
        sink: Takes the checkpoints.
        stop: Asks the loop to stop after a last checkpoint.
        log: Receives every log line of the Trainer: values and step.
        arguments: Those of `Seq2SeqTrainer`.
    """

    # Set by the Trainer before they are used here; its own annotations allow None.
    train_dataset: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    state: Any

    def __init__(
        self,
        *,
        sink: CheckpointSink,
        stop: StopWish,
        log: Callable[[Mapping[str, float], int], None],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._sink = sink
        self.stop = stop
        self.stay_stopped = False
        """Whether a training that early stopping had ended is to stay so."""
        self._stopping = False
        self.evaluation = Evaluation(self.act_on_wish)
        self._evaluation_left: Left | None = None
        self._before: Position | None = None
        self._entry: Entry | None = None
        self._epoch = 0
        self.epoch_done = False
        self._at_epoch_end = False
        self._samples = 0
        self._batches = 0
        self._restore_generators: Callable[[], None] | None = None
        self._grad_norm: float | None = None
        self._learning_rate: float | None = None
        self._saved_step: int | None = None
        self._evaluated: tuple[int, Mapping[str, float]] = (-1, {})
        self._skipped = SkippedSamples()
        self._mean_loss = MeanLoss()
        self._started = time.time()
        self.label_smoother = None
        self.add_callback(Loop(self, log))

    # Where to go on

    def go_on(self, checkpoint: Path | None) -> None:
        """Train from ``checkpoint``, or from step 0, to the end."""
        self._enter(checkpoint)
        before = self._before
        self._saved_step = None if before is None or before.evaluation_left else before.step
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def total_steps(self, checkpoint: Path | None) -> int:
        """Return the step at which a training that goes on from ``checkpoint`` is done."""
        self._enter(checkpoint)
        return int(self.set_initial_training_values(self.args, self.get_train_dataloader())[-1])

    def _enter(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            return
        self._before = self._position_of(checkpoint)
        self._entry = enter(self._before, **self._loader_shape())
        if self.args.ignore_data_skip and not self._entry.nothing_left:
            again = replace(self._before, samples=0, epoch=self._entry.epoch, epoch_done=False)
            self._entry = enter(again, **self._loader_shape())

    @property
    def step(self) -> int:
        """The last step that was done."""
        return int(self.state.global_step)

    @property
    def stopped_on_wish(self) -> bool:
        """Whether the last call of ``go_on`` ended because somebody asked for it."""
        return self._stopping

    @property
    def stopped_early_before(self) -> bool:
        """Whether the checkpoint is of a training that early stopping had ended."""
        return self._before is not None and self._before.stopped_early

    def _position_of(self, checkpoint: Path) -> Position:
        position = read_position(checkpoint)
        if position is not None:
            return position
        state = TrainerState.load_from_json(str(checkpoint / STATE))
        return foreign_position(
            step=state.global_step,
            size=len(self.train_dataset),
            batch=self._batch(),
            accumulation=self.args.gradient_accumulation_steps,
        )

    def _loader_shape(self) -> dict[str, Any]:
        return {
            "size": len(self.train_dataset),
            "batch": self._batch(),
            "accumulation": self.args.gradient_accumulation_steps,
            "drop_last": self.args.dataloader_drop_last,
        }

    def _batch(self) -> int:
        return int(self._train_batch_size * self.args.world_size)

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        """Count what is left from the entry on: a changed batch size changes steps per epoch."""
        epochs, updates, examples, samples, total, in_epoch, steps = (
            super().set_initial_training_values(args, dataloader)
        )
        if self._entry is not None and self._before is not None:
            if args.max_steps > 0:
                entered = math.ceil(self._entry.skip / args.gradient_accumulation_steps)
                left = steps - self._before.step
                epochs = self._entry.epoch + math.ceil((left + entered) / updates)
            else:
                shape = self._loader_shape()
                steps = total_steps(self._before, epochs=args.num_train_epochs, **shape)
        return epochs, updates, examples, samples, total, in_epoch, steps

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        if resume_from_checkpoint is None or self._entry is None or self._before is None:
            begin: tuple[int, int] = super()._init_training_state(
                max_steps, num_update_steps_per_epoch, num_train_epochs, None, trial
            )
            return begin
        super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, None, trial
        )
        fresh = self.state
        self.state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / STATE))
        # The Trainer keeps the checkpoint's intervals and batch size; today's are the wish.
        self.state.train_batch_size = fresh.train_batch_size
        self.state.compute_steps(self.args, max_steps)
        self.state.init_training_references(self, max_steps, num_train_epochs, trial)
        self.state.best_model_checkpoint = None
        self._continue_callbacks(self.state.stateful_callbacks)
        self.state.stateful_callbacks = fresh.stateful_callbacks
        self._continue_best(self._before)
        return self._entry.epoch, self._entry.skip

    def _continue_callbacks(self, saved: Mapping[str, Any]) -> None:
        # Attributes (a patience counter) go on; arguments (the patience) are today's.
        for callback in self.callback_handler.callbacks:
            state = saved.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and isinstance(state, dict):
                for name, value in state.get("attributes", {}).items():
                    setattr(callback, name, value)

    def _continue_best(self, before: Position) -> None:
        """Find the best so far anew where it is chosen by another metric or direction now."""
        chosen_by = (self.args.metric_for_best_model, self.args.greater_is_better)
        if before.best_by is None or (before.best_by, before.greater_is_better) == chosen_by:
            return
        name = self.args.metric_for_best_model or ""
        best = best_so_far(
            self.state.log_history,
            metric=name if name.startswith("eval_") else f"eval_{name}",
            greater_is_better=bool(self.args.greater_is_better),
        )
        self.state.best_metric = best.value if best else None
        self.state.best_global_step = best.step if best else None
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = best.waited if best else 0

    def _run_epoch(self, **loop: Any) -> None:  # type: ignore[override]
        """Run an epoch, or what an earlier attempt left of it."""
        self._epoch = loop["epoch"]
        self._at_epoch_end = self.epoch_done = False
        entry = self._entry
        self._batches = 0
        if entry is None or self._before is None or entry.epoch != self._epoch:
            self._samples = 0
            self._restore_generators = GeneratorStates.now().restore
            super()._run_epoch(**loop)
            return
        self._samples = entry.start.done
        self._restore_generators = partial(self._load_rng_state, loop["resume_from_checkpoint"])
        if self._before.evaluation_left == "step" and self._evaluates_here():
            self._evaluate_what_was_left(loop)
        over = self.stay_stopped or self.state.global_step >= self.state.max_steps
        over = over or self.control.should_training_stop
        if entry.nothing_left or over:
            if not self._before.epoch_done:
                self._end_epoch(loop)
            self.control.should_training_stop = self.control.should_training_stop or over
            return
        # The sampler starts at the entry, so nothing is left to skip; the Trainer would build
        # every skipped batch, and count them in batches of the new size.
        accumulation = self.args.gradient_accumulation_steps
        left = entry.batches - entry.skip
        loop["steps_trained_in_current_epoch"] = 0
        loop["steps_in_epoch"] = left
        loop["num_update_steps_per_epoch"] = math.ceil(left / accumulation)
        super()._run_epoch(**loop)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Fetch the batches of a step.

        To begin an epoch, the loader draws from the training's generator: or not, where its workers
        stay, and once more where an attempt begins. So the draw is taken back.
        """
        fetched = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._restore_generators is not None:
            self._restore_generators()
            self._restore_generators = None
        return fetched

    def _end_epoch(self, loop: Mapping[str, Any]) -> None:
        # The attempt before died between the checkpoint of the last step and the epoch's end.
        self._load_rng_state(loop["resume_from_checkpoint"])
        self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
        if self._before is not None and self._before.evaluation_left == "epoch":
            self.control.should_save = True
        self._log_save_evaluate_again(loop)

    def _evaluates_here(self) -> bool:
        """Whether the intervals of today have an evaluation after this step."""
        step, every = self.state.global_step, self.state.eval_steps
        at_step = step >= self.state.max_steps or step % every == 0
        return bool(self.args.eval_strategy == "steps" and at_step)

    def _evaluate_what_was_left(self, loop: Mapping[str, Any]) -> None:
        """Do the evaluation that the attempt before left, and save its step again, with it."""
        self._load_rng_state(loop["resume_from_checkpoint"])  # a new one takes its place
        self._restore_generators = GeneratorStates.now().restore
        self.control.should_evaluate = self.control.should_save = True
        self._log_save_evaluate_again(loop)

    def _log_save_evaluate_again(self, loop: Mapping[str, Any]) -> None:
        """Do what belongs after the step that the attempt before did last."""
        self._maybe_log_save_evaluate(
            self._tr_loss,
            self._before.grad_norm if self._before else None,
            loop["model"],
            loop["trial"],
            loop["epoch"],
            loop["ignore_keys_for_eval"],
            loop["start_time"],
            learning_rate=self._before.learning_rate if self._before else None,
        )

    def part_of_epochs(self, counted: float) -> float:
        """Return how many epochs are done: ``counted`` is from where the loop entered this one."""
        entry = self._entry
        if entry is None or entry.epoch != self._epoch:
            return counted
        return self._epoch + (entry.skip + self._batches) / entry.batches

    def act_on_wish(self) -> bool:
        """Tell, at the end of a step, whether to stop here, and remember it."""
        reason = agreed(self.stop.reason, device=self.args.device)
        if reason is not None:
            self._stopping = True
            self.stop.agree(reason)
        return self._stopping

    def pass_epoch_end(self) -> bool:
        """Tell, at the end of an epoch, whether what belongs there is to be done now.

        A training that stops on request leaves it to the next attempt. The loop also comes here
        in the middle of an epoch, when it has done its last step: that is not the epoch's end.
        """
        if self._stopping:
            return False
        self._at_epoch_end = True
        here = Position(step=self.step, epoch=self._epoch, samples=self._samples, epoch_done=False)
        self.epoch_done = enter(here, **self._loader_shape()).nothing_left
        return True

    def begin(self) -> None:
        """Put the running sums back; called when the loop has reset them."""
        self._started = time.time()
        before = self._before
        if before is None:
            return
        own = before.running_loss_of(self.args.process_index, processes=self.args.world_size)
        self._tr_loss = torch.tensor(own, device=self.args.device)
        self._total_loss_scalar = before.total_loss
        self._globalstep_last_logged = before.last_logged_step
        self._grad_norm = before.grad_norm
        self._learning_rate = before.learning_rate
        self._skipped.go_on(before.skipped)

    # Data

    def _get_dataloader(self, *arguments: Any, **options: Any) -> Any:
        loader = super()._get_dataloader(*arguments, **options)
        keep_workers(loader)
        return loader

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        ordering, of_start = self._ordering(entered=False), self._ordering(entered=True)
        return EpochSampler(
            ordering.order(dataset),
            size=len(dataset),
            seed=ordering.seed,
            start=self._entry.start if self._entry is not None else None,
            order_of_start=of_start.order(dataset),
            seed_of_start=of_start.seed,
            multiple=self._batch() if self._evened else 1,
        )

    @property
    def _evened(self) -> bool:
        """Whether the last batches of an epoch are filled up, so that all processes have one."""
        return bool(self.args.world_size > 1 and not self.args.dataloader_drop_last)

    def _ordering(self, *, entered: bool) -> Ordering:
        """Return what the order of an epoch is made from, or of the one that is entered."""
        now = Ordering.of(self.args, batch=self._batch())
        begun = entered and self._entry is not None and self._entry.start.done > 0
        return now.kept_from(self._before) if begun and self._before is not None else now

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        # References are compared in the order of the dataset, whatever order training takes.
        return SequentialSampler(eval_dataset)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """Count the samples of the batch, then do the step."""
        self._samples += len(inputs["labels"]) * self.args.world_size
        self._batches += 1
        if self._skips:
            self._skipped.count(inputs["labels"])
        loss: torch.Tensor = super().training_step(model, inputs, *rest)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Say beside each loss how many samples were skipped, where samples may be."""
        if self._skips and "loss" in logs:
            logs["skipped_samples"] = self._skipped.total(device=self.args.device)
        super().log(logs, start_time)

    def _tell_skipped(self) -> None:
        skipped = self._skipped.total(device=self.args.device) if self._skips else 0
        if skipped and self.args.process_index == 0:
            logger.warning(
                "%d samples did not count, because their signals could not be read", skipped
            )

    @property
    def _skips(self) -> bool:
        return bool(getattr(self.train_dataset, "skips", False))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *rest: Any, **options: Any
    ) -> Any:
        """Let the model smooth its labels: the Trainer's smoother would take them from it."""
        if model.training and self.args.label_smoothing_factor:
            inputs = {**inputs, "label_smoothing": self.args.label_smoothing_factor}
        return super().compute_loss(model, inputs, *rest, **options)

    # Evaluation

    def _evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        if options.get("skip_scheduler") and self._before is not None:
            return {}  # eval_on_start: the run has started long ago
        faults.reach("evaluation", step=self.state.global_step)
        # Evaluating must not move the generators: training goes on alike with any eval_steps.
        with generator_states_kept():
            metrics = self.evaluation.run(
                lambda: super(ResumableTrainer, self)._evaluate(*arguments, **options),
                to_the_end=bool(options.get("skip_scheduler")),
            )
        self._evaluated = (self.state.global_step, dict(metrics))
        return metrics

    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        """Count every row once, also those that fill up the last batches of several processes."""
        if self.args.world_size > 1:  # `Seq2SeqTrainer` chose what keeps them
            self.gather_function = self.accelerator.gather_for_metrics
        self._mean_loss = MeanLoss()
        done: Any = super().evaluation_loop(*arguments, **options)
        loss = self._mean_loss.value
        if loss is not None:
            done.metrics[f"{options.get('metric_key_prefix', 'eval')}_loss"] = loss
        return done

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *rest: Any, **options: Any
    ) -> Any:
        """Keep the loss of the batch with the number of labels that it is the mean of."""
        predicted: Any = super().prediction_step(model, inputs, *rest, **options)
        if self.args.world_size == 1:
            self._mean_loss.add(predicted[0], inputs["labels"])
        return predicted

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, *rest: Any, **options: Any
    ) -> None:
        if grad_norm is not None:
            self._grad_norm = float(grad_norm)
        self._learning_rate = options.get("learning_rate", self._learning_rate)
        try:
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, *rest, **options)
        except EvaluationStopped:
            self._evaluation_left = "epoch" if self._at_epoch_end else "step"
            self.epoch_done = False
            self.control.should_training_stop = True

    # Saving

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the Trainer's files and the position, and hand them to the sink."""
        step = self.state.global_step
        if step == self._saved_step:
            return
        self.store_flos()
        self._saved_step = step
        shares = gathered(self._share())
        if shares is None:  # what is the same in all processes is for the first one to write
            return
        folder = self._sink.open(step)
        with told_as_full(folder, step=step):
            constant = self._write(folder, shares)
        self._sink.publish(
            folder,
            step=step,
            epoch=float(self.state.epoch or 0),
            metrics=self._metrics_here(),
            constant=constant,
        )

    def _share(self) -> Share:
        """Return what only this process knows of its training."""
        running_loss, skipped = float(self._tr_loss.item()), self._skipped.here
        if self.args.process_index == 0:
            return Share(running_loss, skipped, files={})  # it writes them to where they belong
        with TemporaryDirectory() as folder:
            self._save_rng_state(folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return Share(running_loss, skipped, files)

    def _write(self, folder: Path, shares: Sequence[Share]) -> frozenset[str]:
        """Write everything into ``folder``; return which files training does not change."""
        self._save_model_into(folder)
        # A pickle that would carry secrets such as hub_token; the attempt's record has them masked.
        (folder / PICKLED_ARGUMENTS).unlink(missing_ok=True)
        constant = constant_files(folder)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        for share in shares:
            for name, content in share.files.items():
                (folder / name).write_bytes(content)
        self._save_callbacks()
        self.state.save_to_json(str(folder / STATE))
        write_position(folder, self._position(shares))
        return constant

    def _save_model_into(self, folder: Path) -> None:
        gathered = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if gathered or not isinstance(self.model, PreTrainedModel) or not self.args.should_save:
            self.save_model(str(folder), _internal_call=True)
            return
        save_with_frozen_apart(
            self.model, folder, save=lambda state: self._save(str(folder), state_dict=state)
        )

    def _save_callbacks(self) -> None:
        self.state.best_model_checkpoint = None  # an absolute path of this machine
        for callback in (*self.callback_handler.callbacks, self.control):
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()

    def _metrics_here(self) -> Mapping[str, float]:
        step, metrics = self._evaluated
        return metrics if step == self.state.global_step else {}

    def _position(self, shares: Sequence[Share]) -> Position:
        entered = self._entry is not None and self._entry.epoch == self._epoch
        ordering = self._ordering(entered=entered)
        early = self.stay_stopped or (self.control.should_training_stop and not self._stopping)
        return Position(
            step=self.state.global_step,
            epoch=self._epoch,
            samples=min(self._samples, len(self.train_dataset)),
            epoch_done=self.epoch_done,
            evaluation_left=self._evaluation_left,
            running_losses=tuple(share.running_loss for share in shares),
            total_loss=float(self._total_loss_scalar),
            counted_from=self._before.counted_from if self._before else 0,
            last_logged_step=self._globalstep_last_logged,
            elapsed_s=self._elapsed_s(),
            grad_norm=self._grad_norm,
            learning_rate=self._learning_rate,
            stopped_early=early and self.state.global_step < self.state.max_steps,
            best_by=self.args.metric_for_best_model,
            greater_is_better=self.args.greater_is_better,
            base_rate=float(self.args.learning_rate),
            length_group=ordering.group,
            order_seed=ordering.seed,
            sampling=ordering.strategy,
            seed=self.args.seed,
            skipped=(self._before.skipped if self._before else 0)
            + sum(share.skipped for share in shares),
            optimizer=self._optimizer_name(),
            parameters=parameter_groups(self.optimizer, self.model),
        )

    def _elapsed_s(self) -> float:
        earlier = self._before.elapsed_s if self._before else 0.0
        return earlier + time.time() - self._started

    def _optimizer_name(self) -> str:
        wrapped = getattr(self.optimizer, "optimizer", self.optimizer)
        return type(wrapped).__name__

    # Loading

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Go on with the generators; begin from a changed ``seed``, or in a process that is new."""
        before = self._before
        if checkpoint is None or before is None:
            return
        if before.seed not in (None, self.args.seed):
            set_seed(self.args.seed)
        elif (Path(checkpoint) / self._states_name()).exists():
            super()._load_rng_state(checkpoint)
        else:
            start_generators(self.args.seed, before.step, self.args.process_index)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self._before is None:
            return
        continue_optimizer(
            Path(checkpoint),
            optimizer=getattr(self.optimizer, "optimizer", self.optimizer),
            scheduler=self.lr_scheduler,
            model=self.model,
            before=self._before,
            metric=self.args.metric_for_best_model,
        )

    def _states_name(self) -> str:
        several = self.args.world_size > 1
        return f"rng_state_{self.args.process_index}.pth" if several else "rng_state.pth"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Do nothing: the model came with the checkpoint's weights."""

    # The end

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        self._save_checkpoint(self.model, trial)
        if self._stopping:
            self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
            self.is_in_train = False
            return TrainOutput(self.state.global_step, math.nan, {})
        self._tell_skipped()
        if self._before is not None:
            self._initial_global_step = self._before.counted_from
            start_time -= self._before.elapsed_s
        return super()._finalize_training(trial, num_train_samples, start_time)
