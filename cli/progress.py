"""Progress bars on stderr: shown on a terminal, silent otherwise and for `--json`; no threads of their own."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.convert import PartReport
    from converters.plan import Plan


def _bar(what: str, total: int, of: str = "episodes") -> tuple[Any, Any] | None:
    """A started bar and its task, or None where nobody would see it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(of), TimeRemainingColumn())
    bar = Progress(*columns, console=console, auto_refresh=False)
    task = bar.add_task(what, total=total)
    bar.start()
    return bar, task


@contextmanager
def counting(what: str, of: str = "episodes", *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that moves a bar of so many `of`."""
    shown: list[tuple[Any, Any]] = []

    def update(done: int, total: int) -> None:
        if not quiet and not shown and (bar := _bar(what, total, of)) is not None:
            shown.append(bar)
        for bar, task in shown:
            bar.update(task, completed=done, refresh=True)

    try:
        yield update
    finally:
        for bar, _ in shown:
            bar.stop()


class PartProgress:
    """Callable as `run.Progress`; `finished` says in words how far a conversion came."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.finished = "nothing was begun"
        self._bar: tuple[Any, Any] | None = None
        self._parts = self._done = 0

    def __call__(self, plan: "Plan", report: "PartReport | None") -> None:
        if report is None:
            self._parts = len(plan.parts)
            self._bar = None if self.quiet else _bar("converting", plan.episodes)
        else:
            self._done += 1
            if self._bar is not None:
                seen = report.episodes + len(report.filtered) + len(report.quarantined)
                self._bar[0].update(self._bar[1], advance=seen, refresh=True)
        self.finished = f"{self._done} of {self._parts} parts are finished"

    def stop(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
