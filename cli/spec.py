"""`rdt-data spec`: the dataset specs there are, a draft of a new one, and whether a spec is right."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.shell import FAILED, print_json

if TYPE_CHECKING:
    from converters.checks.check import CheckReport
    from converters.spec import DatasetSpec

app = typer.Typer(help="List, show, draft and check dataset specs.", no_args_is_help=True, rich_markup_mode=None)


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


@app.command("new")
def new_spec(
    source: Annotated[Path, typer.Argument(help="Directory (or file) of recordings that no spec knows.")],
    reader: Annotated[str | None, typer.Option(help="Name of the reader, where several know the source.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to look at, spread over the source.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the draft and its questions as JSON.")] = False,
) -> None:
    """Draft a spec: each guess with its evidence, and "?" where the data cannot tell. Save it with > my_robot.yaml."""
    from converters.drafts.draft import draft_spec

    draft = draft_spec(source, reader, episodes)
    if as_json:
        print_json(draft)
        return
    typer.echo(draft.text, nl=False)
    for question in draft.questions:
        typer.echo(f"open: {question}", err=True)
    answer = 'write the answers in place of each "?", then ' if draft.questions else ""
    typer.echo(f"next: {answer}rdt-data spec check my_robot.yaml --source {source}", err=True)


@app.command()
def schema() -> None:
    """Print the JSON schema of the YAML format, for editors."""
    from converters.spec_schema import spec_schema

    print_json(spec_schema())


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A YAML file, or the name of a spec.")],
    source: Annotated[Path | None, typer.Option(help="Convert episodes of this raw dataset in memory.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to convert, spread over the source.")] = 3,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a spec by itself and, slot by slot, on episodes of a source. Exits 1 when it is wrong."""
    from converters.drafts.questions import load_answered

    spec = load_answered(file)
    report = _checked(spec, source, episodes) if source is not None else None
    wrong = report is not None and report.wrong(strict=strict)
    if as_json:
        print_json({"spec": spec.name, "irreversible": spec.irreversible(), "wrong": wrong} | _plain(report))
    else:
        typer.echo(str(spec) if report is None else str(report))
        typer.echo(f"{file} is {'wrong' if wrong else 'right'}" + ("" if source is None else f" for {source}"))
    if wrong:
        raise typer.Exit(FAILED)


def _checked(spec: "DatasetSpec", source: Path, episodes: int) -> "CheckReport":
    """The report; an error when no episode could be converted."""
    from converters.checks.check import check_spec
    from rdt_data.errors import SpecError

    report = check_spec(spec, source, episodes=episodes)
    if not report.episodes:
        told = [finding for finding in report.findings if finding.level == "error"]
        problems = "\n".join(f"{finding.where}: {finding.problem}" for finding in told)
        raise SpecError(f"{spec.file} does not fit {source}: {problems}", remedy=told[0].remedy)
    return report


def _plain(report: "CheckReport | None") -> dict[str, Any]:
    return {} if report is None else {key: value for key, value in asdict(report).items() if key != "spec"}
