"""Zarr v3 codecs for camera frames: one JPEG or PNG image per chunk of shape (1, ..., H, W, 3).

Registered through the `zarr.codecs` entry points `imagecodecs_jpeg` and `imagecodecs_png` and configured as the
`imagecodecs-zarr` package does (`level`, `colorspace_data`), so that either implementation reads the other's
arrays and plain `zarr.open` gives RGB pixels. `colorspace_data: BGR` means that the JPEG bytes hold red and blue
exchanged (OpenCV encoded them from RGB arrays) and are put right when decoded.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import zarr
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from rdt_data.errors import StoreError
from rdt_data.images import DEFAULT_QUALITY, Pixels, decode_jpeg, decode_png, encode_jpeg, encode_png


class _FrameCodec(ArrayBytesCodec):
    """What both codecs share: a chunk is one image, whatever leading axes of length 1 it has."""

    is_fixed_size = False

    def decode_frame(self, data: bytes) -> Pixels:
        raise NotImplementedError

    def encode_frame(self, pixels: Pixels) -> bytes:
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = self.decode_frame(chunk_bytes.to_bytes())
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels.reshape(chunk_spec.shape))

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        pixels = np.asarray(chunk_array.as_numpy_array()).reshape(chunk_spec.shape[-3:])
        return chunk_spec.prototype.buffer.from_bytes(self.encode_frame(pixels))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_array, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size of an encoded image is not known beforehand")


@dataclass(frozen=True)
class JpegCodec(_FrameCodec):
    """`imagecodecs_jpeg`: level is the JPEG quality, colorspace_data the order of the stored channels."""

    level: int | None = None
    colorspace_data: str | None = None

    def __post_init__(self) -> None:
        if self.colorspace_data not in (None, "RGB", "BGR"):
            raise StoreError(
                f"imagecodecs_jpeg: colorspace_data is {self.colorspace_data!r}",
                remedy="this project reads RGB (or nothing) and BGR; open the array with imagecodecs-zarr",
            )

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        return cls(**_configuration(data, "imagecodecs_jpeg", {"level", "colorspace_data"}))

    def to_dict(self) -> dict[str, JSON]:
        known: dict[str, JSON] = {"level": self.level, "colorspace_data": self.colorspace_data}
        return _named("imagecodecs_jpeg", known)

    def decode_frame(self, data: bytes) -> Pixels:
        return decode_jpeg(data, swapped=self.colorspace_data == "BGR")

    def encode_frame(self, pixels: Pixels) -> bytes:
        quality = DEFAULT_QUALITY if self.level is None else self.level
        return encode_jpeg(pixels, quality, swapped=self.colorspace_data == "BGR")


@dataclass(frozen=True)
class PngCodec(_FrameCodec):
    """`imagecodecs_png`: without loss."""

    level: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        return cls(**_configuration(data, "imagecodecs_png", {"level"}))

    def to_dict(self) -> dict[str, JSON]:
        return _named("imagecodecs_png", {"level": self.level})

    def decode_frame(self, data: bytes) -> Pixels:
        return decode_png(data)

    def encode_frame(self, pixels: Pixels) -> bytes:
        return encode_png(pixels)


def _named(name: str, configuration: dict[str, JSON]) -> dict[str, JSON]:
    given = {key: value for key, value in configuration.items() if value is not None}
    return {"name": name, "configuration": given} if given else {"name": name}


def _configuration(data: dict[str, JSON], name: str, known: set[str]) -> dict[str, Any]:
    _, configuration = parse_named_configuration(data, name, require_configuration=False)
    given: dict[str, Any] = dict(configuration or {})
    if strange := sorted(given.keys() - known):
        raise StoreError(
            f"{name}: this project does not know the options {', '.join(strange)}",
            remedy="open it with imagecodecs-zarr: "
            f'zarr.config.set({{"codecs.{name}": "imagecodecs.zarr.{name.removeprefix("imagecodecs_").title()}"}})',
        )
    return given


# Where imagecodecs-zarr is installed too, zarr would warn and take either implementation. Take ours unless the user
# has chosen: it is right for every array of this project, and refuses what it does not know.
for _name, _codec in (("imagecodecs_jpeg", JpegCodec), ("imagecodecs_png", PngCodec)):
    if zarr.config.get(f"codecs.{_name}", None) is None:
        zarr.config.set({f"codecs.{_name}": f"{_codec.__module__}.{_codec.__name__}"})
