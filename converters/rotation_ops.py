"""The operations on rotations that a spec may apply to columns, each beside the one that undoes it.

Every function takes and gives float64 of shape (T, D), T may be 0. Which op undoes which is in `converters.ops.OPS`;
the formulas are in `rdt_data.rotations`.
"""

import numpy as np
import numpy.typing as npt

from rdt_data import rotations as rot

Float = npt.NDArray[np.float64]


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
    """(T, 16) homogeneous matrix, column after column -> (T, 3) its translation, m."""
    return matrix[:, 12:15]


def mat4_colmajor_to_ortho6d(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, column after column -> (T, 6)."""
    return matrix[:, [0, 1, 2, 4, 5, 6]]


def mat4_rowmajor_to_pos(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, row after row -> (T, 3) its translation, m."""
    return matrix[:, [3, 7, 11]]


def mat4_rowmajor_to_ortho6d(matrix: Float) -> Float:
    """(T, 16) homogeneous matrix, row after row -> (T, 6)."""
    return matrix[:, [0, 4, 8, 1, 5, 9]]


def pos_to_mat4_colmajor(pos: Float) -> Float:
    """(T, 3) m -> (T, 16) column after column; the rotation is NaN: another field of the same matrix gives it."""
    return rot.matrix4(pos=pos).swapaxes(1, 2).reshape(-1, 16)


def ortho6d_to_mat4_colmajor(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 16) column after column; the translation is NaN: another field of the same matrix gives it."""
    return rot.matrix4(rotation=rot.matrix_from_ortho6d(ortho6d)).swapaxes(1, 2).reshape(-1, 16)


def pos_to_mat4_rowmajor(pos: Float) -> Float:
    """(T, 3) m -> (T, 16) row after row; the rotation is NaN: another field of the same matrix gives it."""
    return rot.matrix4(pos=pos).reshape(-1, 16)


def ortho6d_to_mat4_rowmajor(ortho6d: Float) -> Float:
    """(T, 6) -> (T, 16) row after row; the translation is NaN: another field of the same matrix gives it."""
    return rot.matrix4(rotation=rot.matrix_from_ortho6d(ortho6d)).reshape(-1, 16)


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
