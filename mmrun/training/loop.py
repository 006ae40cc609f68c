"""What the loop of the Trainer tells: its begin, each log line, each end of a step."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from mmrun import faults

if TYPE_CHECKING:
    from mmrun.training.trainer import ResumableTrainer


class Loop(TrainerCallback):
    """Hands on what belongs to the trainer, and to its log."""

    def __init__(
        self, trainer: "ResumableTrainer", log: Callable[[Mapping[str, float], int], None]
    ) -> None:
        self._trainer = trainer
        self._log = log

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the running sums back."""
        self._trainer.begin()

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hand the values on."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self._log(numbers, state.global_step)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the epoch's steps; stop after this one, with a checkpoint, when that is wished."""
        state.epoch = self._trainer.part_of_epochs(state.epoch or 0.0)
        faults.reach("step", step=state.global_step)
        if self._trainer.act_on_wish():
            control.should_save = True
            control.should_training_stop = True

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the evaluation to the next attempt when this one is to stop: it may take long."""
        self._trainer.evaluation.go_on_or_stop()

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the end of the epoch to the next attempt when this one stops on request."""
        if not self._trainer.pass_epoch_end():
            control.should_log = control.should_evaluate = control.should_save = False
