"""The two arms of the built-in world: where their joints put them, which joints put them somewhere, how they look.

An arm has ALOHA's joints: waist, shoulder, elbow, forearm roll, wrist angle, wrist rotate, in rad. Places are metres
of the world frame, see `sim`. Knows no blocks, tasks or time.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdt_data.sim_canvas import Colour, FloatArray
from rdt_data.sim_render import ArmShape

Joints = npt.NDArray[np.floating[Any]]

BASES: Final = np.array([[-0.42, 0.16], [0.42, 0.16]])  # m, where the arms stand: left, right
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
ARM_COLOURS: Final[tuple[Colour, Colour]] = ((66, 70, 80), (112, 104, 128))

_Vector = tuple[float, float, float]
_UP: Final[_Vector] = (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ArmPose:
    """Where the parts of one arm are, in the world."""

    elbow: FloatArray  # (3,) m
    wrist: FloatArray  # (3,) m
    tip: FloatArray  # (3,) m, between the fingertips
    hand: FloatArray  # (3, 3) rotation; columns: across the fingers, along the palm, along the tool


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


def arm_poses(qpos: Joints) -> list[ArmPose]:
    """Where both arms are. qpos: (14,)."""
    return [forward_kinematics(arm, qpos[7 * arm : 7 * arm + 6]) for arm in range(len(BASES))]


def arm_shape(arm: int, pose: ArmPose, gripper: float) -> ArmShape:
    """What there is to draw of an arm. gripper: 0 closed … 1 open."""
    across, _, tool = pose.hand.T
    palm = pose.tip - FINGER * tool
    spread = (0.005 + 0.020 * gripper) * across  # m, half the opening at the tips
    wide = spread + 0.004 * across
    links = np.array([FEET[arm], SHOULDERS[arm], pose.elbow, pose.wrist, palm])
    fingers = np.array([[palm - wide, pose.tip - spread], [palm + wide, pose.tip + spread]])
    return ArmShape(links, fingers, ARM_COLOURS[arm])
