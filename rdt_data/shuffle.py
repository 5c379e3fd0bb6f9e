"""Which rows of which blocks make a batch: the blocks that are open at a time, and their rows in random order.

In: blocks, one after the other, and the name of a turn. Out: (block, row) pairs that depend on the seed, these
blocks and that name alone. A batch takes its rows from as many different blocks as there are: neighbours in an
episode meet in a batch only when it has more rows than blocks are open. Blocks are opened at an even rate, one when
another's worth of rows is taken, so that whoever fills them is never asked for many at once. Pure: no memory, no I/O.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdt_data.index import IntArray
from rdt_data.mixture import Block, random_of

SHARE_OPEN = 3
"""A pool should keep 1 / 3 of the rows that its blocks could have open. The first blocks are opened together and used
up together; until then the others come, one for each that is used: e times as many as there were at the start."""


@dataclass(eq=False)
class Open:
    """A block whose rows are being taken. order: its rows, the first `taken` are gone. held: what the caller keeps."""

    block: Block
    order: IntArray
    taken: int
    held: Any = None

    @property
    def left(self) -> int:
        return len(self.order) - self.taken


class Pool:
    """The open blocks. most: how many at a time; rows: how many rows it keeps open, as long as blocks come.

    shuffled: False takes blocks and rows in order.
    """

    def __init__(self, seed: int, lane: str, *, most: int, rows: int, shuffled: bool = True) -> None:
        self.seed, self.lane, self.most, self.rows, self.shuffled = seed, lane, most, rows, shuffled
        self.open: list[Open] = []

    @property
    def left(self) -> int:
        """Rows not taken yet."""
        return sum(entry.left for entry in self.open)

    @property
    def wants_more(self) -> bool:
        return len(self.open) < self.most and self.left < self.rows

    def add(self, block: Block, taken: int = 0, held: Any = None) -> Open:
        """Open a block of which `taken` rows are gone already."""
        order = np.arange(len(block), dtype=np.int64)
        if self.shuffled:
            order = random_of(self.seed, "rows", block.number).permutation(order)
        self.open.append(Open(block, order, taken, held))
        return self.open[-1]

    def leave_out(self, dataset: str, episode: int) -> list[Open]:
        """Forget all rows of an episode; the blocks that were closed by it."""
        gone = [entry for entry in self.open if (entry.block.dataset, entry.block.episode) == (dataset, episode)]
        self.open = [entry for entry in self.open if entry not in gone]
        return gone

    def draw(self, turn: str, size: int) -> tuple[list[tuple[Open, int]], list[Open]]:
        """`size` rows, fewer when no more are left, and the blocks that were closed by taking their last."""
        picks = [(entry, self._take(entry)) for entry in self._turns(turn, size)]
        closed = [entry for entry in self.open if not entry.left]
        self.open = [entry for entry in self.open if entry.left]
        return picks, closed

    def _turns(self, turn: str, size: int) -> Iterator[Open]:
        """Whose turn it is, so often that `size` rows are taken."""
        if not self.shuffled:
            in_order = (entry for entry in self.open for _ in range(entry.left))
            yield from (entry for entry, _ in zip(in_order, range(size), strict=False))
            return
        rng = random_of(self.seed, "turn", self.lane, turn)
        while size and (alive := [entry for entry in self.open if entry.left]):
            for at in rng.permutation(len(alive))[:size]:
                size -= 1
                yield alive[at]

    @staticmethod
    def _take(entry: Open) -> int:
        entry.taken += 1
        return int(entry.order[entry.taken - 1])
