"""Read Parquet columns as NumPy arrays, lists of text, or images as they lie in the file.

In: a file, column names, a range of rows. Out: numbers as (N,) or (N, …) arrays in their stored dtype, text as lists
of str | None, bytes and image structs {bytes, path} as lists of bytes | None. Only the row groups and columns that
are asked for are read, so one episode of a large file is cheap. Knows nothing of datasets; owns pyarrow for reading.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rdt_data.errors import SourceError, unknown

Column = npt.NDArray[Any] | list[Any]
"""What `read` gives for one column."""

_REMEDY = "copy or download the file again, or leave the episode out with --on-error quarantine"
_IMAGE = {"bytes", "path"}


def columns(path: Path) -> dict[str, str]:
    """Each column with its type in Arrow's words: "float", "fixed_size_list<element: float>[26]", "string".

    An image struct is "image". Raises SourceError for a file that is not Parquet.
    """
    with _opened(path) as file:
        return {field.name: "image" if _is_image(field.type) else str(field.type) for field in file.schema_arrow}


def rows(path: Path) -> int:
    """The number of rows. Raises SourceError for a file that is not Parquet."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def read(path: Path, names: Sequence[str] | None = None, start: int = 0, stop: int | None = None) -> dict[str, Column]:
    """Rows [start, stop) of the named columns, None for all.

    Lists of numbers become (N, D) when all have one width, nested ones (N, D, E), else a list of arrays. A missing
    number is NaN among floats; raises SourceError (with `field`) where it is among integers or flags, for a column
    that is not there, for a type that is none of the above, and for a damaged file.
    """
    with _opened(path) as file:
        start, stop = _checked(path, file, start, stop)
        groups, first = _groups(file, start, stop)
        wanted = file.schema_arrow.names if names is None else list(names)
        for name in wanted:
            _require(path, file, name)
        table = file.read_row_groups(groups, columns=list(dict.fromkeys(wanted)), use_threads=False)
        part = table.slice(start - first, stop - start)
        return {name: _values(part.column(name), name) for name in wanted}


def iterate(path: Path, name: str, start: int = 0, stop: int | None = None, *, batch: int = 16) -> Iterator[Any]:
    """The values of one column over rows [start, stop), one after the other, `batch` of them in memory."""
    with _opened(path) as file:
        start, stop = _checked(path, file, start, stop)
        groups, at = _groups(file, start, stop)
        _require(path, file, name)
        for piece in file.iter_batches(batch, row_groups=groups, columns=[name], use_threads=False):
            low, high = max(start - at, 0), min(stop - at, len(piece))
            at += len(piece)
            if low < high:
                yield from _values(pa.chunked_array([piece.column(0).slice(low, high - low)]), name)
            if at >= stop:
                break


def _checked(path: Path, file: pq.ParquetFile, start: int, stop: int | None) -> tuple[int, int]:
    total = int(file.metadata.num_rows)
    stop = total if stop is None else stop
    if not 0 <= start <= stop <= total:
        raise SourceError(f"{path.name} has {total} rows; rows {start} to {stop} are asked for", remedy=_REMEDY)
    return start, stop


def _groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows [start, stop), and the number of the first row in them."""
    ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
    low, high = (int(group) for group in np.searchsorted(ends, [start, stop - 1], side="right"))
    groups = list(range(low, high + 1)) if start < stop else []
    return groups, int(ends[low - 1]) if groups and low else 0


def _require(path: Path, file: pq.ParquetFile, name: str) -> None:
    if name not in file.schema_arrow.names:
        error = unknown(f"column of {path.name}", name, file.schema_arrow.names)
        raise SourceError(error.problem, remedy=error.remedy, field=name)


def _values(column: pa.ChunkedArray, name: str) -> Column:
    """One column as NumPy or as a list; see `read`."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = kind.storage_type
    if _is_image(kind):
        return [None if value is None else value["bytes"] for value in column.to_pylist()]
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return list(column.to_pylist())
    if not _is_numeric(kind):
        raise SourceError(
            f"its type is {kind}, which is neither numbers, text nor images", remedy="leave it out", field=name
        )
    array = column.combine_chunks()
    return _numbers(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array, name)


def _numbers(array: pa.Array, name: str) -> Column:
    """Numbers (N,), or lists of them: (N, D …) where all have one width."""
    kind = array.type
    if array.null_count and not pa.types.is_floating(kind):
        first = array.is_null().index(True).as_py()
        problem = f"{array.null_count} values are missing, the first is number {first}"
        raise SourceError(problem, remedy="fill them in, or leave the episode out", field=name)
    if not _is_list(kind):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    inner = _numbers(array.flatten(), name)
    if pa.types.is_fixed_size_list(kind):
        return _folded(inner, len(array), kind.list_size)
    lengths = np.diff(array.offsets.to_numpy())
    if len(set(lengths.tolist())) <= 1:
        return _folded(inner, len(array), int(lengths[0]) if len(lengths) else 0)
    ends = np.cumsum(lengths)
    return [inner[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _folded(inner: Column, count: int, width: int) -> Column:
    if isinstance(inner, list):
        return [inner[row * width : (row + 1) * width] for row in range(count)]
    return inner.reshape(count, width, *inner.shape[1:])


def _is_image(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} == _IMAGE)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if _is_list(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_numeric(kind: pa.DataType) -> bool:
    if _is_list(kind):
        return _is_numeric(kind.value_type)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open file; what pyarrow says within becomes a SourceError."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except FileNotFoundError as error:
        raise SourceError(f"{path} is not there", remedy="check the path") from error
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise SourceError(f"Parquet cannot read {path.name}: {said}", remedy=_REMEDY) from error
