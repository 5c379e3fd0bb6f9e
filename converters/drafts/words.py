"""What names say: the key of a value, the names of its columns, the key of a camera.

In: names as a source has them ("robot0_eef_quat", "kLeftElbow", "observations/images/cam_right_wrist"). Out: the
words in them and what these usually mean. Looks at no number; a name is a hint, and `converters.drafts.signs` tests it.
"""

import re
from collections.abc import Sequence
from typing import Literal

Kind = Literal["state", "action", "clock", "ignored"]
Side = Literal["left", "right", ""]
Role = Literal[
    "joints",
    "joint_vel",
    "gripper",
    "gripper_vel",
    "pos",
    "rotation",
    "pose",
    "lin_vel",
    "ang_vel",
    "twist",
    "base",
    "",
]
"""What columns mean; "pose" is a position and a rotation, "twist" both velocities, "base" of a moving base."""

_ACTION = {"action", "actions", "command", "commands", "commanded", "cmd", "teleop"}
_CLOCK = {"timestamp", "timestamps", "time", "clock", "stamp"}
_IGNORED_NAMES = {
    "discount", "is_first", "is_last", "is_terminal", "reward", "rewards", "done", "dones", "compress_len", "states",
    "frame_index", "episode_index", "task_index", "index", "success", "length", "terminated", "truncated",
}  # fmt: skip
_IGNORED_WORDS = {
    "embedding", "depth", "effort", "torque", "torques", "force", "forces", "wrench", "current", "object", "objects",
    "truth", "terminate", "intrinsics", "extrinsics", "calibration", "mask", "language", "pointcloud", "bounds", "next",
    "box", "cumulative", "sin", "cos",
}  # fmt: skip
_RELATIVE = {"delta", "deltas", "residual", "target", "goal", "desired", "reached", "go"}
"""Words of values that are no state, though a command may have them."""
_VELOCITY = {"vel", "vels", "velocity", "velocities", "qvel", "dq", "speed", "speeds", "twist", "jvel"}
_GRIPPER = {"gripper", "grippers", "grip", "finger", "fingers", "opening", "jaw", "close", "closed", "closedness"}
_FINGERS = {"pinky", "ring", "middle", "thumb", "little"}
_JOINT = {"joint", "joints", "qpos", "q", "jpos", "motor", "motors"}
_LIMB = {"waist", "shoulder", "elbow", "forearm", "wrist", "lift", "pan", "flex", "roll", "rotate", "pitch", "yaw"}
_EEF = {"eef", "ee", "tcp", "cartesian", "flange", "pose", "poses", "endeffector", "effector", "xyz"}
_ROTATION = {
    "quat", "quats", "quaternion", "orientation", "rot", "rotation", "euler", "rpy", "rotvec", "ortho6d", "rot6d",
    "angles", "axisangle",
}  # fmt: skip
_POSITION = {"pos", "position", "positions", "xyz", "translation", "xpos"}
_ANGULAR = {"ang", "angular", "rot", "rotation", "omega", "gyro"}
_WRIST = {"wrist", "hand", "gripper", "eye", "tool"}
_EXTERIOR = ("high", "top", "exterior", "front", "static", "agentview", "primary", "third", "image", "rgb")
"""Words of exterior cameras, the ones preferred first."""
WORDS_KEYS = (
    "language_instruction", "instruction", "natural_language_instruction", "task", "language", "prompt", "lang", "goal",
)  # fmt: skip
"""Names under which instructions are kept, the most usual first."""


def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: "obs/robot0_eefPos" -> obs, robot, eef, pos."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return tuple(word.lower() for word in re.findall(r"[A-Za-z]+(?:6d)?", spaced))


def kind_of(key: str) -> Kind:
    """What a key holds: the robot's state, its command, the time, or what no slot is for."""
    name, found = key.rsplit("/", 1)[-1], set(words(key))
    if name in _IGNORED_NAMES or found & _IGNORED_WORDS:
        return "ignored"
    if found & _ACTION:
        return "action"
    if found & _RELATIVE:
        return "ignored"
    return "clock" if set(words(name)) & _CLOCK else "state"


def side_of(name: str) -> Side:
    """Which arm a name means, where it says so."""
    found = set(words(name))
    left, right = bool(found & {"left", "l"}), bool(found & {"right", "r"})
    return "" if left == right else "left" if left else "right"


def says_velocity(key: str) -> bool:
    """Whether a name says that values are velocities."""
    return bool(set(words(key)) & _VELOCITY)


def role_of(key: str) -> Role:
    """What the name of a key says about all its columns; "" when it says nothing."""
    found = set(words(key)) - {"observation", "observations", "obs", "state", "states"}
    velocity = says_velocity(key)
    if "base" in found:
        return "base"
    if found & _GRIPPER:
        return "gripper_vel" if velocity else "gripper"
    if found & _JOINT or "qvel" in found:
        return "joint_vel" if velocity else "joints"
    if velocity:
        linear = bool(found & {"lin", "linear"})
        return "ang_vel" if found & _ANGULAR else "lin_vel" if linear else "twist" if found & _EEF else ""
    if found & _ROTATION or {"axis", "angle"} <= found:
        return "rotation"
    if found & {"pose", "poses", "tcp", "cartesian"} and not found & _POSITION:
        return "pose"
    if found & _POSITION and (found & _EEF or found <= _POSITION | {"present", "robot"}):
        return "pos"
    return "pose" if found & _EEF else ""


def column_role(name: str) -> Role:
    """What the name of one column says: "kLeftElbow" joints, "right_gripper" gripper, "ee_x" pos, "qw" rotation."""
    found = set(words(name))
    last = re.split(r"[^A-Za-z0-9]", name.removesuffix(".pos"))[-1].lower()
    if found & _GRIPPER or found & _FINGERS or ("hand" in found and "index" in found):
        return "gripper"
    if found & (_LIMB - {"roll", "pitch", "yaw"}) or found & _JOINT:
        return "joint_vel" if found & _VELOCITY else "joints"
    if last in {"x", "y", "z"}:
        return "pos"
    return "rotation" if last in {"roll", "pitch", "yaw", "qx", "qy", "qz", "qw", "rx", "ry", "rz"} else ""


def said_order(names: Sequence[str]) -> Literal["xyzw", "wxyz", ""]:
    """The order of a quaternion that a key or the names of its columns state."""
    text = "".join(name[-1] for name in names).lower() if len(names) == 4 else names[0].lower() if names else ""
    return "xyzw" if text.endswith("xyzw") else "wxyz" if text.endswith("wxyz") else ""


def camera_slot(key: str, *, pair: bool) -> str:
    """The slot of a camera by its name. pair: whether some wrist camera is named left."""
    if not set(words(key.split("/")[-1])) & _WRIST:
        return "exterior"
    return "left_wrist" if pair and side_of(key) == "left" else "right_wrist"


def exterior_rank(key: str) -> int:
    """How usual a name is for the main exterior camera, 0 most."""
    found = words(key.rsplit("/", 1)[-1])
    return next((rank for rank, word in enumerate(_EXTERIOR) if word in found), len(_EXTERIOR))


def words_rank(key: str) -> int:
    """How usual a name is for the instruction, 0 most."""
    name = key.rsplit("/", 1)[-1].split(":")[-1]
    return next((rank for rank, usual in enumerate(WORDS_KEYS) if name == usual), len(WORDS_KEYS))
