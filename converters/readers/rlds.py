"""RLDS datasets as tensorflow-datasets stores them, read without TensorFlow: one record is one episode.

A dataset is a folder with `features.json`, `dataset_info.json` and the shards that the latter lists (TFRecord or
ArrayRecord). `dataset_info.json` says how many episodes each shard holds, so files are counted without reading
them. A record is parsed in place; a value is decoded when it is asked for. This reader has no options.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.arrayrecord import ArrayRecordFile
from converters.readers.example import parse_example
from converters.readers.features import (
    Leaf,
    Record,
    count_steps,
    read_array,
    read_frames,
    read_schema,
    read_text,
)
from converters.readers.tfds_info import VERSION, find_shards, find_versions, read_info
from converters.readers.tfrecord import TFRecordFile
from rdt_data.errors import SourceError, SpecError, unknown

_FORMATS: dict[str, type[TFRecordFile] | type[ArrayRecordFile]] = {
    "tfrecord": TFRecordFile,
    "array_record": ArrayRecordFile,
}
_STEPS = "steps/"
KEYS_VARY = False
"""See `Reader`: features.json declares the keys of every episode."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """The version folders at or up to three levels below `source`; two versions of one dataset are an error."""
    return find_versions(source)


def names(root: Path) -> list[str]:
    """The name and config in dataset_info.json, then the folders: dataset (or config), and the one above."""
    info = read_info(root)
    folders = [root.absolute(), *root.absolute().parents]
    folders = [folder for folder in folders if not VERSION.fullmatch(folder.name)][:2]
    return [name for name in dict.fromkeys([info.name, info.config, *(f.name for f in folders)]) if name]


def splits(root: Path) -> list[str]:
    """The splits of dataset_info.json, in its order."""
    return list(read_info(root).splits)


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The shards of `split`: a name, several joined by "+", or "all"; by default "train" if there is one, else all."""
    _check(options)
    info = read_info(root)
    chosen = split or ("train" if "train" in info.splits else "all")
    wanted = list(info.splits) if chosen == "all" and "all" not in info.splits else chosen.split("+")
    for name in wanted:
        if name not in info.splits:
            raise unknown(f"split of {info.name}", name, [*info.splits, "all"])
    return [file for name in dict.fromkeys(wanted) for file in find_shards(root, info, name)]


def _check(options: Options) -> None:
    for name in options:
        raise SpecError(f"reader rlds has no option {name!r}", remedy="remove it from `options:`")


def open_file(root: Path, file: SourceFile, options: Options) -> "RldsFile":
    """Open one shard."""
    _check(options)
    info, schema = read_info(root), read_schema(root / "features.json")
    if info.format not in _FORMATS:
        raise unknown("file format supported here", info.format, _FORMATS)
    if not any(path.startswith(_STEPS) for path in schema):
        raise SourceError(
            "there is no `steps` feature: this TFDS dataset does not hold episodes",
            remedy="RLDS datasets have a `steps` sequence; check that this is the dataset you meant",
            file="features.json",
        )
    return RldsFile(root, file, schema, info.format)


class RldsFile:
    """An open shard. Its episodes share one buffer: the frames of one are gone when another is read."""

    def __init__(self, root: Path, file: SourceFile, schema: dict[str, Leaf], kind: str) -> None:
        self.path = file.path
        whole = {path: leaf for path, leaf in schema.items() if not path.startswith(_STEPS)}
        steps = {path.removeprefix(_STEPS): leaf for path, leaf in schema.items() if path.startswith(_STEPS)}
        self.leaves = dict(sorted({**whole, **steps}.items()))  # key → leaf; a step's value hides an episode's
        self.counters = sorted(steps, key=lambda key: (key not in ("is_first", "is_last"), key))
        self.current: RldsEpisode | None = None
        try:
            self._records = _FORMATS[kind](root / file.path, file.episodes)
        except OSError as error:
            raise SourceError(
                f"it cannot be opened: {error.strerror}", remedy="check that it exists and may be read", file=file.path
            ) from error
        except SourceError as error:
            raise error.within(file=file.path) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> "RldsEpisode":
        episode = RldsEpisode(self, number)
        episode.record()
        return episode

    def load(self, episode: "RldsEpisode") -> Record:
        """Read the record of `episode` into the buffer."""
        self.current = None
        try:
            record = parse_example(self._records.read(episode.number))
        except SourceError as error:
            raise error.within(file=self.path, episode=episode.number) from error
        self.current = episode
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; when all went well and the last episode was read, more records than promised are an error."""
        excess = self._records.excess() if kind is None else None
        self._records.close()
        if excess is not None:
            raise excess.within(file=self.path)


class RldsEpisode:
    """One record; see `RawEpisode`."""

    def __init__(self, file: RldsFile, number: int) -> None:
        self.number = number
        self._file = file
        self._record: Record = {}
        self._counted: tuple[int, str] | None = None  # steps, and the key that says so

    @property
    def name(self) -> str:
        return f"{self._file.path}#{self.number}"

    def record(self) -> Record:
        """The parsed record; read again when another episode has taken the buffer meanwhile."""
        if self._file.current is not self:
            self._record = self._file.load(self)
        return self._record

    def keys(self) -> list[str]:
        return list(self._file.leaves)

    def cameras(self) -> list[str]:
        return [key for key, leaf in self._file.leaves.items() if leaf.kind == "image" and leaf.sequences == 1]

    def __len__(self) -> int:
        return self._steps()[0]

    def array(self, key: str) -> npt.NDArray[Any]:
        with self._at(key):
            return read_array(self._step_leaf(key), self.record(), len(self))

    def scalar(self, key: str) -> Any:
        with self._at(key):
            leaf = self._leaf(key)
            if leaf.kind == "text":
                return read_text(leaf, self.record())
            value = self.array(key)[:1] if leaf.sequences else read_array(leaf, self.record(), 0)
            if value.size != 1:
                raise SourceError(f"it is {leaf.what}, not one value", remedy="a value of one number is needed here")
            return value.item()

    def text(self, key: str) -> str | None:
        with self._at(key):
            leaf = self._file.leaves.get(key)
            return None if leaf is None else read_text(leaf, self.record())

    def frames(self, key: str) -> Iterator[Frame]:
        with self._at(key):
            leaf = self._leaf(key)
            if leaf.kind == "tensor":
                return self._frames(key, read_frames(self._step_leaf(key), self.record(), len(self)))
            frames = list(read_frames(leaf, self.record(), len(self)))
            self._check_steps(key, len(frames))
            return self._frames(key, iter(frames))

    def _frames(self, key: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        with self._at(key):
            for frame in frames:
                if self._file.current is not self:
                    raise RuntimeError(f"the frames of {self.name} are gone: another episode of the file was opened")
                yield frame

    def _steps(self) -> tuple[int, str]:
        """The number of steps, and the key that says so: is_first, is_last, or the first that can."""
        if self._counted is None:
            record = self.record()
            for key in self._file.counters:
                leaf = self._file.leaves[key]
                with self._at(key):
                    steps = count_steps(leaf, record) if leaf.counter in record else None
                if steps is not None:
                    self._counted = steps, key
                    break
            else:
                raise self._error("no step feature of features.json is in the record", None)
        return self._counted

    def _step_leaf(self, key: str) -> Leaf:
        """The leaf of a value that has one entry per step."""
        leaf = self._leaf(key)
        if not leaf.sequences:
            raise self._error(f"it is a value of the whole episode ({leaf.what}), not one per step", key)
        steps = count_steps(leaf, self.record())
        if steps is not None:
            self._check_steps(key, steps)
        return leaf

    def _check_steps(self, key: str, steps: int) -> None:
        expected, counted_by = self._steps()
        if steps != expected:
            raise self._error(f"it has {steps} steps, but {counted_by} has {expected}", key)

    def _leaf(self, key: str) -> Leaf:
        if key not in self._file.leaves:
            near = difflib.get_close_matches(key, self._file.leaves, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._file.leaves)}"
            raise self._error("there is no such feature", key, hint)
        return self._file.leaves[key]

    def _error(self, problem: str, key: str | None, remedy: str = "") -> SourceError:
        remedy = remedy or "check that features.json belongs to this file (same dataset, same version)"
        return SourceError(problem, remedy=remedy, file=self._file.path, episode=self.number, field=key)

    @contextmanager
    def _at(self, key: str) -> Iterator[None]:
        """Tell a SourceError from within where it happened."""
        try:
            yield
        except SourceError as error:
            if error.file is not None:
                raise
            raise self._error(error.problem, key, error.remedy) from error
