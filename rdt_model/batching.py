"""Several robots on one network: who is ready at the same time is denoised together.

The network is touched by one thread (`WorkThread`), so that the event loop answers while it computes. `Batcher` takes
what is ready: while a batch is denoised, requests gather for the next one. It waits for a request that has come but is
not ready yet (its frames are still decoded), at most until the deadline; a robot that is alone never waits.

Knows nothing of messages and sockets.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from rdt_model.work_thread import WorkThread

Ready = TypeVar("Ready")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Batched(Generic[Result]):
    """One row's result; seconds that the batch took; its number of rows."""

    result: Result
    seconds: float
    rows: int


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Ready, Result]):
    ready: Ready
    done: "asyncio.Future[Batched[Result]]"
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Ready, Result]):
    """See the module. work: a batch -> a result for each. most: rows. deadline: seconds that the first waits."""

    def __init__(
        self, thread: WorkThread, work: Callable[[Sequence[Ready]], list[Result]], *, most: int, deadline: float
    ) -> None:
        self.thread, self.work, self.most, self.deadline = thread, work, most, deadline
        self._queue: list[_Waiting[Ready, Result]] = []
        self._coming = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Around what makes a request ready: a batch may wait for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._changed.set()

    async def __call__(self, ready: Ready) -> Batched[Result]:
        """Its result, computed together with what else is ready. Raises what `work` raises, for the whole batch."""
        mine = _Waiting[Ready, Result](ready, asyncio.get_running_loop().create_future())
        self._queue.append(mine)
        self._changed.set()
        async with self._turn:  # whoever's turn it is computes for all who wait
            if not mine.done.done():
                await self._gather(mine.since + self.deadline)
                await self._compute()
        return await mine.done

    async def _gather(self, deadline: float) -> None:
        while self._coming and len(self._queue) < self.most and (left := deadline - time.monotonic()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    async def _compute(self) -> None:
        batch, self._queue = self._queue[: self.most], self._queue[self.most :]
        task = asyncio.ensure_future(self.thread.run(partial(self.work, [one.ready for one in batch])))
        task.add_done_callback(partial(_settle, batch))
        await asyncio.wait([task])


def _settle(batch: Sequence[_Waiting[Ready, Result]], task: "asyncio.Task[tuple[list[Result], float]]") -> None:
    """Give every row its result, or what was raised."""
    if (error := task.exception()) is not None:
        for one in batch:
            one.done.set_exception(error)
        return
    results, seconds = task.result()
    for one, result in zip(batch, results, strict=True):
        one.done.set_result(Batched(result, seconds, len(batch)))
