"""What the processes besides the first do in a training: load the same, compute, save nothing."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mmrun.collector import collect_as_usual
from mmrun.config.loading import load_experiment
from mmrun.errors import StopRequested
from mmrun.progress import hide_library_bars
from mmrun.tracking import orphan
from mmrun.training.processes import Ended, Follower, Launched, LauncherGone
from mmrun.training.stopping import StopWish
from mmrun.workflows.recipe import Ingredients, import_libraries, load_recipe


def follow(launched: Launched) -> int:
    """Do what process 0 orders, and return the exit code that it ends with.

    Raises:
        MmrunError: process 0 is gone, and there is nobody else to say it.
    """
    import_libraries()  # until a signal is listened to, it ends this process without a word
    follower = Follower(launched)
    orphan.stop_with_wrapper()
    wish = StopWish(echoed=True)
    try:
        with wish.listening():
            _train(follower, wish=wish)
            return follower.end()
    except Ended as ended:
        return ended.code
    except LauncherGone:
        return StopRequested.exit_code if wish.reason else 0
    except Exception as error:  # noqa: BLE001 (the first process says it)
        return follower.fail(error)


def _train(follower: Follower, *, wish: StopWish) -> None:
    from mmrun.training.arguments import build_arguments

    hide_library_bars()
    told = follower.next("arguments")
    experiment = load_experiment(None, base=told["experiment"])
    arguments = build_arguments(experiment, output_dir=Path(told["output_dir"]))
    ingredients = Ingredients.from_first(follower.next("recipe"), experiment=experiment)
    recipe = load_recipe(ingredients, arguments=arguments)
    trainer = recipe.trainer(sink=_Nowhere(), stop=wish, log=_say_nothing)
    trainer.stay_stopped = follower.next("train")["stay_stopped"]
    wish.training = True
    collect_as_usual()
    trainer.go_on(ingredients.checkpoint)


class _Nowhere:
    """Process 0 writes the checkpoints; this one is never asked for a folder."""

    def open(self, step: int) -> Path:
        raise NotImplementedError

    def publish(
        self,
        folder: Path,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float],
        constant: Collection[str],
    ) -> None:
        raise NotImplementedError


def _say_nothing(_values: Mapping[str, float], _step: int) -> None:
    """Process 0 logs."""
