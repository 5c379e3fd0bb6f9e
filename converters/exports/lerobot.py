"""Write a store as a LeRobot dataset of version 3.0, which the `lerobot` package opens.

In: a finished store. Out: `meta/info.json`, `meta/stats.json`, `meta/tasks.parquet`, `meta/episodes/…`, `data/…`,
`videos/…`, and `meta/rdt_spec.yaml`, the spec with which `rdt-data convert` reads it back. Vectors keep their bits. Of
images as video, frames are encoded once more (`video_write` says how well); as images, the stored bytes are copied.
The layout is that of `lerobot/datasets` of the package, versions 0.4 to 0.6.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from converters.exports.features import Features, Images
from converters.exports.files import DATA_PATH, EPISODES_PATH, CameraWriter, TableWriter
from converters.exports.meta import episode_columns, info, write_json, write_tasks
from converters.exports.spec import spec_text
from converters.exports.stats import NAMES, FrameStats, Stats, sampled_steps, stats_of, together
from converters.exports.survey import chosen_cameras, real_slots, whole_rate
from rdt_data.episode import CameraFormat
from rdt_data.images import Encoded, Pixels, decode, encode_png
from rdt_data.split import Split, read_split
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode
from rdt_data.walk import walk

_STEPS_PER_GROUP = 256  # of data files that hold images; others have a group an episode
_EPISODES_PER_GROUP = 256

Progress = Callable[[int, int], None]


@dataclass
class LeRobotWriter:
    """A LeRobot dataset being written into `folder`: add episodes, then `finish`. A context manager.

    In memory are the vectors of an episode, a few frames, and what is said of some hundred episodes.
    """

    folder: Path
    features: Features
    split: Split | None = None
    frames: int = 0
    episodes: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    stats: dict[str, Stats] = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._data = self._kept(TableWriter(self.folder, DATA_PATH, self.features.columns()))
        self._table = self._kept(
            TableWriter(self.folder, EPISODES_PATH, episode_columns(self.features, self.split is not None))
        )
        self._cameras = {
            slot: self._kept(CameraWriter(self.folder, key, self.features.fps))
            for slot, key in self.features.camera_keys().items()
            if self.features.images == "video"
        }

    def add(self, episode: StoredEpisode) -> None:
        """Write one episode."""
        steps = len(episode)
        values = {**self.features.values(episode), **self._counters(episode)}
        looked_at = {key: FrameStats() for key in self.features.camera_keys().values()}
        row: dict[str, Any] = {
            "episode_index": self.episodes,
            "tasks": [episode.instruction],
            "length": steps,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + steps,
            "rdt/id": episode.id,
            "rdt/source": episode.source,
            "rdt/instruction_raw": episode.instruction_raw,
            **{f"rdt/{name}": value for name, value in asdict(episode.clock).items()},
        }
        if self.split is not None:
            row["rdt/split"] = self.split.side(episode)
        row |= self._write_data(episode, values, looked_at)
        for slot, camera in self._cameras.items():
            form = self.features.cameras[slot]
            row |= camera.add(_pixels(episode, slot, form), form, looked_at[camera.key], steps)
        self._count(row, values, looked_at)
        self.frames, self.episodes = self.frames + steps, self.episodes + 1

    def finish(self, robot: str) -> None:
        """Write what is said of the whole. robot: its `robot_type`."""
        self._flush_rows()
        self._open.close()
        meta = self.folder / "meta"
        write_tasks(meta / "tasks.parquet", list(self.tasks))
        stats = {key: {name: value.tolist() for name, value in found.items()} for key, found in self.stats.items()}
        write_json(meta / "stats.json", stats)
        write_json(meta / "info.json", info(self.features, robot, self.episodes, self.frames, len(self.tasks)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _kept(self, writer: Any) -> Any:
        """A writer that is closed with this one."""
        return self._open.enter_context(closing(writer))

    def _counters(self, episode: StoredEpisode) -> dict[str, npt.NDArray[Any]]:
        """What LeRobot counts in every step."""
        steps = np.arange(len(episode))
        task = self.tasks.setdefault(episode.instruction, len(self.tasks))
        return {
            "timestamp": (steps / self.features.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(len(steps), self.episodes),
            "index": self.frames + steps,
            "task_index": np.full(len(steps), task),
        }

    def _write_data(
        self, episode: StoredEpisode, values: dict[str, npt.NDArray[Any]], looked_at: dict[str, FrameStats]
    ) -> dict[str, Any]:
        """The steps of an episode, with their images where these are no videos; returns where they are."""
        self._data.begin()
        keys = self.features.camera_keys() if self.features.images == "image" else {}
        length = _STEPS_PER_GROUP if keys else len(episode)
        sampled = sampled_steps(len(episode))
        for start in range(0, len(episode), length):
            steps = range(start, min(start + length, len(episode)))
            batch: dict[str, Any] = {key: of_steps[start : steps.stop] for key, of_steps in values.items()}
            for slot, key in keys.items():
                batch[key] = list(_images(episode, slot, steps, self.features.cameras[slot], sampled, looked_at[key]))
            self._data.write(batch)
        return {"data/chunk_index": self._data.at.chunk, "data/file_index": self._data.at.file}

    def _count(
        self, row: dict[str, Any], values: dict[str, npt.NDArray[Any]], looked_at: dict[str, FrameStats]
    ) -> None:
        """Add an episode to the statistics and, in time, to the table of episodes."""
        found = {key: stats_of(of_steps.reshape(len(of_steps), -1)) for key, of_steps in values.items()}
        found |= {key: frames.stats() for key, frames in looked_at.items()}
        for key, stats in found.items():
            self.stats[key] = together(self.stats.get(key), stats)
            row |= {f"stats/{key}/{name}": stats[name] for name in NAMES}
        self._rows.append(row)
        if len(self._rows) == _EPISODES_PER_GROUP:
            self._flush_rows()

    def _flush_rows(self) -> None:
        if self._rows:
            self._table.begin()
            where = {"chunk_index": self._table.at.chunk, "file_index": self._table.at.file}
            rows = [{**row, **{f"meta/episodes/{name}": at for name, at in where.items()}} for row in self._rows]
            self._table.write({column.name: [row[column.name] for row in rows] for column in self._table.columns})
            self._rows = []


def write_lerobot(
    dataset: Dataset,
    folder: Path,
    progress: Progress,
    *,
    images: Images = "video",
    full: bool = False,
    cameras: tuple[str, ...] | None = None,
) -> dict[str, int]:
    """Fill `folder`. full: all 128 slots instead of those that are real anywhere. cameras: slots; None for all.

    Returns the camera slots with how many episodes lack them (their frames are black). Raises RdtError, before anything
    is written, when the store has no whole rate.
    """
    fps, lacking = whole_rate(dataset), chosen_cameras(dataset, cameras)
    formats = {slot: dataset.camera_formats[slot] for slot in lacking}
    not_all = frozenset(slot for slot, count in lacking.items() if count)
    features = Features(fps, real_slots(dataset), full, formats, not_all, images)
    with LeRobotWriter(folder, features, read_split(dataset)) as writer:
        for number, episode in enumerate(walk(dataset), 1):
            writer.add(episode)
            progress(number, len(dataset))
        writer.finish(dataset.name)
    (folder / "meta" / "rdt_spec.yaml").write_text(spec_text(dataset, features), encoding="utf-8")
    return lacking


def _pixels(episode: StoredEpisode, slot: str, form: CameraFormat) -> Iterator[Pixels]:
    """The frames of a camera, decoded one at a time; black ones where the episode has none."""
    black = np.zeros((form.height, form.width, 3), np.uint8)
    frames = episode.images(slot) if slot in episode.cameras else None
    for step in range(len(episode)):
        yield black if frames is None else frames[step]


def _images(
    episode: StoredEpisode,
    slot: str,
    steps: range,
    form: CameraFormat,
    sampled: frozenset[int],
    looked_at: FrameStats,
) -> Iterator[Encoded]:
    """The frames as they are stored; those with red and blue exchanged as PNG, since no reader would put them right."""
    frames = episode.images(slot) if slot in episode.cameras else None
    black = encode_png(np.zeros((form.height, form.width, 3), np.uint8)) if frames is None else b""
    for step in steps:
        data = black if frames is None else frames.encoded(step)
        if frames is not None and form.swapped:
            data = encode_png(decode(data, swapped=True))
        if step in sampled:
            looked_at.add(decode(data))
        yield data
