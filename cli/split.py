"""`rdt-data split`: training and validation episodes."""

from typing import Annotated

import typer

from cli.shell import print_json


def split(
    store: Annotated[str, typer.Argument(help="The store (path or URL).")],
    validation: Annotated[float, typer.Option(help="Share of the episodes to validate with, 0 to 1.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Another seed is another choice of episodes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Decide by hash which episodes are for validation; an episode stays on its side when others are added.

    Writes the rule to splits.json in the store. There is no stratification: look at the counts.
    """
    from rdt_data.split import Split, split_store

    report = split_store(store, Split(validation, seed))
    if as_json:
        print_json(report)
        return
    typer.echo(f"{store}: split with seed {seed}, {validation:.1%} asked for validation")
    total = max(sum(report.episodes.values()), 1)
    for side, count in report.episodes.items():
        typer.echo(f"  {side:10} {count:8} episodes ({count / total:.1%}), {report.steps[side]} steps")
    unseen = [text for text, sides in report.instructions.items() if not sides["train"]]
    typer.echo(f"  {len(report.instructions)} instructions, {len(unseen)} of them in validation only")
    for text in unseen[:5]:
        typer.echo(f"    {text}")
