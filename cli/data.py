"""`rdt-data`: one file a command; nothing heavy is imported before a command runs."""

from typing import Annotated

import typer

from cli.convert import convert
from cli.demo_data import demo_data
from cli.inspect import inspect
from cli.shell import run
from cli.spec import app as spec_app
from cli.verify import verify

app = typer.Typer(
    help="Turn robot episodes of any format into one unified Zarr layout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(convert)
app.command()(inspect)
app.command()(verify)
app.command("demo-data")(demo_data)
app.add_typer(spec_app, name="spec")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("rdt-data"))
        raise typer.Exit


def main() -> None:
    """Entry point of `rdt-data`."""
    run(app)
