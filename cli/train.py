"""`rdt`: the commands of the trainer."""

from typing import Annotated

import typer

from cli import bench_serve
from cli.eval import evaluate
from cli.run_report import report
from cli.sample import sample
from cli.serve import serve
from cli.shell import print_json, run
from cli.train_run import train

app = typer.Typer(
    help="Train and run diffusion-transformer policies on converted data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options() -> None:
    """Train and run diffusion-transformer policies on converted data."""


@app.command()
def env(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Print the versions and devices that a run on this machine would use."""
    from rdt_model.environment import describe

    found = describe()
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(f"{name:14} {value}" for name, value in found.items()))


app.command()(train)
app.command("eval")(evaluate)
app.command()(sample)
app.command()(serve)
app.command()(report)
app.add_typer(bench_serve.app, name="bench")


def main() -> None:
    """Entry point of `rdt`."""
    run(app)
