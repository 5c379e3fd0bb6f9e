"""Convert a whole source into a store: plan, spread parts over workers, commit, report.

Interrupt it at any moment and run it again: finished parts stay, the rest is made. The store is the same, byte for
byte, whatever the number of workers and interruptions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.convert import OnError, PartJob, PartReport, convert_part
from converters.plan import Plan, Request, make_plan
from rdt_data.errors import RdtError
from rdt_data.jobs import Workers

Progress = Callable[["Plan", "PartReport | None"], None]
"""Called once with None when the plan is known, then with each finished part."""


@dataclass(slots=True)
class ConvertReport:
    """What a run of `convert` did: counts are of the whole store; `already` parts were there before."""

    dest: str
    dataset: str
    parts: int
    already: int
    episodes: int = 0
    steps: int = 0
    bytes: int = 0
    filtered: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)


def convert_dataset(
    source: Path,
    dest: str | Path,
    request: Request,
    *,
    workers: int = 1,
    ray: str | None = None,
    on_error: OnError = "stop",
    overwrite: bool = False,
    progress: Progress = lambda plan, report: None,
) -> ConvertReport:
    """Convert `source` into the store `dest`, a path or URL; continues what an earlier run of the same request left.

    workers: local processes (1: this one). ray: address of a cluster, or "local". Raises RdtError: with
    `on_error="stop"` the first broken episode (in the order of completion), after the parts that were under way
    have been finished.
    """
    # Forked workers share what is imported by now; no thread may have been started before (see jobs.Workers).
    import rdt_data.parts  # noqa: F401  # for the workers
    from rdt_data.destination import begin

    if str(dest).startswith("memory://") and (workers > 1 or ray is not None):
        raise RdtError(f"{dest} is in the memory of one process", remedy="use --workers 1, or a store that all reach")
    plan = make_plan(source, request)
    processes = min(workers, len(plan.parts))
    with (
        Workers(processes, ray=ray) as pool,
        begin(dest, plan.header(), plan.entries(), overwrite=overwrite) as ledger,
        pool.stopped_first(),  # a worker that went on would write where the ledger cleans up
    ):
        report = ConvertReport(str(dest), request.dataset, len(plan.parts), already=len(ledger.done))
        progress(plan, None)
        done = {part: _report_of(part, attributes) for part, attributes in ledger.done.items()}
        for part in done.values():
            progress(plan, part)
        jobs = [
            PartJob(number, part, plan.root, request, plan.cameras, ledger.place, on_error)
            for number, part in enumerate(plan.parts)
            if number not in done
        ]
        for made in _finish(pool, jobs):
            done[made.part] = made
            progress(plan, made)
        _add_up(report, [done[number] for number in sorted(done)])
        ledger.finish({"parts": [[done[number].episodes, done[number].steps] for number in sorted(done)]})
    return report


def _finish(pool: Workers, jobs: list[PartJob]) -> Iterator[PartReport]:
    """The parts as they are made. After a failure nothing new begins; what is under way is finished first."""
    failed: RdtError | None = None
    for _, made in pool.map(convert_part, jobs, until=lambda made: made.error is not None):
        if made.error is None:
            yield made
        else:
            failed = failed or made.error
    if failed is not None:
        raise failed


def _report_of(part: int, attributes: dict[str, Any]) -> PartReport:
    """The report of a part that is in the store already."""
    return PartReport(
        part,
        episodes=attributes["episodes"],
        steps=attributes["steps"],
        bytes=sum(size for size, _ in attributes["files"].values()),
        filtered=attributes["filtered"],
        quarantined=attributes["quarantined"],
    )


def _add_up(report: ConvertReport, parts: list[PartReport]) -> None:
    for part in parts:
        report.episodes += part.episodes
        report.steps += part.steps
        report.bytes += part.bytes
        report.filtered += part.filtered
        report.quarantined += part.quarantined
