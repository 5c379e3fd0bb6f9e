"""RH20T: scenes of one task each, filmed by many cameras; every camera of a scene is an episode of its own.

    instruction.json                      {"task_0001": {"task_description_english": text, …}, …}
    <raw_data>/RH20T_cfg1/task_0001_user_0001_scene_0001_cfg_0001/
        transformed/{joint,gripper,tcp,tcp_base}.npy      see `rh20t_motion`
        cam_<id>/color.mp4, cam_<id>/timestamps.npy       {"color": [time in ms, …], …}

The root is the folder of the RH20T_cfg folders, or one of these; a source file is a scene. instruction.json is looked
for in the root and in the two folders above it. Scenes with "human" in their path show a person: they are episodes with
the scalar `is_human`, for the spec to leave out. Options: none. Knows nothing of robots; no pickle is executed.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.episode_video import EpisodeVideo
from converters.readers.folders import files_in, folders_within, subfolders
from converters.readers.plain_pickle import load_npy
from converters.readers.rh20t_motion import Motion
from rdt_data.errors import SourceError, SpecError

_DEPTH = 3
_WORDS = "instruction.json"
_TEXT = "task_description_english"
_REMEDY = "copy the file again, or leave the episode out with --on-error quarantine"
KEYS_VARY = True
"""See `Reader`: a scene may lack a file, and those of people have only cameras."""
TIMESTAMPS = ("timestamp", "ms")
"""See `Reader`: the time of a colour frame."""


def find(source: Path) -> list[Path]:
    """The folders of RH20T_cfg folders, or single ones of these, at or up to three levels below `source`."""
    return list(_roots(source, _DEPTH))


def _roots(folder: Path, depth: int) -> Iterator[Path]:
    children = subfolders(folder)
    if _holds_scenes(folder) or any(_holds_scenes(child) for child in children):
        yield folder
    elif depth:
        for child in children:
            yield from _roots(child, depth - 1)


def _holds_scenes(folder: Path) -> bool:
    return any(_is_scene(child) and _cameras(child) for child in subfolders(folder))


def _is_scene(folder: Path) -> bool:
    return folder.name.startswith("task_")


def _cameras(scene: Path) -> list[Path]:
    return [child for child in subfolders(scene) if child.name.startswith("cam_")]


def names(root: Path) -> list[str]:
    """The layout is RH20T's own."""
    return ["rh20t"]


def splits(root: Path) -> list[str]:
    """RH20T has no splits."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The scenes in natural order; size and time of a scene are those of its cameras' and its motion's files."""
    _check(options)
    if split not in (None, "all"):
        raise SpecError(f"RH20T has no split {split!r}", remedy="leave the split out")
    return [
        _source_file(root, scene)
        for folder in folders_within(root, 1)
        for scene in subfolders(folder)
        if _is_scene(scene)
    ]


def _source_file(root: Path, scene: Path) -> SourceFile:
    cameras = _cameras(scene)
    stats = [path.stat() for folder in (scene / "transformed", *cameras) for path in files_in(folder) if path.is_file()]
    return SourceFile(
        scene.relative_to(root).as_posix(),
        bytes=sum(stat.st_size for stat in stats),
        mtime_ns=max((stat.st_mtime_ns for stat in stats), default=0),
        episodes=max(len(cameras), 1),  # without a camera it is one broken episode, for its reason to be told
    )


def open_file(root: Path, file: SourceFile, options: Options) -> "Rh20tScene":
    """Open one scene; its files are read when they are asked for."""
    _check(options)
    return Rh20tScene(root, file.path)


def _check(options: Options) -> None:
    if options:
        raise SpecError(f"the reader rh20t has no options, {', '.join(options)} is given", remedy="take it out")


class Rh20tScene:
    """A scene folder and its cameras."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.folder = root / name
        self.motion = Motion(self.folder, name)
        self._root = root.absolute()
        self._cameras = _cameras(self.folder)

    def __len__(self) -> int:
        return max(len(self._cameras), 1)

    def __getitem__(self, number: int) -> "Rh20tEpisode":
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        if not self._cameras:
            raise SourceError("the scene has no folder cam_*", remedy=_REMEDY, file=self.name, episode=number)
        return Rh20tEpisode(self, number, self._cameras[number].name.removeprefix("cam_"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass  # nothing stays open between two reads

    @cached_property
    def instruction(self) -> str | None:
        """The description of the scene's task; None without instruction.json or when the task is not in it."""
        folders = (self._root, *list(self._root.parents)[:2])
        path = next((folder / _WORDS for folder in folders if (folder / _WORDS).is_file()), None)
        return None if path is None else _described(path, self.folder.name)


def _described(path: Path, scene: str) -> str | None:
    try:
        tasks = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"it cannot be read: {error}", remedy="download it again", file=str(path)) from error
    fitting = [task for task in tasks if task in scene] if isinstance(tasks, dict) else []
    if not isinstance(tasks, dict):
        text: Any = tasks
    elif not fitting:
        return None
    else:
        entry = tasks[max(fitting, key=len)]
        text = entry.get(_TEXT) if isinstance(entry, dict) else entry
    if not isinstance(text, str):
        raise SourceError(
            f"it does not give {scene} a text", remedy=f'write {{"task_0001": {{"{_TEXT}": "…"}}}}', file=str(path)
        )
    return text


class Rh20tEpisode:
    """What one camera of a scene saw; see `RawEpisode`."""

    def __init__(self, scene: Rh20tScene, number: int, camera: str) -> None:
        self.number = number
        self._scene = scene
        self._camera = camera

    @property
    def name(self) -> str:
        return f"{self._scene.name}#{self._camera}"

    def __len__(self) -> int:
        return len(self._times)

    def keys(self) -> list[str]:
        return sorted(["image", "instruction", "is_human", "timestamp", *self._scene.motion.keys()])

    def cameras(self) -> list[str]:
        return ["image"]

    def array(self, key: str) -> npt.NDArray[Any]:
        if key == "timestamp":
            return np.array(self._steps(), np.int64)
        known = self._scene.motion.keys()
        if key not in known:
            raise self._error("there is no such value", f"there are {', '.join(self.keys())}", key)
        try:
            return self._scene.motion.values(key, self._camera, self._steps())
        except SourceError as error:
            raise self._error(error.problem, error.remedy, key, error.file) from error

    def scalar(self, key: str) -> Any:
        if key == "is_human":
            return "human" in self._scene.name
        if key == "instruction":
            return self.text(key)
        first = self.array(key)[0]
        if first.size != 1:
            raise self._error(f"it has shape {first.shape}, not one value", "a value of one number is needed here", key)
        return first.item()

    def text(self, key: str) -> str | None:
        return self._scene.instruction if key == "instruction" else None

    def frames(self, key: str) -> Iterator[Frame]:
        if key != "image":
            raise self._error("there is no such camera", "the only camera is image", key)
        path = f"cam_{self._camera}/color.mp4"
        video = EpisodeVideo(self._scene.folder / path, f"{self._scene.name}/{path}", self.number, key)
        return video.frames(len(self._steps()), "timestamps.npy")

    def _steps(self) -> list[int]:
        """The times of all steps; one step is nothing to learn from."""
        if len(self._times) <= 1:
            raise self._error(f"the episode has {len(self._times)} steps, at least 2 are needed", _REMEDY, "timestamp")
        return self._times

    @cached_property
    def _times(self) -> list[int]:
        """Of the colour frames, in ms."""
        path = f"cam_{self._camera}/timestamps.npy"
        try:
            stamps = load_npy(self._scene.folder / path)
        except SourceError as error:
            raise self._error(error.problem, error.remedy, "timestamp", f"{self._scene.name}/{path}") from error
        times = stamps.get("color") if isinstance(stamps, dict) else None
        if not isinstance(times, list | tuple | np.ndarray) or not all(isinstance(t, int | np.integer) for t in times):
            raise self._error(
                'it has no list "color" of whole milliseconds', _REMEDY, "timestamp", f"{self._scene.name}/{path}"
            )
        return [int(time) for time in times]

    def _error(self, problem: str, remedy: str, key: str, file: str | None = None) -> SourceError:
        return SourceError(problem, remedy=remedy, file=file or self._scene.name, episode=self.number, field=key)
