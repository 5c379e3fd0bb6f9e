"""Run one pure function over many items: in a plain loop, in local processes, or on a Ray cluster.

In: a function importable by its module, items that pickle. Out: (position, result) pairs as they finish. The only
file that knows Ray for batch work; processes of this machine are in `pool.py`. A function that can fail returns its
error as a value: exceptions that cross process boundaries here are bugs or a dead worker. `Holders` run a function
that is slow to make (an encoder): it is made once in each of them, and may raise an RdtError.
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


class Holders:
    """Run what `make()` gives, a function: here, or on `count` Ray actors that each make one and keep it.

    ray: as for `Workers`. gpus: GPUs of each actor; without any, the actors share the CPUs of the cluster. `make` and
    items pickle, and RdtErrors of either are the caller's. An actor that dies is begun again twice.
    """

    def __init__(
        self, make: Callable[[], Callable[[Any], Any]], count: int = 1, *, ray: str | None = None, gpus: int = 0
    ) -> None:
        if count < 1 or (ray is None and count > 1):
            raise RdtError(f"{count} encoders", remedy="use 1; more than one need --ray ADDRESS, or --ray local")
        self.make, self.count, self.ray, self.gpus = make, count, ray, gpus

    def map(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (position in `items`, result) in the order of completion; nothing is made for no items."""
        if not items:
            return
        if self.ray is None:
            function = self.make()
            yield from ((position, function(item)) for position, item in enumerate(items))
            return
        calls = _ActorCalls(self.ray, self.make, self.count, self.gpus)
        try:
            yield from _run(calls, items, lambda result: False)
        finally:
            calls.close()


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
            connect(address)
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


class _Holder:
    """What an actor runs. The function is made by the first call, whose errors reach the caller."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.make = make
        self.function: Callable[[Any], Any] | None = None

    def call(self, item: Any) -> tuple[RdtError | None, Any]:
        try:
            self.function = self.function or self.make()
            return None, self.function(item)
        except RdtError as error:
            return error, None


class _ActorCalls:
    def __init__(self, address: str, make: Callable[[], Callable[[Any], Any]], count: int, gpus: int) -> None:
        import ray

        self.ray: Any = ray
        self.began, self.actors = not ray.is_initialized(), list[Any]()
        if self.began:
            connect(address)
        try:
            cpus = _cpus_each([node["Resources"] for node in self.ray.nodes() if node["Alive"]], count, gpus)
            remote = self.ray.remote(num_gpus=gpus, num_cpus=cpus, max_restarts=2, max_task_retries=2)(_Holder)
            self.actors += [remote.remote(make) for _ in range(count)]
        except BaseException:  # raised again: a cluster that began here must not stay
            self.close()
            raise
        self.capacity = 2 * count  # one is waiting while one is computed
        self.running: dict[Any, int] = {}

    def start(self, item: Any) -> Any:
        actor = min(range(len(self.actors)), key=list(self.running.values()).count)
        reference = self.actors[actor].call.remote(item)
        self.running[reference] = actor
        return reference

    def finished(self, running: Sequence[Any]) -> list[tuple[Any, Any]]:
        (done,), _ = self.ray.wait(list(running), num_returns=1)
        del self.running[done]
        try:
            error, result = self.ray.get(done)
        except self.ray.exceptions.RayActorError:
            raise RdtError(
                "an encoder on the Ray cluster died three times (killed, or out of memory)",
                remedy="run the same command again to continue; use fewer --batch-tokens if memory ran out",
            ) from None
        if error is not None:
            raise error
        return [(done, result)]

    def stop(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)

    def close(self) -> None:
        self.stop()
        if self.began:
            self.ray.shutdown()


def _cpus_each(nodes: Sequence[dict[str, float]], count: int, gpus: int) -> int:
    """CPUs of each of `count` actors: one beside GPUs, else the most for which nodes have room (its threads).

    Raises RdtError where there is none; Ray would wait for ever.
    """
    cpus, cards = ([int(node.get(name, 0)) for node in nodes] for name in ("CPU", "GPU"))
    for each in range(1 if gpus else max(cpus, default=0), 0, -1):
        room = [min(have // each, card // gpus if gpus else count) for have, card in zip(cpus, cards, strict=True)]
        if sum(room) >= count:
            return each
    raise RdtError(
        f"the Ray cluster has {sum(cpus)} CPUs and {sum(cards)} GPUs: no room for {count} encoders of {gpus} GPUs each",
        remedy="ask for fewer --gpus or --workers, or give the address of a larger cluster",
    )


def connect(address: str) -> None:
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
