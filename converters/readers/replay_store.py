"""Open the Zarr group of a replay buffer: a folder or a zip file, with the codecs that its arrays name.

In: the path of a store. Out: the open group, its `episode_ends`, its arrays. Image codecs of imagecodecs are
registered when an array names one. Errors name the file; which rows an episode is, this module does not know.
"""

import importlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.errors import UnknownCodecError as UnknownFormat2Codec  # type: ignore[import-untyped]  # it declares no types
from zarr.errors import BaseZarrError
from zarr.errors import UnknownCodecError as UnknownFormat3Codec
from zarr.storage import LocalStore, ZipStore

from rdt_data.errors import SourceError

Found = TypeVar("Found")
_METADATA = (".zgroup", "zarr.json")
_ENDS = tuple(f"meta/episode_ends/{name}" for name in (".zarray", "zarr.json"))
_BROKEN_REMEDY = "copy the store again; it is not whole"
_ENDS_REMEDY = "a replay buffer has data/<key> and meta/episode_ends; check that this is the store you meant"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, BaseZarrError, zipfile.BadZipFile)


def is_replay_folder(folder: Path) -> bool:
    """Whether a folder has the group `data`, or meta/episode_ends."""
    paths = (*(f"data/{name}" for name in _METADATA), *_ENDS)
    return any((folder / path).is_file() for path in paths)


def is_replay_zip(path: Path) -> bool:
    """Whether a zip file holds a replay buffer. One that cannot be listed counts: whoever opens it is told why."""
    try:
        return len(_groups_in(path)) == 1
    except (OSError, zipfile.BadZipFile):
        return True


def _groups_in(path: Path) -> set[str]:
    """Where in a zip file replay buffers are, "" at the top."""
    with zipfile.ZipFile(path) as file:
        inside = file.namelist()
    return {name.removesuffix(end).rstrip("/") for end in _ENDS for name in inside if f"/{name}".endswith(f"/{end}")}


@contextmanager
def open_store(root: Path) -> Iterator[zarr.Group]:
    """The group of a replay buffer, read-only; the zip file is closed at the end."""
    zipped = root.is_file()
    with _told(root.name):  # a broken zip file is told here: a ZipStore that never opened cannot be closed
        within = min(_groups_in(root), default="") if zipped else ""
    store: LocalStore | ZipStore = (
        ZipStore(root, mode="r", read_only=True) if zipped else LocalStore(root, read_only=True)
    )
    try:
        yield _with_codecs(lambda: zarr.open_group(store, path=within or None, mode="r"), root.name)
    finally:
        store.close()


def episode_ends(group: zarr.Group, file: str) -> npt.NDArray[np.int64]:
    """meta/episode_ends, (E,): where each episode ends, strictly increasing from above 0."""
    ends = row_arrays(group, "meta", file).get("episode_ends")
    if ends is None:
        raise SourceError("there is no meta/episode_ends", remedy=_ENDS_REMEDY, file=file, field="meta/episode_ends")
    with _told(file, "meta/episode_ends"):
        values = np.asarray(ends[:])
    if values.ndim != 1 or values.dtype.kind not in "iu" or not values.size:
        problem = f"it is {values.dtype} of shape {values.shape}, not one whole number for each episode"
        raise SourceError(problem, remedy=_ENDS_REMEDY, file=file, field="meta/episode_ends")
    values = values.astype(np.int64)
    wrong = np.flatnonzero(np.diff(values, prepend=0) <= 0)
    if wrong.size:
        at = int(wrong[0])
        raise SourceError(
            f"episode {at} ends at {values[at]}, the one before at {values[at - 1] if at else 0}",
            remedy="ends must increase: write the store again",
            file=file,
            field="meta/episode_ends",
        )
    return values


def row_arrays(group: zarr.Group, name: str, file: str) -> dict[str, zarr.Array[Any]]:
    """The arrays below `name`, at any depth, by their path; none when there is no such group."""

    def look() -> dict[str, zarr.Array[Any]]:
        below = group.get(name)
        found = below.members(max_depth=None) if isinstance(below, zarr.Group) else ()
        return {key: item for key, item in found if isinstance(item, zarr.Array)}

    return _with_codecs(look, file, name)


def _with_codecs(look: Callable[[], Found], file: str, field: str | None = None) -> Found:
    """What `look` finds, tried again after each codec of imagecodecs that it meets for the first time."""
    registered: set[str] = set()
    while True:
        try:
            with _told(file, field):
                return look()
        except UnknownFormat2Codec as error:
            codec = str(error.codec_id).strip("'")
            if codec in registered:
                raise _unknown_codec(codec, file, field) from error
            _register(codec, file, field)
            registered.add(codec)


def _register(codec: str, file: str, field: str | None) -> None:
    """Make a codec of imagecodecs known to numcodecs, which reads format 2."""
    if not codec.startswith("imagecodecs_"):
        raise _unknown_codec(codec, file, field)
    try:
        importlib.import_module("imagecodecs.numcodecs").register_codecs(codecs=[codec], verbose=False)
    except ImportError as error:
        raise SourceError(
            f"an array is compressed with {codec}", remedy="pip install imagecodecs", file=file, field=field
        ) from error


def _unknown_codec(codec: str, file: str, field: str | None) -> SourceError:
    return SourceError(
        f"an array is compressed with {codec!r}, which is not known here",
        remedy="install the package that brings this codec, or write the array with a standard one",
        file=file,
        field=field,
    )


@contextmanager
def _told(file: str, field: str | None = None) -> Iterator[None]:
    """Turn what Zarr says of a damaged store into a SourceError; an unknown codec of format 2 passes."""
    try:
        yield
    except (SourceError, UnknownFormat2Codec):
        raise
    except UnknownFormat3Codec as error:
        raise _unknown_codec(str(error).removeprefix("Unknown codec: ").strip("'"), file, field) from error
    except _DAMAGED as error:
        raise SourceError(
            f"not a sound Zarr store: {type(error).__name__}: {error}", remedy=_BROKEN_REMEDY, file=file, field=field
        ) from error
