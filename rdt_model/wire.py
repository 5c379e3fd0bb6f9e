"""Messages as bytes: msgpack with NumPy arrays, encoded as the `openpi-client` package on PyPI encodes them.

An array is a map of four entries with byte-string keys: `__ndarray__` true, `data` its bytes in C order, `dtype` as
NumPy spells it ("<f4"), `shape`. A NumPy scalar is `__npgeneric__`, `data`, `dtype`. (openpi, `msgpack_numpy.py`.)

What comes from a socket is never trusted: no pickle, no object arrays, no extension types; only dtypes of the table;
and what a few bytes can claim is bounded, so that a message takes at most a small multiple of its own size in memory.
Arrays that are read are views of the message: read-only. Knows nothing of what messages mean.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError

MOST_BYTES: Final = 16 * 2**20
"""Bytes of a message, unless a server is told otherwise: six raw frames of 640 x 480 are a third of it."""

MOST_ITEMS: Final = 1024
"""Entries of one list or map."""

MOST_CONTAINERS: Final = 1024
"""Lists, maps and arrays of one message."""

MOST_TEXT: Final = 2**16
"""Bytes of one string."""

_KINDS: Final = {"b": (1,), "u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}
_DTYPES: Final = {
    np.dtype(f"{order}{kind}{size}").str for kind, sizes in _KINDS.items() for size in sizes for order in ("<", ">")
}
_MOST_DIMENSIONS: Final = 8
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"


class WireError(RdtError):
    """Bytes that are no message."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes. Values: plain data, NumPy arrays and scalars of numbers and bools."""
    packed: bytes = msgpack.packb(message, default=_encoded)
    return packed


def unpack(data: bytes) -> dict[Any, Any]:
    """The message in the bytes: a map. Raises WireError for anything else, and for more than is allowed."""
    reader = _Reader()
    try:
        message = msgpack.unpackb(
            data,
            object_hook=reader.map,
            list_hook=reader.list,
            ext_hook=_no_extension,
            max_array_len=MOST_ITEMS,
            max_map_len=MOST_ITEMS,
            max_str_len=MOST_TEXT,
        )
    except RecursionError:
        raise WireError("a message that is nested too deeply", remedy="send a map of plain values") from None
    except (ValueError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"a message that is not msgpack as expected: {reason}", remedy="see docs/serve.md") from None
    if not isinstance(message, dict):
        raise WireError(f"a message that is a {type(message).__name__}", remedy="send a map")
    return message


class _Reader:
    """Turns what msgpack has parsed into values, and counts: an empty list is one byte in a message, not in memory."""

    def __init__(self) -> None:
        self.containers = 0

    def list(self, items: list[Any]) -> list[Any]:
        self._count()
        return items

    def map(self, entries: dict[Any, Any]) -> Any:
        self._count()
        if _ARRAY in entries:
            return _array(entries)
        if _SCALAR in entries:
            return _scalar(entries)
        return entries

    def _count(self) -> None:
        self.containers += 1
        if self.containers > MOST_CONTAINERS:
            raise WireError(
                f"a message of more than {MOST_CONTAINERS} lists, maps and arrays", remedy="send numbers as arrays"
            )


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str not in _DTYPES:
        raise WireError(f"an array of dtype {value.dtype}", remedy="send bools, integers or floats")
    if isinstance(value, np.ndarray):
        shape = list(value.shape)
        return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": shape}
    if isinstance(value, np.generic):
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise WireError(f"a value of type {type(value).__name__}", remedy="send plain data and NumPy arrays")


def _array(entries: Mapping[Any, Any]) -> npt.NDArray[Any]:
    data, shape, dtype = entries.get(b"data"), entries.get(b"shape"), _dtype(entries)
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise WireError("an array without bytes as data or a list as shape", remedy="encode it as openpi-client does")
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 <= side <= 2**31 for side in shape):
        raise WireError(f"an array of shape {shape}", remedy="a shape is whole numbers from 0")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(
            f"an array of shape {shape} and dtype {dtype} with {len(data)} bytes", remedy="send its bytes in C order"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(entries: Mapping[Any, Any]) -> Any:
    value, dtype = entries.get(b"data"), _dtype(entries)
    if not isinstance(value, bool | int | float):
        raise WireError(f"a NumPy scalar whose data is a {type(value).__name__}", remedy="send a number")
    try:
        return dtype.type(value)
    except OverflowError:
        raise WireError(f"{value} as {dtype}", remedy="send a number that its dtype holds") from None


def _dtype(entries: Mapping[Any, Any]) -> np.dtype[Any]:
    name = entries.get(b"dtype")
    if not isinstance(name, str) or name not in _DTYPES:
        raise WireError(f"an array of dtype {name!r}", remedy=f"use one of {', '.join(sorted(_DTYPES))}")
    return np.dtype(name)


def _no_extension(code: int, data: bytes) -> Any:
    raise WireError(f"msgpack's extension type {code}, {len(data)} bytes", remedy="send plain data and arrays")
