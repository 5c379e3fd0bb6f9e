"""Write one part of a store: the unit that becomes visible whole or not at all.

In: episodes with their encoded frames, one after the other. Out: a directory in which `state`, `action` and the
per-episode arrays (also `state_mask`, `action_mask`, where steps differ) are Zarr v3 arrays written by zarr,
`images/<slot>` are shards written as `shards.py` says, and the attributes list every file with its size and CRC32C.
The same episodes give the same bytes. Who calls this chooses the directory and renames it when `close` has returned.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

from rdt_data.clock import columns_of
from rdt_data.codecs import JpegCodec, PngCodec
from rdt_data.episode import BoolArray, CameraFormat, Episode, FloatArray
from rdt_data.images import Encoded
from rdt_data.layout import CAMERAS, DIM
from rdt_data.shards import FRAMES_PER_SHARD, FileRecord, FrameWriter, crc32c

ROWS_PER_CHUNK = 512
ROWS_PER_SHARD = 16_384

_NO_ROWS: FloatArray = np.empty((0, DIM), np.float32)

EPISODE_TEXTS = ("id", "source", "instruction", "instruction_raw")


@dataclass
class StepMasks:
    """The masks of a part's episodes; those that differ from step to step are kept in bits, 16 bytes a step."""

    digest: Any = field(default_factory=hashlib.sha256)
    masks: list[tuple[int, npt.NDArray[np.uint8]]] = field(default_factory=list)  # steps, bits (1 or T, 16)
    differ: bool = False

    def add(self, mask: BoolArray, steps: int) -> BoolArray:
        """mask: (128,) or (T, 128). Returns the slots that are real in any step, (128,)."""
        self.digest.update(np.ascontiguousarray(mask).data)
        self.masks.append((steps, np.packbits(np.atleast_2d(mask), axis=1)))
        self.differ |= mask.ndim == 2
        return np.asarray(np.atleast_2d(mask).any(axis=0))

    def close(self, group: zarr.Group, name: str) -> str:
        """Write (N, 128) bool when any episode's steps differ; returns the SHA-256 of all masks."""
        if self.differ:
            array = _row_array(group, name, "bool")
            for steps, bits in self.masks:
                array.append(np.broadcast_to(np.unpackbits(bits, axis=1).astype(np.bool_), (steps, DIM)))
        return str(self.digest.hexdigest())


@dataclass
class RowWriter:
    """Rows of (., 128) float32 into one compressed, sharded Zarr array, at most a shard of them in memory."""

    array: zarr.Array[Any]
    digest: Any = field(default_factory=hashlib.sha256)
    rows: list[FloatArray] = field(default_factory=list)
    waiting: int = 0

    def add(self, rows: FloatArray) -> None:
        self.digest.update(np.ascontiguousarray(rows).data)
        self.rows.append(rows)
        self.waiting += len(rows)
        if self.waiting >= ROWS_PER_SHARD:
            whole = self.waiting - self.waiting % ROWS_PER_SHARD
            block = np.concatenate(self.rows)
            self.array.append(block[:whole])
            self.rows, self.waiting = [block[whole:].copy()], self.waiting - whole

    def close(self) -> str:
        """Write what is left; returns the SHA-256 of all rows."""
        if self.waiting:
            self.array.append(np.concatenate(self.rows))
        return str(self.digest.hexdigest())


class PartWriter:
    """Add episodes, then `close`. An episode that fails while its frames are read leaves no trace."""

    def __init__(self, directory: Path, cameras: Mapping[str, CameraFormat]) -> None:
        self.directory = directory
        self.cameras = dict(cameras)
        self.episodes: list[Episode] = []
        self.image_masks: list[list[bool]] = []
        self._starts: list[int] = []
        self._steps = 0
        self._group = zarr.create_group(directory, zarr_format=3)
        self._rows = {name: RowWriter(_row_array(self._group, name)) for name in ("state", "action")}
        self._masks = {name: StepMasks() for name in ("state_mask", "action_mask")}
        self._frames = {slot: FrameWriter(directory / "images" / slot) for slot in self.cameras}

    def add(self, episode: Episode, frames: Mapping[str, Iterable[Encoded]]) -> None:
        """Write one episode. frames: slot -> exactly T encoded frames; a slot left out has none.

        What `frames` raises while it is read is raised again after everything written has been taken back.
        """
        marks = {slot: writer.mark() for slot, writer in self._frames.items()}
        try:
            for slot, writer in self._frames.items():
                if slot in frames:
                    for frame in frames[slot]:
                        writer.append(frame)
                    writer.flush()
                else:
                    writer.skip(len(episode))
                assert len(writer) == self._steps + len(episode), f"{slot}: frames and steps disagree"
        except BaseException:  # an interruption too must leave no half of an episode; raised again
            for slot, mark in marks.items():
                self._frames[slot].rollback(mark)
            raise
        self._rows["state"].add(episode.state)
        self._rows["action"].add(episode.action)
        self._starts.append(self._steps)
        self._steps += len(episode)
        self.image_masks.append([slot in frames for slot in CAMERAS])
        self.episodes.append(
            replace(  # its vectors are on disk by now, the masks of its steps kept in bits
                episode,
                state=_NO_ROWS,
                action=_NO_ROWS,
                state_mask=self._masks["state_mask"].add(episode.state_mask, len(episode)),
                action_mask=self._masks["action_mask"].add(episode.action_mask, len(episode)),
            )
        )

    def abandon(self) -> None:
        """Close open files; the caller removes the directory."""
        for writer in self._frames.values():
            writer.abandon()

    def close(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Finish every array; returns the attributes of the part: `attributes`, counts, hash, files."""
        digests = {name: rows.close() for name, rows in self._rows.items()}
        digests |= {name: masks.close(self._group, name) for name, masks in self._masks.items()}
        files = self._close_images()
        self._write_episodes()
        known = {record.path for record in files}
        for path in sorted(self.directory.rglob("*")):
            relative = path.relative_to(self.directory).as_posix()
            if path.is_file() and relative != "zarr.json" and relative not in known:
                data = path.read_bytes()
                files.append(FileRecord(relative, len(data), crc32c(data)))
        files.sort(key=lambda record: record.path)
        summary = {
            "episodes": len(self.episodes),
            "steps": self._steps,
            "content": _content_hash(digests, self.episodes, files),
            **attributes,
            "files": {record.path: [record.bytes, record.crc32c] for record in files},
        }
        self._group.update_attributes(summary)
        return summary

    def _close_images(self) -> list[FileRecord]:
        files: list[FileRecord] = []
        if self.cameras:
            images = self._group.create_group("images")
            for slot, camera in self.cameras.items():
                _frame_array(images, slot, camera, self._steps)
                for record in self._frames[slot].close():
                    files.append(FileRecord(f"images/{slot}/{record.path}", record.bytes, record.crc32c))
        return files

    def _write_episodes(self) -> None:
        group = self._group.create_group("episodes")
        count = len(self.episodes)
        numbers: dict[str, npt.NDArray[Any]] = {
            "start": np.array(self._starts, np.int64),
            "length": np.diff(np.array([*self._starts, self._steps], np.int64)),
            "control_hz": np.array([episode.control_hz for episode in self.episodes], np.float32),
            "state_mask": np.array([e.state_mask for e in self.episodes], np.bool_).reshape(count, DIM),
            "action_mask": np.array([e.action_mask for e in self.episodes], np.bool_).reshape(count, DIM),
            "image_mask": np.array(self.image_masks, np.bool_).reshape(count, len(CAMERAS)),
            **columns_of([episode.clock for episode in self.episodes]),
        }
        for name, values in numbers.items():
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=(max(count, 1), *values.shape[1:])
            )
            array[...] = values
        for name in EPISODE_TEXTS:
            _write_texts(group, name, [getattr(episode, name) for episode in self.episodes])
        if any(episode.phrasings for episode in self.episodes):
            _write_texts(group, "phrasings", [json.dumps(episode.phrasings) for episode in self.episodes])


def _row_array(group: zarr.Group, name: str, dtype: str = "float32") -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=(0, DIM),
        dtype=dtype,
        chunks=(ROWS_PER_CHUNK, DIM),
        shards=(ROWS_PER_SHARD, DIM),
        compressors=[ZstdCodec(level=1)],
        config={"write_empty_chunks": True},  # looking whether a chunk is all zero costs more than writing it
    )


def _write_texts(group: zarr.Group, name: str, texts: list[str]) -> None:
    array = group.create_array(name, shape=(len(texts),), dtype="string", chunks=(max(len(texts), 1),))
    array[...] = np.array(texts, dtype=object)


def _frame_array(group: zarr.Group, slot: str, camera: CameraFormat, steps: int) -> None:
    """The metadata of images/<slot>; its shards lie there already."""
    frame = (camera.height, camera.width, 3)
    codec: JpegCodec | PngCodec = PngCodec()
    if camera.codec == "jpeg":
        codec = JpegCodec(level=camera.quality, colorspace_data="BGR" if camera.swapped else None)
    group.create_array(
        slot,
        shape=(steps, *frame),
        dtype="uint8",
        chunks=(FRAMES_PER_SHARD, *frame),
        serializer=ShardingCodec(
            chunk_shape=(1, *frame), codecs=[codec], index_codecs=[BytesCodec(), zarr.codecs.Crc32cCodec()]
        ),
        compressors=None,
        filters=None,
    )


def _content_hash(digests: Mapping[str, str], episodes: list[Episode], files: list[FileRecord]) -> str:
    """SHA-256 over the vectors, the masks, the words and the checksums of the images."""
    words = [[*(getattr(episode, name) for name in EPISODE_TEXTS), *episode.phrasings] for episode in episodes]
    images = [list(asdict(record).values()) for record in files if record.path.startswith("images/")]
    text = json.dumps([dict(digests), words, images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
