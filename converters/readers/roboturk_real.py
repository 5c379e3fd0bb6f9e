"""RoboTurk's recordings on real robots: one HDF5 file of demonstrations, and a video of each of their cameras.

    SawyerTowerCreation_aligned_dataset.hdf5
        /data/<user>/<demo>/robot_observation/{eef_poses, joint_states_arm, joint_states_gripper}
        /data/<user>/<demo>/user_control/user_control
        attributes of <demo>: top_rgb_video_file, front_rgb_video_file, top_depth_video_file
    the videos, in the folder of the file

A value is called by its name without its groups, a camera after its attribute: `top_rgb_frame`. The file is the root,
and its name is the name of the dataset. Options: none. Knows nothing of robots; `converters.readers.hdf5` reads.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from converters.raw import Frame, Options, RawEpisode, SourceFile
from converters.readers import hdf5
from converters.readers.episode_video import EpisodeVideo
from converters.readers.folders import files_in, folders_within
from converters.readers.renamed import RenamedEpisode, RenamedFile, without_groups
from rdt_data.errors import SourceError, SpecError

_FILE = re.compile(r"Sawyer\w+_aligned_dataset\.hdf5", re.ASCII)
_DEMOS = {"episodes": "data/*/*"}
_GROUPS = ("robot_observation", "user_control")
_CAMERAS = {f"{camera}_frame": f"{camera}_video_file" for camera in ("front_rgb", "top_depth", "top_rgb")}
"""Key of a camera -> the attribute that names its video."""
_DEPTH = 3
KEYS_VARY = True
"""See `Reader`: a demonstration may lack a camera."""
TIMESTAMPS = None


def find(source: Path) -> list[Path]:
    """The files named as RoboTurk's, at or up to three levels below `source`; their name is what tells them."""
    if source.is_file():
        return [source] if _FILE.fullmatch(source.name) else []
    return [
        path for folder in folders_within(source, _DEPTH) for path in files_in(folder) if _FILE.fullmatch(path.name)
    ]


def names(root: Path) -> list[str]:
    """The name of the file without its ending."""
    return [root.stem]


def splits(root: Path) -> list[str]:
    """RoboTurk has no splits."""
    return []


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The one file; its size and time are those of the file and all videos that it names."""
    _check(options)
    (file,) = hdf5.files(root, split, _DEMOS)
    stats = [stat for path in _videos(root, file) if (stat := _stat(path)) is not None]
    size = file.bytes + sum(stat.st_size for stat in stats)
    newest = max([file.mtime_ns, *(stat.st_mtime_ns for stat in stats)])
    return [SourceFile(file.path, size, newest, file.episodes)]


def open_file(root: Path, file: SourceFile, options: Options) -> RenamedFile:
    """Open the file; videos are opened when their frames are asked for."""
    _check(options)
    return RenamedFile(hdf5.open_file(root, file, _DEMOS), lambda raw: RoboturkEpisode(raw, root))


def _check(options: Options) -> None:
    if options:
        raise SpecError(f"the reader roboturk_real has no options, {', '.join(options)} is given", remedy="take it out")


def _videos(root: Path, file: SourceFile) -> Iterator[Path]:
    """The videos that the demonstrations name; what is broken is told when it is opened to be read."""
    try:
        opened = hdf5.open_file(root, file, _DEMOS)
    except SourceError:
        return
    with opened as demos:
        for number in range(len(demos)):
            for attribute in _CAMERAS.values():
                try:
                    name = demos[number].text(f"attr:{attribute}")
                except SourceError:
                    continue
                if name:
                    yield root.parent / name


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # told when its frames are asked for


class RoboturkEpisode(RenamedEpisode):
    """One demonstration; see `RawEpisode`."""

    def __init__(self, raw: RawEpisode, root: Path) -> None:
        super().__init__(raw, without_groups(raw, _GROUPS))
        self._root = root

    def keys(self) -> list[str]:
        return sorted([*super().keys(), *self._recorded()])

    def cameras(self) -> list[str]:
        return sorted([*super().cameras(), *self._recorded()])

    def frames(self, key: str) -> Iterator[Frame]:
        if key not in _CAMERAS:
            return super().frames(key)
        name = self._raw.text(f"attr:{_CAMERAS[key]}")
        if not name:
            raise self._wrong(key, f"the demonstration has no attribute {_CAMERAS[key]}", "name another camera")
        folder = self._root.parent.absolute()
        path = Path(os.path.normpath(folder / name))
        if not path.is_relative_to(folder):
            raise self._wrong(key, f"its video {name} lies outside of the source", "keep the videos beside the file")
        video = EpisodeVideo(path, path.relative_to(folder).as_posix(), self.number, key)
        return video.frames(len(self), f"the rows in {self._root.name}")

    def _recorded(self) -> list[str]:
        """The cameras whose video the file names."""
        return [key for key, attribute in _CAMERAS.items() if self._raw.text(f"attr:{attribute}")]

    def _wrong(self, key: str, problem: str, remedy: str) -> SourceError:
        return SourceError(problem, remedy=remedy, file=self._root.name, episode=self.number, field=key)
