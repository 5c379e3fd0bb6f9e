"""HDF5 files: ALOHA and ACT in all their variants, AgileX, robomimic, or any file with one row per step.

Options:
    files     glob below the root of the files to read, at any depth; default "*.hdf5" and "*.h5"
    episodes  glob of the groups that are episodes, "data/demo_*" for robomimic; default: the file is one episode

The number of steps is the length of `action` or `actions`, in a robomimic group its `num_samples`, else the first
dimension that most numeric datasets share. This file owns h5py.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.hdf5_files import base_folder, check_options, find_groups, holds_hdf5, matching
from converters.readers.hdf5_frames import holds_frames, read_frames
from rdt_data.errors import SourceError, SpecError

_BROKEN_REMEDY = "copy the file again or leave it out; h5dump FILE shows what is still readable"
_H5PY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises for damaged files
_PLUGIN_REMEDY = "its compression needs a plugin: pip install hdf5plugin, set HDF5_PLUGIN_PATH to its plugins folder"
_LENGTH_REMEDY = "leave this key out, or this episode if its recording is incomplete"
_LENGTH_KEYS = ("action", "actions")
KEYS_VARY = True
"""See `Reader`: each file has the datasets that its recorder wrote."""


def find(source: Path) -> list[Path]:
    """`source` itself when it is an HDF5 file or has one below it."""
    return [source] if holds_hdf5(source) else []


def names(root: Path) -> list[str]:
    """The name of the folder (or of the file, when the root is one), then of the two folders above it."""
    path = root.absolute().with_suffix("") if root.is_file() else root.absolute()
    return [name for name in dict.fromkeys([path.name, path.parent.name, path.parent.parent.name]) if name]


def splits(root: Path) -> list[str]:
    """HDF5 has no splits."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The files that match the option `files`, episode_2 before episode_10."""
    check_options(options)
    if split not in (None, "all"):
        raise SpecError(f"HDF5 data has no split {split!r}", remedy="leave the split out")
    return [_source_file(base_folder(root), path, options.get("episodes")) for path in matching(root, options)]


def _source_file(base: Path, path: str, pattern: str | None) -> SourceFile:
    stat = (base / path).stat()
    try:
        episodes = 1 if pattern is None else _count_episodes(base, path, pattern)
    except SourceError:
        episodes = 1  # the file is broken; the reason is told when it is opened to be read
    return SourceFile(path, stat.st_size, stat.st_mtime_ns, episodes)


def _count_episodes(base: Path, path: str, pattern: str) -> int:
    with _told(path), _opened(base, path) as file:
        return len(find_groups(file, pattern))


def open_file(root: Path, file: SourceFile, options: Options) -> "Hdf5File":
    """Open one file."""
    check_options(options)
    return Hdf5File(root, file, options.get("episodes"))


def _opened(base: Path, path: str) -> h5py.File:
    try:
        return h5py.File(base / path, "r", locking="best-effort")
    except OSError as error:
        raise SourceError(f"HDF5 cannot open it: {error}", remedy=_BROKEN_REMEDY, file=path) from error


@contextmanager
def _told(file: str, episode: int | None = None, key: str | None = None) -> Iterator[None]:
    """Turn what HDF5 says into a SourceError, and tell every SourceError from within where it happened."""
    cause: Exception
    try:
        yield
        return
    except SourceError as error:
        if error.file is not None:
            raise
        problem, remedy, cause = error.problem, error.remedy, error
    except _H5PY_ERRORS as error:
        remedy = _PLUGIN_REMEDY if "plugin" in str(error) else _BROKEN_REMEDY
        problem, cause = f"HDF5 cannot read it: {error}", error
    raise SourceError(problem, remedy=remedy, file=file, episode=episode, field=key) from cause


class Hdf5File:
    """An open HDF5 file and its episodes."""

    def __init__(self, root: Path, file: SourceFile, pattern: str | None) -> None:
        self.path = file.path
        self.base = base_folder(root)
        self._file = _opened(self.base, file.path)
        try:
            with _told(file.path):
                self._groups = [""] if pattern is None else find_groups(self._file, pattern)
        except SourceError:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> "Hdf5Episode":
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        with _told(self.path, number):
            group = self._file[self._groups[number] or "/"]
            return Hdf5Episode(self, number, group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Hdf5Episode:
    """One file, or one group of a file; see `RawEpisode`."""

    def __init__(self, file: Hdf5File, number: int, group: h5py.Group) -> None:
        self.number = number
        self._file = file
        self._group = group
        self._keys: list[str] | None = None
        self._counted: tuple[int, str] | None = None  # steps, and what says so

    @property
    def name(self) -> str:
        stem = os.path.splitext(self._file.path)[0]
        return stem if self._group.name == "/" else f"{stem}#{self._group.name.lstrip('/')}"

    def keys(self) -> list[str]:
        if self._keys is None:
            found: list[str] = []
            with self._at(None):
                self._group.visititems(lambda key, item: found.append(key) if _is_dataset(item) else None)
                if not all(isinstance(key, str) for key in found):
                    raise _wrong("the name of a dataset is not UTF-8", _BROKEN_REMEDY)
            self._keys = sorted(found)
        return list(self._keys)

    def cameras(self) -> list[str]:
        with self._at(None):
            return [key for key in self.keys() if holds_frames(self._group[key])]

    def __len__(self) -> int:
        return self._steps()[0]

    def array(self, key: str) -> npt.NDArray[Any]:
        with self._at(key):
            dataset = self._rows(key)
            if dataset.dtype.kind not in "biuf":
                raise _wrong(f"it is {dataset.dtype}, not numbers", "use it as text or as frames")
            values: npt.NDArray[Any] = dataset[()]
            return values

    def scalar(self, key: str) -> Any:
        with self._at(key):
            value = self._first(key)
            if value is None:
                raise _wrong("there is no such value", f"there are {', '.join(self.keys())}")
            if isinstance(value, bytes | str):
                return _decoded(value)
            if np.size(value) != 1:
                raise _wrong(f"it has shape {np.shape(value)}, not one value", "a value of one number is needed here")
            return np.asarray(value).item()

    def text(self, key: str) -> str | None:
        with self._at(key):
            if key.startswith("file:"):
                return self._sidecar(key.removeprefix("file:"))
            value = self._first(key)
            if value is None or isinstance(value, bytes | str):
                return None if value is None else _decoded(value)
            raise _wrong(f"it holds {np.asarray(value).dtype}, not text", "name a string, or an attribute as attr:NAME")

    def frames(self, key: str) -> Iterator[Frame]:
        with self._at(key):
            return self._frames(key, read_frames(self._rows(key)))

    def _frames(self, key: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        with self._at(key):
            yield from frames

    def _steps(self) -> tuple[int, str]:
        if self._counted is None:
            with self._at(None):
                self._counted = self._count()
        return self._counted

    def _count(self) -> tuple[int, str]:
        """The number of steps, and what says so."""
        if self._group.name != "/" and "num_samples" in self._group.attrs:
            return int(self._group.attrs["num_samples"]), "the attribute num_samples"
        items = {key: self._group[key] for key in self.keys() if key != "compress_len"}
        rows = {key: item.shape[0] for key, item in items.items() if item.shape and item.dtype.kind in "biuf"}
        for key in _LENGTH_KEYS:
            if key in rows:
                return rows[key], f"the rows of {key}"
        if not rows:
            raise _wrong("no dataset holds numbers, one row a step", "check that this file is an episode")
        steps, _ = Counter(rows.values()).most_common(1)[0]
        return steps, "the rows of most datasets"

    def _rows(self, key: str) -> h5py.Dataset:
        """The dataset at `key`, which must have one row per step."""
        item: Any = self._group.get(key) if key else None
        if not _is_dataset(item):
            near = difflib.get_close_matches(key, self.keys(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.keys())}"
            raise _wrong("it is a group" if item is not None else "there is no such dataset", hint)
        steps, counted_by = self._steps()
        if not item.shape:
            raise _wrong("it is a single value, not one row a step", "use it as a scalar or as text")
        if item.shape[0] != steps:
            raise _wrong(f"it has {item.shape[0]} rows, but the episode {steps} ({counted_by})", _LENGTH_REMEDY)
        return item

    def _first(self, key: str) -> Any:
        """The value of an attribute or of a dataset, the first one when there are many; None when absent."""
        if key.startswith("attr:"):
            return _one(self._attribute(key.removeprefix("attr:")))
        item: Any = self._group.get(key) if key else None
        if not _is_dataset(item) or item.shape is None or 0 in item.shape:
            return None
        return _one(item[0] if item.shape else item[()])

    def _attribute(self, name: str) -> Any:
        """An attribute of the episode's group, or of the nearest group above that has it."""
        node = self._group
        while name not in node.attrs and node.name != "/":
            node = node.parent
        return node.attrs.get(name)

    def _sidecar(self, name: str) -> str | None:
        folder = self._file.base.absolute()
        path = Path(os.path.normpath((folder / self._file.path).parent / name))
        if not path.is_relative_to(folder):
            raise _wrong(f"{name} lies outside of the source", "keep the file in the folder of the data")
        if not path.is_file():
            return None
        return _decoded(path.read_bytes()).removeprefix("\ufeff").strip()

    @contextmanager
    def _at(self, key: str | None) -> Iterator[None]:
        with _told(self._file.path, self.number, key):
            yield


def _is_dataset(item: Any) -> bool:
    return isinstance(item, h5py.Dataset)


def _one(value: Any) -> Any:
    """A single string out of an array of strings; None for h5py's empty value."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        return value.flat[0] if value.size else None
    return value


def _decoded(value: bytes | str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise _wrong(f"its text is not UTF-8: {value[:40]!r}", "store it as UTF-8") from error


def _wrong(problem: str, remedy: str) -> SourceError:
    return SourceError(problem, remedy=remedy)
