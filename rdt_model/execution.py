"""How chunks of actions are executed: when a new one is asked for, and which action a step does.

In: chunks, each from the step it was asked for on. Out: one action per step. Two ways:

* receding horizon (`Execution(every=n)`): the first n actions of a chunk are done, then a new chunk is asked for.
* temporal ensembling (`Execution(every=n, decay=m)`; n is 1 as published): all chunks that reach a step are averaged,
  with weights exp(-m i), the oldest chunk i = 0 (ACT, Zhao et al. 2023, arXiv:2304.13705; m is 0.01 there). The larger
  m, the less newer chunks count.

Pure: knows no policy, robot or time but the number of the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError

FloatArray = npt.NDArray[np.float32]

ACT_DECAY: Final = 0.01


@dataclass(frozen=True, slots=True)
class Execution:
    """every: steps from one chunk to the next. decay: of temporal ensembling; None: the newest chunk alone is done."""

    every: int
    decay: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise RdtError(f"a new chunk every {self.every} steps", remedy="give 1 or more")
        if self.decay is not None and not 0 <= self.decay < np.inf:
            raise RdtError(f"temporal ensembling with decay {self.decay}", remedy=f"give 0 or more; ACT's: {ACT_DECAY}")

    def plans_at(self, step: int) -> bool:
        """Whether a new chunk is asked for before this step."""
        return step % self.every == 0

    def sees_at(self, step: int, history: int) -> bool:
        """Whether a chunk is asked for that is shown the frames of this step, among the `history` newest ones."""
        return any(self.plans_at(later) for later in range(step, step + history))

    def __str__(self) -> str:
        if self.decay is None:
            return f"a new chunk every {self.every} steps"
        return f"temporal ensembling, decay {self.decay:g}, a new chunk every {self.every} steps"


def receding(horizon: int, every: int | None = None) -> Execution:
    """Do the first `every` of `horizon` actions of each chunk, by default all."""
    return _fitting(Execution(horizon if every is None else every), horizon)


def ensembling(horizon: int, every: int | None = None, decay: float = ACT_DECAY) -> Execution:
    """Average the chunks that reach a step; a new one of `horizon` actions comes `every` steps, by default each."""
    return _fitting(Execution(1 if every is None else every, decay), horizon)


@dataclass(slots=True)
class Chunks:
    """The chunks of one episode that still reach into the future, and what they say of a step."""

    execution: Execution
    _kept: list[tuple[int, FloatArray]] = field(default_factory=list)  # the oldest first

    def add(self, step: int, actions: FloatArray) -> None:
        """A chunk, (H, …), whose first action is that of `step`."""
        if self.execution.decay is None:
            self._kept.clear()
        self._kept.append((step, actions))

    def action(self, step: int) -> FloatArray:
        """What to do at a step, (…). Steps are asked for in order. Raises RdtError when no chunk reaches it."""
        self._kept = [(start, actions) for start, actions in self._kept if step < start + len(actions)]
        found = [actions[step - start] for start, actions in self._kept if start <= step]
        if not found:
            raise RdtError(f"no chunk has an action for step {step}", remedy="ask for chunks at least every H steps")
        return ensemble(found, self.execution.decay or 0.0)


def ensemble(actions: Sequence[npt.NDArray[Any]], decay: float) -> FloatArray:
    """The mean of actions (…), the oldest first, with weights exp(-decay i); of one it is the same."""
    weights = np.exp(-decay * np.arange(len(actions)))
    mean = np.tensordot(weights / weights.sum(), np.stack(actions).astype(np.float64), axes=1)
    return np.asarray(mean, np.float32)


def _fitting(execution: Execution, horizon: int) -> Execution:
    if execution.every > horizon:
        raise RdtError(
            f"a new chunk every {execution.every} steps, and a chunk has {horizon} actions",
            remedy=f"give 1 to {horizon}",
        )
    return execution
