"""`rdt-data inspect`: what a source or a store holds."""

from pathlib import Path
from typing import Annotated

import typer

from cli.shell import print_json


def inspect(
    path: Annotated[str, typer.Argument(help="A raw source, or a store (path or URL).")],
    dataset: Annotated[str | None, typer.Option(help="Name of the source's spec, where it is not found.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a montage of camera frames.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print keys, shapes, ranges, lengths, instructions, slots and what looks wrong."""
    from converters.inspect import inspect_path
    from converters.montage import montage
    from rdt_data.errors import RdtError

    found, pictures = inspect_path(path, dataset)
    if as_json:
        print_json(found)
    else:
        typer.echo(str(found))
    if png is not None:
        if not pictures:
            raise RdtError(f"{path} has no camera frames", remedy="leave --png out")
        png.write_bytes(montage(pictures, columns=max(1, len(found.cameras)) * (2 if len(found.cameras) > 1 else 4)))
        typer.echo(f"montage of {len(pictures)} frames: {png}", err=True)
