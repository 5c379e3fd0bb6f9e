"""Blocks in the order of the plan, each in a slot of the arena and filled; the next ones are being filled meanwhile.

In: an order of blocks, slots that are free, whoever fills them. Out: one filled block after the other, whatever order
they are finished in. Every free slot is given away at once, so the fillers are never short of work while one is free.
Where broken episodes are left out, the first block of each episode is given away with the order to read the whole
episode; blocks are taken in order, so that a broken episode is known before any sample of it is taken.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from rdt_data.errors import RdtError
from rdt_data.feed_state import Rest
from rdt_data.filling import Filling, Outcome
from rdt_data.mixture import Block
from rdt_data.producer import Facts

_LOOK_S = 1.0


@dataclass(eq=False)
class Supplied:
    """A block, how many of its rows are gone, its slot, and what came of filling it (None: not there yet)."""

    block: Block
    taken: int
    slot: int
    result: Facts | RdtError | None = None


class Supply:
    """blocks: in order. slots: how many there are. Whoever took a block gives its slot back with `release`.

    whole: read an episode whole before its first block.
    """

    def __init__(self, blocks: Iterator[Rest], slots: int, filling: Filling, whole: bool) -> None:
        self.blocks, self.filling, self.whole = blocks, filling, whole
        self.waited_s = self.busy_s = 0.0
        self.frames = 0
        self.ahead: deque[Supplied] = deque()
        self._free = list(range(slots))[::-1]
        self._given: dict[int, Supplied] = {}
        self._seen: dict[str, set[int]] = {}

    def first(self) -> Supplied | None:
        """The next block, once it has come back; it stays the next one until `take`. None: there are no more."""
        self.give()
        if not self.ahead:
            return None
        entry = self.ahead[0]
        began = time.perf_counter()
        self._sort_in(self.filling.finished(0.0))
        while entry.result is None:
            self._sort_in(self.filling.finished(_LOOK_S))
        self.waited_s += time.perf_counter() - began
        return entry

    def take(self) -> None:
        """The next block is the caller's, with its slot."""
        self.ahead.popleft()

    def release(self, slot: int) -> None:
        """A slot is free."""
        self._free.append(slot)

    def give(self) -> None:
        """Give every free slot away, as long as there are blocks."""
        while self._free and (rest := next(self.blocks, None)) is not None:
            entry = Supplied(*rest, self._free.pop())
            self._given[entry.slot] = entry
            self.ahead.append(entry)
            self.filling.start(entry.slot, entry.block, self.whole and self._is_first(entry.block))

    def _is_first(self, block: Block) -> bool:
        """Whether no block of its episode has come before."""
        seen = self._seen.setdefault(block.dataset, set())
        if block.episode in seen:
            return False
        seen.add(block.episode)
        return True

    def _sort_in(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._given.pop(outcome.slot).result = outcome.result
            self.busy_s += outcome.busy_s
            self.frames += outcome.result.frames if isinstance(outcome.result, Facts) else 0
