"""The frames of a LeRobot episode, and whether they and the rows tell the same time.

In: paths, an episode's place in them, its timestamps. Out: pixels of a video, or the bytes of images as they lie in
Parquet. A row and its frame may be half a frame apart, no more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.raw import Frame
from converters.readers.lerobot_episodes import VideoPart
from converters.readers.lerobot_meta import INFO, Feature
from rdt_data import parquet, video
from rdt_data.errors import SourceError

_ALIASES = {
    "avc1": "h264",
    "libx264": "h264",
    "h265": "hevc",
    "libx265": "hevc",
    "libsvtav1": "av1",
    "libaom-av1": "av1",
    "libdav1d": "av1",
    "mp4v": "mpeg4",
}
"""Names that metadata in the wild has for a codec → FFmpeg's name of the format."""


def check_clock(timestamp: npt.NDArray[Any] | None, frame_index: npt.NDArray[Any] | None, fps: float) -> None:
    """Row i of an episode is frame i at i / fps seconds. Raises SourceError with `field`."""
    if frame_index is not None:
        numbers = frame_index.reshape(len(frame_index))
        differing = np.flatnonzero(numbers != np.arange(len(numbers)))
        if len(differing):
            row = int(differing[0])
            raise SourceError(
                f"row {row} says frame {numbers[row]}: frames are missing or out of order",
                remedy="record or export the episode again, or leave it out with --on-error quarantine",
                field="frame_index",
            )
    if timestamp is not None:
        seconds = timestamp.reshape(len(timestamp)).astype(np.float64)
        row, apart = _worst(seconds, np.arange(len(seconds)) / fps)
        if not apart <= 0.5 / fps:
            raise SourceError(
                f"row {row} says {seconds[row]:.4f} s, but frame {row} at {fps:g} Hz is at {row / fps:.4f} s, "
                "more than half a frame away",
                remedy=f"check fps in {INFO} ({fps:g}); if it is right, the episode has lost frames: leave it out",
                field="timestamp",
            )


def image_frames(path: Path, key: str, start: int, stop: int) -> Iterator[Frame]:
    """The bytes of rows [start, stop) as they are."""
    for number, frame in enumerate(parquet.iterate(path, key, start, stop)):
        if not isinstance(frame, bytes):
            raise SourceError(
                f"frame {number} is not in the Parquet file"
                if frame is None
                else f"the column holds {type(frame).__name__}, not images",
                remedy="export the dataset again with its images inside, or leave the camera out of the spec",
            )
        yield frame


def video_frames(root: Path, part: VideoPart, feature: Feature, clock: npt.NDArray[Any], fps: float) -> Iterator[Frame]:
    """The frames of an episode as (H, W, 3) uint8 RGB; one for each of its timestamps, `clock` (T,) seconds.

    Raises SourceError before the first frame when codec, size, number or times are not what metadata and rows say.
    """
    path = root / part.path
    _check_format(video.probe(path), feature)
    times = video.frame_times(path)
    start = int(np.searchsorted(times, part.start - 0.5 / fps))
    stop = len(times) if part.stop is None else int(np.searchsorted(times, part.stop - 0.5 / fps))
    where = "" if part.stop is None else f" from {part.start:.3f} s to {part.stop:.3f} s"
    if stop - start != len(clock):
        raise SourceError(
            f"the video has {stop - start} frames{where}, the episode {len(clock)} rows",
            remedy="download or encode the video again, or leave the episode out with --on-error quarantine",
        )
    shown = times[start:stop] - part.start
    row, apart = _worst(shown, clock.astype(np.float64))
    if not apart <= 0.5 / fps:
        raise SourceError(
            f"frame {row} is shown at {shown[row]:.4f} s, its row says {clock[row]:.4f} s, "
            f"more than half a frame at {fps:g} Hz away",
            remedy=f"check fps in {INFO}; encode the video at that rate, or leave the episode out",
        )
    return iter(video.read_frames(path, start, stop))


def _check_format(found: video.VideoFormat, feature: Feature) -> None:
    said = _ALIASES.get(feature.codec or "", feature.codec)
    if said is not None and said != found.codec:
        raise SourceError(
            f"{INFO} says the codec is {feature.codec}, the file is {found.codec}",
            remedy=f'correct "video.codec" in {INFO}, or download the video that belongs to it',
        )
    if feature.size is not None and feature.size != (found.height, found.width):
        height, width = feature.size
        raise SourceError(
            f"{INFO} says {width}x{height} pixels, the video is {found.width}x{found.height}",
            remedy=f"correct the shape in {INFO}, or download the video that belongs to it",
        )


def _worst(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> tuple[int, float]:
    """Where two clocks are furthest apart, and how far in seconds; NaN is furthest."""
    if not len(a):
        return 0, 0.0
    apart = np.abs(a - b)
    row = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    return row, float(apart[row])
