"""One thread that does what it is asked, one thing after the other, while who asked goes on.

In: functions. Out: what they return and how long they took, or what they raised, where it is waited for: from another
thread (`begin`) or from an event loop (`run`). A network belongs to such a thread: it is never used twice at once, and
CUDA graphs stay in the thread that made them.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")
Out = TypeVar("Out", covariant=True)


class Begun(Protocol[Out]):
    """Work under way."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Out:
        """Wait for it; raises what it raised."""


class WorkThread:
    """See the module."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], Result]) -> Begun[tuple[Result, float]]:
        """Ask for `work`; its result comes with the seconds it took, without those it waited for its turn."""
        return asyncio.run_coroutine_threadsafe(_timed(work), self._loop)

    async def run(self, work: Callable[[], Result]) -> tuple[Result, float]:
        """The same, awaited."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_timed(work), self._loop))

    def close(self) -> None:
        """End the thread when it has done what it was asked for, and all results are where they are waited for."""
        self.begin(_nothing).result()  # results are handed on in the order of the work
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _nothing() -> None:
    pass


async def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began
