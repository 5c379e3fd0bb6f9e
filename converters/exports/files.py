"""The files of a LeRobot dataset that hold many episodes: tables and videos, each begun anew when it is full.

In: rows, or the frames of an episode. Out: `data/…`, `meta/episodes/…` and `videos/…`, and where each episode is in
them. An episode is never in two files. What the rows mean is not known here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.exports.stats import FrameStats, sampled_steps
from rdt_data.episode import CameraFormat
from rdt_data.images import Pixels
from rdt_data.parquet_write import Column, ParquetFile
from rdt_data.video_write import VideoFile

CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{CHUNK_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{CHUNK_FILE}.mp4"
EPISODES_PATH = f"meta/episodes/{CHUNK_FILE}.parquet"

FILES_PER_CHUNK = 1000
DATA_MEGABYTES, VIDEO_MEGABYTES = 100, 200
"""A file is closed after the episode that fills it; LeRobot's own limits, in MiB."""

VIDEO_SECONDS = 1000
"""Times are float32 in LeRobot: from 1024 s on they are coarser than the 0.1 ms within which it looks for a frame."""


@dataclass(slots=True)
class FileNumber:
    """Chunk and file in which something is being written."""

    chunk: int = 0
    file: int = 0

    def next(self) -> None:
        self.file += 1
        if self.file == FILES_PER_CHUNK:
            self.chunk, self.file = self.chunk + 1, 0

    def path(self, pattern: str, **names: str) -> str:
        return pattern.format(chunk_index=self.chunk, file_index=self.file, **names)


class TableWriter:
    """Rows into one Parquet file after another, each of about `DATA_MEGABYTES`."""

    def __init__(self, folder: Path, pattern: str, columns: list[Column]) -> None:
        self.folder, self.pattern, self.columns = folder, pattern, columns
        self.at = FileNumber()
        self._file: ParquetFile | None = None

    def begin(self) -> None:
        """What follows belongs together in one file: go on to the next file if this one is full."""
        if self._file is not None and self._file.bytes >= DATA_MEGABYTES << 20:
            self.close()
            self.at.next()

    def write(self, batch: dict[str, Any]) -> None:
        if self._file is None:
            self._file = ParquetFile(self.folder / self.at.path(self.pattern), self.columns)
        self._file.write(batch)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class CameraWriter:
    """The frames of one camera into one video after another."""

    def __init__(self, folder: Path, key: str, fps: int) -> None:
        self.folder, self.key, self.fps = folder, key, fps
        self.at = FileNumber()
        self._file: VideoFile | None = None

    def add(self, frames: Iterable[Pixels], form: CameraFormat, looked_at: FrameStats, steps: int) -> dict[str, Any]:
        """Encode an episode of `steps` frames; returns where it is, as the table of episodes says it."""
        if self._file is not None and self._full(steps):
            self.close()
            self.at.next()
        if self._file is None:
            path = self.folder / self.at.path(VIDEO_PATH, video_key=self.key)
            self._file = VideoFile(path, fps=self.fps, height=form.height, width=form.width)
        start, sampled = self._file.seconds, sampled_steps(steps)
        for step, pixels in enumerate(frames):
            self._file.add(pixels)
            if step in sampled:
                looked_at.add(pixels)
        where = {"chunk_index": self.at.chunk, "file_index": self.at.file}
        times = {"from_timestamp": start, "to_timestamp": self._file.seconds}
        return {f"videos/{self.key}/{name}": value for name, value in (where | times).items()}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _full(self, more: int) -> bool:
        assert self._file is not None
        return self._file.bytes >= VIDEO_MEGABYTES << 20 or self._file.seconds + more / self.fps > VIDEO_SECONDS
