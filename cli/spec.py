"""`rdt-data spec`: the dataset specs there are, and whether a spec is right."""

from pathlib import Path
from typing import Annotated

import typer

from cli.shell import print_json

app = typer.Typer(help="List, show and check dataset specs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_specs(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Print every dataset a spec comes with."""
    from converters import catalog

    specs = [catalog.get(name) for name in catalog.names()]
    if as_json:
        print_json([{"name": s.name, "reader": s.reader, "control_hz": s.control_hz, "title": s.title} for s in specs])
        return
    for spec in specs:
        typer.echo(f"{spec.name:24} {spec.reader:5} {spec.control_hz:4g} Hz  {spec.title}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a spec, or a YAML file.")],
    corrected: Annotated[bool, typer.Option("--corrected", help="With its corrections applied.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print a spec slot by slot."""
    from converters.spec import load_spec

    spec = load_spec(name)
    spec = spec.corrected() if corrected else spec
    if as_json:
        print_json(spec.to_dict())
    else:
        typer.echo(str(spec))


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A YAML file, or the name of a spec.")],
    source: Annotated[Path | None, typer.Option(help="Convert an episode of this raw dataset in memory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a spec by itself, and on the first episode of a source. Exits 1 when it does not fit."""
    from converters.estimate import estimate
    from converters.plan import Request, make_plan
    from converters.spec import load_spec
    from rdt_data.errors import SpecError

    spec = load_spec(file)
    irreversible = spec.irreversible()
    outlook = estimate(make_plan(source, Request.of(spec))) if source is not None else None
    if outlook is not None and outlook.problem:
        raise SpecError(f"{file} does not fit {source}: {outlook.problem}", remedy="correct the spec as said above")
    if as_json:
        print_json({"spec": spec.name, "irreversible": irreversible, "state": outlook and outlook.state_slots})
        return
    typer.echo(str(spec))
    for line in irreversible:
        typer.echo(f"cannot be turned back into robot commands: {line}")
    if outlook is not None:
        typer.echo(f"{source}: the first episode fills {', '.join(outlook.state_slots)}")
    typer.echo(f"{file} is right")
