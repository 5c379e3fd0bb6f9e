"""Read video files: what they hold, when each frame is shown, and the frames themselves.

In: the path of a file that FFmpeg reads (LeRobot: MP4 with AV1, H.264, HEVC or MPEG-4 Part 2). Out: times in seconds
and (H, W, 3) uint8 RGB frames, in presentation order, one in memory at a time. Frame number i is the i-th that is
shown. A file that is cut, or a frame that cannot be decoded whole, is an error, never a gap. Knows nothing of
datasets. Among the files that read, this one owns PyAV.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from rdt_data.errors import SourceError
from rdt_data.images import Pixels

FloatArray = npt.NDArray[np.float64]

_REMEDY = "copy or download the video again, or leave the episode out with --on-error quarantine"


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a video file says of itself.

    codec: FFmpeg's name of the format: "av1", "h264", "hevc", "mpeg4". fps: mean frames per second. frames: None when
    the container does not say (fragmented MP4, Matroska); `frame_times` counts them.
    """

    codec: str
    height: int
    width: int
    fps: float
    frames: int | None


@dataclass(frozen=True, slots=True)
class _Index:
    """When frames are shown, in units of the stream's time base, sorted; and those of them that need no other."""

    pts: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    time_base: float  # seconds


def probe(path: Path) -> VideoFormat:
    """Read the header of a video. Raises SourceError."""
    with _opened(path) as (_, stream):
        context = stream.codec_context
        rate = stream.average_rate or stream.guessed_rate
        return VideoFormat(
            codec=stream.codec.canonical_name,
            height=context.height,
            width=context.width,
            fps=float(rate) if rate else 0.0,
            frames=stream.frames or None,
        )


def frame_times(path: Path) -> FloatArray:
    """When each frame is shown, in seconds on the file's own clock: (N,) ascending. Decodes nothing.

    Raises SourceError, also for a file whose end is missing.
    """
    index = _index(path)
    return np.asarray(index.pts * index.time_base, np.float64)


def read_frames(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Pixels]:
    """Frames [start, stop) as (H, W, 3) uint8 RGB, by the colour matrix and range that the stream states.

    Decoding begins at the last keyframe up to `start`. Raises SourceError: at once for a file that cannot be read or
    has not so many frames, later for a frame that cannot be decoded.
    """
    index = _index(path)
    stop = len(index.pts) if stop is None else stop
    if not 0 <= start <= stop <= len(index.pts):
        raise SourceError(
            f"{path.name} has {len(index.pts)} frames; frames {start} to {stop} are asked for", remedy=_REMEDY
        )
    return _decoded(path, index, start, stop)


def _decoded(path: Path, index: _Index, start: int, stop: int) -> Iterator[Pixels]:
    number = start
    with _opened(path) as (container, stream):
        for frame in _from(container, stream, index, start) if start < stop else ():
            if frame.pts is not None and frame.pts < index.pts[number]:
                continue
            if frame.pts != index.pts[number] or frame.is_corrupt:
                break
            yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
            number += 1
            if number == stop:
                break
    if number < stop:
        seconds = index.pts[number] * index.time_base
        raise SourceError(f"frame {number} of {path.name} (at {seconds:.3f} s) cannot be decoded", remedy=_REMEDY)


def _from(container: InputContainer, stream: VideoStream, index: _Index, start: int) -> Iterator[av.VideoFrame]:
    """Decoded frames, beginning at or before frame `start`."""
    before = index.keys[index.keys <= index.pts[start]]
    if start and len(before):
        container.seek(int(before[-1]), stream=stream, backward=True)
    frames = container.decode(stream)
    first = next(frames, None)
    if start and (first is None or first.pts is None or first.pts > index.pts[start]):
        container.seek(int(index.pts[0]), stream=stream, backward=True)  # its seek table points too late
        yield from container.decode(stream)
    elif first is not None:
        yield first
        yield from frames


def _index(path: Path) -> _Index:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be opened: {error.strerror}", remedy="check that the file is there"
        ) from error
    return _scan(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _scan(path: Path, size: int, mtime_ns: int) -> _Index:
    """Go once through the packets of a file, which a file of many episodes is asked for again and again."""
    with _opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        cut = [number for number, packet in enumerate(packets) if packet.is_corrupt]
        if cut or len(packets) < stream.frames:
            found = cut[0] if cut else len(packets)
            raise SourceError(
                f"{path.name} is cut: {found} of {stream.frames or 'its'} frames are whole", remedy=_REMEDY
            )
        shown = [packet for packet in packets if not packet.is_discard]
        if not shown or any(packet.pts is None for packet in shown):
            what = "does not say when its frames are shown" if shown else "has no frames"
            raise SourceError(f"{path.name} {what}", remedy="write it again as MP4: ffmpeg -i IN -c copy OUT.mp4")
        pts = np.sort(np.array([packet.pts for packet in shown], np.int64))
        keys = np.sort(np.array([packet.pts for packet in shown if packet.is_keyframe], np.int64))
        return _Index(pts, keys, float(stream.time_base or 1))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An open file and its video stream; what FFmpeg says within becomes a SourceError."""
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.video:
                raise SourceError(f"{path.name} holds no video", remedy="check that it is the file you meant")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # conversions run a process a core, and forks want no threads
            yield container, stream
    except av.FFmpegError as error:
        raise SourceError(f"FFmpeg cannot read {path.name}: {error.strerror}", remedy=_REMEDY) from error
