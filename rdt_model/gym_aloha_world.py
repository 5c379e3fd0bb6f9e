"""gym-aloha as an environment: two simulated ViperX arms in MuJoCo, after ACT (Zhao et al. 2023, arXiv:2304.13705).

In: seeds of starts, commands under the names of ALOHA recordings (`observations/qpos` or `action`: left 6 joints in
rad, left gripper 0 closed … 1 open, then right). Out: the same arrays, velocities too, and frames of the camera "top".
The only file that knows gymnasium, MuJoCo and their environment variables; all of it is the extra `sim`.

gym-aloha draws three cameras at every step, with shadows; here frames are drawn when they are asked for, and shadows
and multisampling are off unless asked for, which is several times faster. A policy should see what its recordings show.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from rdt_data.errors import RdtError, unknown
from rdt_model.policy import FloatArray, Pixels
from rdt_model.worlds import Values

INSTRUCTIONS: Final = {
    "gym_aloha/AlohaTransferCube-v0": "Pick up the red cube with the right arm and hand it to the left arm.",
    "gym_aloha/AlohaInsertion-v0": ("Pick up the red peg and the blue socket and insert the peg into the socket."),
}
"""Task -> what the policy is told unless something else is asked for."""

TASKS: Final = tuple(INSTRUCTIONS)

SIMULATION_HZ: Final = 50  # gym_aloha.constants.DT is 0.02 s
UNSEEN: Final = 2**31
"""Added to seeds, which gym-aloha takes below 2**32: who records demonstrations counts from 0."""

WHOLE_REWARD: Final = 4
"""The task's reward when it is done."""

QPOS, QVEL, ACTION = "observations/qpos", "observations/qvel", "action"
FRAME: Final = (480, 640)
PICTURE: Final = (240, 320)
QUALITY: Final = {False: (0, 0), True: (4096, 4)}
"""Without and with shadows: pixels of the shadow map, and samples of a pixel. MuJoCo's defaults are the latter."""


class GymAlohaWorld:
    """A `World`. control_hz: of the policy; each of its actions lasts as many steps of the simulation as fit.

    limit: steps of the policy, None: as gymnasium has it registered. frame_size: (H, W) pixels. shadows: see the
    module. Raises RdtError when the extra is not installed, nothing can be drawn, or the rate does not divide 50 Hz.
    """

    def __init__(
        self,
        task: str,
        *,
        control_hz: float = SIMULATION_HZ,
        limit: int | None = None,
        instruction: str | None = None,
        frame_size: tuple[int, int] = FRAME,
        shadows: bool = False,
    ) -> None:
        if task not in INSTRUCTIONS:
            raise unknown("task of gym-aloha", task, TASKS)
        self._repeat = max(1, round(SIMULATION_HZ / control_hz))
        if abs(self._repeat * control_hz - SIMULATION_HZ) > 1e-6:
            raise RdtError(
                f"the policy acts at {control_hz:g} Hz, gym-aloha at {SIMULATION_HZ}",
                remedy=f"train on recordings at {SIMULATION_HZ} Hz or a whole part of it",
            )
        self.control_hz = SIMULATION_HZ / self._repeat
        self._env, steps = _make(task, shadows)
        self.limit = limit or -(-steps // self._repeat)
        self._instruction = instruction or INSTRUCTIONS[task]
        self._frame_size = frame_size
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._env.reset(seed=UNSEEN + seed)
        self._reward = 0

    @property
    def instruction(self) -> str:
        return self._instruction

    @property
    def finished(self) -> bool:
        return self.success

    @property
    def success(self) -> bool:
        """Once the reward is whole, the episode has succeeded, as gym-aloha has it."""
        return self._reward == WHOLE_REWARD

    def values(self) -> Values:
        task, physics = self._simulation.task, self._simulation.physics
        return {QPOS: task.get_qpos(physics), QVEL: task.get_qvel(physics)}  # (14,) each

    def frames(self) -> Mapping[str, Pixels]:
        return {"exterior": self._draw(self._frame_size)}

    def picture(self) -> Pixels:
        return self._draw(PICTURE)

    def step(self, command: Mapping[str, FloatArray]) -> None:
        key = ACTION if ACTION in command else QPOS
        targets = command.get(key)
        if targets is None or targets.shape != (14,) or not np.isfinite(targets).all():
            raise RdtError(
                f"gym-aloha takes 14 joint targets, and the command is {key} = {targets}",
                remedy="evaluate a policy that was trained on ALOHA recordings (spec aloha_sim)",
            )
        for _ in range(self._repeat):
            if not self.finished:
                self._reward = self._env.step(targets)[1]

    @property
    def _simulation(self) -> Any:
        return self._env.unwrapped._env

    def _draw(self, size: tuple[int, int]) -> Pixels:
        import mujoco

        try:
            return np.asarray(self._simulation.physics.render(*size, camera_id="top"), np.uint8)
        except (RuntimeError, mujoco.FatalError) as error:
            raise _cannot_draw(error) from None


def _make(task: str, shadows: bool) -> tuple[Any, int]:
    """A gymnasium environment that draws nothing by itself, and the steps that an episode of it has."""
    os.environ.setdefault("MUJOCO_GL", "egl")  # it draws without a display; read when MuJoCo's bindings are imported
    try:
        import gym_aloha  # noqa: F401  registers the tasks
        import gymnasium

        env = gymnasium.make(task, obs_type="pixels_agent_pos", disable_env_checker=True)
    except ModuleNotFoundError as error:
        raise RdtError(f"{task} needs gym-aloha: {error}", remedy="pip install 'rdt-data[sim]'") from None
    except (ImportError, RuntimeError, AttributeError) as error:  # the last: PyOpenGL without the library it is told of
        raise _cannot_draw(error) from None
    simulation: Any = env.unwrapped
    quality = simulation._env.physics.model.ptr.vis.quality
    quality.shadowsize, quality.offsamples = QUALITY[shadows]
    simulation._env.task.get_observation = _vectors(simulation._env.task)
    assert env.spec is not None
    return env, env.spec.max_episode_steps or 0


def _vectors(task: Any) -> Any:
    """What stands for gym-aloha's own observation: its shape, and nothing drawn."""
    nothing = np.zeros((1, 1, 3), np.uint8)
    return lambda physics: {"qpos": task.get_qpos(physics), "images": {"top": nothing}}


def _cannot_draw(error: Exception) -> RdtError:
    return RdtError(
        f"MuJoCo cannot draw with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}",
        remedy="unset MUJOCO_GL and install EGL (the GPU's driver has it; without a GPU, Mesa's libegl1)",
    )
