"""What numbers show of rotations: quaternions and their order, Euler angles or axis-angle, ortho6d, 4x4 matrices.

In: the columns in question, a list of (T, n) float64 arrays, one an episode. Out: a `Sign`, the reading with the
numbers that make it one, or None. Where two readings fit alike its op is "?". Pure; knows no keys.
"""

import numpy as np

from converters.drafts.signs import AGREES, Array, Episodes, Sign, agreement, joined
from rdt_data import rotations


def quaternion(x: Episodes, turning: Episodes | None = None, said: str = "") -> Sign | None:
    """Four columns of length 1. turning: an angular velocity beside them. said: the order that a name states."""
    norms = np.linalg.norm(joined(x), axis=1)
    if np.abs(norms - 1).max(initial=0) > 0.02:
        return None
    seen = f"norm {norms.mean():.3f}±{norms.std():.3f}"
    if said:
        return Sign("1", (f"quat_{said}_to_ortho6d",), f"{seen}, named {said}")
    order, why = _order(x, turning)
    if order == "?":
        question = "quat_xyzw_to_ortho6d or quat_wxyz_to_ortho6d"
        return Sign("1", ("?",), f"{seen}, {why}", question)
    return Sign("1", (f"quat_{order}_to_ortho6d",), f"{seen}, {why}: {order}")


def _order(x: Episodes, turning: Episodes | None) -> tuple[str, str]:
    """The order of the columns and what shows it."""
    if turning is not None:
        fits = {order: _turns_like(x, turning, order) for order in ("xyzw", "wxyz")}
        best, other = sorted(fits, key=lambda order: -fits[order])
        if fits[best] > AGREES and fits[other] < 0.7:
            return best, f"turns as the angular velocity says (r={fits[best]:.2f}, as {other} {fits[other]:.2f})"
    values = joined(x)
    low = values.min(axis=0)
    flips = [(a[:-1][f], a[1:][f]) for a in x if len(a) > 1 and (f := np.abs(a[1:] + a[:-1]).max(axis=1) < 0.1).any()]
    if flips:
        both = np.concatenate([np.abs(part) for pair in flips for part in pair]).max(axis=0)
        ends = [column for column in (0, 3) if both[column] < 0.15 and low[column] > -1e-6]
        if len(ends) == 1:
            order = "wxyz" if ends == [0] else "xyzw"
            return order, f"the sign flips where the {'first' if ends == [0] else 'last'} column, never negative, is 0"
    if low[3] > 0.7:
        return "xyzw", f"w last stays > {low[3]:.2f}"
    if low[0] > 0.7:
        return "?", f"the first stays > {low[0]:.2f}: w of a hand that hardly turns, or x of one that points down"
    return "?", "no column stays large"


def _turns_like(x: Episodes, turning: Episodes, order: str) -> float:
    """How well an angular velocity (fixed frame or the hand's) fits the turning of quaternions read in `order`."""
    fits = []
    for body in (False, True):
        pairs = [_turn(a if order == "xyzw" else np.roll(a, -1, axis=1), body=body) for a in x if len(a) > 1]
        speed = [w[:-1] for w in turning if len(w) > 1]
        fits.append(agreement(joined(pairs), joined(speed))[1] if pairs else 0.0)
    return max(fits)


def _turn(quat: Array, *, body: bool) -> Array:
    """(T, 4) x, y, z, w -> (T - 1, 3) the rotation vector of each step, rad."""
    r = rotations.matrix_from_quat(quat)
    step = np.swapaxes(r[:-1], 1, 2) @ r[1:] if body else r[1:] @ np.swapaxes(r[:-1], 1, 2)
    return rotations.axis_angle_from_quat(rotations.quat_from_matrix(step))


def three_angles(x: Episodes, said: str = "") -> Sign:
    """Three columns that are a rotation: Euler angles or a rotation vector. said: what a name states of the two."""
    values = joined(x)
    degrees = bool(np.abs(values).max(initial=0) > 2.2 * np.pi)
    unit, first, scale = ("deg", ("deg_to_rad",), 180 / np.pi) if degrees else ("rad", (), 1.0)
    size = f"up to {np.abs(values).max(initial=0):.3g}"
    if said:
        return Sign(unit, (*first, f"{said}_to_ortho6d"), f"{size}, named so")
    longest = np.linalg.norm(values, axis=1).max(initial=0) / scale
    steps = joined([np.diff(a, axis=0) for a in x]) / scale
    wraps = int((np.abs(steps) > 5).any(axis=1).sum())
    flipped = [np.linalg.norm(a[1:] + a[:-1], axis=1) / scale < 0.5 for a in x if len(a) > 1]
    norms = [np.linalg.norm(a[:-1], axis=1) / scale for a in x if len(a) > 1]
    flips = sum(int((f & (n > 2.9)).sum()) for f, n in zip(flipped, norms, strict=True))
    if wraps > flips:
        return Sign(unit, (*first, "euler_xyz_to_ortho6d"), f"{size}, {wraps} wraps of one angle alone: Euler")
    if longest > np.pi * 1.02:
        return Sign(unit, (*first, "euler_xyz_to_ortho6d"), f"{size}, longer than π together: Euler")
    if flips:
        return Sign(unit, (*first, "axis_angle_to_ortho6d"), f"length at most π, {flips} sign flips there: axis-angle")
    why = f"{size}; no wrap, and the length stays below π: Euler angles and axis-angle look alike"
    return Sign(unit, (*first, "?"), why, "euler_xyz_to_ortho6d or axis_angle_to_ortho6d")


def ortho6d(x: Episodes) -> Sign | None:
    """Six columns: two directions of length 1 at right angles."""
    values = joined(x)
    a, b = values[:, :3], values[:, 3:]
    off = [np.linalg.norm(a, axis=1) - 1, np.linalg.norm(b, axis=1) - 1, (a * b).sum(axis=1)]
    if max(np.abs(part).max(initial=0) for part in off) > 0.02:
        return None
    return Sign("1", (), "two directions of length 1 at right angles; taken as columns of the matrix, not rows")


def matrix4(x: Episodes) -> tuple[str, str] | None:
    """Sixteen columns that are a homogeneous matrix: its order in memory ("rowmajor", "colmajor", "?") and why."""
    values = joined(x)
    last = np.array([0, 0, 0, 1.0])
    rows = np.abs(values[:, 12:] - last).max(initial=0) < 1e-3
    columns = np.abs(values[:, 3::4] - last).max(initial=0) < 1e-3
    if not rows and not columns:
        return None
    turned = values.reshape(-1, 4, 4)[:, :3, :3]
    if np.abs(turned @ np.swapaxes(turned, 1, 2) - np.eye(3)).max(initial=0) > 0.02:
        return None
    if rows and columns:
        return "?", "0 0 0 1 in the last row and the last column"
    return ("rowmajor", "0 0 0 1 is the last row") if rows else ("colmajor", "0 0 0 1 is every fourth number")
