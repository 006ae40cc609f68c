"""``mmrun checkpoints …``: what can be done with the saved steps of a run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

checkpoints = typer.Typer(rich_markup_mode=None, help="Saved steps of a run.")

TrackingUri = Annotated[
    str | None, typer.Option("--tracking_uri", metavar="URI", help="Where the run is recorded.")
]
Whose = Annotated[str, typer.Argument(metavar="RUN|OUTPUT_DIR", show_default=False)]
Ref = Annotated[str, typer.Argument(metavar="REF", show_default=False)]
OutputDir = Annotated[
    Path | None,
    typer.Option("--output_dir", metavar="FOLDER", help="Whose run a REF without one means."),
]


@checkpoints.command("list")
def list_checkpoints(
    target: Whose,
    *,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How it is written.")
    ] = "table",
    tracking_uri: TrackingUri = None,
) -> None:
    """List steps, sizes, metrics, places, and what is whole."""
    from mmrun.workflows.checkpoints.listing import list_checkpoints_command

    typer.echo(list_checkpoints_command(target, format=form, tracking_uri=tracking_uri))


@checkpoints.command()
def verify(target: Whose, *, tracking_uri: TrackingUri = None) -> None:
    """Compare every byte with its digest, on this disk and in the store."""
    from mmrun.workflows.checkpoints.verify import verify_command

    typer.echo(verify_command(target, tracking_uri=tracking_uri))


@checkpoints.command()
def pull(
    reference: Ref,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    *,
    output_dir: OutputDir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Restore a checkpoint as a plain Hugging Face folder."""
    from mmrun.workflows.checkpoints.pull import pull_command

    typer.echo(pull_command(reference, folder, output_dir=output_dir, tracking_uri=tracking_uri))


@checkpoints.command()
def pin(
    reference: Ref,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the pin away.")] = False,
    output_dir: OutputDir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Keep a checkpoint in the store, whatever retention says."""
    from mmrun.workflows.checkpoints.pin import pin_command

    typer.echo(
        pin_command(reference, remove=remove, output_dir=output_dir, tracking_uri=tracking_uri)
    )


@checkpoints.command()
def prune(
    target: Whose,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    keep_last: Annotated[
        int | None, typer.Option("--keep_last", metavar="N", min=1, help="Newest to keep.")
    ] = None,
    keep_best: Annotated[
        int | None, typer.Option("--keep_best", metavar="N", min=0, help="Best to keep.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Remove from the store what is not to be kept."""
    from mmrun.workflows.checkpoints.prune import prune_command

    typer.echo(
        prune_command(
            target,
            keep_last=keep_last,
            keep_best=keep_best,
            dry_run=dry_run,
            tracking_uri=tracking_uri,
        )
    )


@checkpoints.command()
def average(
    references: Annotated[list[str], typer.Argument(metavar="REF REF ...", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where it goes.")],
    output_dir: OutputDir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the mean of the weights of several checkpoints."""
    from mmrun.workflows.checkpoints.average import average_command

    typer.echo(
        average_command(references, output, output_dir=output_dir, tracking_uri=tracking_uri)
    )
