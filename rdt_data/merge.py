"""Put several finished stores of the same kind together into one, without converting anything again.

In: stores made with the same spec and the same choices (rate, cameras, action …). Out: a new store whose parts are
theirs, in the order given, under new numbers; local files are hard-linked where the disk can. `merged` in the
attributes says where each run of parts is from.

Ids: as they are, when no two of all episodes are equal. Otherwise every id gets the name of its store in front,
"kitchen/episode_3", and only the arrays of ids are written anew. `source` never changes.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import zarr

from rdt_data.errors import StoreError
from rdt_data.seal import broken_seals, group_document, sealed
from rdt_data.shards import crc32c
from rdt_data.staging import new_directory
from rdt_data.store import FORMAT, VERSION, Dataset, Part, open_dataset, read_attributes
from rdt_data.walk import walk

Progress = Callable[[int, int], None]

_CHOICES = ("action", "corrected")  # of a request: what decides how numbers are to be understood
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}
_LOCAL = fsspec.filesystem("file")


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
    stores: Sequence[str], dest: Path, *, copy: bool = False, progress: Progress = lambda done, total: None
) -> MergeReport:
    """Make `dest` of `stores`. copy: never link. progress is told finished and all episodes.

    Raises StoreError when dest exists, a store is unfinished or given twice, or they are not of the same kind.
    """
    datasets = [_finished(store) for store in stores]
    _refuse_same(datasets)
    for other in datasets[1:]:
        _refuse_difference(datasets[0], other)
    prefixes = _prefixes(datasets) if _collide(datasets) else [None] * len(datasets)
    counts = [count for dataset in datasets for count in dataset.attributes["parts"]]
    episodes, steps = (sum(count[i] for count in counts) for i in (0, 1))
    done = {True: 0, False: 0}
    with new_directory(dest) as folder:
        number = 0
        for dataset, prefix in zip(datasets, prefixes, strict=True):
            for part in dataset.parts:
                for linked in _place(dataset, part, folder / "parts" / str(number), copy):
                    done[linked] += 1
                if prefix is not None:
                    _rename_ids(folder / "parts" / str(number), prefix)
                number += 1
                progress(sum(count for count, _ in counts[:number]), episodes)
        _write_group(folder / "parts", {"plan": [entry for dataset in datasets for entry in _plan(dataset)]})
        attributes = {**_header(datasets, prefixes), "complete": True, "parts": counts}
        _write_group(folder, sealed(_LOCAL, str(folder), attributes))
    urls = tuple(dataset.url for dataset in datasets)
    return MergeReport(str(dest), urls, number, episodes, steps, prefixes[0] is not None, done[True], done[False])


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
    places = [os.path.realpath(dataset.path) if "file" in dataset.fs.protocol else dataset.url for dataset in datasets]
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


def _place(dataset: Dataset, part: Part, folder: Path, copy: bool) -> Iterator[bool]:
    """Every file of a part in its new place; yields for each whether it is linked."""
    there = f"{dataset.path}/parts/{part.id}"
    for path in ("zarr.json", *part.attributes["files"]):
        if PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise StoreError(
                f"{there} lists the file {path!r}, which lies outside of it", remedy="do not trust this store"
            )
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        yield _link_or_copy(dataset.fs, f"{there}/{path}", target, copy)


def _link_or_copy(fs: fsspec.AbstractFileSystem, source: str, target: Path, copy: bool) -> bool:
    if "file" not in fs.protocol:
        fs.get_file(source, str(target))
        return False
    if not copy:
        try:
            os.link(source, target)
            return True
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
    shutil.copyfile(source, target)
    return False


def _rename_ids(folder: Path, prefix: str) -> None:
    """Write the ids of a part anew; its other files, some of them shared with another store, stay untouched."""
    ids = f"{folder}/episodes/id"
    private = folder / "episodes" / "id.own"
    shutil.copytree(ids, private)  # a link would change the other store too
    shutil.rmtree(ids)
    private.rename(ids)
    array = zarr.open_array(ids, mode="r+")
    renamed = [prefix + str(name) for name in np.asarray(array[...])]
    array[...] = np.array(renamed, dtype=object)
    attributes = read_attributes(_LOCAL, str(folder))
    files = dict(attributes["files"])
    for path in [path for path in files if path.startswith("episodes/id/")]:
        data = (folder / path).read_bytes()
        files[path] = [len(data), crc32c(data)]
    content = hashlib.sha256(json.dumps([attributes["content"], renamed]).encode()).hexdigest()
    (folder / "zarr.json").unlink()  # it may be a link
    _write_group(folder, {**attributes, "content": content, "files": files})


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """A Zarr v3 group, as zarr writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_bytes(group_document(attributes))
