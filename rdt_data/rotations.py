"""Rotation formats of robot datasets, to and from 3x3 matrices. Pure NumPy, float64 inside and out.

A matrix R maps a vector in the rotated frame to the fixed frame: v_fixed = R v. Every function works on the
last axis (or the last two) of arrays of any leading shape, of no rows too, and gives finite values for finite
input. The conventions are those of the published RDT pipeline, checked against SciPy in tests/test_ops.py.
"""

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def matrix_from_euler(angles: Float, order: str = "xyz") -> Float:
    """Rotation about fixed axes, first order[0], then order[1], then order[2] (SciPy's lower-case orders).

    angles: (..., 3) rad, in that order. returns: (..., 3, 3). For "xyz": R = Rz Ry Rx (roll, pitch, yaw).
    """
    cosine, sine = np.cos(angles), np.sin(angles)
    c1, c2, c3, s1, s2, s3 = (part[..., i] for part in (cosine, sine) for i in range(3))
    matrix = np.empty((*angles.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = c2 * c3, s1 * s2 * c3 - c1 * s3, c1 * s2 * c3 + s1 * s3
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = c2 * s3, s1 * s2 * s3 + c1 * c3, c1 * s2 * s3 - s1 * c3
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = -s2, s1 * c2, c1 * c2
    return matrix if order == "xyz" else _relabelled(matrix, _places(order))


def euler_from_matrix(matrix: Float, order: str = "xyz") -> Float:
    """The inverse of `matrix_from_euler`: (..., 3, 3) -> (..., 3) rad, the middle angle within +-pi/2.

    The first angle is solved after the third is undone, so that the three agree with each other also where
    the first and third axes coincide and only their sum is known.
    """
    r = _relabelled(matrix, np.argsort(_places(order)))
    third = np.arctan2(r[..., 1, 0], r[..., 0, 0])
    c, s = np.cos(third), np.sin(third)
    second = np.arctan2(-r[..., 2, 0], c * r[..., 0, 0] + s * r[..., 1, 0])
    first = np.arctan2(s * r[..., 0, 2] - c * r[..., 1, 2], c * r[..., 1, 1] - s * r[..., 0, 1])
    return np.stack([first, second, third], axis=-1)


def _places(order: str) -> npt.NDArray[np.intp]:
    """Which axis of an "xyz" rotation each axis of `order` plays; the order must be cyclic (no mirror)."""
    if order not in ("xyz", "yzx", "zxy"):
        raise ValueError(f"axis order {order!r} is not one of xyz, yzx, zxy")
    return np.array([order.index(axis) for axis in "xyz"])


def _relabelled(matrix: Float, places: npt.NDArray[np.intp]) -> Float:
    return matrix[..., places[:, None], places[None, :]]


def matrix_from_quat(quat: Float) -> Float:
    """(..., 4) as x, y, z, w -> (..., 3, 3). Normalised first; an all-zero quaternion is the identity."""
    scaled = quat / _or_one(np.max(np.abs(quat), axis=-1, keepdims=True))  # so that squares cannot overflow
    norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
    unit = np.where(norm > 0, scaled / _or_one(norm), np.array([0.0, 0.0, 0.0, 1.0]))
    x, y, z, w = np.moveaxis(unit, -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_from_matrix(matrix: Float) -> Float:
    """(..., 3, 3) -> (..., 4) as x, y, z, w, of length 1 and w >= 0.

    The rows of the table are 4 q_i q for i = x, y, z, w (Shepperd 1978); the longest one loses no digits.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (np.moveaxis(matrix[..., i, :], -1, 0) for i in range(3))
    table = np.stack(
        [
            np.stack([1 + xx - yy - zz, yx + xy, xz + zx, zy - yz], axis=-1),
            np.stack([yx + xy, 1 - xx + yy - zz, zy + yz, xz - zx], axis=-1),
            np.stack([xz + zx, zy + yz, 1 - xx - yy + zz, yx - xy], axis=-1),
            np.stack([zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    lengths = np.linalg.norm(table, axis=-1)
    best = np.argmax(lengths, axis=-1)[..., None, None]
    quat = np.take_along_axis(table, best, axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    positive: Float = np.where(quat[..., 3:] < 0, -quat, quat)
    return positive


def quat_from_euler_xyz(angles: Float) -> Float:
    """(..., 3) roll, pitch, yaw in rad -> (..., 4) as x, y, z, w by half angles; the sign is left as it falls."""
    (cr, cp, cy), (sr, sp, sy) = (np.moveaxis(f(angles / 2), -1, 0) for f in (np.cos, np.sin))
    x, y = sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy
    z, w = cr * cp * sy - sr * sp * cy, cr * cp * cy + sr * sp * sy
    return np.stack([x, y, z, w], axis=-1)


def quat_from_axis_angle(vector: Float) -> Float:
    """(..., 3) rotation vector, its length the angle in rad -> (..., 4) as x, y, z, w."""
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.concatenate([vector * np.sinc(angle / (2 * np.pi)) / 2, np.cos(angle / 2)], axis=-1)


def axis_angle_from_quat(quat: Float) -> Float:
    """(..., 4) as x, y, z, w, of length 1, w >= 0 -> (..., 3) rotation vector of at most pi rad."""
    sine = np.linalg.norm(quat[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quat[..., 3:])
    factor: Float = np.where(sine > 0, angle / _or_one(sine), 2.0)
    return quat[..., :3] * factor


def ortho6d_from_matrix(matrix: Float) -> Float:
    """(..., 3, 3) -> (..., 6): the first column, then the second (Zhou et al. 2019, arXiv:1812.07035)."""
    return np.swapaxes(matrix[..., :2], -1, -2).reshape(*matrix.shape[:-2], 6)


def matrix_from_ortho6d(ortho6d: Float) -> Float:
    """(..., 6) -> (..., 3, 3): x along a, z along a x b, y = z x x (Gram-Schmidt, Zhou et al. 2019).

    Also of six numbers that are no rotation (a network's output). Where a or a x b is zero, the identity.
    """
    a = ortho6d[..., :3] / _or_one(np.max(np.abs(ortho6d[..., :3]), axis=-1, keepdims=True))
    b = ortho6d[..., 3:] / _or_one(np.max(np.abs(ortho6d[..., 3:]), axis=-1, keepdims=True))
    normal = np.cross(a, b)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    x, z = a / _or_one(np.linalg.norm(a, axis=-1, keepdims=True)), normal / _or_one(length)
    matrix = np.stack([x, np.cross(z, x), z], axis=-1)
    return np.where(length[..., None] > 0, matrix, np.eye(3))


def _or_one(x: Float) -> Float:
    """x, but 1 where it is 0: something to divide by."""
    return np.where(x == 0, 1.0, x)


def matrix4(*, pos: Float | None = None, rotation: Float | None = None) -> Float:
    """Homogeneous matrices (T, 4, 4) of positions (T, 3) m or rotations (T, 3, 3); what is not given is NaN."""
    given = pos if pos is not None else rotation
    matrix = np.full((0 if given is None else len(given), 4, 4), np.nan)
    matrix[:, 3] = [0, 0, 0, 1]
    if pos is not None:
        matrix[:, :3, 3] = pos
    if rotation is not None:
        matrix[:, :3, :3] = rotation
    return matrix
