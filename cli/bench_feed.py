"""`rdt-data bench feed`: how fast stores reach a trainer on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.progress import counting
from cli.shell import print_json

if TYPE_CHECKING:
    from rdt_data.feed_bench import FeedBench

app = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Keeps `feed` a command of its own while it is the only one."""


@app.command()
def feed(
    stores: Annotated[
        list[str], typer.Argument(help="Converted datasets; each gets the same share.", metavar="STORE…")
    ],
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=1)] = 30,
    minutes: Annotated[
        float | None, typer.Option(help="The same in minutes; 20 shows whether memory grows.", min=0.1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.", min=1)] = 32,
    image_size: Annotated[int, typer.Option(help="Pixels of a side.", min=1)] = 384,
    history: Annotated[int, typer.Option(help="Frames of each camera in a row.", min=1)] = 2,
    producers: Annotated[int, typer.Option(help="Processes that read and decode; 0: this one.", min=0)] = 2,
    shuffle_gb: Annotated[float, typer.Option(help="Shared memory for what is shuffled.", min=0)] = 1,
    ray: Annotated[str, typer.Option(help='Ray address; "local" begins one here.')] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read stores as a trainer would, and compare with a loop that only decodes and resizes."""
    from rdt_data.feed_bench import bench_feed
    from rdt_data.mixture_file import Mixture

    settings = {
        "batch_size": batch_size,
        "image_size": image_size,
        "history": history,
        "producers": producers,
        "shuffle_gb": shuffle_gb,
        "split": None,
        "ray": ray,
    }
    with counting("measuring", "seconds", quiet=as_json) as progress:
        result = bench_feed(
            Mixture.of(dict.fromkeys(stores, 1.0), least_steps=1),
            seconds=seconds if minutes is None else 60 * minutes,
            settings=settings,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: "FeedBench") -> None:
    typer.echo(f"{result.samples_per_s:,.0f} samples/s, {result.frames_per_s:,.0f} frames/s for {result.seconds:.0f} s")
    if result.bare_frames_per_s:
        typer.echo(
            f"{result.frame_ratio:.2f} x a bare loop that decodes and resizes ({result.bare_frames_per_s:,.0f}/s)"
        )
    typer.echo(f"the consumer waited {result.wait_share:.0%} of the time, producers worked {result.busy_share:.0%}")
    typer.echo(
        f"{result.bytes_per_sample / 1e6:.2f} MB copied for a sample: {result.copy_s * 1e3:.1f} ms a batch, "
        f"{result.copy_ratio:.2f} x a bare copy of it"
    )
    typer.echo(f"{result.arena_gb:.2f} GB of shared memory")
    typer.echo(f"resident memory (private in brackets), after {result.settled_s:.0f} s and at the end:")
    for grown in result.growth:
        (rss, rss_last), (private, private_last) = grown.rss_mb, grown.private_mb
        typer.echo(
            f"  {grown.process:22} {rss:7,.1f} MB ({private:,.1f}) -> {rss_last:7,.1f} MB ({private_last:,.1f}): "
            f"{grown.share:+.2%}"
        )
