"""One stored episode and its camera frames, read lazily: what `Dataset` hands out.

In: the per-episode arrays of a part (read once, when first asked for) and a row. Out: vectors through zarr, encoded
frames by byte ranges, decoded frames as RGB.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload

import fsspec
import numpy as np
import numpy.typing as npt

from rdt_data.clock import COLUMNS, Clock
from rdt_data.episode import BoolArray, CameraFormat, FloatArray, same_in_all_steps
from rdt_data.errors import RdtError, StoreError, unknown
from rdt_data.images import Pixels, decode
from rdt_data.layout import CAMERAS
from rdt_data.shards import FRAMES_PER_SHARD, FrameReader, crc32c

_Bytes = TypeVar("_Bytes", bytes, memoryview)


@dataclass
class PartTable:
    """The arrays of one part. group: its zarr.Group; fs, path: where it lies; cameras: of the whole dataset."""

    group: Any
    fs: fsspec.AbstractFileSystem
    path: str
    cameras: dict[str, CameraFormat]
    _columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    _readers: dict[str, FrameReader] = field(default_factory=dict)

    def column(self, name: str) -> npt.NDArray[Any]:
        """episodes/<name> of this part, (episodes, ...)."""
        if name not in self._columns:
            self._columns[name] = np.asarray(self.group[f"episodes/{name}"][...])
        return self._columns[name]

    def holds(self, name: str) -> bool:
        """Whether this part has an array that not every part has."""
        return f"{name}/zarr.json" in self.group.attrs["files"]

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """state or action of the part's steps [start, stop), (stop - start, 128) float32."""
        return np.asarray(self.group[name][start:stop], dtype=np.float32)

    def mask(self, name: str, row: int, start: int, stop: int) -> BoolArray:
        """state_mask or action_mask of an episode, steps [start, stop) of the part: (128,), or (T, 128) if they differ.

        Parts in which no step differs from its episode have no such array of steps.
        """
        if not self.holds(name):
            return np.asarray(self.column(name)[row], dtype=np.bool_)
        return same_in_all_steps(np.asarray(self.group[name][start:stop], dtype=np.bool_))

    def step_masks(self, name: str, start: int, stop: int) -> BoolArray:
        """state_mask or action_mask of the part's steps [start, stop): (128,) when all agree, else (T, 128)."""
        if self.holds(name):
            return same_in_all_steps(np.asarray(self.group[name][start:stop], dtype=np.bool_))
        masks, length = self.column(name), self.column("length").astype(np.int64)
        first, last = np.searchsorted(np.cumsum(length), [start, max(stop - 1, start)], side="right")
        if (masks[first : last + 1] == masks[first]).all():
            return np.asarray(masks[first], dtype=np.bool_)
        of_steps = np.repeat(np.arange(len(length)), length)[start:stop]
        return np.asarray(masks[of_steps], dtype=np.bool_)

    @property
    def timed(self) -> bool:
        """Whether it is kept what timestamps say; not in older stores, nor where the source has none."""
        return self.holds("episodes/measured_hz")

    def clock(self, row: int) -> Clock:
        """What the timestamps of an episode say of its rate."""
        return Clock(**{name: self.column(name)[row].item() for name in COLUMNS}) if self.timed else Clock()

    def other_phrasings(self, row: int) -> tuple[str, ...]:
        """Every further wording of an episode's instruction, cleaned."""
        return tuple(json.loads(str(self.column("phrasings")[row]))) if self.holds("episodes/phrasings") else ()

    def frames(self, slot: str) -> FrameReader:
        """The encoded frames of one camera, all episodes of the part after one another."""
        if slot not in self._readers:
            self._readers[slot] = FrameReader(self.fs, f"{self.path}/images/{slot}", FRAMES_PER_SHARD)
        return self._readers[slot]


class StoredEpisode:
    """One episode of a store; every property reads what it needs and no more."""

    def __init__(self, table: PartTable, row: int) -> None:
        self._table, self._row = table, row

    def __len__(self) -> int:
        return int(self._table.column("length")[self._row])

    @property
    def start(self) -> int:
        """First step of this episode within its part."""
        return int(self._table.column("start")[self._row])

    @property
    def state(self) -> FloatArray:
        """(T, 128) float32, units of `layout`; slots that are not real are 0."""
        return self._table.rows("state", self.start, self.start + len(self))

    @property
    def action(self) -> FloatArray:
        """(T, 128) float32; the next state, or the recorded command, as the conversion was asked."""
        return self._table.rows("action", self.start, self.start + len(self))

    @property
    def state_mask(self) -> BoolArray:
        """(128,) bool: the slots of `state` that are real; (T, 128) where that differs from step to step."""
        return self._table.mask("state_mask", self._row, self.start, self.start + len(self))

    @property
    def action_mask(self) -> BoolArray:
        """(128,) bool: the slots of `action` that are real; (T, 128) where that differs from step to step."""
        return self._table.mask("action_mask", self._row, self.start, self.start + len(self))

    def rows(self, name: Literal["state", "action"], start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """`state` or `action` of the steps [start, stop) and its mask, as the properties give them for all steps."""
        first, last = self.start + start, self.start + stop
        return self._table.rows(name, first, last), self._table.mask(f"{name}_mask", self._row, first, last)

    @property
    def image_mask(self) -> BoolArray:
        """(3,) bool: the camera slots this episode has, in the order of `episode.CAMERAS`."""
        return np.asarray(self._table.column("image_mask")[self._row], dtype=np.bool_)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The camera slots this episode has frames of."""
        return tuple(slot for slot, there in zip(CAMERAS, self.image_mask, strict=True) if there)

    @property
    def control_hz(self) -> float:
        """Steps per second, as the spec states them."""
        return float(self._table.column("control_hz")[self._row])

    @property
    def clock(self) -> Clock:
        """The rate by the timestamps of the source; `Clock()` where it has none."""
        return self._table.clock(self._row)

    @property
    def id(self) -> str:
        """Stable name within the dataset."""
        return str(self._table.column("id")[self._row])

    @property
    def source(self) -> str:
        """File and position it was converted from, relative to the source directory."""
        return str(self._table.column("source")[self._row])

    @property
    def instruction(self) -> str:
        """Cleaned text; "" when the episode has none."""
        return str(self._table.column("instruction")[self._row])

    @property
    def instruction_raw(self) -> str:
        """The text as recorded."""
        return str(self._table.column("instruction_raw")[self._row])

    @property
    def phrasings(self) -> tuple[str, ...]:
        """Every wording of the instruction, cleaned, the instruction first."""
        return (self.instruction, *self._table.other_phrasings(self._row))

    def images(self, slot: str) -> "Frames":
        """The frames of one camera; index or slice it to decode. Raises RdtError when there are none."""
        if slot not in self.cameras:
            if slot in self._table.cameras:
                raise RdtError(f"{self.id} has no frames of {slot}", remedy=f"it has {', '.join(self.cameras)}")
            raise unknown("camera of this dataset", slot, self._table.cameras)
        return Frames(self, slot)

    def encoded(self, slot: str, step: int) -> bytes:
        """The stored JPEG or PNG bytes of one frame."""
        return self.images(slot).encoded(step)

    def __repr__(self) -> str:
        return f"StoredEpisode({self.id!r}, {len(self)} steps)"


class Frames:
    """The frames of one camera in one episode: a lazy (T, H, W, 3) uint8 RGB array."""

    def __init__(self, episode: StoredEpisode, slot: str) -> None:
        form = episode._table.cameras[slot]
        self._reader, self._start, self.swapped = episode._table.frames(slot), episode.start, form.swapped
        self.shape = (len(episode), form.height, form.width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Pixels: ...
    def __getitem__(self, index: int | slice) -> Pixels:
        if isinstance(index, int):
            return decode(self.encoded(index), swapped=self.swapped)
        steps = range(len(self))[index]
        pixels = np.empty((len(steps), *self.shape[1:]), np.uint8)
        if not steps:
            return pixels
        low, high = min(steps[0], steps[-1]), max(steps[0], steps[-1]) + 1
        stored = self._reader.encoded(self._start + low, self._start + high)
        for row, step in enumerate(steps):
            pixels[row] = decode(_present(stored[step - low]), swapped=self.swapped)
        return pixels

    def encoded(self, step: int) -> bytes:
        """The stored bytes of frame `step`; negative steps count from the end."""
        if not -len(self) <= step < len(self):
            raise IndexError(f"there are {len(self)} frames, there is no frame {step}")
        at = self._start + step % len(self)
        return _present(self._reader.encoded(at, at + 1)[0])

    def encoded_run(self, start: int, stop: int) -> list[memoryview]:
        """The stored bytes of the frames [start, stop), read in one go; the views share their memory."""
        return [_present(frame) for frame in self._reader.views(self._start + start, self._start + stop)]

    def checksums(self) -> Iterator[int]:
        """The CRC32C of the stored bytes of every frame, a few frames in memory at a time."""
        for start in range(0, len(self), 64):
            stop = min(start + 64, len(self))
            for frame in self._reader.encoded(self._start + start, self._start + stop):
                yield crc32c(_present(frame))


def _present(frame: _Bytes | None) -> _Bytes:
    if frame is None:
        raise StoreError("a frame is missing in the store", remedy="run `rdt-data verify` and convert again")
    return frame
