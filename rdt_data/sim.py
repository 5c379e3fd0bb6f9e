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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError
from rdt_data.sim_canvas import Camera, Colour, FloatArray, Image
from rdt_data.sim_render import ArmShape, Block, render

Joints = npt.NDArray[np.floating[Any]]

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

BLOCKS: Final = 3
BLOCK_EDGE: Final = 0.06  # m
BLOCK_SPACING: Final = 0.10  # m, least distance between two centres
AREA: Final = (0.40, 0.24)  # m, extent in x and y of where block centres lie, about the origin
TOUCH_RADIUS: Final = 0.035  # m, a tip this near to a block's axis …
TOUCH_HEIGHT: Final = BLOCK_EDGE + 0.015  # m, … and between the table and this height touches the block

BASES: Final = np.array([[-0.42, 0.16], [0.42, 0.16]])  # m, where the arms stand
HEADINGS: Final = (0.0, math.pi)  # rad, where an arm points when its waist is at 0, from +x towards +y
SHOULDER_HEIGHT: Final = 0.12  # m
FEET: Final = np.column_stack([BASES, [0.0, 0.0]])  # (2, 3) m
SHOULDERS: Final = FEET + np.array([0.0, 0.0, SHOULDER_HEIGHT])  # (2, 3) m
UPPER_ARM: Final = 0.37  # m, shoulder to elbow
FOREARM: Final = 0.37  # m, elbow to wrist
TOOL: Final = 0.13  # m, wrist to tip
FINGER: Final = 0.06  # m, palm to tip
ARM_LIMITS: Final = ((-1.6, 1.6), (-0.9, 2.4), (-2.9, 0.0), (-1.6, 1.6), (-2.6, 0.6), (-2.0, 2.0), (0.0, 1.0))
JOINT_LIMITS: Final = np.array(ARM_LIMITS * 2)  # (14, 2) rad and 1: least, greatest
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
ARM_COLOURS: Final[tuple[Colour, Colour]] = ((66, 70, 80), (112, 104, 128))

_Vector = tuple[float, float, float]
_UP: Final[_Vector] = (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is on the table and what is asked for."""

    colours: tuple[str, ...]  # of each block
    blocks: FloatArray  # (3, 2) m, x and y of the centres
    arm: str  # the arm that is to touch …
    target: int  # … this block

    @property
    def instruction(self) -> str:
        return f"Touch the {self.colours[self.target]} block with the {self.arm} arm."


@dataclass(frozen=True, slots=True)
class ArmPose:
    """Where the parts of one arm are, in the world."""

    elbow: FloatArray  # (3,) m
    wrist: FloatArray  # (3,) m
    tip: FloatArray  # (3,) m, between the fingertips
    hand: FloatArray  # (3, 3) rotation; columns: across the fingers, along the palm, along the tool


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
        self._qpos = _draw_start(self._rng)
        self._touched = touches(self.scene, self._qpos)
        return self._observe(np.zeros(14))

    def step(self, action: Joints) -> Observation:
        """Drive towards the joint targets for one step. action: (14,); limits of joints and speed are kept."""
        if np.shape(action) != (14,) or not np.isfinite(action).all():
            remedy = "give 14 finite joint targets: left 6 joints, left gripper, right 6 joints, right gripper"
            raise RdtError(f"the simulation cannot execute the action {np.asarray(action)}", remedy=remedy)
        executed = action + self._rng.normal(0.0, self.noise, 14)
        change = np.clip(executed - self._qpos, -MOST_CHANGE, MOST_CHANGE)
        before, self._qpos = self._qpos, np.clip(self._qpos + change, *JOINT_LIMITS.T)
        self._touched |= touches(self.scene, self._qpos)
        return self._observe((self._qpos - before) * CONTROL_HZ)

    @property
    def instruction(self) -> str:
        return self.scene.instruction

    @property
    def success(self) -> bool:
        """Whether the named arm has touched the named block, and no tip any other block, since the reset."""
        return self._touched == {(self.scene.arm, self.scene.target)}

    def _observe(self, qvel: FloatArray) -> Observation:
        images = draw_cameras(self.scene, self._qpos, self.image_size, self.cameras)
        return Observation(self._qpos.astype(np.float32), qvel.astype(np.float32), images)


def record(
    seed: int, episode: int, *, image_size: tuple[int, int] = IMAGE_SIZE, cameras: Iterable[str] = CAMERAS
) -> Demonstration:
    """The demonstrator's episode number `episode` of `seed`, with execution noise."""
    env = TwoArmEnv(image_size=image_size, cameras=cameras, noise=NOISE)
    observations, actions = [env.reset(seed, episode)], []
    for _ in range(EPISODE_STEPS):
        actions.append(demonstrate(env.scene, observations[-1].qpos))
        observations.append(env.step(actions[-1]))
    return Demonstration(env.scene, observations[:-1], np.array(actions, np.float32), env.success)


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


def inverse_kinematics(arm: int, tip: FloatArray) -> FloatArray:
    """The joints that hold the tool vertical with its tip at `tip` and the fingers side by side along x.

    arm: 0 left, 1 right; tip: (3,) m. returns: (6,) rad. Out of reach: the arm stretched out that way.
    """
    x, y, z = tip.tolist()
    dx, dy = x - BASES[arm, 0], y - BASES[arm, 1]
    waist = math.remainder(math.atan2(dy, dx) - HEADINGS[arm], math.tau)
    out, up = math.hypot(dx, dy), z + TOOL - SHOULDER_HEIGHT  # the wrist from the shoulder
    cosine = (out**2 + up**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
    elbow = -math.acos(min(max(cosine, -1.0), 1.0))
    shoulder = math.atan2(up, out) - math.atan2(FOREARM * math.sin(elbow), UPPER_ARM + FOREARM * math.cos(elbow))
    return np.array([waist, shoulder, elbow, 0.0, -math.pi / 2 - shoulder - elbow, -waist])


def forward_kinematics(arm: int, joints: Joints) -> ArmPose:
    """Where an arm is, for any joints. arm: 0 left, 1 right; joints: (6,) rad."""
    waist, shoulder, elbow, roll, bend, turn = joints.tolist()
    out, side = _turned((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), HEADINGS[arm] + waist)
    upper, _ = _turned(out, _UP, shoulder)
    along, normal = _turned(out, _UP, shoulder + elbow)
    normal, side = _turned(normal, side, roll)
    tool, normal = _turned(along, normal, bend)
    # With the tool straight down, `normal` now points outwards and `side` to the left of that.
    palm, across = _turned(normal, side, turn + math.pi / 2 - HEADINGS[arm])
    at_elbow = SHOULDERS[arm] + UPPER_ARM * np.array(upper)
    at_wrist = at_elbow + FOREARM * np.array(along)
    return ArmPose(at_elbow, at_wrist, at_wrist + TOOL * np.array(tool), np.array([across, palm, tool]).T)


def _turned(a: _Vector, b: _Vector, angle: float) -> tuple[_Vector, _Vector]:
    """Two perpendicular unit vectors turned in their plane by `angle`, a towards b; plain floats, as they are few."""
    cos, sin = math.cos(angle), math.sin(angle)
    (ax, ay, az), (bx, by, bz) = a, b
    return (
        (cos * ax + sin * bx, cos * ay + sin * by, cos * az + sin * bz),
        (cos * bx - sin * ax, cos * by - sin * ay, cos * bz - sin * az),
    )


def _poses(qpos: Joints) -> list[ArmPose]:
    return [forward_kinematics(arm, qpos[7 * arm : 7 * arm + 6]) for arm in range(len(ARMS))]


def touches(scene: Scene, qpos: Joints) -> set[tuple[str, int]]:
    """The (arm, block) pairs in contact. qpos: (14,)."""
    return {
        (arm, block)
        for arm, pose in zip(ARMS, _poses(qpos), strict=True)
        for block, centre in enumerate(scene.blocks)
        if 0.0 <= pose.tip[2] <= TOUCH_HEIGHT and math.dist(pose.tip[:2], centre) <= TOUCH_RADIUS
    }


def demonstrate(scene: Scene, qpos: Joints) -> FloatArray:
    """The scripted demonstrator: an action that depends only on where the arms are and what is asked for.

    The named arm's tip goes to the block, high on the way and down when above it, and its gripper closes as it
    comes near; the other arm's tip goes home. No tip moves more than STEP. qpos: (14,). returns: (14,).
    """
    targets = []
    for arm, pose in enumerate(_poses(qpos)):
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
    """What some of CAMERAS see. qpos: (14,); size: (H, W). returns: by camera, (H, W, 3) uint8 RGB."""
    poses = _poses(qpos)
    blocks = [Block(x, y, BLOCK_EDGE, COLOURS[c]) for (x, y), c in zip(scene.blocks, scene.colours, strict=True)]
    shapes = [_shape(arm, pose, float(qpos[7 * arm + 6])) for arm, pose in enumerate(poses)]
    images = {}
    for camera in cameras:
        if camera == "exterior":
            images[camera] = render(EXTERIOR, size, blocks, shapes)
        else:
            arm = ARMS.index(camera.removesuffix("_wrist"))
            images[camera] = render(_wrist_camera(poses[arm]), size, blocks, shapes, mounted_on=arm)
    return images


def _wrist_camera(pose: ArmPose) -> Camera:
    """The camera on a hand: it sits beside the tool and looks past the tip, what is away from the user on top."""
    _, palm, tool = pose.hand.T
    return Camera.looking_at(pose.tip - 0.16 * tool + 0.05 * palm, pose.tip + 0.03 * tool, palm, WRIST_FOCAL)


def _shape(arm: int, pose: ArmPose, gripper: float) -> ArmShape:
    """What there is to draw of an arm. gripper: 0 closed … 1 open."""
    across, _, tool = pose.hand.T
    palm = pose.tip - FINGER * tool
    spread = (0.005 + 0.020 * gripper) * across  # m, half the opening at the tips
    wide = spread + 0.004 * across
    links = np.array([FEET[arm], SHOULDERS[arm], pose.elbow, pose.wrist, palm])
    fingers = np.array([[palm - wide, pose.tip - spread], [palm + wide, pose.tip + spread]])
    return ArmShape(links, fingers, ARM_COLOURS[arm])
