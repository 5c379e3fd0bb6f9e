"""What a merged store is made of, on disk or on an object store: parts of other stores in their new places.

In: a part of a store, and which number it gets. Out: its files there, each as it was; where an id is to have a name in
front, the array of ids is written anew. On disk a file is a link where the disk can; an object store copies its own
objects without their passing through this machine, and others pass through it one file at a time.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import fsspec
import numpy as np
import zarr

from rdt_data.errors import StoreError
from rdt_data.remote import file_system, is_local, local_path
from rdt_data.remote_files import copy_files, names_in, put_folder, remove_tree
from rdt_data.remote_ledger import RemotePlace
from rdt_data.seal import group_document, sealed
from rdt_data.shards import crc32c
from rdt_data.staging import new_directory
from rdt_data.store import Dataset, Part, read_attributes

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}
_LOCAL = fsspec.filesystem("file")
_IDS = "episodes/id/"


class Target(Protocol):
    """A store that is being made."""

    def place(self, dataset: Dataset, part: Part, number: int, prefix: str | None) -> tuple[int, int]:
        """Every file of a part as part `number`; prefix: what ids get in front. Returns files linked and copied."""

    def finish(self, plan: list[Any], attributes: Mapping[str, Any]) -> None:
        """Write what is of the whole; attributes are not yet sealed."""


@contextmanager
def new_store(dest: str | Path, *, copy: bool) -> Iterator[Target]:
    """A store to fill; it is there when the block ends, and leaves nothing when the block fails. copy: never link.

    Raises StoreError when dest exists, or another process is writing it.
    """
    folder = local_path(dest)
    if folder is not None:
        with new_directory(folder) as partial:
            yield OnDisk(partial, copy)
        return
    fs, path = file_system(str(dest).rstrip("/"))
    claim = RemotePlace(str(dest).rstrip("/"), uuid.uuid4().hex)
    names = names_in(fs, path)
    if "zarr.json" in names or (names and ".partial" not in names and fs.find(path)):
        raise StoreError(f"{dest} exists already", remedy="give a new URL; nothing is ever overwritten here")
    claim.claim(fs, path)
    try:
        remove_tree(fs, f"{path}/parts")  # a killed process left it
        yield Remote(fs, path, claim)
    except BaseException:  # an interruption too; raised again
        if claim.holds(fs, path):
            remove_tree(fs, path)
        raise
    remove_tree(fs, f"{path}/.partial")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A store in a folder. copy: never link."""

    folder: Path
    copy: bool

    def place(self, dataset: Dataset, part: Part, number: int, prefix: str | None) -> tuple[int, int]:
        """See `Target`."""
        folder, done = self.folder / "parts" / str(number), {True: 0, False: 0}
        for path in _files(dataset, part):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            done[_link_or_copy(dataset.fs, f"{dataset.path}/parts/{part.id}/{path}", target, self.copy)] += 1
        if prefix is not None:
            _rename_ids(folder, prefix)
        return done[True], done[False]

    def finish(self, plan: list[Any], attributes: Mapping[str, Any]) -> None:
        """See `Target`."""
        _write_group(self.folder / "parts", {"plan": plan})
        _write_group(self.folder, sealed(_LOCAL, str(self.folder), attributes))


@dataclass(frozen=True, slots=True)
class Remote:
    """A store on an object store: it is one when its zarr.json has been put, last."""

    fs: Any
    path: str
    claim: RemotePlace

    def place(self, dataset: Dataset, part: Part, number: int, prefix: str | None) -> tuple[int, int]:
        """See `Target`."""
        there, here = f"{dataset.path}/parts/{part.id}", f"{self.path}/parts/{number}"
        files = list(_files(dataset, part))
        own = [path for path in files if prefix is not None and (path == "zarr.json" or path.startswith(_IDS))]
        rest = [path for path in files if path not in own]
        self.claim.refuse_lost(self.fs, self.path)
        copy_files(dataset.fs, self.fs, [(f"{there}/{path}", f"{here}/{path}") for path in rest])
        if prefix is not None:
            with tempfile.TemporaryDirectory(prefix="rdt-data-") as temporary:
                for path in own:
                    target = Path(temporary) / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    dataset.fs.get_file(f"{there}/{path}", str(target))
                _rename_ids(Path(temporary), prefix)
                put_folder(self.fs, Path(temporary), here)
        return 0, len(files)

    def finish(self, plan: list[Any], attributes: Mapping[str, Any]) -> None:
        """See `Target`."""
        self.fs.pipe_file(f"{self.path}/parts/zarr.json", group_document({"plan": plan}))
        whole = sealed(self.fs, self.path, attributes)
        self.claim.refuse_lost(self.fs, self.path)
        self.fs.pipe_file(f"{self.path}/zarr.json", group_document(whole))


def _files(dataset: Dataset, part: Part) -> Iterator[str]:
    """The files of a part, relative to it."""
    for path in ("zarr.json", *part.attributes["files"]):
        if PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise StoreError(
                f"{dataset.path}/parts/{part.id} lists the file {path!r}, which lies outside of it",
                remedy="do not trust this store",
            )
        yield path


def _link_or_copy(fs: fsspec.AbstractFileSystem, source: str, target: Path, copy: bool) -> bool:
    if not is_local(fs):
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
    for path in [path for path in files if path.startswith(_IDS)]:
        data = (folder / path).read_bytes()
        files[path] = [len(data), crc32c(data)]
    content = hashlib.sha256(json.dumps([attributes["content"], renamed]).encode()).hexdigest()
    (folder / "zarr.json").unlink()  # it may be a link
    _write_group(folder, {**attributes, "content": content, "files": files})


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """A Zarr v3 group, as zarr writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_bytes(group_document(attributes))
