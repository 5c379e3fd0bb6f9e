"""Write rows of numbers, texts and encoded images as one Parquet file. The only file that writes Parquet.

In: columns by name and kind, then batches of rows. Out: a file of as many row groups as there were batches, so that
memory holds one batch. What the columns mean is not known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["float32", "float64", "int64", "bool", "string", "strings", "image"]
"""strings: a list of texts a row. image: {bytes, path}, as the Hugging Face libraries keep encoded images."""

_TYPES: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. shape: of a row's value; () is a single value, (7,) a list of seven, (3, 1, 1) lists of lists."""

    name: str
    kind: Kind
    shape: tuple[int, ...] = ()

    @property
    def type(self) -> pa.DataType:
        kind = _TYPES[self.kind]
        for width in reversed(self.shape):
            kind = pa.list_(kind, width)
        return kind

    def array(self, values: Any) -> pa.Array:
        """values: (rows, *shape), or a sequence of texts, lists or encoded images. Masked cells are null."""
        if self.kind == "image":
            return pa.array([{"bytes": bytes(data), "path": None} for data in values], self.type)
        if self.kind in ("string", "strings"):
            return pa.array(list(values), self.type)
        mask = np.ma.getmaskarray(values).reshape(-1) if isinstance(values, np.ma.MaskedArray) else None
        flat = np.asarray(values).reshape(-1)
        array = pa.array(flat, _TYPES[self.kind], mask=mask)
        for width in reversed(self.shape):
            array = pa.FixedSizeListArray.from_arrays(array, width)
        return array


class ParquetFile:
    """A Parquet file being written; a context manager, or `close` at the end. `rows` is how many were written."""

    def __init__(self, path: Path, columns: Sequence[Column], *, metadata: Mapping[str, str] | None = None) -> None:
        """metadata: texts by name, kept in the schema."""
        self.path, self.columns, self.rows = path, tuple(columns), 0
        self._schema = pa.schema([(column.name, column.type) for column in columns], metadata=dict(metadata or {}))
        path.parent.mkdir(parents=True, exist_ok=True)
        images = any(column.kind == "image" for column in columns)  # no two are equal: a dictionary costs memory only
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=not images)

    @property
    def bytes(self) -> int:
        """What has reached the disk by now."""
        return self.path.stat().st_size

    def write(self, batch: Mapping[str, Any]) -> None:
        """Add the rows of a batch, column name -> values (see `Column.array`), as one row group."""
        arrays = [column.array(batch[column.name]) for column in self.columns]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self.rows += table.num_rows

    def close(self) -> None:
        """Write the footer, without which the file is none."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
