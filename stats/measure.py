"""Statistics of stores: every part measured once, kept by the hash of its content, added up, written as JSON.

In: stores. Out: a document (`SCHEMA`) per dataset, per group of datasets of one robot, and over all; in each store
`stats/stats.json`, and beside it one file a part, so that a new part costs that part. The same content gives the same
bytes, whatever the parts, their order and the number of workers. Interrupted, the parts that are done stay done.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdt_data.errors import RdtError, StoreError
from rdt_data.jobs import Workers
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from stats.document import SCHEMA, summary
from stats.part_stats import PartStats, measure_part

CACHE_VERSION = 1
"""Part of the names of kept files: raise it when what is measured changes."""


@dataclass(frozen=True, slots=True)
class _Job:
    url: str
    part: int
    kept: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """The statistics of one store; `document` is what its stats.json holds."""

    name: str
    url: str
    group: str
    stats: PartStats
    document: dict[str, Any]
    parts: int
    parts_measured: int  # in this run; the others were kept


def measure_stores(
    urls: Sequence[str],
    *,
    workers: int = 1,
    ray: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Measure stores of this machine (or of a shared file system) and write each one's stats/stats.json.

    progress: called with parts done and parts there are. Raises StoreError for a store that is absent or unfinished.
    """
    stores = [_opened(url) for url in urls]
    for store in stores:
        (Path(store.path) / "stats" / "parts").mkdir(parents=True, exist_ok=True)
    jobs = [[_Job(store.path, part, _kept(store, part)) for part in range(len(store.parts))] for store in stores]
    missing = [job for of_store in jobs for job in of_store if not job.kept.exists()]
    total = sum(map(len, jobs))
    done = total - len(missing)
    progress(done, total)
    with Workers(min(workers, max(len(missing), 1)), ray=ray) as pool:
        for _, error in pool.map(_measure, missing, until=lambda error: error is not None):
            if error is not None:
                raise error
            done += 1
            progress(done, total)
    return [_added(store, of_store, missing) for store, of_store in zip(stores, jobs, strict=True)]


def combined(measured: Iterable[Measured]) -> dict[str, Any]:
    """One document of several stores: each, each group of one robot, and all together."""
    every = list(measured)
    groups = sorted({one.group for one in every})
    return {
        "schema": SCHEMA,
        "datasets": {one.name: one.document["stats"] for one in sorted(every, key=lambda one: one.name)},
        "groups": {group: summary(_sum(one.stats for one in every if one.group == group)) for group in groups},
        "overall": summary(_sum(one.stats for one in every)),
    }


def as_json(document: dict[str, Any]) -> str:
    """The bytes that are compared: keys in the order they were made, numbers as Python prints them, no NaN."""
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _opened(url: str) -> Dataset:
    store = open_dataset(url)
    if "://" in url and not url.startswith("file://"):
        raise StoreError(f"{url} cannot be written to", remedy="measure it where it lies on a local or shared disk")
    if not store.complete:
        raise StoreError(f"{url}: its conversion has not finished", remedy="run `rdt-data convert` again, it continues")
    return store


def _kept(store: Dataset, part: int) -> Path:
    content = store.parts[part].attributes["content"]
    return Path(store.path) / "stats" / "parts" / f"{content}-{CACHE_VERSION}.json"


def _measure(job: _Job) -> RdtError | None:
    """Measure a part and keep the result; the error is a value, see `jobs`."""
    try:
        store = open_dataset(job.url)
        replace_file(store.fs, str(job.kept), json.dumps(measure_part(store, job.part).state()).encode())
    except RdtError as error:
        return error
    return None


def _read(path: Path) -> PartStats:
    try:
        return PartStats.restored(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreError(f"{path} is damaged: {error}", remedy="delete it and run `rdt-data stats` again") from error


def _sum(stats: Iterable[PartStats]) -> PartStats:
    total = PartStats.empty()
    for one in stats:
        total = total + one
    return total


def _added(store: Dataset, jobs: Sequence[_Job], missing: Sequence[_Job]) -> Measured:
    total = _sum(_read(job.kept) for job in jobs)
    group = str(store.spec.get("robot") or store.name)
    document = {
        "schema": SCHEMA,
        "dataset": store.name,
        "group": group,
        "control_hz": store.control_hz,
        "stats": summary(total),
    }
    replace_file(store.fs, f"{store.path}/stats/stats.json", as_json(document).encode())
    return Measured(store.name, store.url, group, total, document, len(jobs), len({*jobs} & {*missing}))
