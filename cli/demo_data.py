"""`rdt-data demo-data`: episodes in genuine source formats from the built-in simulation."""

from pathlib import Path
from typing import Annotated

import typer

from cli.progress import counting
from cli.shell import INTERRUPTED, human_bytes, print_json


def demo_data(
    directory: Annotated[Path, typer.Argument(help="Directory to write; demo_aloha/ and rlds/ are made in it.")],
    episodes: Annotated[int, typer.Option(help="Number of demonstrations.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    formats: Annotated[
        list[str] | None, typer.Option(help="aloha, rlds, or aloha,rlds; may be repeated. Default: both.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Local processes; their number changes no byte.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write demonstrations of a two-arm task as ALOHA HDF5 files and as an RLDS directory."""
    from converters.demo_data import FORMATS, write_demo_data

    chosen = FORMATS if formats is None else [name.strip() for text in formats for name in text.split(",")]
    try:
        with counting("recording", quiet=as_json) as progress:
            made = write_demo_data(
                directory,
                episodes=episodes,
                seed=seed,
                formats=chosen,
                workers=workers,
                overwrite=overwrite,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted: what is there is whole but not all; run again with --overwrite", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(
            {name: getattr(made, name) for name in ("episodes", "steps", "successes", "bytes")}
            | {"roots": {name: str(root) for name, root in made.roots.items()}}
        )
        return
    typer.echo(f"{made.episodes} episodes, {made.steps} steps, {made.successes} successful, {human_bytes(made.bytes)}")
    for root in made.roots.values():
        typer.echo(f"  {root}")
