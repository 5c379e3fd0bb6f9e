"""`rdt-data mixture`: which stores are trained on together, and what each really gives."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.shell import print_json

if TYPE_CHECKING:
    from rdt_data.mixture_file import MemberSurvey

app = typer.Typer(help="List and show training mixtures.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_mixtures(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Print the mixtures that come with the project."""
    from rdt_data.mixture_file import load_mixture, names

    mixtures = {name: load_mixture(name) for name in names()}
    if as_json:
        print_json([{"name": name, "title": m.title, "datasets": len(m.datasets)} for name, m in mixtures.items()])
        return
    for name, mixture in mixtures.items():
        typer.echo(f"{name:16} {len(mixture.datasets):3} datasets  {mixture.title}")


@app.command()
def show(
    mixture: Annotated[str, typer.Argument(help="A YAML file, or the name of a mixture.")],
    root: Annotated[
        str | None, typer.Option(help="Folder or URL of the stores; default: where the file is, or here.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a store is absent or gives nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Validate a mixture and print what it draws from: weights, shares, episodes and steps of each store."""
    from rdt_data.mixture_file import check, load_mixture, survey

    loaded = load_mixture(mixture, root)
    rows = survey(loaded)
    if as_json:
        print_json({"title": loaded.title, "datasets": [asdict(row) for row in rows]})
    else:
        _print(loaded.title, loaded.least_steps, loaded.most_steps, rows)
    if strict:
        check(rows)


def _print(title: str, least: int, most: int, rows: "list[MemberSurvey]") -> None:
    typer.echo(f"{title}\nepisodes of at least {least} steps, runs of at most {most} steps at a time\n")
    width = max(len(row.name) for row in rows)
    typer.echo(
        f"{'dataset':{width}}  {'weight':>8} {'share':>7} {'episodes':>9} {'usable':>9} {'steps':>12}  Hz, cameras"
    )
    for row in rows:
        line = f"{row.name:{width}}  {row.weight:8g} {row.share:7.2%} "
        if row.problem is None:
            line += f"{row.episodes:9,} {row.usable_episodes:9,} {row.usable_steps:12,}  "
            line += f"{row.control_hz:g}, {', '.join(row.cameras) or 'none'}"
        else:
            line += row.problem
        typer.echo(line)
    there = [row for row in rows if row.problem is None]
    share = sum(row.share for row in there)
    typer.echo(f"\n{len(there)} of {len(rows)} datasets are ready: {share:.1%} of the draws")
    for row in sorted(there, key=lambda row: -row.repeats(1_000_000))[:3]:
        typer.echo(
            f"drawn most often for its size: {row.name}, each step {row.repeats(1_000_000):.3g} times in 1M draws"
        )
