"""Cut training windows out of an episode: which steps they hold, and what stands where the episode has none.

The window of step t holds the `history` frames up to and with t, the state at t, and the `horizon` actions from t on.
A step before the first or after the last repeats the nearest real one and is False in the mask beside it, so that
the loss can skip it. A run of windows shares its steps: window i of a run is a slice of the run's arrays, nothing is
stored twice. Pure NumPy: no Zarr, no threads, no randomness.
"""

from dataclasses import dataclass

import numpy as np

from rdt_data.episode import BoolArray
from rdt_data.errors import RdtError
from rdt_data.index import IntArray


@dataclass(frozen=True, slots=True)
class WindowShape:
    """history: frames of each camera, the last is the present. horizon: actions, the first is that of the present."""

    history: int
    horizon: int

    def __post_init__(self) -> None:
        for name, value in (("history", self.history), ("horizon", self.horizon)):
            if value < 1:
                raise RdtError(f"{name}={value}", remedy=f"{name} counts the present step: 1 or more")

    def frames(self, start: int, stop: int, length: int) -> tuple[IntArray, BoolArray]:
        """Steps whose frames the windows [start, stop) need, (stop - start + history - 1,), and which are real.

        Window i (of step start + i) has the frames [i, i + history).
        """
        return nearest(start - self.history + 1, stop, length)

    def actions(self, start: int, stop: int, length: int) -> tuple[IntArray, BoolArray]:
        """Steps whose actions the windows [start, stop) need, (stop - start + horizon - 1,), and which are real.

        Window i has the actions [i, i + horizon).
        """
        return nearest(start, stop + self.horizon - 1, length)


def nearest(first: int, end: int, length: int) -> tuple[IntArray, BoolArray]:
    """The steps [first, end), each the nearest that an episode of `length` steps has; and which it has."""
    steps = np.arange(first, end, dtype=np.int64)
    return np.clip(steps, 0, length - 1), (steps >= 0) & (steps < length)
