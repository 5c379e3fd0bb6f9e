"""HDF5 files: ALOHA and ACT in all their variants, AgileX, robomimic, ManiSkill, or any file with one row per step.

Options:
    files          glob below the root of the files to read, at any depth; default "*.hdf5" and "*.h5"
    episodes       glob of the groups that are episodes: "data/demo_*" for robomimic, "traj_*" for ManiSkill;
                   default: the file is one episode
    longer_by_one  glob of the keys that may have one row more than there are steps, which is dropped: ManiSkill's
                   observations, "obs/*", of which the last one follows the last action; "*" matches "/" too

How the number of steps is found is said in `hdf5_steps`. Keys that name something beside the file are explained in
`hdf5_text`, the splits in `hdf5_splits`: without one, all episodes are read. This file owns h5py.
"""

import difflib
import itertools
import os
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
from converters.readers.hdf5_splits import of_split, split_names, with_split, without_split
from converters.readers.hdf5_steps import Steps, count_steps
from converters.readers.hdf5_text import BESIDE, SideFiles, decoded
from rdt_data.errors import RdtError, SourceError, SpecError

_BROKEN_REMEDY = "copy the file again or leave it out; h5dump FILE shows what is still readable"
_H5PY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises for damaged files
_PLUGIN_REMEDY = "its compression needs a plugin: pip install hdf5plugin, set HDF5_PLUGIN_PATH to its plugins folder"
KEYS_VARY = True
"""See `Reader`: each file has the datasets that its recorder wrote."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """`source` itself when it is an HDF5 file or has one below it."""
    return [source] if holds_hdf5(source) else []


def names(root: Path) -> list[str]:
    """The name of the folder (or of the file, when the root is one), then of the two folders above it."""
    path = root.absolute().with_suffix("") if root.is_file() else root.absolute()
    return [name for name in dict.fromkeys([path.name, path.parent.name, path.parent.parent.name]) if name]


def splits(root: Path) -> list[str]:
    """The splits of the first file that can be opened (see `hdf5_splits`); [] for data that has none."""
    for path in matching(root, {}):
        try:
            with _told(path), _opened(base_folder(root), path) as file:
                return split_names(file)
        except SourceError:
            continue  # the file is broken; the reason is told when it is opened to be read
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The files that match the option `files`, episode_2 before episode_10. split: None or "all" for all episodes."""
    check_options(options)
    if split not in (None, "all") and "episodes" not in options:
        raise SpecError(f"HDF5 data has no split {split!r}", remedy="leave the split out")
    wanted = None if split == "all" else split
    return [_source_file(base_folder(root), path, wanted, options) for path in matching(root, options)]


def _source_file(base: Path, path: str, split: str | None, options: Options) -> SourceFile:
    stat, name = (base / path).stat(), with_split(path, split)
    try:
        episodes = 1 if "episodes" not in options else _count_episodes(base, name, options["episodes"])
    except SourceError:
        episodes = 1  # the file is broken; the reason is told when it is opened to be read
    return SourceFile(name, stat.st_size, stat.st_mtime_ns, episodes)


def _count_episodes(base: Path, name: str, pattern: str) -> int:
    with _told(name), _opened(base, name) as file:
        return len(_groups(file, base, name, pattern))


def _groups(file: h5py.File, base: Path, name: str, pattern: str) -> list[str]:
    """The groups that are the episodes of a source file."""
    groups, (path, split) = find_groups(file, pattern), without_split(base, name)
    return groups if split is None else of_split(file, path, groups, split)


def open_file(root: Path, file: SourceFile, options: Options) -> "Hdf5File":
    """Open one file."""
    check_options(options)
    return Hdf5File(root, file, options)


def _opened(base: Path, name: str) -> h5py.File:
    try:
        return h5py.File(base / without_split(base, name)[0], "r", locking="best-effort")
    except OSError as error:
        raise SourceError(f"HDF5 cannot open it: {error}", remedy=_BROKEN_REMEDY, file=name) from error


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
        problem, remedy, key, cause = error.problem, error.remedy, error.field or key, error
    except _H5PY_ERRORS as error:
        remedy = _PLUGIN_REMEDY if "plugin" in str(error) else _BROKEN_REMEDY
        problem, cause = f"HDF5 cannot read it: {error}", error
    raise SourceError(problem, remedy=remedy, file=file, episode=episode, field=key) from cause


class Hdf5File:
    """An open HDF5 file and its episodes."""

    def __init__(self, root: Path, file: SourceFile, options: Options) -> None:
        base, pattern = base_folder(root), options.get("episodes")
        self.name, self.path = file.path, without_split(base, file.path)[0]  # what errors say, and where it lies
        self.beside = SideFiles(base, self.path)
        self.longer_by_one: str | None = options.get("longer_by_one")
        self._file = _opened(base, file.path)
        try:
            with _told(self.name):
                self._groups = [""] if pattern is None else _groups(self._file, base, self.name, pattern)
        except RdtError:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> "Hdf5Episode":
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        with _told(self.name, number):
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
        self._counted: Steps | None = None

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
        return self._steps().count

    def array(self, key: str) -> npt.NDArray[Any]:
        with self._at(key):
            dataset = self._rows(key)
            if dataset.dtype.kind not in "biuf":
                raise _wrong(f"it is {dataset.dtype}, not numbers", "use it as text or as frames")
            values: npt.NDArray[Any] = dataset[: len(self)]
            return values

    def scalar(self, key: str) -> Any:
        with self._at(key):
            value = self._first(key)
            if value is None:
                beside = "put the file beside the recording" if key.startswith(BESIDE) else ""
                raise _wrong("there is no such value", beside or f"there are {', '.join(self.keys())}")
            if isinstance(value, bytes | str):
                return decoded(value)
            if np.size(value) != 1:
                raise _wrong(f"it has shape {np.shape(value)}, not one value", "a value of one number is needed here")
            return np.asarray(value).item()

    def text(self, key: str) -> str | None:
        with self._at(key):
            value = self._first(key)
            if value is None or isinstance(value, bytes | str):
                return None if value is None else decoded(value)
            raise _wrong(f"it holds {np.asarray(value).dtype}, not text", "name a string, or an attribute as attr:NAME")

    def frames(self, key: str) -> Iterator[Frame]:
        with self._at(key):
            return self._frames(key, itertools.islice(read_frames(self._rows(key)), len(self)))

    def _frames(self, key: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        with self._at(key):
            yield from frames

    def _steps(self) -> Steps:
        if self._counted is None:
            with self._at(None):
                told = self._group.attrs.get("num_samples") if self._group.name != "/" else None
                datasets = {key: self._group[key] for key in self.keys()}
                self._counted = count_steps(datasets, None if told is None else int(told), self._file.longer_by_one)
        return self._counted

    def _rows(self, key: str) -> h5py.Dataset:
        """The dataset at `key`, whose first rows are the steps."""
        item: Any = self._group.get(key) if key else None
        if not _is_dataset(item):
            near = difflib.get_close_matches(key, self.keys(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.keys())}"
            raise _wrong("it is a group" if item is not None else "there is no such dataset", hint)
        self._steps().check(key, item)
        return item

    def _first(self, key: str) -> Any:
        """A value of the file or beside it, the first one when there are many; None when absent."""
        if key.startswith(BESIDE):
            return self._file.beside.value(key, self._group.name.rsplit("/", 1)[-1])
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

    @contextmanager
    def _at(self, key: str | None) -> Iterator[None]:
        with _told(self._file.name, self.number, key):
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


def _wrong(problem: str, remedy: str) -> SourceError:
    return SourceError(problem, remedy=remedy)
