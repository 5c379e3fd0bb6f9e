"""Write and read the shards of encoded camera frames, byte for byte, without decoding.

In: encoded frames in order. Out: files `c/<shard>/0/0/0` of a Zarr v3 array with shape (N, H, W, 3), one frame
per inner chunk and `FRAMES_PER_SHARD` frames per shard. Layout of a shard (zarr-specs, codec `sharding_indexed`,
index at the end): the frames one after the other, then for each frame its offset and length as little-endian
uint64 (both 2**64-1 where there is no frame), then the CRC32C of that index.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import numpy.typing as npt

from rdt_data.errors import StoreError
from rdt_data.images import Encoded

FRAMES_PER_SHARD = 1024
"""16 kB of index per shard: small against one frame, and few enough files for terabytes."""

_FLUSH_BYTES = 1 << 20
_FLUSH_FRAMES = 512  # below IOV_MAX (1024), the number of buffers one writev takes
_SMALL = 8192  # bytes; frames below it are copied together, which costs less than a call for each
_MISSING = 2**64 - 1


def crc32c(data: Encoded | npt.NDArray[np.generic], start: int = 0) -> int:
    """CRC32C (Castagnoli) of bytes, continuing from `start`."""
    import google_crc32c

    if not isinstance(data, bytes):  # the C function takes no memoryview, but any NumPy array
        data = np.frombuffer(data, np.uint8)
    return int(google_crc32c.extend(start, data))


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a part: its path inside the part, its size and the CRC32C of its bytes."""

    path: str
    bytes: int
    crc32c: int


@dataclass
class _Shard:
    size: int = 0
    crc: int = 0


@dataclass
class FrameWriter:
    """Append frames to the shards under `directory`; an episode that fails is rolled back to its mark.

    Nothing stays in memory but about a megabyte of pending frames and 16 bytes per frame. A memoryview given to
    `append` must stay valid until the next `flush`.
    """

    directory: Path
    per_shard: int = FRAMES_PER_SHARD
    _entries: list[tuple[int, int]] = field(default_factory=list)
    _shards: list[_Shard] = field(default_factory=list)
    _pending: list[Encoded] = field(default_factory=list)
    _pending_bytes: int = 0
    _fd: int | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, frame: Encoded) -> None:
        """Add one encoded frame."""
        shard = self._shard_of_next()
        size = len(frame)
        self._entries.append((shard.size, size))
        shard.size += size
        self._pending.append(frame)
        self._pending_bytes += size
        full = len(self._entries) % self.per_shard == 0
        if full or self._pending_bytes >= _FLUSH_BYTES or len(self._pending) >= _FLUSH_FRAMES:
            self.flush()
        if full:
            self._close_file()

    def skip(self, count: int) -> None:
        """Leave `count` steps without a frame: an episode that lacks this camera."""
        for _ in range(count):
            self._shard_of_next()
            self._entries.append((_MISSING, _MISSING))
            if len(self._entries) % self.per_shard == 0:
                self.flush()
                self._close_file()

    def flush(self) -> None:
        """Hand all pending bytes to the operating system."""
        if not self._pending:
            return
        if self._fd is None:
            path = self._path(len(self._shards) - 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        small = self._pending_bytes < len(self._pending) * _SMALL
        pieces = [b"".join(self._pending)] if small else self._pending
        shard = self._shards[-1]
        for piece in pieces:
            shard.crc = crc32c(piece, shard.crc)
        write_all(self._fd, pieces)
        self._pending, self._pending_bytes = [], 0

    def mark(self) -> tuple[int, int, int]:
        """Where the next episode begins; for `rollback`."""
        self.flush()
        last = self._shards[-1] if self._shards else _Shard()
        return len(self._entries), last.size, last.crc

    def rollback(self, mark: tuple[int, int, int]) -> None:
        """Forget every frame added since `mark`, on disk too."""
        count, size, crc = mark
        self._pending, self._pending_bytes = [], 0
        self._close_file()
        keep = -(-count // self.per_shard)
        for number in range(keep, len(self._shards)):
            self._path(number).unlink(missing_ok=True)
        del self._shards[keep:], self._entries[count:]
        if self._shards:
            self._shards[-1] = _Shard(size, crc)
            if size == 0:
                self._path(keep - 1).unlink(missing_ok=True)
            else:
                os.truncate(self._path(keep - 1), size)

    def close(self) -> list[FileRecord]:
        """Write the index of every shard; returns the files, paths relative to `directory`."""
        self.flush()
        self._close_file()
        files = []
        for number, shard in enumerate(self._shards):
            if shard.size == 0:  # no frame at all: Zarr reads a missing shard as the fill value
                continue
            index = np.full((self.per_shard, 2), _MISSING, "<u8")
            entries = self._entries[number * self.per_shard : (number + 1) * self.per_shard]
            index[: len(entries)] = np.array(entries, np.uint64)
            tail = index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little")
            path = self._path(number)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                write_all(fd, [tail])
            finally:
                os.close(fd)
            relative = path.relative_to(self.directory).as_posix()
            files.append(FileRecord(relative, shard.size + len(tail), crc32c(tail, shard.crc)))
        return files

    def abandon(self) -> None:
        """Close what is open without finishing (the directory is thrown away by the caller)."""
        self._pending = []
        self._close_file()

    def _shard_of_next(self) -> _Shard:
        if len(self._entries) == len(self._shards) * self.per_shard:
            self._shards.append(_Shard())
        return self._shards[-1]

    def _path(self, number: int) -> Path:
        return self.directory / "c" / str(number) / "0" / "0" / "0"

    def _close_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def write_all(fd: int, buffers: Sequence[Encoded]) -> None:
    """`os.writev` until every byte is written (a call may write less than it was given)."""
    left: list[Encoded] = list(buffers)
    while left:
        written = os.writev(fd, left)
        while left and written >= len(left[0]):
            written -= len(left[0])
            del left[0]
        if left and written:
            left[0] = memoryview(left[0])[written:]


@dataclass
class FrameReader:
    """Read encoded frames of one array, by ranges, from any fsspec file system; indexes are kept."""

    fs: fsspec.AbstractFileSystem
    url: str  # the directory of the array, without protocol
    per_shard: int
    _indexes: dict[int, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def encoded(self, start: int, stop: int) -> list[bytes | None]:
        """The stored bytes of frames [start, stop); None where there is no frame."""
        return [None if frame is None else bytes(frame) for frame in self.views(start, stop)]

    def views(self, start: int, stop: int) -> list[memoryview | None]:
        """The same, not copied: each view keeps the bytes of all that were read with it."""
        frames: list[memoryview | None] = []
        while start < stop:
            shard = start // self.per_shard
            first = shard * self.per_shard
            end = min(stop, first + self.per_shard)
            frames += self._read(shard, start - first, end - first)
            start = end
        return frames

    def _read(self, shard: int, start: int, stop: int) -> list[memoryview | None]:
        rows = self._index(shard)[start:stop]
        real = rows[rows[:, 0] != _MISSING]
        if not len(real):
            return [None] * len(rows)
        low, high = int(real[0, 0]), int(real[-1].sum())  # frames lie in order: one range holds them all
        data = memoryview(self.fs.cat_file(self._path(shard), start=low, end=high))
        if len(data) != high - low:
            raise StoreError(f"{self._path(shard)} is cut", remedy="run `rdt-data verify` and convert again")
        return [None if row[0] == _MISSING else data[int(row[0]) - low :][: int(row[1])] for row in rows]

    def _index(self, shard: int) -> npt.NDArray[np.uint64]:
        if shard not in self._indexes:
            size = 16 * self.per_shard + 4
            try:
                tail = self.fs.cat_file(self._path(shard), start=-size)
            except (FileNotFoundError, NotADirectoryError):
                self._indexes[shard] = np.full((self.per_shard, 2), _MISSING, np.uint64)
                return self._indexes[shard]
            if len(tail) != size or crc32c(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
                raise StoreError(
                    f"the index of {self._path(shard)} is damaged", remedy="run `rdt-data verify` and convert again"
                )
            self._indexes[shard] = np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)
        return self._indexes[shard]

    def _path(self, shard: int) -> str:
        return f"{self.url}/c/{shard}/0/0/0"
