"""What lint finds in a store, found in a thread of its own while pages are already shown.

In: a store. Out: `Findings`: how far it is, and, when it has finished, the findings by episode. It begins when it is
first asked for, not before, and gives the interpreter back between blocks, so that frames go on playing. A failure is
told as words: the page is of use without lint.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rdt_data.errors import RdtError
from stats.lint import EPISODES_A_CAMERA, Report, lint
from stats.lint_check import SEVERITIES, Finding

_PATIENCE = 5.0
"""Seconds that stopping waits for the block being read."""


class _Stopped(BaseException):
    """The page is closed: lint ends at the next block. No check may take it for a mistake of its own."""


@dataclass(slots=True)
class Findings:
    """How far lint is, and what it has found. images: episodes a camera whose frames are looked at."""

    url: str
    images: int = EPISODES_A_CAMERA
    _done: tuple[int, int] = (0, 0)
    _report: Report | None = None
    _by_episode: Mapping[int, Sequence[Finding]] = field(default_factory=dict)
    _failure: RdtError | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """Start, unless it has begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lint", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Let it end soon, finished or not."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def wait(self) -> None:
        """Until it has finished."""
        self.begin()
        assert self._thread is not None
        self._thread.join()

    @property
    def episodes(self) -> Mapping[int, Sequence[Finding]] | None:
        """The findings of each episode that has any; None while they are not known."""
        return None if self._report is None else self._by_episode

    @property
    def of_store(self) -> Sequence[Finding]:
        """The findings that are of no single episode."""
        return [] if self._report is None else [one for one in self._report.findings if one.episode is None]

    def as_json(self) -> dict[str, Any]:
        """How far it is: state is "running", "done" or "failed"."""
        done, total = self._done
        if self._failure is not None:
            return {"state": "failed", "error": self._failure.problem, "fix": self._failure.remedy}
        if self._report is None:
            return {"state": "running", "done": done, "total": total}
        counts = {severity: self._report.count(severity) for severity in SEVERITIES}
        return {
            "state": "done",
            "counts": counts,
            "checks": len(self._report.checks),
            "episodes": len(self._by_episode),
            "sample": self._report.sample,
        }

    def _run(self) -> None:
        try:
            report = lint(self.url, images=self.images, progress=self._progress)
        except RdtError as error:
            self._failure = error
        except _Stopped:
            self._failure = RdtError("lint was stopped", remedy="open the store again")
        else:
            found: dict[int, list[Finding]] = {}
            for finding in report.findings:
                if finding.episode is not None:
                    found.setdefault(finding.episode, []).append(finding)
            self._by_episode = found
            self._report = report  # last: it says that all is there
        finally:
            if self._report is None and self._failure is None:  # a mistake of a check: told in the terminal
                self._failure = RdtError("lint broke off", remedy=f"run `rdt-data lint {self.url}`")

    def _progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._done = done, total
