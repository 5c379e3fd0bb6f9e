"""`rdt-data lint`: what looks wrong in a converted store."""

from typing import Annotated

import typer

from cli.progress import counting
from cli.shell import print_json

FOUND = 4
"""Exit code with --ci when there are errors; 1 is a command that could not do its work."""


def lint(
    store: Annotated[str, typer.Argument(help="A converted store (path or URL).")],
    only: Annotated[str, typer.Option(metavar="NAMES", help="Only these checks: a,b.")] = "",
    skip: Annotated[str, typer.Option(metavar="NAMES", help="Not these checks: a,b.")] = "",
    images: Annotated[int, typer.Option(min=0, help="Episodes a camera whose frames are looked at.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Another seed looks at other frames.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Local processes.")] = 1,
    ci: Annotated[bool, typer.Option("--ci", help="Exit 4 when there are errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every finding as JSON.")] = False,
) -> None:
    """Check vectors, words and sampled frames of a store: units, rates, grippers, cameras, duplicates and more.

    Exits 0, also with findings; with --ci 4 when there are errors.
    """
    from stats.lint import lint as lint_store

    with counting("checking", quiet=as_json) as progress:
        report = lint_store(
            store, only=_names(only), skip=_names(skip), images=images, seed=seed, workers=workers, progress=progress
        )
    if as_json:
        print_json(report.as_json())
    else:
        typer.echo(str(report))
    if ci and report.count("error"):
        raise typer.Exit(FOUND)


def _names(text: str) -> list[str]:
    """ "a, b" -> ["a", "b"]."""
    return [name.strip() for name in text.split(",") if name.strip()]
