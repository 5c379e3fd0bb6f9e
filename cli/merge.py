"""`rdt-data merge`: several stores into one."""

from typing import Annotated

import typer

from cli.shell import INTERRUPTED, print_json


def merge(
    paths: Annotated[
        list[str], typer.Argument(metavar="STORE STORE... DEST", help="The stores, then the new one (paths or URLs).")
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Copy files instead of linking them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put stores of one dataset together without converting again. Colliding ids get the store's name in front."""
    from cli.progress import counting
    from rdt_data.merge import merge_stores

    try:
        with counting("merging", quiet=as_json) as progress:
            report = merge_stores(paths[:-1], paths[-1], copy=copy, progress=progress)
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{report.dest}: {report.episodes} episodes, {report.steps} steps in {report.parts} parts of "
        f"{len(report.stores)} stores, {report.linked} files linked, {report.copied} copied"
    )
    if report.renamed:
        typer.echo("  ids would have collided: each has the name of its store in front")
