"""Camera frames: what encoded bytes hold, and encode, decode, resize.

Frames are RGB uint8 (H, W, 3) when decoded. JPEG goes through libjpeg-turbo (simplejpeg), PNG and resizing
through OpenCV. Probing reads a header only, so that frames can be copied without decoding them. No Zarr here:
the codecs that let plain `zarr.open` read pixels are in `codecs.py`.
"""

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError

Encoded = bytes | memoryview
Pixels = npt.NDArray[np.uint8]
Codec = Literal["jpeg", "png"]

DEFAULT_QUALITY = 95
"""JPEG quality where the source holds raw pixels; tensorflow-datasets encodes with the same number."""

_JPEG_MAGIC = b"\xff\xd8"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageError(RdtError):
    """Bytes that are not a whole JPEG or PNG image; callers add file, episode and camera."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What an encoded image says of itself: size in pixels, number of channels, bits per channel."""

    codec: Codec
    height: int
    width: int
    channels: int
    bits: int
    header_bytes: int  # up to and with the size, so that equal beginnings mean equal probes


def probe(data: Encoded) -> Probe:
    """Read the header of a JPEG or PNG and check that its end marker is there. Raises ImageError."""
    if data[:2] == _JPEG_MAGIC:
        _require_end(data, b"\xff\xd9", "JPEG")
        return _probe_jpeg(data)
    if data[:8] == _PNG_MAGIC:
        _require_end(data, _PNG_END, "PNG")
        if len(data) < 26 or data[12:16] != b"IHDR":
            raise ImageError("PNG without an IHDR header", remedy="the image is damaged; record or copy it again")
        width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 0)
        return Probe("png", height, width, channels if color != 3 else 0, bits, 26)
    start = bytes(data[:8]).hex(" ")
    raise ImageError(
        f"{len(data)} bytes that are neither JPEG nor PNG (they start with {start or 'nothing'})",
        remedy="check the key of the camera in the spec; only JPEG, PNG and raw uint8 frames are read",
    )


def media_type(data: Encoded) -> str:
    """How the web names the kind of a stored frame: "image/jpeg" or "image/png"."""
    return "image/jpeg" if data[:2] == _JPEG_MAGIC else "image/png"


def ends_whole(data: Encoded) -> bool:
    """Whether the end marker of a JPEG or PNG is the end of the bytes."""
    return data[-2:] == b"\xff\xd9" or data[-8:] == _PNG_END


def decode(data: Encoded, *, swapped: bool = False, least: int | None = None) -> Pixels:
    """Decode JPEG or PNG to (H, W, 3) uint8 RGB. `swapped`: the bytes hold red and blue exchanged.

    least: pixels; a JPEG may come at 1/2, 1/4 or 1/8 of its size if its longer side has still so many.
    """
    if data[:2] == _JPEG_MAGIC:
        return decode_jpeg(data, swapped=swapped, least=least)
    pixels = decode_png(data)
    return np.ascontiguousarray(pixels[..., ::-1]) if swapped else pixels


def decode_jpeg(data: Encoded, *, swapped: bool = False, least: int | None = None) -> Pixels:
    """Decode a JPEG to (H, W, 3) uint8 RGB; grey images become three equal channels. Raises ImageError.

    least: as for `decode`. Only powers of two: libjpeg-turbo has fast code for these, 5/8 is slower than the whole.
    """
    import simplejpeg

    order = "BGR" if swapped else "RGB"
    try:
        if least is None:
            return np.asarray(simplejpeg.decode_jpeg(data, colorspace=order))
        about = _probe_jpeg(data)
        part = next((n for n in (8, 4, 2) if -(-max(about.height, about.width) // n) >= least), 1)
        size = {"min_height": -(-about.height // part), "min_width": -(-about.width // part)} if part > 1 else {}
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace=order, min_factor=part, **size))
    except ValueError as error:
        raise ImageError(f"JPEG cannot be decoded: {error}", remedy="the image is damaged; copy it again") from None


def decode_png(data: Encoded) -> Pixels:
    """Decode a PNG to (H, W, 3) uint8 RGB. Raises ImageError."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ImageError("PNG cannot be decoded", remedy="the image is damaged; copy it again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encode_jpeg(pixels: Pixels, quality: int = DEFAULT_QUALITY, *, swapped: bool = False) -> bytes:
    """Encode (H, W, 3) uint8 RGB as a 4:2:0 baseline JPEG; `swapped` stores red and blue exchanged."""
    import simplejpeg

    order = "BGR" if swapped else "RGB"
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace=order, colorsubsampling="420"
    )
    return bytes(data)


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) uint8 RGB without loss (zlib level 1: frames are many, ratio matters less)."""
    import cv2

    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ImageError(f"OpenCV cannot write a PNG of shape {pixels.shape}", remedy="use --codec jpeg:95")
    return data.tobytes()


def fitted_size(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Size (H, W) after shrinking so that the longer side is `longest`; smaller images stay as they are."""
    if longest is None or max(height, width) <= longest:
        return height, width
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize (H, W, 3) uint8 by area averaging, which does not alias when shrinking."""
    import cv2

    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def resize_into(pixels: Pixels, out: Pixels) -> None:
    """Resize (H, W, 3) uint8 bilinearly into `out`, which may be a part of a larger image.

    Bilinear weights skip pixels when an image shrinks to less than a half.
    """
    import cv2

    if pixels.shape == out.shape:
        out[...] = pixels
        return
    size = (out.shape[1], out.shape[0])
    done = cv2.resize(pixels, size, dst=out, interpolation=cv2.INTER_LINEAR)
    if not np.shares_memory(done, out):  # OpenCV did not take that memory
        out[...] = done


def use_one_thread() -> None:
    """Let OpenCV use one thread in this process: for processes that are one of many."""
    import cv2

    cv2.setNumThreads(1)


def _require_end(data: Encoded, marker: bytes, kind: str) -> None:
    if data[-len(marker) :] != marker:
        raise ImageError(
            f"{kind} of {len(data)} bytes is cut: its end marker is missing",
            remedy="copy or record the source again, or leave the episode out with --on-error quarantine",
        )


def _probe_jpeg(data: Encoded) -> Probe:
    """Walk the markers up to the start of frame (ITU T.81, B.1.1.3 and B.2.2)."""
    at, size = 2, len(data)
    while at + 9 < size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _SOF_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return Probe("jpeg", height, width, channels, bits, at + 10)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ImageError("JPEG without a frame header", remedy="the image is damaged; copy or record it again")
