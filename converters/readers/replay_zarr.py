"""Diffusion-Policy replay buffers: one Zarr group that holds all episodes one after the other.

    data/<key> (N, …)            one row a step: "action", "state", "img", "camera0_rgb", …
    meta/episode_ends (E,) int   where each episode ends, so that the last is N

In: a folder (`pusht.zarr`) or the same zipped (`pusht.zarr.zip`, `pusht.zip`), Zarr format 2 or 3. Keys are relative
to `data`; an array of `meta` with one row for each episode is "meta/<key>". Cameras are (N, H, W, 3) uint8. A frame
that lies as one JPEG or PNG in a chunk of its own is handed over as it is; any other, JPEG-XL too, as pixels. What
Zarr does not store it takes for zeros, so that a lost chunk cannot be told from a black frame. No options.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from converters.raw import Frame, Options, SourceFile
from converters.readers.hdf5_files import natural_key
from converters.readers.replay_store import episode_ends, is_replay_folder, is_replay_zip, open_store, row_arrays
from rdt_data.errors import SourceError, SpecError, unknown

_DEPTH = 3  # how far below a source the stores may lie
_SLAB = 2_000_000  # bytes read at a time, but never less than a chunk
_ENCODED = ("imagecodecs_jpeg", "imagecodecs_png")
_ALTERED = ("colorspace_data", "colorspace_jpeg", "tables", "header", "bitspersample", "lossless", "squeeze")
_BROKEN_REMEDY = "copy the store again, or leave this episode out"
_PLUGIN_REMEDY = "pip install -U imagecodecs, built with this codec"
_DAMAGED = (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error, zipfile.BadZipFile)
KEYS_VARY = False
"""See `Reader`: all episodes are rows of the same arrays."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """The stores at or up to three levels below `source`. Zip files are *.zarr.zip, or any that is `source` itself."""
    if source.is_file():
        return [source] if source.suffix == ".zip" and is_replay_zip(source) else []
    return list(_stores(source))


def _stores(source: Path) -> Iterator[Path]:
    for folder, below, inside in os.walk(source):
        path = Path(folder)
        replay = is_replay_folder(path)
        if replay:
            yield path
        yield from (path / name for name in inside if name.endswith(".zarr.zip"))
        if replay or path.suffix == ".zarr" or len(path.relative_to(source).parts) >= _DEPTH:
            below.clear()
        below.sort(key=natural_key)


def names(root: Path) -> list[str]:
    """The name of the store without its ending, then of the two folders above it."""
    path = root.absolute()
    stem = path.name.removesuffix(".zip").removesuffix(".zarr")
    return [name for name in dict.fromkeys([stem, path.parent.name, path.parent.parent.name]) if name]


def splits(root: Path) -> list[str]:
    """Replay buffers have no splits."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The store as one source file, with all its episodes."""
    _check(options)
    if split not in (None, "all"):
        raise SpecError(f"a replay buffer has no split {split!r}", remedy="leave the split out")
    inside = [os.path.join(folder, name) for folder, _, below in os.walk(root) for name in below]
    stats = [os.stat(path) for path in ([str(root)] if root.is_file() else inside)]
    with open_store(root) as group:
        count = len(episode_ends(group, root.name))
    return [SourceFile(root.name, sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats), count)]


def _check(options: Options) -> None:
    for name in options:
        raise SpecError(f"reader replay_zarr has no option {name!r}", remedy="remove it from `options:`")


def open_file(root: Path, file: SourceFile, options: Options) -> "ReplayBuffer":
    """Open the store."""
    _check(options)
    return ReplayBuffer(root)


class ReplayBuffer:
    """An open store and its episodes."""

    def __init__(self, root: Path) -> None:
        self.path = root.name
        self._opened = open_store(root)
        group = self._opened.__enter__()
        try:
            self.ends = episode_ends(group, self.path)
            self.arrays = row_arrays(group, "data", self.path)
            whole = {f"meta/{key}": array for key, array in row_arrays(group, "meta", self.path).items()}
            self.whole = {key: array for key, array in whole.items() if array.shape[:1] == self.ends.shape}
            self.whole.pop("meta/episode_ends")
        except SourceError:
            self._opened.__exit__(None, None, None)
            raise

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> "ReplayEpisode":
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        start = int(self.ends[number - 1]) if number else 0
        return ReplayEpisode(self, number, start, int(self.ends[number]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)


class ReplayEpisode:
    """Rows [start, stop) of every array; see `RawEpisode`."""

    def __init__(self, file: ReplayBuffer, number: int, start: int, stop: int) -> None:
        self.number = number
        self._file = file
        self._start, self._stop = start, stop

    @property
    def name(self) -> str:
        return f"{self._file.path.removesuffix('.zip').removesuffix('.zarr')}#{self.number}"

    def __len__(self) -> int:
        return self._stop - self._start

    def keys(self) -> list[str]:
        return sorted([*self._file.arrays, *self._file.whole])

    def cameras(self) -> list[str]:
        return sorted(key for key, array in self._file.arrays.items() if _is_camera(array))

    def array(self, key: str) -> npt.NDArray[Any]:
        rows = self._rows(key)
        if rows.dtype.kind not in "biuf":
            raise self._wrong(f"it is {rows.dtype}, not numbers", "use it as text", key)
        with self._told(key):
            return np.asarray(rows[self._start : self._stop])

    def scalar(self, key: str) -> Any:
        value = self._first(key)
        if np.size(value) != 1:
            raise self._wrong(f"it has shape {np.shape(value)}, not one value", "one number is needed here", key)
        return np.asarray(value).item()

    def text(self, key: str) -> str | None:
        if key not in self.keys():
            return None
        value = self._first(key)
        value = value.item() if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1 else value
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise self._wrong(f"its text is not UTF-8: {value[:40]!r}", "store it as UTF-8", key) from error
        if not isinstance(value, str):
            raise self._wrong(f"it holds {type(value).__name__}, not text", "name an array of strings", key)
        return value

    def frames(self, key: str) -> Iterator[Frame]:
        rows = self._rows(key)
        if not _is_camera(rows):
            raise self._wrong(
                f"it is {rows.dtype} of shape {rows.shape}, not camera frames",
                f"frames are (N, H, W, 3) uint8: {', '.join(self.cameras()) or 'there are none'}",
                key,
            )
        return self._frames(key, rows)

    def _frames(self, key: str, rows: zarr.Array[Any]) -> Iterator[Frame]:
        with self._told(key):
            if _holds_encoded(rows):
                for index in range(self._start, self._stop):
                    stored = _chunk(rows, index)
                    yield np.asarray(rows[index]) if stored is None else stored
                return
            size = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
            step = max(1, _SLAB // max(1, size) // rows.chunks[0]) * rows.chunks[0]
            edges = range(self._start - self._start % step, self._stop, step)  # no chunk is decoded twice
            for edge in edges:
                yield from np.asarray(rows[max(edge, self._start) : min(edge + step, self._stop)])

    def _rows(self, key: str) -> zarr.Array[Any]:
        """The array of `data` at `key`, which must have a row for every step of all episodes."""
        if key not in self._file.arrays:
            hint = unknown("array", key, self._file.arrays).remedy if self._file.arrays else "the store holds no data"
            problem = "it has a row for each episode, not each step" if key in self._file.whole else "no such array"
            raise self._wrong(problem, hint, key)
        rows, steps = self._file.arrays[key], int(self._file.ends[-1])
        if rows.shape[:1] != (steps,):
            raise self._wrong(
                f"data/{key} has shape {rows.shape}, but the last of meta/episode_ends is {steps}",
                "leave this key out, or write the store again",
                key,
            )
        return rows

    def _first(self, key: str) -> Any:
        rows = self._file.whole[key] if key in self._file.whole else self._rows(key)
        with self._told(key):
            return rows[self.number if key in self._file.whole else self._start]

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn what Zarr and its codecs say of damaged chunks into a SourceError."""
        try:
            yield
        except SourceError:
            raise
        except ImportError as error:  # a codec that imagecodecs was built without
            raise self._wrong(f"its codec is missing: {error}", _PLUGIN_REMEDY, key) from error
        except _DAMAGED as error:
            raise self._wrong(f"it cannot be read: {type(error).__name__}: {error}", _BROKEN_REMEDY, key) from error

    def _wrong(self, problem: str, remedy: str, key: str) -> SourceError:
        return SourceError(problem, remedy=remedy, file=self._file.path, episode=self.number, field=key)


def _is_camera(array: zarr.Array[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] == 3


def _holds_encoded(rows: zarr.Array[Any]) -> bool:
    """Whether each frame is one chunk, and the chunk plainly a JPEG or PNG file."""
    about: dict[str, Any] = dict(rows.metadata.to_dict())
    if "codecs" in about:
        codecs = [{"id": codec["name"], **codec.get("configuration", {})} for codec in about["codecs"]]
    else:
        codecs = [codec for codec in (about["compressor"], *(about["filters"] or ())) if codec]
    alone = rows.chunks == (1, *rows.shape[1:]) and len(codecs) == 1 and codecs[0]["id"] in _ENCODED
    return alone and all(codecs[0].get(setting) is None for setting in _ALTERED)


def _chunk(rows: zarr.Array[Any], index: int) -> bytes | None:
    """The bytes of the chunk that is row `index`; None where it is not stored."""
    path = rows.store_path / rows.metadata.encode_chunk_key((index, 0, 0, 0))
    stored = sync(path.get(default_buffer_prototype()))
    return None if stored is None else stored.to_bytes()
