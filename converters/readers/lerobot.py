"""LeRobot datasets v2.0, v2.1 (one Parquet and one MP4 per camera an episode) and v3.0 (many episodes in each).

Keys are the names of the features as they are: "observation.state", "action", "observation.images.top". Two more hold
text: "task", the instruction of the episode, and "robot_type". Cameras are the features of dtype "video", which come
out as pixels, and "image", whose JPEG or PNG bytes are copied. A source file is a Parquet file; the videos of its
episodes count to its bytes. In errors `episode` is LeRobot's own episode_index.

Options:
    episodes  "listed" (default): every episode that meta/ lists, one whose files are absent is a broken episode;
              "present": only those whose Parquet and video files are all there
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from converters.raw import Frame, Options, SourceFile
from converters.readers.lerobot_episodes import EpisodeRow, Meta, read_meta
from converters.readers.lerobot_files import absent, chosen_files, find_datasets, listed, without_split
from converters.readers.lerobot_frames import check_clock, image_frames, video_frames
from converters.readers.lerobot_meta import INFO, read_info
from rdt_data import parquet
from rdt_data.errors import SourceError

_DOWNLOAD = "download the dataset again; its meta/ and data/ must belong together"
_WORDS = ("task", "robot_type")
KEYS_VARY = False
"""See `Reader`: info.json declares the features of every episode."""
TIMESTAMPS = ("timestamp", "s")
"""See `Reader`: the time of a row within its episode."""


def find(source: Path) -> list[Path]:
    """The folders with a meta/info.json that states a codebase_version, at or up to two levels below `source`."""
    return find_datasets(source)


def names(root: Path) -> list[str]:
    """The name of the folder, then of the one above (LeRobot's names are owner/dataset)."""
    path = root.absolute()
    return [name for name in (path.name, path.parent.name) if name]


def splits(root: Path) -> list[str]:
    """The splits of info.json, in its order."""
    return list(read_info(root).splits)


def files(root: Path, split: str | None, options: Options) -> list[SourceFile]:
    """The Parquet files of a split, in the order of their episodes; see `lerobot_meta.chosen_split`.

    A file that a split cuts is named "data/…/file-000.parquet#0:80", after the episodes that are meant.
    """
    return chosen_files(root, read_meta(root), split, options)


def open_file(root: Path, file: SourceFile, options: Options) -> "LerobotFile":
    """Open one Parquet file; what is wrong with it is told of each of its episodes."""
    meta = read_meta(root)
    return LerobotFile(root, meta, file.path, listed(root, meta, file.path, options))


def feature_names(root: Path) -> dict[str, list[str]]:
    """The name of each number of a feature ("kLeftElbow"), for the features that have one for every number."""
    features = read_info(root).features
    return {
        key: list(feature.names)
        for key, feature in features.items()
        if feature.names
        and not feature.depth
        and not feature.is_camera
        and len(feature.names) == np.prod(feature.shape)
    }


class LerobotFile:
    """The episodes of one Parquet file that are to be read."""

    def __init__(self, root: Path, meta: Meta, path: str, episodes: list[EpisodeRow]) -> None:
        self.root, self.meta, self.episodes = root, meta, episodes
        self.path = without_split(path)
        self._owners: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, number: int) -> "LerobotEpisode":
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        row = self.episodes[number]
        with _told(self.path, row.index):
            if not (self.root / self.path).is_file():
                raise absent(self.root, self.path, f"{self.meta.listed_in} lists this episode")
            episode = LerobotEpisode(self, number, row, self._first_row(row))
            check_clock(episode.array_if_there("timestamp"), episode.array_if_there("frame_index"), self.meta.info.fps)
        return episode

    def _first_row(self, row: EpisodeRow) -> int:
        """Where the rows of an episode begin; they are together and as many as meta/ says."""
        if self._owners is None:
            self._owners = self._read_owners()
        own = np.flatnonzero(self._owners == row.index)
        if len(own) != row.length:
            raise SourceError(
                f"{self.meta.listed_in} says {row.length} steps, {len(own)} rows have its episode_index",
                remedy=_DOWNLOAD,
                field="episode_index",
            )
        if len(own) and own[-1] - own[0] + 1 != len(own):
            raise SourceError("its rows are scattered over the file", remedy=_DOWNLOAD, field="episode_index")
        return int(own[0]) if len(own) else 0

    def _read_owners(self) -> npt.NDArray[np.int64]:
        """The episode of each row; one that is not listed here would be left out without a word."""
        owners = np.asarray(parquet.read(self.root / self.path, ["episode_index"])["episode_index"], np.int64).ravel()
        strangers = set(owners.tolist()) - {row.index for row in self.meta.by_file[self.path]}
        if strangers:
            raise SourceError(
                f"it has rows of episode {min(strangers)}, which {self.meta.listed_in} does not list in this file",
                remedy=_DOWNLOAD,
                field="episode_index",
            )
        return owners

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open between reads."""


class LerobotEpisode:
    """Some rows of a Parquet file and parts of videos; see `RawEpisode`."""

    def __init__(self, file: LerobotFile, number: int, row: EpisodeRow, start: int) -> None:
        self.number = number
        self._file, self._row, self._start = file, row, start
        self._features = file.meta.info.features

    @property
    def name(self) -> str:
        return f"episode_{self._row.index:06d}"

    def __len__(self) -> int:
        return self._row.length

    def keys(self) -> list[str]:
        return sorted({*self._features, *_WORDS})

    def cameras(self) -> list[str]:
        return sorted(key for key, feature in self._features.items() if feature.is_camera)

    def array(self, key: str) -> npt.NDArray[Any]:
        with _told(self._file.path, self._row.index, key):
            feature = self._features[self._known(key)]
            values = self._column(key) if feature.dtype not in ("video", "image") else None
            if not isinstance(values, np.ndarray):
                what = "it is text" if self._is_text(key) else "it does not hold numbers of one width"
                remedy = "use it as frames, as text, or leave it out"
                raise SourceError(what if values is not None else f"it is {feature.dtype}, not numbers", remedy=remedy)
            if values.shape[1:] != feature.shape and (values.shape[1:], feature.shape) != ((), (1,)):
                raise SourceError(
                    f"{INFO} says shape {feature.shape}, {self._file.path} holds {values.shape[1:]} a step",
                    remedy=f"correct the shape in {INFO}, or download the data that belongs to it",
                )
            return values

    def array_if_there(self, key: str) -> npt.NDArray[Any] | None:
        """`array`, or None for a feature that the dataset does not have."""
        return self.array(key) if key in self._features else None

    def scalar(self, key: str) -> Any:
        if key in _WORDS or self._is_text(key):
            return self.text(key)
        value = self.array(key)[:1]
        if value.size != 1:
            raise self._error(f"it has shape {value.shape[1:]} a step, not one value", key)
        return value.item()

    def text(self, key: str) -> str | None:
        with _told(self._file.path, self._row.index, key):
            if key == "task":
                return self._task()
            if key == "robot_type":
                return self._file.meta.info.robot_type
            if key not in self._features:
                return None
            if not self._is_text(key):
                raise SourceError(f"it is {self._features[key].dtype}, not text", remedy="name a feature of text")
            values = self._column(key, stop=min(1, len(self)))
            return str(values[0]) if len(values) and values[0] is not None else None

    def frames(self, key: str) -> Iterator[Frame]:
        with _told(self._file.path, self._row.index, key):
            feature = self._features[self._known(key)]
            if not feature.is_camera:
                what = "a video of depth" if feature.depth else feature.dtype
                raise SourceError(f"it is {what}, not a camera", remedy=f"there are {', '.join(self.cameras())}")
            if feature.dtype == "image":
                path = self._file.root / self._file.path
                return self._frames(key, image_frames(path, key, self._start, self._start + len(self)))
            part, info = self._row.videos[key], self._file.meta.info
        with _told(part.path, self._row.index, key):
            if not (self._file.root / part.path).is_file():
                raise absent(self._file.root, part.path, f"{INFO} says that the video is there")
            clock = self.array_if_there("timestamp")
            clock = np.arange(len(self)) / info.fps if clock is None else clock.reshape(len(self))
            return self._frames(key, video_frames(self._file.root, part, feature, clock, info.fps), part.path)

    def _frames(self, key: str, frames: Iterator[Frame], path: str | None = None) -> Iterator[Frame]:
        with _told(path or self._file.path, self._row.index, key):
            yield from frames

    def _task(self) -> str:
        """The instruction of the first step by its task_index; where that leads nowhere, the episode's only task."""
        meta, own = self._file.meta, self._row.tasks
        first = self.array("task_index")[:1] if "task_index" in self._features else np.empty(0)
        index = int(first.item()) if first.size else None
        if index is not None and meta.tasks is not None and index in meta.tasks:
            return meta.tasks[index]
        if (meta.tasks is None or index is None) and len(own) == 1:
            return own[0]
        problem = "is not there" if meta.tasks is None else f"does not list task_index {index}"
        raise SourceError(
            f"{meta.tasks_file} {problem}, and {meta.listed_in} gives the episode {len(own)} tasks",
            remedy=f"download {meta.tasks_file}, or give the words with `instruction: {{text: …}}` in the spec",
        )

    def _column(self, key: str, stop: int | None = None) -> parquet.Column:
        path, end = self._file.root / self._file.path, self._start + (len(self) if stop is None else stop)
        return parquet.read(path, [key], self._start, end)[key]

    def _is_text(self, key: str) -> bool:
        return key in self._features and self._features[key].dtype == "string"

    def _known(self, key: str) -> str:
        if key not in self._features:
            near = difflib.get_close_matches(key, self._features, n=1)
            raise SourceError(
                "it is text" if key in _WORDS else "there is no such feature",
                remedy=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.keys())}",
            )
        return key

    def _error(self, problem: str, key: str) -> SourceError:
        remedy = "a value of one number is needed here"
        return SourceError(problem, remedy=remedy, file=self._file.path, episode=self._row.index, field=key)


@contextmanager
def _told(file: str, episode: int, key: str | None = None) -> Iterator[None]:
    """Tell a SourceError from within where it happened."""
    try:
        yield
    except SourceError as error:
        if error.file is not None and error.episode is not None:
            raise
        raise SourceError(
            error.problem,
            remedy=error.remedy,
            file=error.file or file,
            episode=episode,
            field=error.field or key,
        ) from error
