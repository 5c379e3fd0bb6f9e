"""The built-in two-arm world as an environment for policies that were trained on its demonstrations.

In: seeds of starts, commands in the robot's own arrays, under the names of either format of the demo data. Out: the
same arrays, and frames of the size that demonstrations have. Starts are unseen: demonstrations come from other seeds.
An episode is judged when it is over, because a later touch of another block undoes it.

As a check that language is used, `swapped` tells the policy another of the scene's tasks than the one drawn for it,
and judges it by that one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from rdt_data import sim
from rdt_data.errors import RdtError
from rdt_model.policy import FloatArray, Pixels
from rdt_model.worlds import Values

UNSEEN: Final = 2**63
"""The seed of the simulation whose episodes are starts here."""

FRAME: Final = (120, 160)
"""(H, W) pixels, as demonstrations are recorded."""

PICTURE: Final = (240, 320)

POSITIONS: Final = ("observations/qpos", "observation/state")
"""What joint positions are called in the formats of the demo data."""

VELOCITIES: Final = ("observations/qvel", "observation/velocity")
TARGETS: Final = ("action", *POSITIONS)
"""Where a command may have its joint targets: recorded ones, or the state to be reached one step later."""


class DemoWorld:
    """A `World`. cameras: those to draw. limit: steps of an episode. swapped: see the module."""

    control_hz: float = sim.CONTROL_HZ

    def __init__(
        self, *, cameras: Iterable[str] = sim.CAMERAS, limit: int = sim.EPISODE_STEPS, swapped: bool = False
    ) -> None:
        self.cameras, self.limit, self.swapped = tuple(cameras), limit, swapped
        self._env = sim.TwoArmEnv(image_size=FRAME, cameras=())  # frames are drawn when they are asked for
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._seen = self._env.reset(UNSEEN, seed)
        if self.swapped:
            self._env.scene = other_task(self._env.scene, seed)

    @property
    def scene(self) -> sim.Scene:
        """What is on the table and what is asked for."""
        return self._env.scene

    @property
    def instruction(self) -> str:
        return self._env.instruction

    @property
    def finished(self) -> bool:
        return False

    @property
    def success(self) -> bool:
        return self._env.success

    def values(self) -> Values:
        positions = dict.fromkeys(POSITIONS, self._seen.qpos)  # (14,) each
        return positions | dict.fromkeys(VELOCITIES, self._seen.qvel)

    def frames(self) -> Mapping[str, Pixels]:
        return sim.draw_cameras(self.scene, self._seen.qpos, FRAME, self.cameras)

    def picture(self) -> Pixels:
        return sim.draw_cameras(self.scene, self._seen.qpos, PICTURE, ("exterior",))["exterior"]

    def step(self, command: Mapping[str, FloatArray]) -> None:
        key = next((name for name in TARGETS if name in command), None)
        if key is None:
            raise RdtError(
                f"the built-in world takes joint targets, and the command has {', '.join(command) or 'nothing'}",
                remedy="evaluate a policy that was trained on demo data (demo_aloha or demo_two_arm)",
            )
        self._seen = self._env.step(command[key])


def other_task(scene: sim.Scene, seed: int) -> sim.Scene:
    """The same table, and another of its tasks: another arm, another block, or both."""
    tasks = [(arm, block) for arm in sim.ARMS for block in range(sim.BLOCKS)]
    tasks.remove((scene.arm, scene.target))
    rng = np.random.Generator(np.random.Philox(key=np.array([UNSEEN + 1, seed], np.uint64)))
    arm, target = tasks[rng.integers(len(tasks))]
    return replace(scene, arm=arm, target=target)
