"""One piece of work at a time beside the caller's own: a checkpoint is written while training goes on.

In: functions without arguments. Out: nothing; what one raised is raised by the next call, or by `close`.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rdt_data.errors import RdtError


class Background:
    """A context manager, whose end waits for the work."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __call__(self, work: Callable[[], object]) -> None:
        """Begin the work, after what was begun before."""
        self.wait()

        def do() -> None:
            try:
                work()
            except (RdtError, OSError, RuntimeError, ValueError) as error:  # `wait` raises it
                self._error = error

        self._thread = threading.Thread(target=do, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the work is done. Raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()
