"""Which windows a set of episodes holds, and how they are cut into runs that are read at a time.

In: the lengths of episodes. Out: every step of an episode begins one window (its history is padded at the beginning,
its actions at the end), so an episode of T steps holds T windows; a run is up to `longest` consecutive ones of one
episode. Pure NumPy: nothing is read, nothing is random.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Episodes cut into runs: as few as `longest` allows, of nearly equal lengths, every step in exactly one.

    lengths: (E,) steps of each episode, each at least 1. longest: steps of a run, at most.
    """

    lengths: IntArray
    longest: int

    @cached_property
    def _ends(self) -> IntArray:
        """(E,) number of runs up to and with each episode."""
        return np.cumsum(-(-self.lengths // self.longest), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def windows(self) -> int:
        """Windows of all episodes together."""
        return int(self.lengths.sum())

    def run(self, number: int) -> tuple[int, int, int]:
        """Run `number`, 0 <= number < len(self): its episode's position in `lengths`, and its steps [start, stop)."""
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} runs, there is no run {number}")
        episode = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[episode - 1]) if episode else 0
        count, length, part = int(self._ends[episode]) - before, int(self.lengths[episode]), number - before
        return episode, part * length // count, (part + 1) * length // count
