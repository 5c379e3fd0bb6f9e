"""BridgeData V2 as it was recorded: one folder of JPEG images and pickles for each trajectory.

    …/2022-05-06_12-00-00/raw/traj_group0/traj0/images0/im_0.jpg …   the cameras: images0, images1, …
                                                obs_dict.pkl         {"full_state": (T+1, 7), "qpos": …}
                                                policy_out.pkl       T actions, or T dicts {"actions": (7,), …}
                                                lang.txt             sentences, and lines "confidence: …"

A trajectory has as many steps as actions, T. Of observations and images, of which there is one more, the first T are
used; in folders dated before 2021-07-23, when the cameras lagged by a step, the published conversion drops the first
observation and the last action, and so does this reader. Keys: "obs_dict/qpos", "policy_out/actions", the cameras, and
the text "language". JPEGs are handed over as they are. The pickles are read without unpickling. No options.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.hdf5_files import natural_key
from converters.readers.plain_pickle import load
from rdt_data.errors import SourceError, SpecError, unknown

_GROUP = re.compile(r"traj_group\d+", re.ASCII)
_TRAJECTORY = re.compile(r"traj\d+", re.ASCII)
_CAMERA = re.compile(r"images\d+", re.ASCII)
_IMAGE = re.compile(r"im_(\d+)\.jpg", re.ASCII)
_DATED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", re.ASCII)
_LAG_ENDED = "2021-07-23"
_OBSERVED, _COMMANDED = "obs_dict/", "policy_out/"
_LANGUAGE = "language"
_REMEDY = "copy the trajectory again, or leave it out"
KEYS_VARY = True
"""See `Reader`: some trajectories have more cameras than others, or no joint positions."""
TIMESTAMPS = ("obs_dict/time_stamp", "s")
"""See `Reader`: the recorder writes rospy.get_time(), in seconds."""


def find(source: Path) -> list[Path]:
    """`source` itself when there is a folder traj_group*/traj* at or below it."""
    return [source] if source.is_dir() and next(_trajectories(source), None) is not None else []


def _trajectories(source: Path) -> Iterator[Path]:
    """The folders of trajectories, in the order of the file system; nothing below one is looked at."""
    for folder, below, inside in os.walk(source, onerror=_unlisted):
        path = Path(folder)
        if _TRAJECTORY.fullmatch(path.name) and (_GROUP.fullmatch(path.parent.name) or "obs_dict.pkl" in inside):
            below.clear()
            yield path


def _unlisted(error: OSError) -> None:
    raise SourceError(
        f"{error.filename} cannot be listed: {error.strerror}", remedy="check the permissions of the folder"
    ) from error


def names(root: Path) -> list[str]:
    """The name of the folder, of the two above it, then of the folders on the way to a trajectory."""
    path = root.absolute()
    first = next(_trajectories(root), root)
    found = [path.name, path.parent.name, path.parent.parent.name, *first.relative_to(root).parts]
    return [name for name in dict.fromkeys(found) if name]


def splits(root: Path) -> list[str]:
    """The recordings have no splits; the published conversion draws them at random."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The folders of trajectories, traj2 before traj10: each is a source file of one episode."""
    _check(options)
    if split not in (None, "all"):
        raise SpecError(f"raw BridgeData has no split {split!r}", remedy="leave the split out")
    paths = (path.relative_to(root).as_posix() for path in _trajectories(root))
    return [_source_file(root, path) for path in sorted(paths, key=natural_key)]


def _source_file(root: Path, path: str) -> SourceFile:
    stats = [os.stat(os.path.join(folder, name)) for folder, _, inside in os.walk(root / path) for name in inside]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return SourceFile(path, sum(stat.st_size for stat in stats), newest, 1)


def _check(options: Options) -> None:
    for name in options:
        raise SpecError(f"reader bridge_raw has no option {name!r}", remedy="remove it from `options:`")


def open_file(root: Path, file: SourceFile, options: Options) -> "TrajectoryFolder":
    """Open one trajectory."""
    _check(options)
    return TrajectoryFolder(root, file.path)


class TrajectoryFolder:
    """A folder that holds one episode."""

    def __init__(self, root: Path, path: str) -> None:
        self._root, self._path = root, path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> "Trajectory":
        if number != 0:
            raise IndexError(f"episode {number} of 1")
        return Trajectory(self._root, self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open."""


class Trajectory:
    """One trajectory; see `RawEpisode`."""

    def __init__(self, root: Path, path: str) -> None:
        self.number = 0
        self.name = path
        self._folder = root / path
        self._observed = self._dict(self._load("obs_dict.pkl"))
        self._commanded = self._commands(self._load("policy_out.pkl"))
        self._actions = len(self._commanded["actions"])
        self._lag = 1 if _cameras_lagged((root / path).absolute()) else 0

    def __len__(self) -> int:
        return max(0, self._actions - self._lag)

    def keys(self) -> list[str]:
        observed = [_OBSERVED + key for key in self._observed]
        commanded = [_COMMANDED + key for key in self._commanded]
        words = [_LANGUAGE] if (self._folder / "lang.txt").is_file() else []
        return sorted([*observed, *commanded, *words, *self.cameras()])

    def cameras(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                found = [entry.name for entry in entries if _CAMERA.fullmatch(entry.name) and entry.is_dir()]
        except OSError as error:
            raise self._wrong(f"it cannot be listed: {error.strerror}", _REMEDY) from error
        return sorted(found, key=natural_key)

    def array(self, key: str) -> npt.NDArray[Any]:
        if key.startswith(_COMMANDED) and key.removeprefix(_COMMANDED) in self._commanded:
            rows = self._numbers(key, self._commanded[key.removeprefix(_COMMANDED)])
            return rows[: len(self)]
        if not key.startswith(_OBSERVED) or key.removeprefix(_OBSERVED) not in self._observed:
            raise self._wrong("there is no such value", unknown("value", key, self.keys()).remedy, key)
        rows = self._numbers(key, self._observed[key.removeprefix(_OBSERVED)])
        self._check_count(len(rows), "rows", key)
        return rows[self._lag : self._lag + len(self)]

    def scalar(self, key: str) -> Any:
        if key == _LANGUAGE:
            return self.text(key)
        first = self.array(key)[:1]
        if first.size != 1:
            raise self._wrong(f"a step has shape {first.shape[1:]}", "a value of one number is needed here", key)
        return first.item()

    def text(self, key: str) -> str | None:
        """The first sentence of lang.txt, "" where it has none; other keys hold no text."""
        path = self._folder / "lang.txt"
        if key != _LANGUAGE or not path.is_file():
            return None
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self._wrong(f"lang.txt cannot be read: {error}", "store it as UTF-8", key) from error
        sentences = (line.strip() for line in lines if "confidence" not in line)
        return next((sentence for sentence in sentences if sentence), "")

    def frames(self, key: str) -> Iterator[Frame]:
        if key not in self.cameras():
            raise self._wrong("there is no such camera", unknown("camera", key, self.cameras()).remedy, key)
        with os.scandir(self._folder / key) as entries:
            numbers = sorted(int(match[1]) for entry in entries if (match := _IMAGE.fullmatch(entry.name)))
        if numbers != list(range(len(numbers))):
            missing = min(set(range(len(numbers))) - set(numbers))
            raise self._wrong(f"im_{missing}.jpg is missing, im_{numbers[-1]}.jpg is there", _REMEDY, key)
        self._check_count(len(numbers), "images", key)
        return (self._image(key, number + self._lag) for number in range(len(self)))

    def _image(self, camera: str, number: int) -> bytes:
        try:
            return (self._folder / camera / f"im_{number}.jpg").read_bytes()
        except OSError as error:
            raise self._wrong(f"im_{number}.jpg cannot be read: {error.strerror}", _REMEDY, camera) from error

    def _load(self, name: str) -> Any:
        try:
            return load((self._folder / name).read_bytes())
        except OSError as error:
            raise self._wrong(f"{name} cannot be read: {error.strerror}", _REMEDY) from error
        except SourceError as error:
            raise self._wrong(f"{name}: {error.problem}", error.remedy) from error

    def _dict(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self._wrong(f"obs_dict.pkl holds {type(value).__name__}, not a dict of arrays", _REMEDY)
        return value

    def _commands(self, value: Any) -> dict[str, Any]:
        """Key → its value of every step, out of a list of dicts, or of bare actions."""
        steps = list(value) if isinstance(value, list | np.ndarray) else None
        if steps is not None and steps and all(isinstance(step, dict) and "actions" in step for step in steps):
            return {str(key): [step.get(key) for step in steps] for key in steps[0]}
        if steps is None or any(isinstance(step, dict) for step in steps):
            raise self._wrong("policy_out.pkl holds no list of actions", _REMEDY)
        return {"actions": steps}

    def _numbers(self, key: str, rows: Any) -> npt.NDArray[Any]:
        try:
            values = np.asarray(rows)
        except ValueError as error:
            raise self._wrong("its steps differ in shape", _REMEDY, key) from error
        if values.dtype.kind not in "biuf" or not values.ndim:
            raise self._wrong(f"it is {values.dtype}, not numbers of every step", "leave this key out", key)
        return values

    def _check_count(self, count: int, what: str, key: str) -> None:
        if count not in (self._actions, self._actions + 1):
            raise self._wrong(
                f"{count} {what} for {self._actions} actions: there is one more, or as many", _REMEDY, key
            )

    def _wrong(self, problem: str, remedy: str, key: str | None = None) -> SourceError:
        return SourceError(problem, remedy=remedy, file=self.name, episode=self.number, field=key)


def _cameras_lagged(folder: Path) -> bool:
    """Whether the dated folder that a trajectory lies in is older than the repair of the lag; not without a date."""
    dated = next((part for part in reversed(folder.parts) if _DATED.fullmatch(part)), None)
    return dated is not None and dated < _LAG_ENDED
