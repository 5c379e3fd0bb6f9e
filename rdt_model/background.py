"""One piece of work at a time beside the caller's own: a checkpoint is written while training goes on.

In: functions without arguments. Out: nothing; what one raised is raised by the next call, or at the end.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rdt_model.work_thread import Begun, WorkThread


class Background:
    """A context manager, whose end waits for the work."""

    def __init__(self) -> None:
        self._thread = WorkThread("checkpoint")
        self._begun: Begun[object] | None = None

    def __call__(self, work: Callable[[], object]) -> None:
        """Begin the work, after what was begun before. Raises what that raised."""
        self._wait()
        self._begun = self._thread.begin(work)

    def _wait(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.close()  # when the work is done
        if error is None:
            self._wait()
