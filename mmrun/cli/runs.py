"""``mmrun runs``, ``reap`` and ``doctor``: what there is, what died, and what does not work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmrun.cli.checkpoints import TrackingUri

Experiment = Annotated[
    str | None,
    typer.Option("--experiment", metavar="NAME|ID", help="By default where a training would go."),
]
ConfigPath = Annotated[
    Path | None, typer.Option("--config_path", metavar="FILE", help="Experiment file.")
]
Form = Annotated[Literal["table", "json"], typer.Option("--format", help="How it is written.")]


def runs(
    *,
    experiment: Experiment = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also what setup and generate recorded.")
    ] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Wait for signs of life of other machines.")
    ] = False,
    form: Form = "table",
    config_path: ConfigPath = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """List the trainings of an experiment, and what became of them."""
    from mmrun.workflows.runs import runs_command

    typer.echo(
        runs_command(
            experiment,
            format=form,
            every=every,
            watching=watching,
            config_path=config_path,
            tracking_uri=tracking_uri,
        )
    )


def reap(
    *,
    experiment: Experiment = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    config_path: ConfigPath = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Say KILLED of runs whose process died.

    What 'mlflow run' left over is removed.
    """
    from mmrun.workflows.reap import reap_command

    typer.echo(
        reap_command(
            experiment, dry_run=dry_run, config_path=config_path, tracking_uri=tracking_uri
        )
    )


def doctor(
    output_dir: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT_DIR", show_default=False)
    ] = None,
    *,
    config_path: ConfigPath = None,
    form: Form = "table",
    tracking_uri: TrackingUri = None,
) -> None:
    """Say what does not work, and what helps.

    Looks at all that a training needs, and changes nothing.
    """
    from mmrun.workflows.doctor.command import doctor_command

    code = doctor_command(
        output_dir,
        format=form,
        say=typer.echo,
        config_path=config_path,
        tracking_uri=tracking_uri,
    )
    raise typer.Exit(code)
