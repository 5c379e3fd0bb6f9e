"""Statistics of stores: every part measured once, kept by the hash of its content, added up, written as JSON.

In: stores. Out: a document (`SCHEMA`) per dataset, per group of datasets of one robot, and over all; in each store
`stats/stats.json`, and beside it one file a part, so that a new part costs that part. The same content gives the same
bytes, whatever the parts, their order and the number of workers. Interrupted, the parts that are done stay done.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rdt_data.errors import RdtError, StoreError
from rdt_data.jobs import Workers
from rdt_data.remote import AT_ONCE, is_local
from rdt_data.remote_files import names_in, read_many
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from stats.document import SCHEMA, summary
from stats.part_stats import PartStats, measure_part

CACHE_VERSION = 1
"""Part of the names of kept files: raise it when what is measured changes."""

_FOLDER = "stats/parts"


@dataclass(frozen=True, slots=True)
class _Job:
    url: str
    part: int
    kept: str  # path in the file system of the store


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
    """Measure stores by path or URL and write each one's stats/stats.json.

    progress: called with parts done and parts there are. Raises StoreError for a store that is absent or unfinished.
    """
    stores = [_opened(url) for url in urls]
    jobs = [_jobs(store) for store in stores]
    there = set().union(*(_there(store) for store in stores))
    missing = [job for of_store in jobs for job in of_store if job.kept not in there]
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
    if not store.complete:
        raise StoreError(f"{url}: its conversion has not finished", remedy="run `rdt-data convert` again, it continues")
    return store


def _jobs(store: Dataset) -> list[_Job]:
    url = store.path if is_local(store.fs) else store.url  # workers may have another working directory
    contents = [part.attributes["content"] for part in store.parts]
    names = [f"{store.path}/{_FOLDER}/{content}-{CACHE_VERSION}.json" for content in contents]
    return [_Job(url, part, name) for part, name in enumerate(names)]


def _there(store: Dataset) -> set[str]:
    """The files of parts that are kept; makes their folder where there are folders."""
    folder = f"{store.path}/{_FOLDER}"
    store.fs.makedirs(folder, exist_ok=True)
    return {f"{folder}/{name}" for name in names_in(store.fs, folder)}


def _measure(job: _Job) -> RdtError | None:
    """Measure a part and keep the result; the error is a value, see `jobs`."""
    try:
        store = open_dataset(job.url)
        replace_file(store.fs, job.kept, json.dumps(measure_part(store, job.part).state()).encode())
    except RdtError as error:
        return error
    return None


def _read(store: Dataset, jobs: Sequence[_Job]) -> Iterator[PartStats]:
    for at in range(0, len(jobs), AT_ONCE):
        some = [job.kept for job in jobs[at : at + AT_ONCE]]
        for path, document in zip(some, read_many(store.fs, some), strict=True):
            try:
                yield PartStats.restored(json.loads(document or b""))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise StoreError(
                    f"{path} is damaged: {error}", remedy="delete it and run `rdt-data stats` again"
                ) from error


def _sum(stats: Iterable[PartStats]) -> PartStats:
    total = PartStats.empty()
    for one in stats:
        total = total + one
    return total


def _added(store: Dataset, jobs: Sequence[_Job], missing: Sequence[_Job]) -> Measured:
    total = _sum(_read(store, jobs))
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
