"""Processes of this machine that run functions, each over a pipe of its own.

No lock is shared between processes, so that killing one at any moment leaves nothing the others could wait for (the
queues of `concurrent.futures` share locks: a worker killed while it holds one blocks the rest for ever). The death of
a process is noticed at once and is an error: what it was working on is not done.
"""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from rdt_data.errors import RdtError


@dataclass(eq=False)
class _Worker:
    process: Any  # of the fork or the spawn context
    connection: Connection
    busy: bool = False


class Pool:
    """`count` processes, forked while this process has a single thread (their start-up is then free), else spawned."""

    def __init__(self, count: int) -> None:
        alone = threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods()
        self.method = "fork" if alone else "spawn"
        self._workers: list[_Worker] = []
        with warnings.catch_warnings():
            # Python >= 3.12 warns because BLAS keeps threads of its own; those survive a fork (pthread_atfork).
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            for _ in range(count):
                self._workers.append(self._begin())

    def _begin(self) -> _Worker:
        context = multiprocessing.get_context(self.method)
        ours, theirs = context.Pipe()
        # typeshed gives a context of a name that is only known here as BaseContext, which lacks Process
        process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()  # only the worker holds its end: the pipe breaks when it dies
        return _Worker(process, ours)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    def start(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Give an idle process work; returns a handle. Raises RdtError when a process has died."""
        if not all(worker.process.is_alive() for worker in self._workers):
            raise _died()
        worker = next((worker for worker in self._workers if not worker.busy), None)
        if worker is None:  # one that has died, or is about to, never becomes idle again
            raise _died()
        try:
            worker.connection.send((function, item))
        except OSError:
            raise _died() from None
        worker.busy = True
        return worker

    def finished(self) -> list[tuple[Any, Any]]:
        """Wait for at least one result: (handle, result). An exception of the function is raised here."""
        busy = {worker.connection: worker for worker in self._workers if worker.busy}
        ready = wait([*busy, *(worker.process.sentinel for worker in self._workers)])
        done = []
        for connection in [connection for connection in busy if connection in ready]:
            try:
                error, result = connection.recv()
            except (EOFError, OSError):
                raise _died() from None
            if error is not None:
                raise error
            busy[connection].busy = False
            done.append((busy[connection], result))
        if not done:
            raise _died()
        return done

    def stop(self) -> None:
        """End every process without waiting for its result."""
        for worker in self._workers:
            worker.process.terminate()
        self._join()

    def close(self) -> None:
        """Let every process finish what it is doing, and end."""
        for worker in self._workers:
            with suppress(OSError):  # it has died
                worker.connection.send(None)  # closing would not do: forked siblings hold our end open, too
            worker.connection.close()
        self._join()

    def _join(self) -> None:
        for worker in self._workers:
            worker.process.join()


def _serve(connection: Connection, parent: int) -> None:
    """What a process does: take (function, item), answer (error, result), until told None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    while True:
        task = connection.recv()
        if task is None:
            return
        function, item = task
        try:
            result = function(item)
        except BaseException as error:  # a mistake in the function, not a result: the parent raises it
            connection.send((error, None))
            raise
        connection.send((None, result))


def _watch(parent: int) -> None:
    """End this process when its parent is gone: forked siblings hold the parent's end of the pipe open."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _died() -> RdtError:
    return RdtError(
        "a worker process died (killed, or out of memory)",
        remedy="run the same command again to continue; use fewer --workers if memory ran out",
    )
