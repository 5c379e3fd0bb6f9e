"""CALVIN: one compressed .npz file per time step, and a file that says which runs of steps are episodes.

    task_ABC_D/training/episode_0000123.npz                  the arrays of step 123: robot_obs, actions, rgb_static, …
    task_ABC_D/training/lang_annotations/auto_lang_ann.npy   which runs of steps are episodes, and their words
    task_ABC_D/validation/…                                  the same

An episode is one annotated run of steps, first and last included; steps that no annotation covers are no episode and
are not read. Runs may overlap. The keys are the arrays of the step files, and for every episode `instruction` (the
sentence) and `task` (the short name, "lift_red_block_table"). The annotations are a pickled dict, which is read
without unpickling (`plain_pickle`). This reader has no options.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.folders import subfolders
from converters.readers.plain_pickle import load_npy
from rdt_data.errors import SourceError, SpecError, unknown

_SPLITS = ("training", "validation")
_ANNOTATIONS = "lang_annotations/auto_lang_ann.npy"
_TEXTS = {"instruction": "ann", "task": "task"}  # our key → where its words are under "language"
_DEPTH = 3  # how far below a source the two split folders may lie
_BROKEN_REMEDY = "copy the file again, or leave this episode out"
_KEYS_REMEDY = "all steps of an episode hold the same arrays: copy the file again, or leave this episode out"
_DAMAGED = (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
KEYS_VARY = False
"""See `Reader`: one recorder wrote all steps."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """The folders with `training` and `validation`, or such a folder itself, at or up to three levels below."""
    return list(_find(source, _DEPTH)) if source.is_dir() else []


def _find(folder: Path, depth: int) -> Iterator[Path]:
    if _split_folders(folder):
        yield folder
    elif depth:
        for child in subfolders(folder):
            yield from _find(child, depth - 1)


def _split_folders(root: Path) -> dict[str, Path]:
    found = {name: root / name for name in _SPLITS if _is_split(root / name)}
    return found or ({root.name: root} if _is_split(root) else {})


def _is_split(folder: Path) -> bool:
    return (folder / _ANNOTATIONS).is_file() or (folder / "ep_start_end_ids.npy").is_file()


def names(root: Path) -> list[str]:
    """The name of the folder and of the two above it: "task_ABC_D", …"""
    path = root.absolute()
    return [name for name in dict.fromkeys([path.name, path.parent.name, path.parent.parent.name]) if name]


def splits(root: Path) -> list[str]:
    """Those of training and validation that are there."""
    return list(_split_folders(root))


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The annotations of each split, counted with the steps they name; by default of both, as published."""
    _check(options)
    folders = _split_folders(root)
    wanted = list(folders) if split in (None, "all") else str(split).split("+")
    for name in wanted:
        if name not in folders:
            raise unknown(f"split of {root}", name, [*folders, "all"])
    return [_source_file(root, folders[name]) for name in dict.fromkeys(wanted)]


def _source_file(root: Path, folder: Path) -> SourceFile:
    path = folder / _ANNOTATIONS
    name = path.relative_to(root).as_posix()
    runs = _Annotations(path, name).runs
    steps = sorted({step for first, last in runs for step in range(first, last + 1)})
    size, newest = path.stat().st_size, path.stat().st_mtime_ns
    for step in steps:
        with contextlib.suppress(FileNotFoundError):  # told when the episode is read
            stat = _step_file(folder, step).stat()
            size, newest = size + stat.st_size, max(newest, stat.st_mtime_ns)
    return SourceFile(name, size, newest, len(runs))


def _step_file(folder: Path, step: int) -> Path:
    return folder / f"episode_{step:07d}.npz"


def _check(options: Options) -> None:
    for name in options:
        raise SpecError(f"reader calvin has no option {name!r}", remedy="remove it from `options:`")


def open_file(root: Path, file: SourceFile, options: Options) -> "CalvinSplit":
    """Open the annotations of one split."""
    _check(options)
    return CalvinSplit(root, file.path)


class _Annotations:
    """Which steps are episodes, and their words. runs: (first step, last step), both included."""

    def __init__(self, path: Path, file: str) -> None:
        try:
            found = load_npy(path)
            self.runs = [(int(first), int(last)) for first, last in found["info"]["indx"]]
            self.words = {
                key: [str(text) for text in found["language"][name]]
                for key, name in _TEXTS.items()
                if name in found["language"]
            }
        except SourceError as error:
            raise error.within(file=file) from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SourceError(
                f"not the annotations of CALVIN: {type(error).__name__} {error}",
                remedy='it holds {"language": {"ann": […], "task": […]}, "info": {"indx": [(first, last), …]}}',
                file=file,
            ) from error
        for key, texts in self.words.items():
            if len(texts) != len(self.runs):
                raise SourceError(
                    f"{len(texts)} texts for {len(self.runs)} runs of steps",
                    remedy=_BROKEN_REMEDY,
                    file=file,
                    field=key,
                )


class CalvinSplit:
    """The episodes of one split, in the order of their annotations."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.root = root
        self.folder = (root / path).parent.parent
        self.annotations = _Annotations(root / path, path)

    def __len__(self) -> int:
        return len(self.annotations.runs)

    def __getitem__(self, number: int) -> "CalvinEpisode":
        first, last = self.annotations.runs[number]
        if not 0 <= first <= last:
            raise SourceError(
                f"steps {first} to {last} are no episode",
                remedy="repair the annotation, or leave this episode out",
                file=self.path,
                episode=number,
            )
        return CalvinEpisode(self, number, range(first, last + 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open."""


class CalvinEpisode:
    """An annotated run of steps; see `RawEpisode`."""

    def __init__(self, file: CalvinSplit, number: int, steps: range) -> None:
        self.number = number
        self._file = file
        self._steps = steps
        self._first: dict[str, npt.NDArray[Any]] | None = None
        self._vectors: dict[str, npt.NDArray[Any]] | None = None

    @property
    def name(self) -> str:
        return f"{self._file.folder.name}#{self.number}"

    def __len__(self) -> int:
        return len(self._steps)

    def keys(self) -> list[str]:
        return sorted([*self._first_step(), *self._file.annotations.words])

    def cameras(self) -> list[str]:
        return sorted(key for key, value in self._first_step().items() if _is_image(value))

    def array(self, key: str) -> npt.NDArray[Any]:
        first = self._known(key)
        if first.dtype.kind not in "biuf":
            raise self._wrong(f"it is {first.dtype}, not numbers", "name an array of numbers", key)
        if first.ndim > 1:
            return np.stack([step[key] for step in self._read([key])])
        if self._vectors is None:  # one pass over the files for all that is small
            small = [name for name, value in self._first_step().items() if value.ndim <= 1]
            steps = list(self._read(small))
            self._vectors = {name: np.stack([step[name] for step in steps]) for name in small}
        return self._vectors[key]

    def scalar(self, key: str) -> Any:
        words = self.text(key)
        if words is not None:
            return words
        value = self._known(key)
        if value.size != 1:
            raise self._wrong(f"it has shape {value.shape}, not one value", "a value of one number is needed here", key)
        return value.item()

    def text(self, key: str) -> str | None:
        words = self._file.annotations.words.get(key)
        return None if words is None else words[self.number]

    def frames(self, key: str) -> Iterator[Frame]:
        if not _is_image(self._known(key)):
            raise self._wrong(
                f"a step is {self._known(key).dtype} of shape {self._known(key).shape}, no camera frame",
                f"frames are (H, W, 3) uint8: {', '.join(self.cameras()) or 'there are none'}",
                key,
            )
        return (step[key] for step in self._read([key]))

    def _first_step(self) -> dict[str, npt.NDArray[Any]]:
        if self._first is None:
            self._first = self._read_step(self._steps[0], None)
        return self._first

    def _known(self, key: str) -> npt.NDArray[Any]:
        """The value of the first step."""
        first = self._first_step()
        if key not in first:
            hint = unknown("array", key, first).remedy if first else "the file is empty"
            raise self._wrong("there is no such array", hint, key)
        return first[key]

    def _read(self, keys: list[str]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """These arrays of one step after another, each shaped as in the first."""
        first = self._first_step()
        for step in self._steps:
            values = self._read_step(step, keys)
            for key in keys:
                if (values[key].shape, values[key].dtype) != (first[key].shape, first[key].dtype):
                    raise self._wrong(
                        f"{values[key].dtype} of shape {values[key].shape}, in step {self._steps[0]} it is"
                        f" {first[key].dtype} of shape {first[key].shape}",
                        _KEYS_REMEDY,
                        key,
                        step,
                    )
            yield values

    def _read_step(self, step: int, keys: list[str] | None) -> dict[str, npt.NDArray[Any]]:
        """These arrays of a step file, None for all."""
        path = _step_file(self._file.folder, step)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                missing = [key for key in keys or () if key not in arrays.files]
                if not missing:
                    return {key: arrays[key] for key in keys or arrays.files}
        except FileNotFoundError as error:
            around = f"episode {self.number} is steps {self._steps[0]} to {self._steps[-1]}"
            raise self._wrong(f"there is no such file, and {around}", _BROKEN_REMEDY, None, step) from error
        except _DAMAGED as error:
            problem = f"not a sound .npz file: {type(error).__name__}: {error}"
            raise self._wrong(problem, _BROKEN_REMEDY, None, step) from error
        raise self._wrong(f"step {self._steps[0]} has this array, this step has not", _KEYS_REMEDY, missing[0], step)

    def _wrong(self, problem: str, remedy: str, key: str | None, step: int | None = None) -> SourceError:
        """An error in a step file, of the first step unless it is told."""
        path = _step_file(self._file.folder, self._steps[0] if step is None else step)
        file = path.relative_to(self._file.root).as_posix()
        return SourceError(problem, remedy=remedy, file=file, episode=self.number, field=key)


def _is_image(value: npt.NDArray[Any]) -> bool:
    return value.ndim == 3 and value.shape[2] == 3 and value.dtype == np.uint8
