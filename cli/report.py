"""`rdt-data report STORE… -o report.html`: a page that shows what is in datasets."""

from pathlib import Path
from typing import Annotated

import typer

from cli.progress import counting
from cli.shell import human_bytes


def report(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Converted stores.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Episodes of each store that are drawn.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each camera of each of them.")] = 8,
    images: Annotated[int, typer.Option(min=0, help="Episodes a camera that lint looks at.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other episodes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Local processes.")] = 1,
) -> None:
    """Write one HTML page that needs no network: origin, lengths, cameras, words, slots, statistics, findings.

    Several stores are compared side by side. The same stores and options give the same bytes.
    """
    from stats.report import write_report

    with counting("reporting", "%") as progress:
        written = write_report(
            stores, out, title=title, episodes=episodes, frames=frames, images=images, seed=seed, workers=workers,
            progress=progress,
        )  # fmt: skip
    typer.echo(
        f"{written.path}: {human_bytes(written.bytes)}, {written.episodes} episodes, {written.findings} findings"
    )
