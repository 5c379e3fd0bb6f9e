"""`rdt-data export`: a store as a LeRobot dataset or as flat Parquet files."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.shell import INTERRUPTED, human_bytes, print_json


def export(
    store: Annotated[str, typer.Argument(help="The store (path or URL).")],
    dest: Annotated[Path, typer.Argument(help="The directory to write; it must not exist.")],
    format: Annotated[Literal["lerobot", "parquet"], typer.Option(help="What to write.")],
    images: Annotated[
        Literal["video", "image"] | None,
        typer.Option(help="LeRobot: H.264 video (default), or the stored bytes in Parquet."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="LeRobot: all 128 slots, not only those that are real.")] = False,
    camera: Annotated[
        list[str] | None, typer.Option(help="LeRobot: a camera to export; repeat for more (default: all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a store in another format, whole or not at all.

    lerobot: a dataset of version 3.0, with meta/rdt_spec.yaml to convert it back. parquet: vectors.parquet, a column
    per number, and episodes.parquet.
    """
    from cli.progress import counting
    from converters.exports.export import export_store

    options: dict[str, Any] = {}
    if images is not None:
        options["images"] = images
    if full:
        options["full"] = True
    if camera:
        options["cameras"] = tuple(camera)
    try:
        with counting("exporting", quiet=as_json) as progress:
            report = export_store(store, dest, format, options=options, progress=progress)
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{dest}: {report.episodes} episodes, {report.steps} steps, {human_bytes(report.bytes)} in {report.files} files"
    )
    for slot, count in report.black.items():
        typer.echo(f"  {slot}: {count} episodes lack it and have black frames; mask.cameras says which")
