"""Camera frames from source to store: copied where they can be, decoded only where size or codec must change.

Pure functions of one frame: no files, no Zarr. A frame arrives as encoded bytes or as raw (H, W, 3) uint8 pixels
(see `raw.Frame`) and leaves as encoded bytes of exactly the camera's `CameraFormat`.
"""

from collections.abc import Iterator

import numpy as np

from converters.raw import Frame, RawEpisode
from converters.spec_model import Camera
from rdt_data.episode import CameraFormat
from rdt_data.errors import RdtError, SourceError
from rdt_data.images import (
    DEFAULT_QUALITY,
    Encoded,
    ImageError,
    Pixels,
    Probe,
    decode,
    encode_jpeg,
    encode_png,
    ends_whole,
    fitted_size,
    probe,
    resize,
)


def parse_codec(codec: str) -> int | None:
    """Check `--codec`: "keep" and "png" give None, "jpeg:Q" the quality 1..100. Raises RdtError."""
    if codec in ("keep", "png"):
        return None
    kind, _, quality = codec.partition(":")
    if kind == "jpeg" and quality.isdecimal() and 1 <= int(quality) <= 100:
        return int(quality)
    raise RdtError(f"codec {codec!r}", remedy="use keep, png, or jpeg:Q with a quality from 1 to 100 (jpeg:95)")


def stored_format(frame: Frame, camera: Camera, codec: str, longest: int | None) -> CameraFormat:
    """How a camera whose first frame is `frame` is stored.

    "keep" copies 8-bit RGB JPEG and PNG as they are and encodes raw pixels as JPEG; so does any request that
    changes neither size nor codec.
    """
    quality = parse_codec(codec)
    if isinstance(frame, np.ndarray):
        height, width = fitted_size(*_checked_shape(frame), longest)
        if codec == "png":
            return CameraFormat("png", height, width)
        return CameraFormat("jpeg", height, width, quality=quality or DEFAULT_QUALITY)
    seen = probe(frame)
    height, width = fitted_size(seen.height, seen.width, longest)
    kept = (height, width) == (seen.height, seen.width) and _plain(seen) and codec in ("keep", seen.codec)
    swapped = camera.channels == "bgr"
    if kept and (seen.codec == "jpeg" or not swapped):
        return CameraFormat(seen.codec, height, width, swapped=swapped)
    if codec == "png" or (codec == "keep" and seen.codec == "png"):
        return CameraFormat("png", height, width)
    return CameraFormat("jpeg", height, width, quality=quality or DEFAULT_QUALITY)


def stored_frames(
    raw: RawEpisode, key: str, camera: Camera, form: CameraFormat, longest: int | None
) -> Iterator[Encoded]:
    """The frames of one camera of an episode, encoded as `form` says; errors name the frame."""
    converter = FrameConverter(camera, form, longest)
    for step, frame in enumerate(raw.frames(key)):
        try:
            stored = converter(frame)
        except ImageError as error:
            raise SourceError(f"frame {step}: {error.problem}", remedy=error.remedy, field=key) from None
        yield stored


class FrameConverter:
    """Turns the frames of one camera into what is stored, remembering the header of the last frame it copied."""

    def __init__(self, camera: Camera, form: CameraFormat, longest: int | None) -> None:
        self.form, self.longest = form, longest
        self.swapped_source = camera.channels == "bgr"
        self._copies = form.quality is None and form.swapped == self.swapped_source
        self._header: bytes = b""

    def __call__(self, frame: Frame) -> Encoded:
        """Encoded bytes in the camera's format. Raises ImageError for a frame that does not fit."""
        if isinstance(frame, np.ndarray):
            self._check_size(*fitted_size(*_checked_shape(frame), self.longest))
            return self._encode(frame)
        if self._header and frame[: len(self._header)] == self._header and ends_whole(frame):
            return frame  # begins like the last frame, up to and with the size, and has its end
        seen = probe(frame)
        self._check_size(*fitted_size(seen.height, seen.width, self.longest))
        same = (seen.codec, seen.height, seen.width) == (self.form.codec, self.form.height, self.form.width)
        if self._copies and same and _plain(seen):
            self._header = bytes(frame[: seen.header_bytes])
            return frame
        return self._encode(decode(frame, swapped=self.swapped_source))

    def _check_size(self, height: int, width: int) -> None:
        if (height, width) != (self.form.height, self.form.width):
            raise ImageError(
                f"{width}x{height} pixels (as it would be stored), but the first frame of this camera is "
                f"{self.form.width}x{self.form.height}",
                remedy="one camera has one size: convert the others separately, "
                "or leave them out with --on-error quarantine",
            )

    def _encode(self, pixels: Pixels) -> bytes:
        fitted = resize(pixels, self.form.height, self.form.width)
        if self.form.codec == "png":
            return encode_png(fitted)
        return encode_jpeg(fitted, self.form.quality or DEFAULT_QUALITY, swapped=self.form.swapped)


def _plain(seen: Probe) -> bool:
    """Whether any reader decodes it to (H, W, 3) uint8."""
    return seen.channels == 3 and seen.bits == 8


def _checked_shape(frame: Pixels) -> tuple[int, int]:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ImageError(
            f"raw frames of {frame.dtype} {frame.shape}", remedy="a camera holds JPEG, PNG or uint8 (H, W, 3) frames"
        )
    return int(frame.shape[0]), int(frame.shape[1])
