"""Tensors of different shapes in one file: the safetensors container, without the safetensors library or torch.

In: named arrays and a few words about the file. Out: its bytes, or, for reading, the header that says where each
tensor lies. The layout is the public one (github.com/huggingface/safetensors, "Format"): 8 bytes little-endian length
of the header, the header as JSON padded with spaces to a multiple of 8, then the tensors one after the other. NumPy has
no bfloat16: such a tensor is an array of its 16-bit patterns (uint16) here, and BF16 in the file.

Knows nothing of language, of checksums or of where a file lies.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[Any]
"""An array as it is stored: float32, float16, or bfloat16 as uint16 bit patterns."""

NUMPY: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""What NumPy holds for each kind of number in a file."""

_LENGTH = 8  # bytes that say how long the header is


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies. kind: a key of NUMPY; start, stop: bytes from the beginning of the file."""

    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def array(self, data: bytes) -> Stored:
        """The array that `data`, the bytes [start, stop) of the file, hold."""
        return np.frombuffer(data, NUMPY[self.kind]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. size: the bytes that the whole file must have."""

    tensors: dict[str, Tensor]
    words: dict[str, str]
    size: int


def dump(tensors: Mapping[str, tuple[str, Stored]], words: Mapping[str, str]) -> bytes:
    """A whole file. tensors: name -> (kind, array); words: what to say about the file."""
    entries: dict[str, Any] = {"__metadata__": dict(words)}
    chunks, at = [], 0
    for name, (kind, array) in tensors.items():
        chunks.append(np.ascontiguousarray(array, NUMPY[kind]).tobytes())
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(chunks[-1])]}
        at += len(chunks[-1])
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(_LENGTH, "little") + header + b"".join(chunks)


def header_stop(head: bytes) -> int:
    """How many bytes from the beginning of a file belong to its header. Raises ValueError for less than 8 bytes."""
    if len(head) < _LENGTH:
        raise ValueError(f"it has {len(head)} bytes, its length alone takes {_LENGTH}")
    return _LENGTH + int.from_bytes(head[:_LENGTH], "little")


def header(head: bytes) -> Header:
    """Read the first `header_stop` bytes of a file. Raises ValueError when they are not a header."""
    stop = header_stop(head)
    if len(head) < stop:
        raise ValueError(f"its header has {stop} bytes, the file {len(head)}")
    try:
        entries = json.loads(head[_LENGTH:stop])
        words = dict(entries.pop("__metadata__", {}))
        tensors = {
            name: Tensor(entry["dtype"], tuple(entry["shape"]), *(stop + at for at in entry["data_offsets"]))
            for name, entry in entries.items()
        }
    except (AttributeError, KeyError, TypeError) as error:  # JSON, but not of this form
        raise ValueError(f"its header is no safetensors header: {error}") from None
    return Header(tensors, words, max((tensor.stop for tensor in tensors.values()), default=stop))


def float32_from_bf16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """bfloat16 bit patterns as float32, exactly: bfloat16 is the upper half of a float32."""
    return (bits.astype("<u4") << 16).view("<f4")
