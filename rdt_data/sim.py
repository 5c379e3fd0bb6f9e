"""A small two-arm world to record demonstrations in and to try policies on: touch the named block with the named arm.

Two arms with ALOHA's joints stand at the left and right of a table with three coloured blocks. A state or an
action is 14 numbers in ALOHA's order, [left 6 joints, left gripper, right 6 joints, right gripper]: joints in rad
(waist, shoulder, elbow, forearm roll, wrist angle, wrist rotate), grippers from 0 closed to 1 open. An action says
where the joints shall be one step later; there are `CONTROL_HZ` steps a second. World frame: metres, x right,
y away from the exterior camera, z up, the table top at z = 0; the left arm is at x < 0, left in the exterior image.

Kinematic: nothing has mass, blocks stay where they are, arms pass through each other. Randomness is a function
of (seed, episode number). Knows no dataset format and no learning; NumPy and OpenCV only, no graphics driver.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError
from rdt_data.sim_arms import (
    JOINT_LIMITS,
    ArmPose,
    Joints,
    arm_poses,
    arm_shape,
    inverse_kinematics,
)
from rdt_data.sim_canvas import Camera, Colour, FloatArray, Image
from rdt_data.sim_render import Block, render

CONTROL_HZ: Final = 10  # steps a second
EPISODE_STEPS: Final = 40
IMAGE_SIZE: Final = (96, 128)  # pixels, (H, W)
CAMERAS: Final = ("exterior", "right_wrist", "left_wrist")
ARMS: Final = ("left", "right")  # in the order of the joints
COLOURS: Final[dict[str, Colour]] = {
    "red": (214, 48, 49),
    "green": (38, 160, 74),
    "blue": (44, 102, 214),
    "yellow": (248, 194, 18),
}

INSTRUCTION: Final = "Touch the {colour} block with the {arm} arm."
WORDS: Final = ("touch", "the", "block", "with", "arm", ".", *COLOURS, *ARMS)
"""All that instructions are made of."""

BLOCKS: Final = 3
BLOCK_EDGE: Final = 0.06  # m
BLOCK_SPACING: Final = 0.10  # m, least distance between two centres
AREA: Final = (0.40, 0.24)  # m, extent in x and y of where block centres lie, about the origin
TOUCH_RADIUS: Final = 0.035  # m, a tip this near to a block's axis …
TOUCH_HEIGHT: Final = BLOCK_EDGE + 0.015  # m, … and between the table and this height touches the block

MOST_CHANGE: Final = 0.2  # rad and 1, how far a joint or gripper can move in one step
HOME: Final = np.array([[-0.22, 0.16, 0.16], [0.22, 0.16, 0.16]])  # m, where the tips wait
HOME_SPREAD: Final = np.array([0.03, 0.03, 0.02])  # m, an episode starts at most this far from it, uniform
HOVER: Final = 0.13  # m, height of the demonstrator's tip on its way
STEP: Final = 0.02  # m, how far the demonstrator moves a tip in one step
NOISE: Final = 0.012  # rad and 1, standard deviation of the execution noise in demonstrations

EXTERIOR: Final = Camera.looking_at(
    np.array([0.0, -0.62, 1.05]), np.array([0.0, 0.08, 0.0]), np.array([0.0, 0.0, 1.0]), focal=1.65
)
WRIST_FOCAL: Final = 0.72


@dataclass(frozen=True, slots=True)
class Scene:
    """What is on the table and what is asked for."""

    colours: tuple[str, ...]  # of each block
    blocks: FloatArray  # (3, 2) m, x and y of the centres
    arm: str  # the arm that is to touch …
    target: int  # … this block

    @property
    def instruction(self) -> str:
        return INSTRUCTION.format(colour=self.colours[self.target], arm=self.arm)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy may know at one step."""

    qpos: npt.NDArray[np.float32]  # (14,) rad and 1
    qvel: npt.NDArray[np.float32]  # (14,) rad/s and 1/s, the change over the last step; 0 at the start
    images: dict[str, Image]  # by camera: (H, W, 3) RGB


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One recorded episode of T steps: what was seen, and the action that was chosen then."""

    scene: Scene
    observations: list[Observation]  # T
    actions: npt.NDArray[np.float32]  # (T, 14) joint targets as chosen, without the execution noise
    success: bool


class TwoArmEnv:
    """The world as a policy meets it: `reset`, then `step` as often as wanted; `success` says how it stands."""

    def __init__(
        self, *, image_size: tuple[int, int] = IMAGE_SIZE, cameras: Iterable[str] = CAMERAS, noise: float = 0.0
    ) -> None:
        self.image_size = image_size
        self.cameras = tuple(cameras)  # only these are drawn
        self.noise = noise  # rad and 1, standard deviation of what is added to each joint target
        self.reset(0)

    def reset(self, seed: int, episode: int = 0) -> Observation:
        """Start episode number `episode` of `seed`, both at least 0."""
        self._rng = np.random.Generator(np.random.Philox(key=np.array([seed, episode], np.uint64)))
        self.scene = draw_scene(self._rng)
        self.joints = _draw_start(self._rng)  # (14,) rad and 1, where they are now
        self._touched = touches(self.scene, self.joints)
        return self._observe(np.zeros(14))

    def step(self, action: Joints) -> Observation:
        """Drive towards the joint targets for one step. action: (14,); limits of joints and speed are kept."""
        if np.shape(action) != (14,) or not np.isfinite(action).all():
            remedy = "give 14 finite joint targets: left 6 joints, left gripper, right 6 joints, right gripper"
            raise RdtError(f"the simulation cannot execute the action {np.asarray(action)}", remedy=remedy)
        executed = action + self._rng.normal(0.0, self.noise, 14)
        change = np.clip(executed - self.joints, -MOST_CHANGE, MOST_CHANGE)
        before, self.joints = self.joints, np.clip(self.joints + change, *JOINT_LIMITS.T)
        self._touched |= touches(self.scene, self.joints)
        return self._observe((self.joints - before) * CONTROL_HZ)

    @property
    def instruction(self) -> str:
        return self.scene.instruction

    @property
    def success(self) -> bool:
        """Whether the named arm has touched the named block, and no tip any other block, since the reset."""
        return self._touched == {(self.scene.arm, self.scene.target)}

    def _observe(self, qvel: FloatArray) -> Observation:
        images = draw_cameras(self.scene, self.joints, self.image_size, self.cameras)
        return Observation(self.joints.astype(np.float32), qvel.astype(np.float32), images)


def record(
    seed: int, episode: int, *, image_size: tuple[int, int] = IMAGE_SIZE, cameras: Iterable[str] = CAMERAS
) -> Demonstration:
    """The demonstrator's episode number `episode` of `seed`, with execution noise."""
    env = TwoArmEnv(cameras=(), noise=NOISE)  # it looks at no picture: they are drawn together in the end
    observations, joints, actions = [env.reset(seed, episode)], [env.joints], []
    for _ in range(EPISODE_STEPS):
        actions.append(demonstrate(env.scene, observations[-1].qpos))
        observations.append(env.step(actions[-1]))
        joints.append(env.joints)
    drawn = draw_many([env.scene] * EPISODE_STEPS, joints[:-1], image_size, cameras)
    seen = [
        replace(observation, images={camera: images[step] for camera, images in drawn.items()})
        for step, observation in enumerate(observations[:-1])
    ]
    return Demonstration(env.scene, seen, np.array(actions, np.float32), env.success)


def draw_scene(rng: np.random.Generator) -> Scene:
    """Blocks of different colours, far enough apart, and a task."""
    half = np.array(AREA) / 2
    blocks = rng.uniform(-half, half, (BLOCKS, 2))
    while min(math.dist(a, b) for a, b in itertools.combinations(blocks, 2)) < BLOCK_SPACING:
        blocks = rng.uniform(-half, half, (BLOCKS, 2))
    colours = tuple(str(colour) for colour in rng.choice(list(COLOURS), BLOCKS, replace=False))
    return Scene(colours, blocks, ARMS[rng.integers(2)], int(rng.integers(BLOCKS)))


def _draw_start(rng: np.random.Generator) -> FloatArray:
    """Both tips near home, grippers open. returns: (14,)."""
    tips = HOME + rng.uniform(-HOME_SPREAD, HOME_SPREAD, (2, 3))
    return np.concatenate([np.append(inverse_kinematics(arm, tip), 1.0) for arm, tip in enumerate(tips)])


def touches(scene: Scene, qpos: Joints) -> set[tuple[str, int]]:
    """The (arm, block) pairs in contact. qpos: (14,)."""
    return {
        (arm, block)
        for arm, pose in zip(ARMS, arm_poses(qpos), strict=True)
        for block, centre in enumerate(scene.blocks)
        if 0.0 <= pose.tip[2] <= TOUCH_HEIGHT and math.dist(pose.tip[:2], centre) <= TOUCH_RADIUS
    }


def demonstrate(scene: Scene, qpos: Joints) -> FloatArray:
    """The scripted demonstrator: an action that depends only on where the arms are and what is asked for.

    The named arm's tip goes to the block, high on the way and down when above it, and its gripper closes as it
    comes near; the other arm's tip goes home. No tip moves more than STEP. qpos: (14,). returns: (14,).
    """
    targets = []
    for arm, pose in enumerate(arm_poses(qpos)):
        goal, gripper = HOME[arm], 1.0
        if ARMS[arm] == scene.arm:
            x, y = scene.blocks[scene.target]
            away = math.dist((x, y), pose.tip[:2])
            gripper = min(max((away - 0.01) / 0.05, 0.0), 1.0)  # closed above the block, open from 6 cm away
            goal = np.array([x, y, BLOCK_EDGE + gripper * (HOVER - BLOCK_EDGE)])
        share = min(1.0, STEP / max(math.dist(goal, pose.tip), 1e-9))
        targets.append(np.append(inverse_kinematics(arm, pose.tip + share * (goal - pose.tip)), gripper))
    return np.concatenate(targets)


def draw_cameras(scene: Scene, qpos: Joints, size: tuple[int, int], cameras: Iterable[str]) -> dict[str, Image]:
    """What some of CAMERAS see; no other is drawn. qpos: (14,); size: (H, W). returns: (H, W, 3) RGB by camera."""
    return {camera: images[0] for camera, images in draw_many([scene], [qpos], size, cameras).items()}


def draw_many(
    scenes: Sequence[Scene], qpos: Sequence[Joints], size: tuple[int, int], cameras: Iterable[str]
) -> dict[str, list[Image]]:
    """The same of B worlds, or of one at B moments, in less time than one by one. qpos: B times (14,)."""
    if not (chosen := tuple(cameras)):
        return {}
    poses = [arm_poses(joints) for joints in qpos]
    blocks = [
        [Block(x, y, BLOCK_EDGE, COLOURS[c]) for (x, y), c in zip(s.blocks, s.colours, strict=True)] for s in scenes
    ]
    shapes = [
        [arm_shape(arm, pose, float(joints[7 * arm + 6])) for arm, pose in enumerate(both)]
        for both, joints in zip(poses, qpos, strict=True)
    ]
    images = {}
    for camera in chosen:
        if camera == "exterior":
            images[camera] = render([EXTERIOR] * len(scenes), size, blocks, shapes)
        else:
            arm = ARMS.index(camera.removesuffix("_wrist"))
            images[camera] = render([_wrist_camera(both[arm]) for both in poses], size, blocks, shapes, mounted_on=arm)
    return images


def _wrist_camera(pose: ArmPose) -> Camera:
    """The camera on a hand: it sits beside the tool and looks past the tip, what is away from the user on top."""
    _, palm, tool = pose.hand.T
    return Camera.looking_at(pose.tip - 0.16 * tool + 0.05 * palm, pose.tip + 0.03 * tool, palm, WRIST_FOCAL)
