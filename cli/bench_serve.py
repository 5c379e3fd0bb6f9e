"""`rdt bench serve`: how long a robot waits for its actions on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.progress import counting
from cli.shell import print_json

if TYPE_CHECKING:
    from rdt_model.serve_bench import Percentiles, ServeBench

app = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Keeps `serve` a command of its own while it is the only one."""


@app.command()
def serve(
    checkpoint: Annotated[str | None, typer.Option(help="A policy's directory; without it, an untrained one.")] = None,
    size: Annotated[str, typer.Option(help="Of the untrained one: tiny, small, 170m or 1b.")] = "tiny",
    calls: Annotated[int, typer.Option(help="Of each robot.", min=1)] = 300,
    robots: Annotated[int, typer.Option(help="That call at once.", min=1)] = 1,
    image_size: Annotated[int, typer.Option(help="Pixels of the side of the JPEGs that are sent.", min=8)] = 224,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the network's.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send observations to a server of its own process, and call the same policy directly in turns."""
    from rdt_model.serve_bench import BenchOptions, bench_serve

    options = BenchOptions(calls=calls, robots=robots, image_size=image_size, steps=steps, device=device)
    with counting("measuring", "calls", quiet=as_json) as progress:
        result = bench_serve(checkpoint, size, options, progress)
    if as_json:
        print_json(result)
    else:
        typer.echo(_text(result))


def _text(result: "ServeBench") -> str:
    rows = {**result.stages, "whole": result.whole, "direct": result.direct}
    lines = [
        f"{result.policy} on {result.device}: {result.calls} calls of {result.robots} robots, "
        f"{result.cameras} JPEGs of {result.image_size} pixels ({result.message_kb:.0f} kB)",
        f"{'ms':8}{'p50':>9}{'p95':>9}{'p99':>9}",
        *(_row(name, row) for name, row in rows.items()),
        f"{result.per_s:,.1f} answers/s, {result.mean_rows:.1f} robots denoised together on average",
    ]
    if result.added_ms is not None:
        lines.append(f"the server adds {result.added_ms:.2f} ms to a direct call (medians), decoding included")
    return "\n".join(lines)


def _row(name: str, row: "Percentiles") -> str:
    return f"{name:8}{row.p50:9.2f}{row.p95:9.2f}{row.p99:9.2f}"
