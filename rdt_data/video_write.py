"""Write RGB frames as one MP4 file that video readers of robot datasets open. The only file that encodes video.

In: frames in order, all of one size. Out: H.264 with full colour resolution, a constant rate, no frame that depends on
a later one. Frame n is shown at n / fps seconds exactly, so that a reader can ask by time.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rdt_data.images import Pixels

CODEC = "h264"
PIXEL_FORMAT = "yuv444p"
"""4:4:4: halving the colour resolution costs 1 to 4 dB and saves nothing at this quality."""

QUANTIZER = 14
"""The same for every frame, which bounds the loss whatever a frame shows: at least 40 dB PSNR, 42 dB for pure noise.

A constant quality ("crf") takes bytes from frames in motion or with noise: 37 dB on some of BridgeData.
"""

KEYFRAME_EVERY = 2
"""LeRobot's own choice: a frame at random costs at most two decoded ones."""

_BT601 = 6  # ITU-T H.273: what readers assume where nothing is said, so that all agree
_LIMITED_RANGE = 1


class VideoFile:
    """A video being written; a context manager, or `close` at the end.

    `frames` is how many were added. Nothing stays in memory but what the encoder holds, a few frames.
    """

    def __init__(self, path: Path, *, fps: int, height: int, width: int) -> None:
        import av

        self.path, self.fps, self.frames = path, fps, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._av = av
        self._container: Any = av.open(str(path), "w", format="mp4")
        options = {"qp": str(QUANTIZER), "preset": "fast", "bf": "0", "g": str(KEYFRAME_EVERY)}
        self._stream: Any = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, PIXEL_FORMAT
        self._stream.codec_context.colorspace = _BT601
        self._stream.codec_context.color_range = _LIMITED_RANGE

    @property
    def seconds(self) -> float:
        """How long the video is by now."""
        return self.frames / self.fps

    @property
    def bytes(self) -> int:
        """What has reached the disk by now."""
        return self.path.stat().st_size

    def add(self, pixels: Pixels) -> None:
        """Encode one more frame, (H, W, 3) uint8 RGB."""
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format=PIXEL_FORMAT, dst_colorspace=_BT601, dst_color_range=_LIMITED_RANGE)
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        if self._container is not None:
            if self.frames:
                self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
