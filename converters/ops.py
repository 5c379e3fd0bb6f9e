"""The operations a spec may apply to columns: a closed table of pure functions (T, D) -> (T, D').

Every function here takes and gives float64 of shape (T, D), T may be 0. A row of `OPS` says what an op does to the
width and to the unit and how it is undone, so that a spec can be checked before any data is read, and an action can
be turned back into the robot's own command. A new op is a function, its inverse where there is one, and a row.
Those of rotations are in `converters.rotation_ops`; `converters.op_chain` binds ops to their parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from converters import rotation_ops as rot

Float = npt.NDArray[np.float64]
UnitRule = Mapping[str, frozenset[str]]
"""Unit going in -> units that may come out; a unit that is not a key cannot go in."""

_LENGTH, _ANGLE, _PLAIN = ("m", "mm", "m/s", "mm/s"), ("rad", "deg", "rad/s", "deg/s"), ("1", "1/s")
UNITS = (*_LENGTH, *_ANGLE, *_PLAIN)
"""Units a source may have."""

_SAME: UnitRule = {unit: frozenset({unit}) for unit in UNITS}
_FLAG: UnitRule = {unit: frozenset({"1"}) for unit in UNITS}
# A constant factor carries a unit of its own that nobody states: it may turn a length into another length, a
# length rate or a share of the largest length, and a share into anything; but never a length into an angle.
_CONSTANT: UnitRule = {
    **{unit: frozenset(_LENGTH + _PLAIN) for unit in _LENGTH},
    **{unit: frozenset(_ANGLE + _PLAIN) for unit in _ANGLE},
    **{unit: frozenset(UNITS) for unit in _PLAIN},
}


def _becomes(**units: str) -> UnitRule:
    return {unit: frozenset({to}) for unit, to in units.items()}


@dataclass(frozen=True, slots=True)
class OpKind:
    """One row of `OPS`.

    takes: its parameter in YAML. widths: (D, D'), or None where any width is kept. `apply` and `inverse` are
    called with the array, the parameters, and, where `rated`, the control rate in Hz.
    """

    apply: Callable[..., Float]
    inverse: Callable[..., Float] | None
    units: UnitRule
    takes: Literal["nothing", "number", "factor", "line", "range", "order"] = "nothing"
    widths: tuple[int, int] | None = None
    rated: bool = False
    rowwise: bool = True  # each step's result depends on that step alone
    rotation: bool = False  # the inverse gives the same rotation, perhaps written with other numbers


def scale(x: Float, k: float) -> Float:
    """k x. Inverse: `divide`."""
    return x * k


def divide(x: Float, k: float) -> Float:
    """x / k. Inverse: `scale`."""
    return x / k


def affine(x: Float, a: float, b: float) -> Float:
    """a x + b, as for a gripper command in -1 … 1. Inverse: `affine_inverse`."""
    return a * x + b


def affine_inverse(y: Float, a: float, b: float) -> Float:
    """(y - b) / a."""
    return (y - b) / a


def invert(x: Float) -> Float:
    """1 - x, "closed" to "open". Its own inverse. Booleans and integers have become floats before."""
    return 1.0 - x


def clip(x: Float, low: float, high: float) -> Float:
    """x held within [low, high]. Inverse: itself, exact within the range; what lay outside is lost."""
    clipped: Float = np.clip(x, low, high)
    return clipped


def is_lt(x: Float, c: float) -> Float:
    """1 where x < c, else 0. No inverse."""
    return np.less(x, c).astype(np.float64)


def is_ge(x: Float, c: float) -> Float:
    """1 where x >= c, else 0. No inverse."""
    return np.greater_equal(x, c).astype(np.float64)


def is_eq(x: Float, c: float) -> Float:
    """1 where x = c, else 0. No inverse."""
    return np.equal(x, c).astype(np.float64)


def permute(x: Float, *order: float) -> Float:
    """Columns reordered: column i of the result is column order[i]. Inverse: `permute_inverse`."""
    return x[:, [int(i) for i in order]]


def permute_inverse(y: Float, *order: float) -> Float:
    """The columns back where `permute` took them from."""
    return y[:, np.argsort(order)]


def deg_to_rad(x: Float) -> Float:
    """Degrees -> radians. Inverse: `rad_to_deg`."""
    return x * (np.pi / 180)


def rad_to_deg(y: Float) -> Float:
    """Radians -> degrees."""
    return y * (180 / np.pi)


def deg_to_rad_if_abs_gt(x: Float, c: float) -> Float:
    """Degrees -> radians where |x| > c, else x, for RoboNet, which mixes them. No inverse: which were which is lost."""
    return np.where(np.abs(x) > c, deg_to_rad(x), x)


def mm_to_m(x: Float) -> Float:
    """Millimetres -> metres. Inverse: `m_to_mm`."""
    return x / 1000


def m_to_mm(y: Float) -> Float:
    """Metres -> millimetres."""
    return y * 1000


def times_control_hz(x: Float, hz: float) -> Float:
    """A displacement per step (m, rad) -> a velocity (m/s, rad/s). Inverse: `divided_by_control_hz`."""
    return x * hz


def divided_by_control_hz(y: Float, hz: float) -> Float:
    """A velocity -> the displacement of one step."""
    return y / hz


def shift_previous(x: Float) -> Float:
    """The value of the step before, zero at the first step: what a command of the last step has caused by now.

    The published pipeline takes base velocities so. No inverse: the last step's value is lost (see `to_robot`).
    """
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


_MIXED: UnitRule = {"1": frozenset({"1"}), "rad": frozenset({"rad", "1"})}
_RAD_TO_1, _1_TO_1 = _becomes(rad="1"), _becomes(**{"1": "1"})
_MATRIX_TO_1, _MATRIX_TO_M = _becomes(m="1", **{"1": "1"}), _becomes(m="m")

OPS: Mapping[str, OpKind] = {
    "scale": OpKind(scale, divide, _CONSTANT, takes="factor"),
    "div": OpKind(divide, scale, _CONSTANT, takes="factor"),
    "affine": OpKind(affine, affine_inverse, _CONSTANT, takes="line"),
    "deg_to_rad": OpKind(deg_to_rad, rad_to_deg, _becomes(deg="rad", **{"deg/s": "rad/s"})),
    "mm_to_m": OpKind(mm_to_m, m_to_mm, _becomes(mm="m", **{"mm/s": "m/s"})),
    "times_control_hz": OpKind(
        times_control_hz,
        divided_by_control_hz,
        _becomes(m="m/s", mm="mm/s", rad="rad/s", deg="deg/s", **{"1": "1/s"}),
        rated=True,
    ),
    "invert": OpKind(invert, invert, _1_TO_1),
    "clip": OpKind(clip, clip, _SAME, takes="range"),
    "is_lt": OpKind(is_lt, None, _FLAG, takes="number"),
    "is_ge": OpKind(is_ge, None, _FLAG, takes="number"),
    "is_eq": OpKind(is_eq, None, _FLAG, takes="number"),
    "deg_to_rad_if_abs_gt": OpKind(deg_to_rad_if_abs_gt, None, _MIXED, takes="number"),
    "permute": OpKind(permute, permute_inverse, _SAME, takes="order"),
    "shift_previous": OpKind(shift_previous, None, _SAME, rowwise=False),
    "euler_xyz_to_ortho6d": OpKind(
        rot.euler_xyz_to_ortho6d, rot.ortho6d_to_euler_xyz, _RAD_TO_1, widths=(3, 6), rotation=True
    ),
    "euler_zxy_to_ortho6d": OpKind(
        rot.euler_zxy_to_ortho6d, rot.ortho6d_to_euler_zxy, _RAD_TO_1, widths=(3, 6), rotation=True
    ),
    "axis_angle_to_ortho6d": OpKind(
        rot.axis_angle_to_ortho6d, rot.ortho6d_to_axis_angle, _RAD_TO_1, widths=(3, 6), rotation=True
    ),
    "yaw_to_ortho6d": OpKind(rot.yaw_to_ortho6d, rot.ortho6d_to_yaw, _RAD_TO_1, widths=(1, 6), rotation=True),
    "quat_xyzw_to_ortho6d": OpKind(
        rot.quat_xyzw_to_ortho6d, rot.ortho6d_to_quat_xyzw, _1_TO_1, widths=(4, 6), rotation=True
    ),
    "quat_wxyz_to_ortho6d": OpKind(
        rot.quat_wxyz_to_ortho6d, rot.ortho6d_to_quat_wxyz, _1_TO_1, widths=(4, 6), rotation=True
    ),
    "mat4_colmajor_to_pos": OpKind(rot.mat4_colmajor_to_pos, rot.pos_to_mat4_colmajor, _MATRIX_TO_M, widths=(16, 3)),
    "mat4_colmajor_to_ortho6d": OpKind(
        rot.mat4_colmajor_to_ortho6d, rot.ortho6d_to_mat4_colmajor, _MATRIX_TO_1, widths=(16, 6)
    ),
    "mat4_rowmajor_to_pos": OpKind(rot.mat4_rowmajor_to_pos, rot.pos_to_mat4_rowmajor, _MATRIX_TO_M, widths=(16, 3)),
    "mat4_rowmajor_to_ortho6d": OpKind(
        rot.mat4_rowmajor_to_ortho6d, rot.ortho6d_to_mat4_rowmajor, _MATRIX_TO_1, widths=(16, 6)
    ),
    "euler_xyz_to_quat_xyzw": OpKind(
        rot.euler_xyz_to_quat_xyzw, rot.quat_xyzw_to_euler_xyz, _RAD_TO_1, widths=(3, 4), rotation=True
    ),
    "yaw_to_quat_xyzw": OpKind(rot.yaw_to_quat_xyzw, rot.quat_xyzw_to_yaw, _RAD_TO_1, widths=(1, 4), rotation=True),
}
"""Every op a spec may name."""
