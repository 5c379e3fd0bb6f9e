"""What an evaluation needs of an environment and of a robot's side of its spec, as protocols.

A `World` is one environment with one robot in it: it speaks the robot's own arrays, under the names that the robot's
recordings have, and gives frames as its cameras draw them. A `Robot` turns these into the unified layout and back
(`converters.robot.RobotSide` is one). An `Actor` turns many observations into as many chunks (`BatchedPolicy`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rdt_model.policy import BoolArray, Chunk, FloatArray, Observation, Pixels

Values = Mapping[str, npt.ArrayLike]
"""The robot's own arrays of one step: key -> a number or (D,)."""


class World(Protocol):
    """Draws only when asked for frames, which most steps need not be."""

    control_hz: float
    limit: int
    """Steps of an episode at most."""

    def reset(self, seed: int) -> None:
        """Begin the episode that belongs to a seed, at least 0; the same every time."""

    @property
    def instruction(self) -> str:
        """What the robot is told."""

    @property
    def finished(self) -> bool:
        """Whether nothing more is to be done, before `limit` steps."""

    @property
    def success(self) -> bool:
        """Whether what was asked for is done, as things stand."""

    def values(self) -> Values:
        """The robot's own arrays now; there may be more than its spec reads."""

    def frames(self) -> Mapping[str, Pixels]:
        """What the cameras see now: camera slot -> (H, W, 3) uint8 RGB, as large as it is recorded."""

    def picture(self) -> Pixels:
        """For people to look at: (H, W, 3) uint8 RGB, always of one size."""

    def step(self, command: Mapping[str, FloatArray]) -> None:
        """Do one step. command: robot's own arrays, key -> (D,). Raises RdtError for one that cannot be done."""


class Robot(Protocol):
    """See `converters.robot.RobotSide`, which says what these do."""

    def state(self, values: Values, *, previous: Values | None, first: bool) -> tuple[FloatArray, BoolArray]: ...

    def action_mask(self, state_mask: BoolArray) -> BoolArray: ...

    def command(self, action: npt.NDArray[Any], mask: BoolArray | None) -> dict[str, FloatArray]: ...


class Actor(Protocol):
    """Observations of many worlds -> a chunk each."""

    @property
    def history(self) -> int:
        """Frames of each camera it is shown."""

    @property
    def image_size(self) -> int:
        """Pixels of the square images it is shown."""

    def chunks(
        self, observations: Sequence[Observation], *, indices: Sequence[int], steps: int | None = None
    ) -> list[Chunk]:
        """indices: seed of the noise of each. steps: denoising steps."""


class Restricted:
    """A robot whose state and actions are cut to the slots that a policy has been trained on.

    state, action: (128,) bool, None for all. A recording may lack what the environment offers, velocities for
    instance: the policy is then not told them here either, as it was not in training.
    """

    def __init__(self, robot: Robot, state: BoolArray | None, action: BoolArray | None) -> None:
        self._robot, self._state, self._action = robot, state, action

    def state(self, values: Values, *, previous: Values | None, first: bool) -> tuple[FloatArray, BoolArray]:
        """As of the robot."""
        state, mask = self._robot.state(values, previous=previous, first=first)
        mask = _within(mask, self._state)
        return np.where(mask, state, np.float32(0)), mask

    def action_mask(self, state_mask: BoolArray) -> BoolArray:
        """As of the robot."""
        return _within(self._robot.action_mask(state_mask), self._action)

    def command(self, action: npt.NDArray[Any], mask: BoolArray | None) -> dict[str, FloatArray]:
        """As of the robot."""
        return self._robot.command(action, mask)


def _within(mask: BoolArray, known: BoolArray | None) -> BoolArray:
    return mask if known is None else mask & known
