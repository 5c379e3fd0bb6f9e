"""`rdt-data view STORE`: browse the episodes of a store in a browser of this machine, or in rerun."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stats.view import Server


def view(
    store: Annotated[str, typer.Argument(help="A converted store (path or URL).")],
    host: Annotated[str, typer.Option(help="An address of the loopback interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    rerun: Annotated[bool, typer.Option("--rerun", help="Show episodes in rerun instead.")] = False,
    episodes: Annotated[str, typer.Option(metavar="N,A:B", help="With --rerun: which, B excluded.")] = "0",
    save: Annotated[Path | None, typer.Option(metavar="FILE.rrd", help="With --rerun: a file, no window.")] = None,
) -> None:
    """Open a local page of all episodes: cameras in step with state and action, search, findings of lint.

    Ends with Ctrl-C. Nothing is written to the store, and only this machine can see the page.
    """
    from rdt_data.errors import RdtError

    if rerun:
        from stats.view_rerun import show_in_rerun

        shown = show_in_rerun(store, episodes, save)
        typer.echo(f"{shown} episodes: {save}" if save is not None else f"{shown} episodes are shown in rerun")
        return
    if save is not None or episodes != "0":
        raise RdtError("--episodes and --save are for rerun", remedy="add --rerun, or leave them out")
    from stats.view import serve

    try:
        serve(store, host=host, port=port, ready=lambda server: _ready(server, opened))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _ready(server: "Server", opened: bool) -> None:
    dataset = server.view.dataset
    typer.echo(f"{dataset.name}, {len(dataset)} episodes: {server.url} (Ctrl-C ends it)")
    if opened:
        import webbrowser

        webbrowser.open(server.url)
