"""Shards of encoded frames: what is appended is read back, a rollback leaves no trace, and zarr reads the same."""

from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import StoreError
from rdt_data.shards import FileRecord, FrameReader, FrameWriter, crc32c

LOCAL = fsspec.filesystem("file")
FRAMES = st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=30)), max_size=25)


def write(writer: FrameWriter, frames: list[bytes | None]) -> None:
    for frame in frames:
        writer.skip(1) if frame is None else writer.append(frame)


def tree(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@given(frames=FRAMES, per_shard=st.integers(1, 7), start=st.integers(0, 25), stop=st.integers(0, 25))
def test_any_range_of_frames_is_read_back(tmp_path_factory, frames, per_shard, start, stop):
    directory = tmp_path_factory.mktemp("frames")
    writer = FrameWriter(directory, per_shard)
    write(writer, frames)
    writer.close()
    stop = min(stop, len(frames))
    read = FrameReader(LOCAL, str(directory), per_shard).encoded(start, stop)
    assert read == frames[start:stop]


@given(kept=FRAMES, lost=FRAMES, more=FRAMES, per_shard=st.integers(1, 7))
def test_a_rolled_back_episode_leaves_no_byte_behind(tmp_path_factory, kept, lost, more, per_shard):
    plain, rolled = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("rolled")
    writer = FrameWriter(plain, per_shard)
    write(writer, kept + more)
    expected = writer.close()
    writer = FrameWriter(rolled, per_shard)
    write(writer, kept)
    mark = writer.mark()
    write(writer, lost)
    writer.rollback(mark)
    write(writer, more)
    assert writer.close() == expected
    assert tree(rolled) == tree(plain)


@given(frames=FRAMES)
def test_the_records_hold_size_and_checksum_of_every_file(tmp_path_factory, frames):
    directory = tmp_path_factory.mktemp("frames")
    writer = FrameWriter(directory, per_shard=4)
    write(writer, frames)
    records = writer.close()
    assert records == [FileRecord(path, len(data), crc32c(data)) for path, data in sorted(tree(directory).items())]


def test_a_damaged_index_is_named(tmp_path):
    writer = FrameWriter(tmp_path, per_shard=4)
    write(writer, [b"one", b"two"])
    writer.close()
    path = tmp_path / "c/0/0/0/0"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"the index of .* is damaged"):
        FrameReader(LOCAL, str(tmp_path), 4).encoded(0, 1)


@given(data=st.binary(max_size=100), cut=st.integers(0, 100))
def test_the_checksum_of_a_whole_is_that_of_its_parts_continued(data, cut):
    assert crc32c(memoryview(data)[cut:], crc32c(data[:cut])) == crc32c(data)


def test_the_checksum_is_castagnoli():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4 names the polynomial; the usual check value
