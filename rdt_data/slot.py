"""What the bytes of an arena slot mean: the arrays of one block, each at its place.

A slot holds a block of up to `rows` windows. Steps are stored once: window i is a slice of each array
(`window.WindowShape`). Producers and the trainer lay the same arrays over the same bytes. No I/O, no randomness.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray, FloatArray
from rdt_data.errors import RdtError
from rdt_data.images import Pixels
from rdt_data.layout import DIM
from rdt_data.window import WindowShape

_ALIGN = 4096  # bytes; a slot begins on a page


@dataclass(frozen=True, slots=True)
class Slot:
    """The arrays of one block, views of the same bytes. R windows, F = R + history - 1, A = R + horizon - 1, C cameras.

    images: (F, C, S, S, 3) uint8 RGB; image_mask: (F, C) bool; state: (R, 128) float32; state_mask: (R, 128) bool;
    action: (A, 128) float32; action_mask: (A, 128) bool; valid: (A,) bool, False where the episode has ended.
    """

    images: Pixels
    state: FloatArray
    action: FloatArray
    image_mask: BoolArray
    state_mask: BoolArray
    action_mask: BoolArray
    valid: BoolArray


@dataclass(frozen=True, slots=True)
class SlotShape:
    """window: what a window holds; rows: windows of the longest block; cameras: slots, in order; image_size: pixels."""

    window: WindowShape
    rows: int
    cameras: tuple[str, ...]
    image_size: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.image_size < 1:
            raise RdtError(f"run_steps={self.rows}, image_size={self.image_size}", remedy="give 1 or more of both")

    @property
    def _arrays(self) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        frames, actions = self.rows + self.window.history - 1, self.rows + self.window.horizon - 1
        cameras, size = len(self.cameras), self.image_size
        return {  # by falling alignment
            "images": (np.uint8, (frames, cameras, size, size, 3)),
            "state": (np.float32, (self.rows, DIM)),
            "action": (np.float32, (actions, DIM)),
            "image_mask": (np.bool_, (frames, cameras)),
            "state_mask": (np.bool_, (self.rows, DIM)),
            "action_mask": (np.bool_, (actions, DIM)),
            "valid": (np.bool_, (actions,)),
        }

    @property
    def bytes(self) -> int:
        """Size of a slot, whole pages."""
        size = sum(_padded(_size(dtype, shape)) for dtype, shape in self._arrays.values())
        return -(-size // _ALIGN) * _ALIGN

    def over(self, memory: memoryview) -> Slot:
        """The arrays over the bytes of a slot."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        start = 0
        for name, (dtype, shape) in self._arrays.items():
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(memory, dtype, count, start).reshape(shape)
            start += _padded(_size(dtype, shape))
        return Slot(**arrays)  # type: ignore[arg-type]  # the table above gives each its dtype


def _size(dtype: type[np.generic], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _padded(size: int) -> int:
    return -(-size // 64) * 64
