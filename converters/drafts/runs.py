"""Which columns of one value are joints, a gripper, a position, a rotation: from its name and from its numbers.

In: `Values`. Out: `Run`s, neighbouring columns with one meaning each; columns that no run names have no reading.
Whose arm it is, velocities and commands are worked out afterwards, in `converters.drafts.guess`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from converters.drafts import rotation as rot
from converters.drafts.sample import Values
from converters.drafts.signs import Ops, Sign, gripper, joined
from converters.drafts.words import Role, Side, column_role, role_of, said_order, side_of, words

FULL_TURNS = 2 * np.pi * 1.05
STEMS = {
    "joints": "arm_joint_pos", "joint_vel": "arm_joint_vel", "gripper": "gripper_open", "pos": "eef_pos",
    "rotation": "eef_ortho6d", "lin_vel": "eef_lin_vel", "ang_vel": "eef_ang_vel",
}  # fmt: skip
"""Role -> the group of slots, without its side."""
ALOHA = "observations/qpos"
"""Of ALOHA recordings: 14 columns, six joints and a gripper for the left arm, then for the right."""
_OPEN, _CLOSED = {"open", "opened", "openness", "opening", "width", "aperture"}, {"close", "closed", "closedness"}

IsPose = Callable[[Values, int], str]
"""(values, first of six columns) -> what shows that they are x, y, z and three angles; "" when nothing does."""


@dataclass(frozen=True, slots=True)
class Run:
    """Columns [start, stop) of a value and what they seem to be. question: what its "?" asks."""

    key: str
    start: int
    stop: int
    role: Role
    sign: Sign
    side: Side = ""

    @property
    def width(self) -> int:
        return self.stop - self.start


def runs_of(values: Values, is_pose: IsPose, *, grippers_apart: bool) -> list[Run]:
    """The runs of one value, by column. grippers_apart: whether another value is named for the gripper."""
    if values.names:
        return list(_named(values))
    role, side = role_of(values.key), side_of(values.key)
    step = values.width // 2 if is_bimanual(values) else values.width
    found: list[Run] = []
    for start in range(0, values.width, step):
        found += _arm(values, start, start + step, role, is_pose, grippers_apart)
    return [replace(run, side=side) for run in found]


def is_bimanual(values: Values) -> bool:
    """Whether a value holds two arms one after the other: 2 x 7 or 2 x 8 columns, rotations at the same places."""
    role = role_of(values.key)
    if values.names or values.width not in (14, 16) or side_of(values.key) or role not in ("joints", ""):
        return False
    half = values.width // 2
    starts = {run.start for run in _rotations(values, 0, values.width)} if role == "" else set()
    return {start + half for start in starts if start < half} == {start for start in starts if start >= half}


def _arm(values: Values, start: int, stop: int, role: Role, is_pose: IsPose, grippers_apart: bool) -> list[Run]:
    """The runs of one arm's columns."""
    match role:
        case "gripper":
            return _gripper(values, start, stop)
        case "joints":
            return _joints(values, start, stop, split=_may_end_in_gripper(values, start, stop, grippers_apart))
        case "rotation":
            return _rotation(values, start, stop)
        case "pos" if stop - start == 3:
            return [_position(values, start, "named so")]
        case "pose" | "pos" | "":
            return list(_by_structure(values, start, stop, role, is_pose))
    return []


def _may_end_in_gripper(values: Values, start: int, stop: int, grippers_apart: bool) -> bool:
    """Whether joints may have a gripper behind them: eight columns, or seven that are not said to be joints alone."""
    return stop - start > 7 or (stop - start == 7 and not grippers_apart and "qpos" in words(values.key))


def polarity(key: str) -> str:
    """Which end of a gripper is high, where the name says so."""
    found = set(words(key))
    return "open" if found & _OPEN else "closed" if found & _CLOSED else ""


def _gripper(values: Values, start: int, stop: int) -> list[Run]:
    column = joined(values.cols(start, start + 1))[:, 0]
    sign = gripper(column, named=True, polarity=polarity(values.key))
    if sign is None or stop - start > 2:
        return []
    if stop - start == 2:
        sign = replace(sign, why=f"{sign.why}; the first of two fingers")
    return [Run(values.key, start, start + 1, "gripper", _with_start(sign, values, start))]


def _with_start(sign: Sign, values: Values, column: int) -> Sign:
    """The sign, with where the gripper begins when its polarity is asked: demonstrations usually begin open."""
    if "?" not in sign.ops:
        return sign
    whole = joined(values.cols(column, column + 1))
    high = sum(bool(array[0, column] > (whole.min() + whole.max()) / 2) for array in values.arrays)
    return replace(sign, why=f"{sign.why}; begins high in {high} of {len(values.arrays)} episodes (most begin open)")


def _at_end(values: Values, stop: int, *, named: bool = False) -> list[Run]:
    """The last column as a gripper, when it behaves like one. named: whether it is known to be one."""
    sign = gripper(joined(values.cols(stop - 1, stop))[:, 0], named=named)
    return [] if sign is None else [Run(values.key, stop - 1, stop, "gripper", _with_start(sign, values, stop - 1))]


def _joints(values: Values, start: int, stop: int, *, split: bool) -> list[Run]:
    fingers = joined(values.cols(stop - 2, stop)) if stop - start == 9 else None
    if fingers is not None and fingers.min() >= -0.005 and fingers.max() < 0.06:  # a Franka's two fingers
        return [*_joints(values, start, stop - 2, split=False), *_gripper(values, stop - 2, stop)]
    end = _at_end(values, stop, named=values.key == ALOHA and values.width == 14) if split else []
    if stop - len(end) - start > 10:
        return []
    return [joint_run(values, start, stop - len(end), "named so"), *end]


def joint_run(values: Values, start: int, stop: int, why: str) -> Run:
    """These columns as joints, in rad or, by their size or name, in degrees."""
    largest = float(np.abs(joined(values.cols(start, stop))).max(initial=0))
    degrees = largest > FULL_TURNS or "deg" in words(values.key)
    size = f"up to {largest:.3g}: {'degrees' if degrees else 'within two turns of a radian scale'}"
    sign = (
        Sign("deg", ("deg_to_rad",), f"{why}, {size}")
        if degrees
        else Sign("rad", (), f"{why}, up to {largest:.3g} rad")
    )
    return Run(values.key, start, stop, "joints", sign)


def _position(values: Values, start: int, why: str) -> Run:
    largest = float(np.abs(joined(values.cols(start, start + 3))).max(initial=0))
    if largest > 20 or "mm" in words(values.key):
        sign = Sign("mm", ("mm_to_m",), f"{why}, up to {largest:.4g}: millimetres")
    elif largest > 5:
        sign = Sign("?", (), f"{why}, up to {largest:.3g}", "m, or mm with ops: [mm_to_m]")
    else:
        sign = Sign("m", (), f"{why}, up to {largest:.3g} m")
    return Run(values.key, start, start + 3, "pos", sign)


def _rotation(values: Values, start: int, stop: int) -> list[Run]:
    """All of these columns as one rotation, by how many they are."""
    x, name = values.cols(start, stop), values.key
    match stop - start:
        case 4:
            sign = rot.quaternion(x, said=said_order((name,)))
        case 6:
            sign = rot.ortho6d(x)
        case 3:
            found = set(words(name))
            said = "axis_angle" if found & {"rotvec", "axisangle"} or {"axis", "angle"} <= found else ""
            sign = rot.three_angles(x, said or ("euler_xyz" if found & {"euler", "rpy"} else ""))
        case 16:
            return list(_matrix(values, start))
        case _:
            sign = None
    return [] if sign is None else [Run(name, start, stop, "rotation", sign)]


def _matrix(values: Values, start: int) -> Iterator[Run]:
    found = rot.matrix4(values.cols(start, start + 16))
    if found is None:
        return
    order, why = found
    for role, part in (("pos", "pos"), ("rotation", "ortho6d")):
        ops: Ops = ("?",) if order == "?" else (f"mat4_{order}_to_{part}",)
        asked = f"mat4_rowmajor_to_{part} or mat4_colmajor_to_{part}" if order == "?" else ""
        yield Run(values.key, start, start + 16, role, Sign("m", ops, f"a 4x4 matrix, {why}", asked))  # type: ignore[arg-type]  # mypy takes the loop's role for any str


def _by_structure(values: Values, start: int, stop: int, role: Role, is_pose: IsPose) -> Iterator[Run]:
    """Rotations that cannot be missed first; then what lies between them."""
    rotations = _rotations(values, start, stop)
    yield from rotations
    taken = {column for run in rotations for column in range(run.start, run.stop)}
    free = [column for column in range(start, stop) if column not in taken]
    for _, group in groupby(enumerate(free), lambda pair: pair[1] - pair[0]):
        columns = [column for _, column in group]
        before = any(run.start == columns[-1] + 1 and run.width < 16 for run in rotations)
        if before and len(columns) >= 3:
            yield _position(values, columns[-1] - 2, "before the rotation")
            columns = columns[:-3]
        if columns:
            yield from _segment(values, columns[0], columns[-1] + 1, role, is_pose, beside=bool(rotations))


def _rotations(values: Values, start: int, stop: int) -> list[Run]:
    """The rotations that cannot be missed among these columns."""
    rotations: list[Run] = []
    for width in (16, 6, 4):  # four columns across the edge of a matrix may have length 1 too
        for at in range(start, stop - width + 1):
            if not any(at < run.stop and run.start < at + width for run in rotations):
                rotations += _unmistakable(values, at, width)
    return rotations


def _unmistakable(values: Values, at: int, width: int) -> list[Run]:
    """A rotation of this width, if these columns are one and move."""
    moving = (joined(values.cols(at, at + width)).std(axis=0) > 1e-4).sum()
    return _rotation(values, at, at + width) if moving >= 2 else []


def _segment(values: Values, start: int, stop: int, role: Role, is_pose: IsPose, *, beside: bool) -> list[Run]:
    """Columns without an unmistakable rotation: an arm by how many they are, perhaps with a gripper at the end.

    beside: whether a rotation stands beside them, so that they are no pose.
    """
    alone = values.width == 1
    end = _at_end(values, stop) if stop - start in (1, 4, 7, 8) and not alone else []
    last = stop - len(end)
    match last - start:
        case 3 if role or end:
            return [_position(values, start, "named so" if role else "three columns before a gripper"), *end]
        case 6 | 7 if beside:
            return [joint_run(values, start, last, "beside a pose"), *end]
        case 6:
            shown = "named so" if role in ("pose", "pos") else is_pose(values, start)
            return [*(_pose(values, start, shown) if shown else [_undecided(values, start, 6)]), *end]
        case 7 if role == "" and end:
            return [joint_run(values, start, last, "seven columns before a gripper, no quaternion among them"), *end]
        case 7 if role == "":
            return [_undecided(values, start, 7)]
    return end


def _pose(values: Values, start: int, why: str) -> list[Run]:
    angles = Run(values.key, start + 3, start + 6, "rotation", rot.three_angles(values.cols(start + 3, start + 6)))
    return [_position(values, start, why), angles]


def _undecided(values: Values, start: int, width: int) -> Run:
    why = f"{width} columns: joints, or x, y, z and angles: neither the name nor the numbers say which"
    asked = "rad for joints, or two lines, [a, a + 3] in m to an eef_pos and the rest to its eef_ortho6d"
    return Run(values.key, start, start + width, "", Sign("?", (), why, asked))


def _named(values: Values) -> Iterator[Run]:
    """Runs of columns whose names mean the same."""
    roles = [(column_role(name), side_of(name)) for name in values.names]
    at = 0
    for (role, side), group in groupby(roles):
        stop = at + len(list(group))
        for run in _named_run(values, at, stop, role):
            yield replace(run, side=side)
        at = stop


def _named_run(values: Values, start: int, stop: int, role: Role) -> list[Run]:
    names = values.names[start:stop]
    why = f"named {names[0]} … {names[-1]}" if len(names) > 1 else f"named {names[0]}"
    match role, stop - start:
        case "joints", width if width <= 10:
            return [joint_run(values, start, stop, why)]
        case "pos", 3:
            return [_position(values, start, why)]
        case "gripper", 1:
            found = _gripper(values, start, stop)
            return [replace(run, sign=replace(run.sign, why=f"{why}, {run.sign.why}")) for run in found]
        case "rotation", 4:
            sign = rot.quaternion(values.cols(start, stop), said=said_order(names))
            return [] if sign is None else [Run(values.key, start, stop, "rotation", sign)]
        case "rotation", 3:
            said = "axis_angle" if names[0].lower().endswith("rx") else "euler_xyz"
            return [Run(values.key, start, stop, "rotation", rot.three_angles(values.cols(start, stop), said))]
    return []
