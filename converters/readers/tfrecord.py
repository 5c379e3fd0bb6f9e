"""TFRecord files without TensorFlow: framing, checksums, and the `tf.train.Example` message class.

A record is `length` (8 bytes, little-endian), masked CRC32C of those 8 bytes (4), the data, masked CRC32C of
the data (4). Every checksum is verified. Records are read into one reused buffer, in pieces that are still in
the processor's cache when their checksum is computed. No memory map: a failing disk must be an error, not SIGBUS.
This file owns google_crc32c; it knows nothing of what a record contains.
"""

import functools
import importlib
import importlib.util
import os
import struct
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import google_crc32c
import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError, SourceError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_PIECE = 1 << 18  # bytes read and checksummed at a time: fits the second-level cache
_REMEDY = "copy this file again from its source and compare the sizes; the other episodes stay usable"

if google_crc32c.implementation != "c":
    raise RdtError(
        "google-crc32c runs without its C extension, which is about a thousand times too slow to check records",
        remedy="reinstall google-crc32c from a binary wheel",
    )


def masked_crc32c(data: "bytes | bytearray | memoryview | npt.NDArray[np.uint8]") -> int:
    """The checksum TFRecord stores: CRC32C rotated right by 15 bits plus a constant, modulo 2**32."""
    return _mask(google_crc32c.value(data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write `records` as one TFRecord file, as it stands (no temporary name)."""
    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + _FOOTER.pack(masked_crc32c(length)))
            file.write(record)
            file.write(_FOOTER.pack(masked_crc32c(record)))


_LOADING = threading.Lock()


@functools.cache
def example_proto() -> ModuleType:
    """The module with the `Example` message that tensorflow-datasets ships, without importing that package.

    Importing the package costs about 0.4 s. While the two message modules load, empty packages stand in for
    `tensorflow_datasets` and `tensorflow_datasets.proto`; afterwards the modules stay registered under their
    full names, so a later real import of the package finds and uses the same classes.
    """
    name = "tensorflow_datasets.proto.tf_example_generated_pb2"
    with _LOADING:
        if "tensorflow_datasets" in sys.modules:
            return importlib.import_module(name)
        found = importlib.util.find_spec("tensorflow_datasets")
        if found is None or not found.submodule_search_locations:
            raise RdtError("tensorflow-datasets is not installed", remedy="pip install tensorflow-datasets")
        root = Path(next(iter(found.submodule_search_locations)))
        stand_ins = {"tensorflow_datasets": root, "tensorflow_datasets.proto": root / "proto"}
        try:
            for package, folder in stand_ins.items():
                sys.modules[package] = ModuleType(package)
                sys.modules[package].__path__ = [str(folder)]
            return importlib.import_module(name)
        finally:
            for package in stand_ins:
                sys.modules.pop(package, None)


class TFRecordFile:
    """The records of one TFRecord file by number; each read reuses the buffer of the one before.

    `expected` is how many records there should be. A wrong checksum of the data spoils one record; a wrong
    length or an early end spoils that record and all after it. Errors say nothing of the file: `within()` does.
    """

    def __init__(self, path: Path, expected: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._size = path.stat().st_size
        self._expected = expected
        self._offsets = [0]  # of record i; one more than the headers read so far
        self._stop: str | None = None  # why no record from len(_offsets) - 1 on can be found
        self._buffer: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def __len__(self) -> int:
        return self._expected

    def close(self) -> None:
        self._file.close()

    def read(self, number: int) -> memoryview:
        """The data of record `number`, read-only; valid until the next call."""
        if not 0 <= number < self._expected:
            raise IndexError(f"record {number} of {self._expected}")
        self._find(number)
        start = self._offsets[number] + _HEADER.size
        length = self._offsets[number + 1] - _FOOTER.size - start
        if len(self._buffer) < length + _FOOTER.size:
            self._buffer = np.empty(length + length // 4 + _FOOTER.size, np.uint8)
        computed = _mask(self._fill(number, start, length))
        (stored,) = _FOOTER.unpack(self._buffer[length : length + _FOOTER.size].data)
        if stored != computed:
            raise _broken(
                f"record {number}: CRC of the data is wrong: stored 0x{stored:08x}, computed 0x{computed:08x}"
            )
        return self._buffer[:length].data.toreadonly()

    def excess(self) -> SourceError | None:
        """What is wrong behind the last expected record, if that is known: there should be nothing."""
        if len(self._offsets) <= self._expected or self._offsets[self._expected] == self._size:
            return None
        number, end = self._expected, self._offsets[self._expected]
        try:
            while self._offsets[-1] < self._size:
                number += 1
                self._find(number - 1)
        except SourceError:
            number -= 1
        what = f"{number} records" if number > self._expected else f"{self._size - end} bytes after its last record"
        return SourceError(
            f"the file holds {what}, dataset_info.json promises {self._expected} records",
            remedy="dataset_info.json and this file are not of the same version of the dataset: download both again",
        )

    def _find(self, number: int) -> None:
        """Hop over headers until the start and the end of record `number` are known."""
        while len(self._offsets) <= number + 1:
            if self._stop is None:
                self._hop(len(self._offsets) - 1)
            if self._stop is not None:
                first = len(self._offsets) - 1
                raise _broken(self._stop if number == first else f"record {number} cannot be reached: {self._stop}")

    def _hop(self, number: int) -> None:
        """Read the header of record `number`: append where it ends, or set `_stop`."""
        start = self._offsets[number]
        left = self._size - start
        end = f"the file ends {left} bytes into record {number} of {self._expected}"
        if left < _HEADER.size:
            none_left = f"the file ends after {number} of {self._expected} records"
            self._stop = none_left if left == 0 else end
            return
        header = np.empty(_HEADER.size, np.uint8)
        self._read_into(header, start, number)
        length, stored = _HEADER.unpack(header.data)
        computed = masked_crc32c(header[:8])
        if stored != computed:
            wrong = f"stored 0x{stored:08x}, computed 0x{computed:08x}"
            self._stop = f"record {number}: CRC of the length is wrong: {wrong}"
        elif _HEADER.size + length + _FOOTER.size > left:
            self._stop = f"{end}, which has {_HEADER.size + length + _FOOTER.size}"
        else:
            self._offsets.append(start + _HEADER.size + length + _FOOTER.size)

    def _fill(self, number: int, start: int, length: int) -> int:
        """Read data and footer into the buffer; returns the CRC32C of the data."""
        crc, whole = 0, length + _FOOTER.size
        for begin in range(0, whole, _PIECE):
            end = min(begin + _PIECE, whole)
            self._read_into(self._buffer[begin:end], start + begin, number)
            crc = google_crc32c.extend(crc, self._buffer[begin : min(end, length)])
        return crc

    def _read_into(self, target: npt.NDArray[np.uint8], start: int, number: int) -> None:
        view = target.data
        try:
            while view:
                count = os.preadv(self._file.fileno(), [view], start)
                if not count:
                    raise _broken(f"record {number}: the file became shorter while it was read")
                view, start = view[count:], start + count
        except OSError as error:
            raise _broken(f"record {number} cannot be read: {error.strerror or error}") from error


def _broken(problem: str) -> SourceError:
    return SourceError(problem, remedy=_REMEDY)
