"""What runs while a feed is read: blocks are opened in order, rows drawn, copied into the batch, slots given back.

In: the parts of a feed, put together by `feed.Feed`. Out: batches, and at any time between two of them where it stands.
The parts know nothing of each other; this is the only place where a slot changes hands.
"""

import time
from dataclasses import dataclass

from rdt_data.arena import Arena
from rdt_data.batch import Batch, Buffers, Filled, Row, row_bytes
from rdt_data.errors import RdtError
from rdt_data.feed_state import Lane, Standing
from rdt_data.filling import Filling
from rdt_data.producer import EpisodeError, Facts
from rdt_data.shuffle import Open, Pool
from rdt_data.slot import SlotShape
from rdt_data.supply import Supply


@dataclass(slots=True)
class FeedStats:
    """Since the feed began. waited_s, copied_s: of the consumer, for blocks and for copying rows; busy_s: of all
    producers together, frames: decoded by them; copied_bytes: out of the arena; left_out: broken episodes."""

    batches: int = 0
    samples: int = 0
    waited_s: float = 0.0
    copied_s: float = 0.0
    busy_s: float = 0.0
    frames: int = 0
    copied_bytes: int = 0
    replaced_producers: int = 0
    left_out: tuple[str, ...] = ()


class Engine:
    """standing: where to begin; `lane` must give its opened blocks first. quarantine: leave broken episodes out.

    A batch that failed or was interrupted leaves an engine that only tells where it stood before.
    """

    def __init__(
        self,
        arena: Arena,
        filling: Filling,
        pool: Pool,
        lane: Lane,
        buffers: Buffers,
        shape: SlotShape,
        standing: Standing,
        quarantine: bool,
    ) -> None:
        self.arena, self.filling, self.pool, self.lane, self.buffers = arena, filling, pool, lane, buffers
        self.shape, self.quarantine = shape, quarantine
        self.supply = Supply(lane, arena.slots, filling, whole=quarantine)
        self.stats = FeedStats()
        self._batches, self._origin, self._left_out = standing.batches, standing.origin, list(standing.left_out)
        self._to_restore = len(standing.opened)
        self._before: Standing | None = None

    def batch(self, size: int) -> Batch | None:
        """The next batch of up to `size` rows; None at the end."""
        if self._before is not None:
            raise RdtError(
                "this feed has failed", remedy="make a new one; its load_state_dict takes what this one saved"
            )
        self._before = self.now()
        while self._to_restore and self._open_one():
            self._to_restore -= 1
        rows: list[Row] = []
        while len(rows) < size:
            self._open_blocks()
            picks, closed = self.pool.draw(f"{self._batches}/{len(rows)}", size - len(rows))
            if not picks:
                break
            piece = [(entry.block, entry.held, row) for entry, row in picks]
            began = time.perf_counter()
            self.buffers.copy(len(rows), piece)
            self.stats.copied_s += time.perf_counter() - began
            rows += piece
            self._release(closed)
        self.supply.give()
        self._batches += 1
        self._before = None
        if not rows:
            return None
        self._count(len(rows))
        return self.buffers.batch(rows)

    def now(self) -> Standing:
        """Where it stands, after the last batch."""
        if self._before is not None:
            return self._before
        rest = [(entry.block, entry.taken) for entry in self.supply.ahead] + list(self.lane.waiting)
        opened = [(entry.block, entry.taken) for entry in self.pool.open]
        return Standing(
            self._batches,
            self._origin,
            opened + rest[: self._to_restore],
            rest[self._to_restore :],
            list(self._left_out),
            self.lane.plan.state,
        )

    def close(self) -> None:
        """End whoever fills, then give the memory back."""
        try:
            self.filling.close()
        finally:
            self.pool.open.clear()
            self.arena.close()

    def _open_blocks(self) -> None:
        while self.pool.wants_more and self._open_one():
            pass

    def _open_one(self) -> bool:
        """Open the next block, or leave it out; False when there is none."""
        entry = self.supply.first()
        if entry is None:
            return False
        episode = (entry.block.dataset, entry.block.episode)
        if isinstance(entry.result, EpisodeError) and self.quarantine and episode not in self._left_out:
            self._left_out.append(episode)
            self._release(self.pool.leave_out(*episode))
        if episode in self._left_out:
            self.supply.release(entry.slot)
        elif isinstance(entry.result, Facts):
            arrays = self.shape.over(self.arena.slot(entry.slot))
            self.pool.add(entry.block, entry.taken, Filled(entry.slot, arrays, entry.result))
        else:
            assert entry.result is not None
            raise entry.result
        self.supply.take()
        return True

    def _release(self, closed: list[Open]) -> None:
        for entry in closed:
            self.supply.release(entry.held.number)

    def _count(self, rows: int) -> None:
        stats = self.stats
        stats.batches, stats.samples = stats.batches + 1, stats.samples + rows
        stats.copied_bytes += rows * row_bytes(self.shape)
        stats.waited_s, stats.busy_s, stats.frames = self.supply.waited_s, self.supply.busy_s, self.supply.frames
        stats.replaced_producers = self.filling.replaced
        stats.left_out = tuple(f"{name}, episode {number}" for name, number in self._left_out)
