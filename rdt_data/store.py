"""Open a converted dataset and read its episodes: nothing is read before it is asked for.

A store is a Zarr v3 group (`docs/formats.md`). Opening reads its attributes only; vectors come through zarr,
encoded frames by byte ranges. Paths and URLs (`file://`, `memory://`, `s3://` …) go through fsspec.
"""

import bisect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import fsspec
import numpy as np

from rdt_data.episode import CameraFormat
from rdt_data.errors import StoreError
from rdt_data.layout import CAMERAS
from rdt_data.remote import file_system, is_local
from rdt_data.remote_files import read_many
from rdt_data.stored import PartTable, StoredEpisode

FORMAT = "rdt-data"
VERSION = 2
"""1: every mask is (128,). 2: a part may also hold the masks of its steps, and phrasings (`rdt_data.migrate`)."""

CONTENT = ("zarr.json", "parts", "language", "stats", "splits.json")
"""What lies in a store."""


def open_dataset(url: str) -> "Dataset":
    """Open a store by path or URL. Raises StoreError when there is none, or not one of this project."""
    return Dataset(str(url))


def read_attributes(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """The attributes of the Zarr group at `path`. Raises StoreError when there is no whole Zarr v3 group."""
    try:
        document = fs.cat_file(f"{path}/zarr.json")
    except (FileNotFoundError, NotADirectoryError):
        document = None
    return _attributes(document, path)


def _attributes(document: bytes | None, path: str) -> dict[str, Any]:
    """document: what the zarr.json of `path` holds, None when there is none. Raises as `read_attributes` does."""
    if document is None:
        raise StoreError(
            f"{path} is not a Zarr v3 store: it has no zarr.json", remedy="give the DEST.zarr of `rdt-data convert`"
        )
    try:
        return dict(json.loads(document).get("attributes", {}))
    except ValueError as error:
        raise StoreError(f"{path}/zarr.json is damaged: {error}", remedy="convert this dataset again") from None


@dataclass(frozen=True, slots=True)
class Part:
    """What a part says of itself: see `parts.PartWriter.close`."""

    id: str
    episodes: int
    steps: int
    attributes: Mapping[str, Any]


class Dataset:
    """A converted dataset: a sequence of episodes. `len(ds)`, `ds[3]`, `for episode in ds`."""

    tables_kept: int | None = None
    """Parts whose tables stay in memory once they were read; None: all. For readers that run for days."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, self.path = file_system(self.url)
        self.attributes = read_attributes(self.fs, self.path)
        if self.attributes.get("format") != FORMAT:
            raise StoreError(
                f"{url} is the Zarr store of another program", remedy="give a store written by `rdt-data convert`"
            )
        if self.attributes["version"] > VERSION:
            raise StoreError(
                f"{url} has format version {self.attributes['version']}, this program knows {VERSION}",
                remedy="install a newer rdt-data",
            )
        if self.attributes["version"] < VERSION:
            raise StoreError(
                f"{url} has format version {self.attributes['version']}, this program reads {VERSION}",
                remedy=f"run `rdt-data migrate {url}`: it changes the store in place",
            )

    @property
    def name(self) -> str:
        """The name of the dataset's spec."""
        return str(self.attributes["dataset"])

    @property
    def control_hz(self) -> float:
        """Steps per second."""
        return float(self.attributes["control_hz"])

    @property
    def spec(self) -> dict[str, Any]:
        """The spec this store was made with, as data; `spec_text` is its YAML, verbatim."""
        return dict(self.attributes["spec"])

    @property
    def spec_text(self) -> str:
        return str(self.attributes["spec_text"])

    @property
    def complete(self) -> bool:
        """Whether the conversion has finished; before, only the finished parts are here."""
        return bool(self.attributes["complete"])

    @property
    def camera_formats(self) -> dict[str, CameraFormat]:
        """Slot -> how its frames are stored."""
        return {slot: CameraFormat(**form) for slot, form in self.attributes["cameras"].items()}

    @property
    def cameras(self) -> tuple[str, ...]:
        """The camera slots that have frames."""
        return tuple(slot for slot in CAMERAS if slot in self.attributes["cameras"])

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The visible parts in order, with all that they say of themselves (one small read each)."""
        folder = f"{self.path}/parts"
        names = (entry.rsplit("/", 1)[-1] for entry in self.fs.ls(folder, detail=False))
        ids = sorted((name for name in names if name.isdecimal()), key=int)
        documents = list(zip(ids, read_many(self.fs, [f"{folder}/{name}/zarr.json" for name in ids]), strict=True))
        if not self.complete and not is_local(self.fs):  # there a part is one when its zarr.json has been put, last
            documents = [(name, document) for name, document in documents if document is not None]
        found = ((name, _attributes(document, f"{folder}/{name}")) for name, document in documents)
        return tuple(Part(name, about["episodes"], about["steps"], about) for name, about in found)

    @property
    def part_counts(self) -> list[tuple[str, int, int]]:
        """Id, episodes and steps of each part that is here."""
        return list(self._counts)

    @cached_property
    def _counts(self) -> list[tuple[str, int, int]]:
        """Id, episodes and steps of each part; a finished store says them all in its own attributes."""
        if self.complete:
            return [(str(part), *counts) for part, counts in enumerate(self.attributes["parts"])]
        return [(part.id, part.episodes, part.steps) for part in self.parts]

    @cached_property
    def _ends(self) -> list[int]:
        return [int(end) for end in np.cumsum([episodes for _, episodes, _ in self._counts])]

    @cached_property
    def _tables(self) -> dict[int, PartTable]:
        return {}

    @cached_property
    def group(self) -> Any:
        """The zarr.Group of this store, read-only."""
        import zarr

        if is_local(self.fs):
            return zarr.open_group(self.path, mode="r")
        fs, path = file_system(self.url, asynchronous=True)
        store = zarr.storage.FsspecStore(fs, path=path, read_only=True)
        return zarr.open_group(store, mode="r", zarr_format=3)  # else it asks for the files of version 2, too

    @property
    def steps(self) -> int:
        """Steps of all episodes together."""
        return sum(steps for _, _, steps in self._counts)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Episodes that are not here, each with its reason. what: "quarantined" or "filtered"."""
        return [entry for part in self.parts for entry in part.attributes[what]]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> StoredEpisode: ...
    @overload
    def __getitem__(self, number: slice) -> list[StoredEpisode]: ...
    def __getitem__(self, number: int | slice) -> StoredEpisode | list[StoredEpisode]:
        if isinstance(number, slice):
            return [self[at] for at in range(len(self))[number]]
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"{self.url} holds {count} episodes, there is no episode {number}")
        number %= count
        part = bisect.bisect_right(self._ends, number)
        row = number - (self._ends[part - 1] if part else 0)
        return StoredEpisode(self.table(part), row)

    def __iter__(self) -> Iterator[StoredEpisode]:
        return (self[number] for number in range(len(self)))

    def table(self, part: int) -> PartTable:
        """The arrays of the part at position `part`, for what reads whole parts."""
        table = self._tables.pop(part, None)
        if table is None:
            folder = f"parts/{self._counts[part][0]}"
            table = PartTable(self.group[folder], self.fs, f"{self.path}/{folder}", self.camera_formats)
        self._tables[part] = table  # now the last: the first is the one not used for the longest time
        if self.tables_kept is not None and len(self._tables) > self.tables_kept:
            del self._tables[next(iter(self._tables))]
        return table

    def __repr__(self) -> str:
        return f"Dataset({self.url!r}, {self.name}, {len(self)} episodes, {self.control_hz:g} Hz)"
