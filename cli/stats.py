"""`rdt-data stats STORE…` and `rdt-data stats compare A B`: what the vectors of datasets look like."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.progress import counting
from cli.shell import print_json

if TYPE_CHECKING:
    from stats.compare import Comparison
    from stats.measure import Measured

DIFFERENT = 4
"""Exit status of a comparison whose verdict is not "safe"."""


def stats(
    stores: Annotated[list[str], typer.Argument(help="Stores; or `compare A B`: is a policy trained on A safe on B?")],
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    ray: Annotated[str | None, typer.Option(help='Address of a Ray cluster, or "local".')] = None,
    out: Annotated[Path | None, typer.Option(help="Write the statistics of all, as one JSON file.")] = None,
    form: Annotated[
        Literal["full", "rdt"], typer.Option("--format", help="Of --out; rdt: the published dataset_stat.json.")
    ] = "full",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Count, mean, std, extremes, quantiles and changes of every slot; kept in each store, one file a part.

    `stats compare A B` says slot by slot whether a policy trained on A would be safe on B: exits 0 when it is, else 4.
    """
    from stats.measure import as_json as written
    from stats.measure import combined, measure_stores
    from stats.published import published_entry

    comparing = stores[0] == "compare"
    if comparing and len(stores) != 3:
        raise typer.BadParameter("compare takes two stores: rdt-data stats compare A B")
    with counting("measuring", "parts", quiet=as_json) as progress:
        measured = measure_stores(stores[1:] if comparing else stores, workers=workers, ray=ray, progress=progress)
    if comparing:
        _compare(measured[0], measured[1], as_json=as_json)
        return
    document = combined(measured)
    if out is not None:
        entries = {one.name: published_entry(one.name, one.stats) for one in measured}
        out.write_text(json.dumps(entries, indent=4) if form == "rdt" else written(document))
    if as_json:
        typer.echo(written(document), nl=False)
        return
    for one in measured:
        _print(one)


def _print(one: "Measured") -> None:
    found = one.document["stats"]
    reused = one.parts - one.parts_measured
    typer.echo(
        f"{one.url}: {found['episodes']:,} episodes, {found['steps']:,} steps; {one.parts_measured} parts measured, "
        f"{reused} known"
    )
    for what in ("state", "action"):
        typer.echo(
            f"  {what:32} {'mean':>10} {'std':>10} {'min':>10} {'1 %':>10} {'50 %':>10} {'99 %':>10} {'max':>10}"
        )
        for name, slot in found[what].items():
            shares = slot["quantiles"]
            numbers = (slot["mean"], slot["std"], slot["min"], shares["1"], shares["50"], shares["99"], slot["max"])
            label = f"{name} [{slot['unit']}]" if slot["unit"] != "1" else name
            typer.echo(f"    {label:30} " + " ".join(f"{number:10.4g}" for number in numbers))


def _compare(a: "Measured", b: "Measured", *, as_json: bool) -> None:
    from stats.compare import compare

    result = compare(a, b)
    if as_json:
        print_json(asdict(result))
    else:
        _print_comparison(result)
    if result.verdict != "safe":
        raise typer.Exit(DIFFERENT)


def _print_comparison(result: "Comparison") -> None:
    typer.echo(f"a policy trained on {result.a}, run on {result.b}: {result.verdict}")
    for finding in result.findings:
        value = "" if finding.value is None else f" ({finding.value:.4g})"
        where = f"{finding.what} {finding.slot}".strip()
        typer.echo(f"  {finding.verdict:6}  {where}: {finding.problem}{value}; expected {finding.expected}")
    typer.echo(f"  {'what':7} {'slot':32} {'shift/std':>10} {'outside':>8} {'std ratio':>10}")
    for row in result.slots:
        if row.shift is not None and row.outside is not None and row.std_ratio is not None:
            typer.echo(f"  {row.what:7} {row.slot:32} {row.shift:+10.3f} {row.outside:8.1%} {row.std_ratio:10.3f}")
        else:
            typer.echo(f"  {row.what:7} {row.slot:32} constant in A")
