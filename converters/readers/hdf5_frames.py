"""Camera frames from an HDF5 dataset, a bounded piece at a time, in every layout met in the wild.

    (T, H, W, 3) uint8                 pixels
    (T, L) uint8                       JPEG or PNG bytes, each row filled up with zeros
    (T,) fixed-length strings, opaque  the same, filled up by the type
    (T,) variable-length uint8, bytes  JPEG or PNG bytes

The end of an image is found in its bytes; recorded lengths (`compress_len`) are not to be trusted. Knows h5py's
datasets by their interface only; errors say nothing of the file.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.raw import Frame
from rdt_data.errors import SourceError

_SLAB = 1_000_000  # bytes read at a time: about one raw frame, which is then encoded while it is in the cache
_VARIABLE_ROWS = 16  # rows read at a time when their size is unknown
_FORMATS = {b"\xff\xd8": ("JPEG", b"\xff\xd9"), b"\x89P": ("PNG", b"IEND\xaeB`\x82")}  # start → name, end


def read_frames(dataset: Any) -> Iterator[Frame]:
    """The rows of an h5py dataset as frames; the dataset's own read errors pass through."""
    if dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[3] == 3:
        for slab in _slabs(dataset):
            yield from slab
    elif _holds_encoded(dataset):
        for index, row in enumerate(_stored_rows(dataset) if _one_row_a_chunk(dataset) else _rows(dataset)):
            yield _trimmed(row, index)
    else:
        raise SourceError(
            f"it is {dataset.dtype} of shape {dataset.shape}, not camera frames",
            remedy="frames are (T, H, W, 3) uint8 pixels, or JPEG or PNG bytes, one row a step",
        )


def holds_frames(dataset: Any) -> bool:
    """Whether `read_frames` can read a dataset, as far as its type and its first row tell."""
    if dataset.dtype == np.uint8 and dataset.ndim == 4:
        return bool(dataset.shape[3] == 3)
    return _holds_encoded(dataset) and len(dataset) > 0 and next(map(_row_bytes, next(_slabs(dataset))))[:2] in _FORMATS


def _holds_encoded(dataset: Any) -> bool:
    if dataset.ndim == 2:
        return bool(dataset.dtype == np.uint8)
    return dataset.ndim == 1 and dataset.dtype.kind in "SVO" and dataset.dtype.names is None


def _slabs(dataset: Any) -> Iterator[Any]:
    """Rows in pieces of about _SLAB bytes (never less than one row of chunks, which HDF5 reads whole anyway)."""
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
    rows = _VARIABLE_ROWS if dataset.dtype.kind == "O" else max(1, _SLAB // max(1, row_bytes))
    if dataset.chunks and dataset.dtype.kind != "O":
        rows = max(dataset.chunks[0], rows // dataset.chunks[0] * dataset.chunks[0])
    for start in range(0, len(dataset), rows):
        slab = dataset[start : start + rows]
        # NumPy drops trailing zeros of fixed-length strings when it hands out an element: look at the bytes instead.
        yield slab.view(np.uint8).reshape(len(slab), -1) if slab.dtype.kind in "SV" else slab


def _one_row_a_chunk(dataset: Any) -> bool:
    """Whether every row lies in the file as it is: the usual layout of recorded JPEGs, read twice as fast so."""
    plain: bool = dataset.chunks == (1, *dataset.shape[1:]) and dataset.id.get_create_plist().get_nfilters() == 0
    return plain and dataset.ndim == 2


def _stored_rows(dataset: Any) -> Iterator[bytes]:
    for index in range(len(dataset)):
        yield dataset.id.read_direct_chunk((index, 0))[1]


def _rows(dataset: Any) -> Iterator[bytes]:
    for slab in _slabs(dataset):
        yield from map(_row_bytes, slab)


def _row_bytes(row: Any) -> bytes:
    if isinstance(row, str):
        return row.encode("utf-8", "surrogateescape")
    return row if isinstance(row, bytes) else np.ascontiguousarray(row).tobytes()


def _trimmed(row: bytes, index: int) -> memoryview:
    """The image at the start of a row that is filled up with zeros: up to the last end mark, then only zeros."""
    name, mark = _FORMATS.get(row[:2], ("", b"?"))
    end = row.rfind(mark) + len(mark)
    if name and end >= len(mark) and row.count(0, end) == len(row) - end:
        return memoryview(row)[:end]
    filled = row.rstrip(b"\0")
    if not name:
        what = f"starts with 0x{row[:4].hex()}" if filled else "is all zeros"
        raise SourceError(
            f"frame {index} is neither JPEG nor PNG: it {what}",
            remedy="leave this episode out, or record the camera again",
        )
    raise SourceError(
        f"the end of frame {index} cannot be found: its last bytes before the zeros are 0x{filled[-4:].hex()},"
        f" a {name} ends with 0x{mark.hex()}",
        remedy="the frame was cut when it was recorded: leave this episode out, or record it again",
    )
