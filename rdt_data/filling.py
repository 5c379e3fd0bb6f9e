"""Who fills slots: the trainer's own process, or others. What crosses between them, and the simple one of the two.

In: (slot number, block, whether to read its whole episode first). Out: outcomes, in any order. From `start` until its
outcome comes, a slot belongs to whoever fills it; else it is the trainer's. `feed_actors` is the one with processes.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rdt_data.errors import RdtError
from rdt_data.mixture import Block
from rdt_data.producer import Facts, Producer
from rdt_data.slot import Slot


@dataclass(frozen=True, slots=True)
class Outcome:
    """A slot that is the trainer's again. result: what its block holds, or why it is not there; busy_s: spent."""

    slot: int
    result: Facts | RdtError
    busy_s: float


class Filling(Protocol):
    """What fills slots."""

    @property
    def pids(self) -> list[int]:
        """The processes of this machine that fill."""

    @property
    def replaced(self) -> int:
        """How many of them died or hung, and were replaced."""

    def start(self, slot: int, block: Block, whole: bool) -> None:
        """Give a slot away. whole: as for `Producer.fill`."""

    def finished(self, timeout_s: float) -> list[Outcome]:
        """Slots that came back since; waits so long for the first. Raises RdtError when none can come any more."""

    def close(self) -> None:
        """End all; afterwards nobody writes into a slot."""


class FillingHere:
    """Fill slots in this process, one when asked for what has finished."""

    def __init__(self, producer: Producer, slot: Callable[[int], Slot]) -> None:
        self.producer, self.slot = producer, slot
        self._waiting: deque[tuple[int, Block, bool]] = deque()

    pids: list[int] = []  # noqa: RUF012  # there are none, ever
    replaced = 0

    def start(self, slot: int, block: Block, whole: bool) -> None:
        self._waiting.append((slot, block, whole))

    def finished(self, timeout_s: float) -> list[Outcome]:
        if not self._waiting or timeout_s <= 0:
            return []
        number, block, whole = self._waiting.popleft()
        result, seconds = filled(self.producer, block, self.slot(number), whole)
        return [Outcome(number, result, seconds)]

    def close(self) -> None:
        self._waiting.clear()


def filled(producer: Producer, block: Block, slot: Slot, whole: bool) -> tuple[Facts | RdtError, float]:
    """Fill a slot: what the block holds, or the error, and the seconds it took."""
    began = time.perf_counter()
    try:
        return producer.fill(block, slot, whole=whole), time.perf_counter() - began
    except RdtError as error:
        return error, time.perf_counter() - began
