"""The commands: check what was given, which refuses a bad file, then call one workflow.

Whatever is expensive to import is imported in the body of the command that needs it.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmrun import __version__
from mmrun.cli.checkpoints import TrackingUri, Whose, checkpoints
from mmrun.cli.runs import doctor, reap, runs

_BY_NAME = (
    "Every setting of the experiment file is also an option, by the name it has there:"
    " --learning_rate 1e-4. '-' and '_' mean the same, '--x=1' and '--x 1' too."
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)
demo = typer.Typer(rich_markup_mode=None, help="A small experiment on real handwriting.")
app.add_typer(checkpoints, name="checkpoints")
app.add_typer(demo, name="demo")

ConfigPath = Annotated[
    Path | None, typer.Option("--config_path", metavar="FILE", help="Experiment file.")
]
OutputDir = Annotated[
    Path | None, typer.Option("--output_dir", metavar="FOLDER", help="Where everything goes.")
]
SetupPath = Annotated[
    Path | None, typer.Option("--setup_path", metavar="FOLDER", help="Where setup put the actors.")
]
TaskName = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="translation, also called seq2seq.")
]
ModalityName = Annotated[
    str | None, typer.Option("--modality", metavar="NAME", help="Kind of input, as features2text.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Ask no server; 'mmrun sync' tells it of a training.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting; can be given again."),
]


def _switch(name: str, text: str) -> typer.models.OptionInfo:
    """Return an option for which false is not the same as not given."""
    info: typer.models.OptionInfo = typer.Option(f"--{name}/--no_{name}", help=text)
    return info


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmrun {__version__}")
        raise typer.Exit


def _print_training_help(words: str | None) -> None:
    if words is not None:
        from mmrun.cli.training_help import training_help

        typer.echo(training_help(words))
        raise typer.Exit


@app.callback()
def mmrun(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show which it is."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show where an error comes from.")
    ] = False,
) -> None:
    """Training runs that survive being killed, recorded as one unbroken MLflow run."""


@app.command(epilog=_BY_NAME)
def setup(
    context: typer.Context,
    *,
    config_path: ConfigPath = None,
    modality: ModalityName = None,
    output_dir: OutputDir = None,
    do_dataset: Annotated[bool | None, _switch("do_dataset", "Make the dataset.")] = None,
    do_processor: Annotated[bool | None, _switch("do_processor", "Make the processor.")] = None,
    do_model: Annotated[bool | None, _switch("do_model", "Make the model.")] = None,
    update_config: Annotated[
        bool | None, _switch("update_config", "Write where they are into the file.")
    ] = None,
    check_files: Annotated[
        bool | None, _switch("check_files", "Read every file to its end, to find bad ones.")
    ] = None,
    rebuild_dataset: Annotated[
        bool, typer.Option("--rebuild_dataset_from_scratch", help="Even if it looks right.")
    ] = False,
    seed: Annotated[
        str | None, typer.Option("--seed", metavar="N", help="Of the model's weights.")
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Make the dataset, processor and model; all if none is named."""
    from mmrun.cli.experiment import overrides_of, required
    from mmrun.config.loading import load_experiment

    options = {
        "data.dataset_type": modality,
        "setup.output_dir": None if output_dir is None else str(output_dir),
        "setup.do_dataset": do_dataset,
        "setup.do_processor": do_processor,
        "setup.do_model": do_model,
        "setup.update_config": update_config,
        "setup.check_files": check_files,
        "setup.seed": seed,
    }
    file = required(config_path, command="mmrun setup")
    overrides = overrides_of(context.obj, assignments=assignments, options=options)
    experiment = load_experiment(file, overrides=overrides)

    from mmrun.workflows.setup import setup_command
    from mmrun.workflows.setup_record import record_setup

    actors = setup_command(
        experiment, output_dir=output_dir, rebuild_dataset=rebuild_dataset, config_path=file
    )
    record_setup(experiment, actors)


@app.command(epilog=_BY_NAME)
def train(
    context: typer.Context,
    *,
    config_path: ConfigPath = None,
    task: TaskName = None,
    modality: ModalityName = None,
    output_dir: OutputDir = None,
    setup_path: SetupPath = None,
    resume_from_checkpoint: Annotated[
        str | None,
        typer.Option(
            "--resume_from_checkpoint",
            metavar="REF",
            help="latest, best, 500, RUN_ID@best, a URI, a folder.",
        ),
    ] = None,
    overwrite_output_dir: Annotated[
        bool | None, _switch("overwrite_output_dir", "Start a new run and remove the old files.")
    ] = None,
    fork: Annotated[bool, typer.Option("--fork", help="Begin a new run from REF.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How a dry run is written.")
    ] = "table",
    steal: Annotated[bool, typer.Option("--steal", help="Take a run that is in use.")] = False,
    offline: Offline = False,
    accept_data_change: Annotated[
        bool, typer.Option("--accept-data-change", help="Resume on data that changed.")
    ] = False,
    help_training: Annotated[  # noqa: ARG001 (its callback does it)
        str | None,
        typer.Option(
            "--help-training",
            metavar="[FILTER]",
            is_eager=True,
            callback=_print_training_help,
            help="List the training arguments.",
        ),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Train, or go on with the run that was interrupted."""
    from mmrun.cli.experiment import experiment_of, overrides_of, setup_of

    options = {
        "task": task,
        "data.dataset_type": modality,
        "training.output_dir": None if output_dir is None else str(output_dir),
    }
    settings, setup_path = setup_of(context.obj, setup_path=setup_path)
    overrides = overrides_of(settings, assignments=assignments, options=options)
    experiment = experiment_of(config_path, overrides=overrides)

    from mmrun.workflows.train import TrainRequest
    from mmrun.workflows.train import train as start

    said = start(
        TrainRequest(
            experiment=experiment,
            config_path=config_path,
            overrides=overrides,
            output_dir=output_dir,
            setup_path=setup_path,
            resume_from_checkpoint=resume_from_checkpoint,
            overwrite_output_dir=overwrite_output_dir,
            fork=fork,
            dry_run=dry_run,
            form=form,
            steal=steal,
            offline=offline,
            accept_data_change=accept_data_change,
        )
    )
    typer.echo(said)


@app.command(epilog=_BY_NAME)
def generate(
    context: typer.Context,
    *,
    config_path: ConfigPath = None,
    task: TaskName = None,
    modality: ModalityName = None,
    output_dir: OutputDir = None,
    setup_path: SetupPath = None,
    model_name_or_path: Annotated[
        str | None,
        typer.Option("--model_name_or_path", metavar="REF", help="latest, best, 500, a folder."),
    ] = None,
    resume_from_checkpoint: Annotated[
        str | None,
        typer.Option("--resume_from_checkpoint", metavar="REF", help="The same."),
    ] = None,
    metric_name: Annotated[
        str | None, typer.Option("--metric_name", metavar="NAMES", help="sacrebleu,chrf")
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option("--split", help="Which rows.")
    ] = "test",
    batch_size: Annotated[
        str | None, typer.Option("--batch_size", metavar="N", help="How many rows at once.")
    ] = None,
    offline: Offline = False,
    assignments: Assignments = None,
) -> None:
    """Translate a split with a trained model, and score it; again goes on where it was stopped."""
    from mmrun.cli.experiment import experiment_of, one_reference, overrides_of, setup_of

    options = {
        "task": task,
        "data.dataset_type": modality,
        "training.output_dir": None if output_dir is None else str(output_dir),
        "training.metric_name": metric_name,
        "training.per_device_eval_batch_size": batch_size,
    }
    settings, setup_path = setup_of(context.obj, setup_path=setup_path)
    overrides = overrides_of(settings, assignments=assignments, options=options)
    reference = one_reference(model_name_or_path, resume_from_checkpoint)
    experiment = experiment_of(config_path, overrides=overrides)

    from mmrun.workflows.generate import GenerateRequest
    from mmrun.workflows.generate import generate as start

    said = start(
        GenerateRequest(
            experiment=experiment,
            config_path=config_path,
            overrides=overrides,
            output_dir=output_dir,
            setup_path=setup_path,
            reference=reference,
            split=split,
            offline=offline,
        )
    )
    typer.echo(said)


@app.command()
def sync(
    output_dir: Annotated[Path, typer.Argument(metavar="OUTPUT_DIR", show_default=False)],
    *,
    as_new_run: Annotated[
        bool, typer.Option("--as_new_run", help="Where another machine went on meanwhile.")
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Send what a training could not send, or did offline."""
    from mmrun.workflows.sync import sync_command

    typer.echo(sync_command(output_dir, as_new_run=as_new_run, tracking_uri=tracking_uri))


@app.command()
def history(
    target: Whose,
    *,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Only this one; can be given again."),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How it is written.")
    ] = "table",
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Also what a later attempt replaced.")
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show the metrics of a run, each step once, as its last attempt had it."""
    from mmrun.workflows.history import history_command

    typer.echo(
        history_command(
            target,
            metrics=metrics or (),
            form=form,
            all_attempts=all_attempts,
            tracking_uri=tracking_uri,
        )
    )


app.command()(runs)
app.command()(reap)
app.command()(doctor)


@demo.command("data")
def demo_data(
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
    *,
    kind: Annotated[
        Literal["features", "images", "video", "pose", "signwriting", "text"],
        typer.Option("--kind", help="What the samples are."),
    ] = "features",
    seed: Annotated[int, typer.Option("--seed", help="Of what is random.")] = 0,
) -> None:
    """Write data to try with: digits, gestures, signed digits, or names of languages."""
    from mmrun.workflows.demo_data import write_demo_data

    write_demo_data(out, kind=kind, seed=seed)


@demo.command("run")
def demo_run(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
) -> None:
    """Train in FOLDER, kill it half-way, resume, show one run."""
    from mmrun.workflows.demo import run_demo

    run_demo(folder)
