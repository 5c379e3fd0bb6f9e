"""`rdt report RUN -o page.html`: the last page of a training run."""

from pathlib import Path
from typing import Annotated

import typer

from cli.shell import human_bytes, print_json


def report(
    run: Annotated[Path, typer.Argument(help="The folder that `rdt train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("run.html"),
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="What `rdt eval --json` printed, as a file.")
    ] = None,
    sample: Annotated[Path | None, typer.Option(help="The directory that `rdt sample -o` wrote.")] = None,
    video: Annotated[
        Path | None, typer.Option(help="What `rdt eval --video` wrote; up to 8 MB become part of the page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write one HTML page that says what happened in a run: curves, success rates, errors, video. It needs no network.

    What is not there is said on the page, with the command that makes it.
    """
    from rdt_model.run_page import write_run_page

    written = write_run_page(run, out, evaluation=evaluation, sample=sample, video=video)
    if as_json:
        print_json(written)
        return
    without = f"; without {', '.join(written.missing)}" if written.missing else ""
    typer.echo(f"{written.path}: {human_bytes(written.bytes)}{without}")
