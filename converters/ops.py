"""The operations a spec may apply to columns: a closed table of pure functions (T, D) -> (T, D').

Every function here takes and gives float64 of shape (T, D), T may be 0. A row of `OPS` says what an op does to the
width and to the unit and how it is undone, so that a spec can be checked before any data is read, and an action can
be turned back into the robot's own command. A new op is a function, its inverse where there is one, and a row.
Formulas of rotations are in `converters.rotations`; `converters.op_chain` binds ops to their parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from converters import rotations as rot

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
    """x held within [low, high]. No inverse: what lay outside is lost."""
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

    The published pipeline takes base velocities so. No inverse: the last step's value is lost.
    """
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


def euler_xyz_to_ortho6d(angles: Float) -> Float:
    """(T, 3) roll, pitch, yaw about fixed axes, rad -> (T, 6)."""
    return rot.ortho6d_from_matrix(rot.matrix_from_euler(angles, "xyz"))


def ortho6d_to_euler_xyz(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 3) roll, pitch, yaw about fixed axes, rad."""
    return rot.euler_from_matrix(rot.matrix_from_ortho6d(ortho6d), "xyz")


def euler_zxy_to_ortho6d(angles: Float) -> Float:
    """(T, 3) rad about the fixed z, then x, then y axis (SciPy's "zxy") -> (T, 6)."""
    return rot.ortho6d_from_matrix(rot.matrix_from_euler(angles, "zxy"))


def ortho6d_to_euler_zxy(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 3) rad about the fixed z, then x, then y axis."""
    return rot.euler_from_matrix(rot.matrix_from_ortho6d(ortho6d), "zxy")


def quat_xyzw_to_ortho6d(quat: Float) -> Float:
    """(T, 4) x, y, z, w of any length (zero is the identity) -> (T, 6)."""
    return rot.ortho6d_from_matrix(rot.matrix_from_quat(quat))


def ortho6d_to_quat_xyzw(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 4) x, y, z, w of length 1, w >= 0."""
    return rot.quat_from_matrix(rot.matrix_from_ortho6d(ortho6d))


def quat_wxyz_to_ortho6d(quat: Float) -> Float:
    """(T, 4) w, x, y, z of any length (zero is the identity) -> (T, 6)."""
    return quat_xyzw_to_ortho6d(np.roll(quat, -1, axis=-1))


def ortho6d_to_quat_wxyz(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 4) w, x, y, z of length 1, w >= 0."""
    return np.roll(ortho6d_to_quat_xyzw(ortho6d), 1, axis=-1)


def axis_angle_to_ortho6d(vector: Float) -> Float:
    """(T, 3) rotation vector, its length the angle in rad -> (T, 6)."""
    return quat_xyzw_to_ortho6d(rot.quat_from_axis_angle(vector))


def ortho6d_to_axis_angle(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 3) rotation vector of at most pi rad."""
    return rot.axis_angle_from_quat(ortho6d_to_quat_xyzw(ortho6d))


def yaw_to_ortho6d(yaw: Float) -> Float:
    """(T, 1) rad about z -> (T, 6)."""
    return euler_xyz_to_ortho6d(_as_yaw(yaw))


def ortho6d_to_yaw(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 1): the yaw of roll, pitch, yaw; the other two are dropped."""
    return ortho6d_to_euler_xyz(ortho6d)[:, 2:]


def mat4_colmajor_to_pos(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, column after column -> (T, 3) its translation, m. No inverse: a part."""
    return matrix[:, 12:15]


def mat4_colmajor_to_ortho6d(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, column after column -> (T, 6). No inverse: a part."""
    return matrix[:, [0, 1, 2, 4, 5, 6]]


def mat4_rowmajor_to_pos(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, row after row -> (T, 3) its translation, m. No inverse: a part."""
    return matrix[:, [3, 7, 11]]


def mat4_rowmajor_to_ortho6d(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, row after row -> (T, 6). No inverse: a part."""
    return matrix[:, [0, 4, 8, 1, 5, 9]]


def euler_xyz_to_quat_xyzw(angles: Float) -> Float:
    """(T, 3) roll, pitch, yaw about fixed axes, rad -> (T, 4) x, y, z, w; q and -q are not unified."""
    return rot.quat_from_euler_xyz(angles)


def quat_xyzw_to_euler_xyz(quat: Float) -> Float:
    """(T, 4) -> (T, 3) roll, pitch, yaw about fixed axes, rad."""
    return rot.euler_from_matrix(rot.matrix_from_quat(quat), "xyz")


def yaw_to_quat_xyzw(yaw: Float) -> Float:
    """(T, 1) rad about z -> (T, 4) x, y, z, w."""
    return rot.quat_from_euler_xyz(_as_yaw(yaw))


def quat_xyzw_to_yaw(quat: Float) -> Float:
    """(T, 4) -> (T, 1): the yaw of roll, pitch, yaw; the other two are dropped."""
    return quat_xyzw_to_euler_xyz(quat)[:, 2:]


def _as_yaw(yaw: Float) -> Float:
    return np.concatenate([np.zeros_like(yaw), np.zeros_like(yaw), yaw], axis=-1)


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
    "clip": OpKind(clip, None, _SAME, takes="range"),
    "is_lt": OpKind(is_lt, None, _FLAG, takes="number"),
    "is_ge": OpKind(is_ge, None, _FLAG, takes="number"),
    "is_eq": OpKind(is_eq, None, _FLAG, takes="number"),
    "permute": OpKind(permute, permute_inverse, _SAME, takes="order"),
    "shift_previous": OpKind(shift_previous, None, _SAME, rowwise=False),
    "euler_xyz_to_ortho6d": OpKind(euler_xyz_to_ortho6d, ortho6d_to_euler_xyz, _RAD_TO_1, widths=(3, 6), rotation=True),
    "euler_zxy_to_ortho6d": OpKind(euler_zxy_to_ortho6d, ortho6d_to_euler_zxy, _RAD_TO_1, widths=(3, 6), rotation=True),
    "axis_angle_to_ortho6d": OpKind(
        axis_angle_to_ortho6d, ortho6d_to_axis_angle, _RAD_TO_1, widths=(3, 6), rotation=True
    ),
    "yaw_to_ortho6d": OpKind(yaw_to_ortho6d, ortho6d_to_yaw, _RAD_TO_1, widths=(1, 6), rotation=True),
    "quat_xyzw_to_ortho6d": OpKind(quat_xyzw_to_ortho6d, ortho6d_to_quat_xyzw, _1_TO_1, widths=(4, 6), rotation=True),
    "quat_wxyz_to_ortho6d": OpKind(quat_wxyz_to_ortho6d, ortho6d_to_quat_wxyz, _1_TO_1, widths=(4, 6), rotation=True),
    "mat4_colmajor_to_pos": OpKind(mat4_colmajor_to_pos, None, _MATRIX_TO_M, widths=(16, 3)),
    "mat4_colmajor_to_ortho6d": OpKind(mat4_colmajor_to_ortho6d, None, _MATRIX_TO_1, widths=(16, 6)),
    "mat4_rowmajor_to_pos": OpKind(mat4_rowmajor_to_pos, None, _MATRIX_TO_M, widths=(16, 3)),
    "mat4_rowmajor_to_ortho6d": OpKind(mat4_rowmajor_to_ortho6d, None, _MATRIX_TO_1, widths=(16, 6)),
    "euler_xyz_to_quat_xyzw": OpKind(
        euler_xyz_to_quat_xyzw, quat_xyzw_to_euler_xyz, _RAD_TO_1, widths=(3, 4), rotation=True
    ),
    "yaw_to_quat_xyzw": OpKind(yaw_to_quat_xyzw, quat_xyzw_to_yaw, _RAD_TO_1, widths=(1, 4), rotation=True),
}
"""Every op a spec may name."""
