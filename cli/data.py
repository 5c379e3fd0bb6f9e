"""`rdt-data`: one file a command; nothing heavy is imported before a command runs."""

from typing import Annotated

import typer

from cli.bench_feed import app as bench_app
from cli.convert import convert
from cli.demo_data import demo_data
from cli.demo_t5 import demo_t5
from cli.embed_lang import embed_lang
from cli.export import export
from cli.inspect import inspect
from cli.lint import lint
from cli.merge import merge
from cli.migrate import migrate
from cli.mixture import app as mixture_app
from cli.report import report
from cli.shell import run
from cli.spec import app as spec_app
from cli.split import split
from cli.stats import stats
from cli.verify import verify
from cli.view import view

app = typer.Typer(
    help="Turn robot episodes of any format into one unified Zarr layout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(convert)
app.command()(inspect)
app.command()(lint)
app.command()(verify)
app.command()(report)
app.command()(view)
app.command()(stats)
app.command()(export)
app.command()(merge)
app.command()(split)
app.command()(migrate)
app.command("embed-lang")(embed_lang)
app.command("demo-data")(demo_data)
app.command("demo-t5")(demo_t5)
app.add_typer(spec_app, name="spec")
app.add_typer(mixture_app, name="mixture")
app.add_typer(bench_app, name="bench")


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
