"""`rdt-data verify`: is a store what was written, and what its source says?"""

from pathlib import Path
from typing import Annotated

import typer

from cli.shell import FAILED, human_bytes, print_json


def verify(
    store: Annotated[str, typer.Argument(help="The store (path or URL).")],
    source: Annotated[Path | None, typer.Option(help="The raw dataset it was converted from.")] = None,
    spec: Annotated[
        Path | None, typer.Option(help="The spec file it was made with, if that has a patch of yours.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    ray: Annotated[str | None, typer.Option(help='Address of a Ray cluster, or "local".')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every checksum; with --source, convert every episode again and compare. Exits 1 on any problem."""
    from converters.spec import load_spec
    from converters.verify import verify_store

    own = load_spec(spec) if spec is not None else None
    report = verify_store(store, source, spec=own, workers=workers, ray=ray)
    if as_json:
        print_json(report)
    else:
        against = "equals its source" if report.against_source else "is whole"
        typer.echo(
            f"{store}: {report.episodes} episodes, {report.steps} steps, {report.files} files, "
            f"{human_bytes(report.bytes)}, {report.frames} frames decoded"
        )
        for problem in report.problems:
            typer.echo(f"  problem: {problem}")
        typer.echo(f"  {len(report.problems)} problems" if report.problems else f"  {against}")
    if report.problems:
        raise typer.Exit(FAILED)
