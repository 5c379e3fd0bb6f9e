"""Put several finished stores of the same kind together into one, without converting anything again.

In: stores made with the same spec and the same choices (rate, cameras, action …). Out: a new store whose parts are
theirs, in the order given, under new numbers; local files are hard-linked where the disk can. `merged` in the
attributes says where each run of parts is from.

Ids: as they are, when no two of all episodes are equal. Otherwise every id gets the name of its store in front,
"kitchen/episode_3", and only the arrays of ids are written anew. `source` never changes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdt_data.errors import StoreError
from rdt_data.merge_target import new_store
from rdt_data.remote import is_local
from rdt_data.seal import broken_seals
from rdt_data.store import FORMAT, VERSION, Dataset, open_dataset, read_attributes
from rdt_data.walk import walk

Progress = Callable[[int, int], None]

_CHOICES = ("action", "corrected")  # of a request: what decides how numbers are to be understood


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge made. renamed: whether ids got the names of their stores in front."""

    dest: str
    stores: tuple[str, ...]
    parts: int
    episodes: int
    steps: int
    renamed: bool
    linked: int
    copied: int


def merge_stores(
    stores: Sequence[str], dest: str | Path, *, copy: bool = False, progress: Progress = lambda done, total: None
) -> MergeReport:
    """Make `dest`, a path or URL, of `stores`. copy: never link. progress is told finished and all episodes.

    Raises StoreError when dest exists, a store is unfinished or given twice, or they are not of the same kind.
    """
    datasets = [_finished(store) for store in stores]
    _refuse_same(datasets)
    for other in datasets[1:]:
        _refuse_difference(datasets[0], other)
    prefixes = _prefixes(datasets) if _collide(datasets) else [None] * len(datasets)
    counts = [count for dataset in datasets for count in dataset.attributes["parts"]]
    episodes, steps = (sum(count[i] for count in counts) for i in (0, 1))
    number = linked = copied = 0
    with new_store(dest, copy=copy) as target:
        for dataset, prefix in zip(datasets, prefixes, strict=True):
            for part in dataset.parts:
                placed = target.place(dataset, part, number, prefix)
                linked, copied = linked + placed[0], copied + placed[1]
                number += 1
                progress(sum(count for count, _ in counts[:number]), episodes)
        attributes = {**_header(datasets, prefixes), "complete": True, "parts": counts}
        target.finish([entry for dataset in datasets for entry in _plan(dataset)], attributes)
    urls = tuple(dataset.url for dataset in datasets)
    return MergeReport(str(dest), urls, number, episodes, steps, prefixes[0] is not None, linked, copied)


def no_single_source(dataset: Dataset) -> StoreError:
    """Why a merged store cannot be compared with a source, and what to do instead."""
    names = ", ".join(entry["store"] for entry in dataset.attributes["merged"])
    return StoreError(
        f"{dataset.url} was merged from {names}: there is no single source to compare it with",
        remedy="verify each of those stores with --source; without --source this one is checked against its checksums",
    )


def _finished(store: str) -> Dataset:
    dataset = open_dataset(store)
    if not dataset.complete:
        raise StoreError(f"{store} is not finished", remedy="run its `rdt-data convert` command again, then merge")
    if broken := broken_seals(dataset.fs, dataset.path, dataset.attributes):  # a new seal would hide it
        raise StoreError(f"{store} is damaged: {broken[0]}", remedy="convert it again; `rdt-data verify` says more")
    return dataset


def _refuse_same(datasets: Sequence[Dataset]) -> None:
    if len(datasets) < 2:
        raise StoreError(f"{len(datasets)} stores are nothing to merge", remedy="give two stores or more, then DEST")
    places = [os.path.realpath(dataset.path) if is_local(dataset.fs) else dataset.url for dataset in datasets]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise StoreError(f"{datasets[number].url} is given twice", remedy="give each store once")


def _refuse_difference(first: Dataset, other: Dataset) -> None:
    """Stores that cannot be one: say what differs, with both values."""
    for name, here, there in _compared(first, other):
        if here != there:
            raise StoreError(
                f"{first.url} and {other.url} cannot be merged: {name} is {here!r} in the one, {there!r} in the other",
                remedy="convert both in the same way; stores of different datasets are trained together by a mixture",
            )


def _compared(first: Dataset, other: Dataset) -> Iterator[tuple[str, Any, Any]]:
    a, b = first.attributes, other.attributes
    yield "dataset", a["dataset"], b["dataset"]
    yield "control_hz", a["control_hz"], b["control_hz"]
    yield "cameras", sorted(a["cameras"]), sorted(b["cameras"])
    for slot in a["cameras"]:
        for name in a["cameras"][slot]:
            if name != "quality":  # of frames to be encoded; those that are there keep theirs
                yield f"cameras.{slot}.{name}", a["cameras"][slot][name], b["cameras"][slot][name]
    for name in _CHOICES:
        yield f"request.{name}", a["request"][name], b["request"][name]
    for name in sorted({*a["spec"], *b["spec"]}):
        yield f"spec.{name}", a["spec"].get(name), b["spec"].get(name)


def _header(datasets: Sequence[Dataset], prefixes: Sequence[str | None]) -> dict[str, Any]:
    """The attributes of the whole: what all share, and where each run of parts is from."""
    first = datasets[0].attributes
    requests = [dataset.attributes["request"] for dataset in datasets]
    merged = [entry for dataset, prefix in zip(datasets, prefixes, strict=True) for entry in _origins(dataset, prefix)]
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: first[name] for name in ("dataset", "control_hz", "cameras")},
        "request": {
            name: value if all(request.get(name) == value for request in requests) else None
            for name, value in requests[0].items()
        },
        **{name: first[name] for name in ("spec", "spec_text")},
        "merged": merged,
    }


def _origins(dataset: Dataset, prefix: str | None) -> list[dict[str, Any]]:
    """Where the parts of a store are from; of a store that was merged itself, the stores it was merged from."""
    own = {"store": _name(dataset), "parts": len(dataset.attributes["parts"]), "request": dataset.attributes["request"]}
    entries = dataset.attributes.get("merged", [{**own, "id_prefix": ""}])
    return [{**entry, "id_prefix": (prefix or "") + entry["id_prefix"]} for entry in entries]


def _plan(dataset: Dataset) -> list[Any]:
    return list(read_attributes(dataset.fs, f"{dataset.path}/parts")["plan"])


def _name(dataset: Dataset) -> str:
    return str(dataset.path).rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr")


def _collide(datasets: Sequence[Dataset]) -> bool:
    """Whether two episodes of different stores have one id. Raises StoreError when two of one store have."""
    seen: set[str] = set()
    collide = False
    for dataset in datasets:
        ids = {episode.id for episode in walk(dataset)}
        if len(ids) < len(dataset):
            raise StoreError(f"{dataset.url} has an id twice", remedy="convert it again, each episode once")
        collide |= not seen.isdisjoint(ids)
        seen |= ids
    return collide


def _prefixes(datasets: Sequence[Dataset]) -> list[str | None]:
    """A name for each store, no two alike: of its directory, with its position when two directories share theirs."""
    names = [_name(dataset) for dataset in datasets]
    alike = len(set(names)) < len(names)
    return [f"{name}-{at}/" if alike else f"{name}/" for at, name in enumerate(names, 1)]
