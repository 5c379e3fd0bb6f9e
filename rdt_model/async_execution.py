"""Chunks executed without standing still: the next one is computed while the last one runs.

At step t a chunk is asked for, from what is seen then. Its answer takes a while, in which the robot does the next d
actions of the chunk it has: these are committed. So they are told to the policy, which in-paints them: the new chunk
begins at step t with exactly these, and goes on from there (`inpaint`; real-time chunking, Black et al. 2025,
arXiv:2506.07339). When it comes it takes over at once; up to step t + d it says what the old one said. d follows from
the longest of the last measured latencies.

The robot never stands still while d is at most half of a chunk: a new one begins with d actions that are over when it
comes, and must last for d more until the next. Blocking execution, to compare: the robot stands still for every chunk.

`ChunkSchedule` decides and is pure: it knows steps and seconds, no threads, clocks or policies. `ChunkRunner` does.
Imports no torch: it runs on the robot.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError
from rdt_model.work_thread import Begun, WorkThread

FloatArray = npt.NDArray[np.float32]

REMEMBERED: Final = 10
"""Latencies that the next one is judged by."""


class Infer(Protocol):
    """A policy, near or far (`PolicyClient.chunk`): (H, A) actions, the first `committed` of them those of the plan."""

    def __call__(self, observation: Any, plan: FloatArray | None, committed: int) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """every: steps from one chunk's question to the next one's, where latency allows. control_hz: steps per second.

    blend: steps after the committed ones over which a new chunk still leans on the old one. blocking: stand still.
    """

    every: int
    control_hz: float
    blend: int = 4
    blocking: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or self.blend < 0 or not 0 < self.control_hz < math.inf:
            raise RdtError(
                f"a chunk every {self.every} steps at {self.control_hz} Hz, blended over {self.blend}",
                remedy="give at least 1 step, more than 0 Hz, and 0 or more steps to blend",
            )


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask for: a chunk whose first action is that of `step`, with the plan from there on, (P, A)."""

    step: int
    plan: FloatArray | None
    committed: int


@dataclass(slots=True)
class ChunkSchedule:
    """See the module. latencies: the last ones, in seconds. late: chunks that came after what was committed."""

    pace: Pace
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    late: int = 0
    _start: int = 0
    _actions: FloatArray | None = None

    @property
    def committed(self) -> int:
        """Steps that pass until an answer, as far as is known; at least 1: that of the question."""
        return max(1, math.ceil(max(self.latencies, default=0.0) * self.pace.control_hz))

    def question(self, step: int) -> Question | None:
        """What to ask for before this step is done, with no question open; None: nothing yet."""
        if not self._due(step):
            return None
        if self.pace.blocking:
            self._actions = None
        rest = None if self._actions is None else self._actions[step - self._start :]
        if rest is None or not len(rest):
            return Question(step, None, 0)
        committed = min(self.committed, len(rest))
        return Question(step, rest[: committed + self.pace.blend], committed)

    def answer(self, question: Question, actions: FloatArray, seconds: float, step: int) -> None:
        """The chunk that was asked for, (H, A), how long it took, and the step that is done next."""
        if self._actions is not None and step > question.step + question.committed:
            self.late += 1
        self._start, self._actions = question.step, actions
        self.latencies.append(seconds)

    def action(self, step: int) -> FloatArray | None:
        """What to do at a step, (A,); None: no chunk reaches it, stand still until one comes."""
        if self._actions is None or step - self._start >= len(self._actions):
            return None
        action: FloatArray = self._actions[step - self._start]
        return action

    def _due(self, step: int) -> bool:
        if self._actions is None:
            return True
        latest = len(self._actions) if self.pace.blocking else len(self._actions) - self.committed
        return step - self._start >= min(self.pace.every, max(1, latest))


@dataclass(slots=True)
class RunReport:
    """What happened in an episode: steps done, chunks asked for, those that came late, seconds stood still, and how
    many actions each question committed. first_s: the wait for the first chunk, when nothing can run; not idle.
    """

    steps: int = 0
    chunks: int = 0
    late: int = 0
    idle_s: float = 0.0
    first_s: float = 0.0
    committed: list[int] = field(default_factory=list)


class ChunkRunner:
    """One robot's control loop. Call `step` once each control period; `close` it, or use it in a `with`.

    infer: the policy; called in a thread of its own, one call at a time.
    """

    def __init__(self, infer: Infer, pace: Pace) -> None:
        self._infer, self._pace = infer, pace
        self._thread = WorkThread("next chunk")
        self._begun: tuple[Question, Begun[tuple[FloatArray, float]]] | None = None
        self._schedule, self.report = ChunkSchedule(pace), RunReport()

    def reset(self) -> None:
        """A new episode: forget the chunks, and keep what latency was measured."""
        self._finish()
        self._schedule, self.report = ChunkSchedule(self._pace, self._schedule.latencies), RunReport()

    def step(self, observe: Callable[[], Any]) -> FloatArray:
        """What to do now, (A,). observe: what is seen now; called only when a chunk is asked for.

        Waits only where there is nothing to do. Raises what the policy raises, here.
        """
        step = self.report.steps
        if self._begun is not None and self._begun[1].done():
            self._take(step)
        if self._begun is None and (question := self._schedule.question(step)) is not None:
            self._ask(observe(), question)
        action = self._schedule.action(step)
        if action is None:
            action = self._wait(step)
        self.report.steps += 1
        return action

    def close(self) -> None:
        """End the thread, after the chunk that is under way."""
        self._finish()
        self._thread.close()

    def __enter__(self) -> "ChunkRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, observation: Any, question: Question) -> None:
        def work() -> FloatArray:
            return self._infer(observation, question.plan, question.committed)

        self.report.chunks += 1
        self.report.committed.append(question.committed)
        self._begun = question, self._thread.begin(work)

    def _wait(self, step: int) -> FloatArray:
        began = time.perf_counter()
        self._take(step)
        waited = time.perf_counter() - began
        if step == 0:
            self.report.first_s = waited
        else:
            self.report.idle_s += waited
        action = self._schedule.action(step)
        if action is None:
            raise RdtError(f"a chunk that does not reach step {step}", remedy="ask a policy for at least one action")
        return action

    def _take(self, step: int) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            question, work = begun
            actions, seconds = work.result()
            self._schedule.answer(question, actions, seconds, step)
            self.report.late = self._schedule.late

    def _finish(self) -> None:
        """Wait for the chunk under way, whatever it is; nobody needs it any more."""
        begun, self._begun = self._begun, None
        while begun is not None and not begun[1].done():
            time.sleep(0.001)
