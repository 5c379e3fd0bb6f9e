"""`rdt-data migrate`: a store of an older format version, brought up to date in place."""

from typing import Annotated

import typer

from cli.shell import print_json


def migrate(
    store: Annotated[str, typer.Argument(help="The store (path or URL).")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Change a store to today's format version. Killed at any moment it stays readable; run it again."""
    from rdt_data.migrate import migrate_store

    report = migrate_store(store, dry_run=dry_run)
    if as_json:
        print_json(report)
        return
    if not report.steps:
        typer.echo(f"{store} has version {report.to_version} already: nothing to do")
    for step in report.steps:
        typer.echo(f"  {'would do ' if dry_run else ''}{step}")
    if report.steps and not dry_run:
        typer.echo(f"{store} has version {report.to_version} now")
