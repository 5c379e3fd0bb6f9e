"""ArrayRecord files: the records by number, through the array_record library (the only file that imports it).

The library checks its own hashes. Errors say nothing of the file: `within()` does.
"""

import contextlib
from pathlib import Path

from rdt_data.errors import RdtError, SourceError

_REMEDY = "copy this file again from its source and compare the sizes"


class ArrayRecordFile:
    """The records of one ArrayRecord file; `expected` is how many there should be."""

    def __init__(self, path: Path, expected: int) -> None:
        try:
            from array_record.python.array_record_module import ArrayRecordReader
        except ImportError as error:
            raise RdtError(
                "this dataset is stored as ArrayRecord, which needs the array_record package",
                remedy='pip install "rdt-data[arrayrecord]"',
            ) from error
        self._expected = expected
        self._last_read = -1
        try:
            self._reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
            self._count = int(self._reader.num_records())
            if not self._reader.ok():
                self._reader.close()  # raises what is wrong
        except (RuntimeError, ValueError) as error:
            raise SourceError(f"not a readable ArrayRecord file: {error}", remedy=_REMEDY) from error

    def __len__(self) -> int:
        return self._expected

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # repeats the error that a read has already raised
            self._reader.close()

    def read(self, number: int) -> memoryview:
        """The data of record `number`, read-only."""
        if not 0 <= number < self._expected:
            raise IndexError(f"record {number} of {self._expected}")
        if number >= self._count:
            raise SourceError(f"the file ends after {self._count} of {self._expected} records", remedy=_REMEDY)
        self._last_read = max(number, self._last_read)
        try:
            (data,) = self._reader.read([number])
        except (RuntimeError, ValueError) as error:
            raise SourceError(f"record {number} cannot be read: {error}", remedy=_REMEDY) from error
        return memoryview(data)

    def excess(self) -> SourceError | None:
        """What is wrong behind the last expected record, once that has been read: there should be nothing."""
        if self._count <= self._expected or self._last_read < self._expected - 1:
            return None
        return SourceError(
            f"the file holds {self._count} records, dataset_info.json promises {self._expected} records",
            remedy="dataset_info.json and this file are not of the same version of the dataset: download both again",
        )
