"""RoboSet: HDF5 files of trials, raw or encoded frames of up to four cameras, and words in a file beside the data.

    <task>/set_3/<recording>.h5
        /Trial0/data/{qp_arm (T, 7), qp_ee (T,), qv_arm, ctrl_arm, ctrl_ee, …}    mostly float16
        /Trial0/data/{rgb_top, rgb_left, rgb_right, rgb_wrist} (T, H, W, 3)

A trial is an episode; a value in `data` is called by its name alone. The files hold no words. Texts are

    instruction   what the side file says of the path of the trial's file; None when there is no side file
    task_folder   the name of the folder nearest to the file that is more than a number, as words

and the scalar `is_failure` is true below the folders that hold failed trials, set_10 to set_17. Options:

    instructions  the side file, YAML or JSON, relative to the root: {part of a path: text}; the longest part counts

Knows nothing of robots; `converters.readers.hdf5` reads.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import yaml

from converters.raw import Options, RawEpisode, SourceFile
from converters.readers import hdf5
from converters.readers.hdf5_files import base_folder
from converters.readers.renamed import RenamedEpisode, RenamedFile, without_groups
from rdt_data.errors import SourceError, SpecError, unknown

_OPTIONS = ("instructions",)
_TRIALS = {"files": "*.h5", "episodes": "Trial*"}
_TEXTS = ("instruction", "task_folder")
_FAILURES = re.compile(r"set_1[0-7]")
_NUMBERED = re.compile(r"(set|scene|trial)?[ _-]*\d+", re.IGNORECASE)
_TRAILING_SET = re.compile(r"[ _-]+set[ _-]*\d+$", re.IGNORECASE)
KEYS_VARY = True
"""See `Reader`: some trials have a wrist camera."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """`source` itself when it is, or has below it, .h5 files of trials; the first that opens tells."""
    for path in _h5_files(source):
        try:
            with h5py.File(path, "r", locking="best-effort") as file:
                return (
                    [source] if any(f"{name}/data/qp_arm" in file for name in file if name.startswith("Trial")) else []
                )
        except OSError:
            continue  # damaged, which is told when it is read
    return []


def _h5_files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield from [source] if source.suffix == ".h5" else []
    for folder, _, names in os.walk(source):
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".h5"))


def names(root: Path) -> list[str]:
    """The layout is RoboSet's own."""
    return ["roboset"]


def splits(root: Path) -> list[str]:
    """RoboSet has no splits."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The .h5 files at any depth, in natural order."""
    _check(options)
    return hdf5.files(root, split, _TRIALS)


def open_file(root: Path, file: SourceFile, options: Options) -> RenamedFile:
    """Open one file."""
    _check(options)
    words = _read_words(root, options["instructions"]) if "instructions" in options else None
    path = f"{base_folder(root).absolute().name}/{file.path}"
    return RenamedFile(hdf5.open_file(root, file, _TRIALS), lambda raw: RobosetEpisode(raw, path, words))


def _check(options: Options) -> None:
    for name, value in options.items():
        if name not in _OPTIONS:
            raise unknown("option of reader roboset", name, _OPTIONS)
        if not isinstance(value, str) or not value:
            raise SpecError(f"option {name}: {value!r} is no file", remedy="write one like instructions.yaml")


def _read_words(root: Path, name: str) -> Mapping[str, str] | None:
    """Part of a path -> text; None when there is no such file."""
    path = base_folder(root) / name
    if not path.is_file():
        return None
    try:
        words: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong_words(name, f"it cannot be read: {error}") from error
    if not isinstance(words, dict) or not words:
        raise _wrong_words(name, f"it holds {type(words).__name__ if words else 'nothing'}")
    for part, text in words.items():
        if not (isinstance(part, str) and part and isinstance(text, str) and text.strip()):
            raise _wrong_words(name, f"{part!r}: {text!r} is not a part of a path and a text")
    return words


def _wrong_words(name: str, problem: str) -> SourceError:
    remedy = "write lines like `pick_toast: pick up the toast`: a part of the paths of the data, and its instruction"
    return SourceError(problem, remedy=remedy, file=name)


class RobosetEpisode(RenamedEpisode):
    """One trial; see `RawEpisode`."""

    def __init__(self, raw: RawEpisode, path: str, words: Mapping[str, str] | None) -> None:
        """path: of the file, from the root's own name on. words: see `_read_words`."""
        super().__init__(raw, without_groups(raw, ("data",)))
        self._path = path
        self._words = words

    def keys(self) -> list[str]:
        return sorted([*super().keys(), "is_failure", "task_folder", *(["instruction"] if self._words else [])])

    def scalar(self, key: str) -> Any:
        if key == "is_failure":
            return _FAILURES.search(os.path.dirname(self._path)) is not None
        return self.text(key) if key in _TEXTS else super().scalar(key)

    def text(self, key: str) -> str | None:
        if key == "instruction":
            return None if self._words is None else self._looked_up(self._words)
        if key == "task_folder":
            return task_folder_words(self._path)
        return super().text(key)

    def _looked_up(self, words: Mapping[str, str]) -> str:
        fitting = [part for part in words if part in self._path]
        if not fitting:
            raise SourceError(
                f"no line of the side file of instructions is a part of {self._path}",
                remedy="add a line for it, or take the side file away to use the names of the folders",
                episode=self.number,
                field="instruction",
            )
        return words[max(fitting, key=len)]


def task_folder_words(path: str) -> str | None:
    """ "data/pick_up_toast_set_3/set_4/a.h5" -> "pick up toast": the nearest folder that is more than a number."""
    for folder in reversed(path.split("/")[:-1]):
        if folder and not _NUMBERED.fullmatch(folder):
            return " ".join(_TRAILING_SET.sub("", folder).replace("_", " ").replace("-", " ").split()) or None
    return None
