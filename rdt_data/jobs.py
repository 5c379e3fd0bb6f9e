"""Run one pure function over many items: in a plain loop, in local processes, or on a Ray cluster.

In: a function importable by its module, items that pickle. Out: (position, result) pairs as they finish. The only
file that knows Ray for batch work; processes of this machine are in `pool.py`. A function that can fail returns its
error as a value: exceptions that cross process boundaries here are bugs or a dead worker.
"""

import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from rdt_data.errors import RdtError
from rdt_data.pool import Pool

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Where functions run: `count` processes of this machine (1: this process), or the cluster at `ray`.

    A context manager; leaving it early cancels what has not begun. Enter it before threads start (see `pool.Pool`).
    """

    def __init__(self, count: int = 1, *, ray: str | None = None) -> None:
        if count < 1:
            raise RdtError(f"{count} workers", remedy="use --workers 1 or more")
        self.count, self.ray = count, ray
        self._pool: Pool | None = None
        self._calls: _Calls | None = None

    def __enter__(self) -> Self:
        if self.ray is None and self.count > 1:
            self._pool = Pool(self.count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, RdtError):
            self._stop()
        if self._calls is not None:
            self._calls.close()
        if self._pool is not None:
            self._pool.close()

    @contextmanager
    def stopped_first(self) -> Iterator[None]:
        """Leaving this by an interruption (not by an RdtError) ends what is running before outer blocks are left."""
        try:
            yield
        except RdtError:
            raise
        except BaseException:  # Ctrl-C above all; raised again
            self._stop()
            raise

    def _stop(self) -> None:
        """End what is running, without waiting for its results; processes of this machine have ended afterwards."""
        if self._calls is not None:
            self._calls.stop()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        until: Callable[[Result], bool] = lambda result: False,
    ) -> Iterator[tuple[int, Result]]:
        """Yield (position in `items`, function(item)) in the order of completion.

        After a result for which `until` is true no further item begins; what has begun is still yielded.
        """
        if self._pool is not None:
            self._calls = _PoolCalls(self._pool, function, self.count)
        elif self.ray is not None:
            self._calls = _RayCalls(self.ray, function)
        else:
            for position, item in enumerate(items):
                result = function(item)
                yield position, result
                if until(result):
                    return
            return
        yield from _run(self._calls, items, until)


class _Calls(Protocol):
    """A way to run a function elsewhere: how many at once, start one, wait for at least one, end all, leave."""

    capacity: int

    def start(self, item: Any) -> Any: ...

    def finished(self, running: Sequence[Any]) -> list[tuple[Any, Any]]: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


def _run(calls: _Calls, items: Sequence[Any], until: Callable[[Any], bool]) -> Iterator[tuple[int, Any]]:
    waiting = iter(enumerate(items))
    running: dict[Any, int] = {}
    stopped = False
    while True:
        while not stopped and len(running) < calls.capacity and (entry := next(waiting, None)) is not None:
            running[calls.start(entry[1])] = entry[0]
        if not running:
            return
        for handle, result in calls.finished(list(running)):
            stopped = stopped or until(result)
            yield running.pop(handle), result


class _PoolCalls:
    def __init__(self, pool: Pool, function: Callable[[Any], Any], count: int) -> None:
        self.pool, self.function, self.capacity = pool, function, count

    def start(self, item: Any) -> Any:
        return self.pool.start(self.function, item)

    def finished(self, running: Sequence[Any]) -> list[tuple[Any, Any]]:
        return self.pool.finished()

    def stop(self) -> None:
        self.pool.stop()

    def close(self) -> None:
        """The pool stays for the next `map`."""


class _RayCalls:
    def __init__(self, address: str, function: Callable[[Any], Any]) -> None:
        import ray

        self.began = not ray.is_initialized()
        if self.began:
            _connect(address)
        self.ray, self.remote = ray, ray.remote(function)
        cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray declares no types for it
        self.capacity = 2 * max(1, int(cluster.get("CPU", 1)))
        self.running: set[Any] = set()

    def start(self, item: Any) -> Any:
        reference = self.remote.remote(item)
        self.running.add(reference)
        return reference

    def finished(self, running: Sequence[Any]) -> list[tuple[Any, Any]]:
        done, _ = self.ray.wait(list(running), num_returns=1)
        self.running.difference_update(done)
        return [(reference, self.ray.get(reference)) for reference in done]

    def stop(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference, force=True)

    def close(self) -> None:
        if self.began:
            self.ray.shutdown()


def _connect(address: str) -> None:
    """Join the cluster at `address`, or begin one of this machine ("local").

    Ray puts the directory it is called in first on the import path of its workers, where a user's own `stats` or
    `converters` would hide ours; so it is called in another one. Paths given to workers must be absolute.
    """
    import ray

    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would go on trying for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        with chdir(Path(sys.executable).parent):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except OSError as error:
        raise RdtError(
            f"no Ray cluster answers at {address} ({error})",
            remedy='give the address of one that runs (`ray start --head` prints it), or "local" to begin one here',
        ) from None
