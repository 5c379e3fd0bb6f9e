"""NumPy values out of what pickles say about them, each checked before NumPy sees it.

In: the arguments and states that `ndarray.__reduce__`, `dtype.__reduce__` and NumPy's scalars write. Out: the same
arrays, dtypes and scalars. Bytes never become Python objects: an object array takes a list, and a dtype is built from
its name and layout, never from stored flags. Raises ValueError or TypeError; the caller says where.
"""

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPE = re.compile(r"[biufcSUVmM]\d{1,9}|O[48]?|\?", re.ASCII)


class UnfinishedDtype:
    """A dtype between its name ("f4") and its state (byte order, fields); `keys` is where it is remembered."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"{code!r} is no dtype of plain data")
        self.code = code
        self.keys: list[int] = []

    def finished(self, state: Any) -> np.dtype[Any]:
        """The dtype. state: (version, byte order, subarray, names, fields, size, alignment, flags[, metadata])."""
        if not isinstance(state, tuple) or len(state) not in (8, 9):
            raise ValueError("the state of a dtype has 8 or 9 values")
        _, order, subarray, names, fields, size = state[:6]
        made: np.dtype[Any]
        if subarray is not None:
            base, shape = subarray
            made = np.dtype((_checked(base), shape))
        elif names is not None:
            layout = [fields[name] for name in names]
            formats, offsets = [_checked(field[0]) for field in layout], [field[1] for field in layout]
            made = np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": size})
        else:
            made = np.dtype(self.code + _unit(state[8:])).newbyteorder(order)
        return made


def _unit(metadata: tuple[Any, ...]) -> str:
    """ "[10us]" of a datetime64, from its metadata (None, (unit, count, 1, 1)); "" for any other dtype."""
    if not metadata or metadata[0] is None or not isinstance(metadata[0][1], tuple):
        return ""
    unit, count, *_ = metadata[0][1]
    if not isinstance(unit, bytes) or type(count) is not int:
        raise ValueError(f"{count!r} {unit!r} is no unit of time")
    return f"[{count}{unit.decode('ascii')}]"


def empty_array(kind: Any, shape: Any, code: Any) -> npt.NDArray[Any]:
    """What `_reconstruct` gives: no elements yet, `fill_array` gives it some. `kind` was `numpy.ndarray`."""
    if shape != (0,) or code not in (b"b", "b"):
        raise ValueError(f"an array begins as (0,) of type 'b', not {shape!r} of {code!r}")
    return np.empty(0, np.int8)


def fill_array(array: npt.NDArray[Any], state: Any) -> None:
    """Give an empty array its state, in place. state: (version, shape, dtype, Fortran order, bytes or list)."""
    if array.shape != (0,) or array.dtype != np.int8:
        raise ValueError("an array is filled twice")
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("the state of an array has 5 values")
    _, shape, dtype, fortran, data = state
    dtype = _checked(dtype)
    if isinstance(data, str):  # Python 2 wrote bytes as text
        data = data.encode("latin-1")
    if dtype == np.dtype(object):
        if type(data) is not list or len(data) != _count(shape):
            raise ValueError(f"an object array of shape {shape!r} needs a list of {_count(shape)} elements")
    else:
        _check_bytes(data, shape, dtype)
    array.__setstate__((1, shape, dtype, bool(fortran), data))  # type: ignore[arg-type]  # a Python bool, as stored


def array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    """What protocol 5 writes for arrays of numbers: their bytes, row after row ("C") or column after column ("F")."""
    dtype = _checked(dtype)
    if dtype.hasobject or order not in ("C", "F"):
        raise ValueError(f"an array of {dtype} in order {order!r} cannot be made of bytes")
    _check_bytes(data, shape, dtype)
    if not len(data):
        return np.empty(shape, dtype, order)
    return np.ndarray(shape, dtype, buffer=data, order=order)


def scalar(dtype: Any, data: Any = b"") -> Any:
    """A NumPy number, string or structured value out of its bytes."""
    dtype = _checked(dtype)
    if isinstance(data, str):
        data = data.encode("latin-1")
    if dtype.hasobject:
        raise ValueError("a scalar of objects")
    _check_bytes(data, (), dtype)
    return np.ndarray((), dtype, buffer=bytes(data) or b"\0")[()]


def _checked(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"{dtype!r} stands where a dtype belongs")
    if dtype.hasobject and dtype != np.dtype(object):
        raise ValueError("a structured dtype that holds objects")
    return dtype


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{shape!r} is no shape")
    return math.prod(shape)


def _check_bytes(data: Any, shape: Any, dtype: np.dtype[Any]) -> None:
    if not isinstance(data, bytes | bytearray):
        raise ValueError(f"{dtype} is made of bytes, not {type(data).__name__}")
    if len(data) != _count(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes cannot be {shape} of {dtype}")
