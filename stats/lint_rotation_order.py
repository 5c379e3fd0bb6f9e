"""Are orientations composed in the right order? Their change against angular velocities recorded beside them.

Quaternions read in the wrong order still change smoothly: permuting their four numbers keeps all angles between them.
Only the axis of the change tells, so an angular velocity must be there to compare it with (in the state, or as a
recorded action). In: `Rows`. Out: agreement of each reading, added up over the store; a hit when another one fits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data import rotations as rot
from rdt_data.layout import GROUPS
from stats.lint_check import Check, Hit, Need, Seen
from stats.lint_rotation import SIDES
from stats.lint_rows import Rows, Vectors

Array = npt.NDArray[np.float64]

MISFIT = 0.5  # correlation
FIT = 0.85
LEAST_STEPS = 50
SAMPLED = 64  # steps of a block, or a few more


READINGS: dict[str, Callable[[Array], Array]] = {
    "as stored": lambda r: r,
    "quaternions w, x, y, z that were read as x, y, z, w": lambda r: rot.matrix_from_quat(
        rot.quat_from_matrix(r)[:, [1, 2, 3, 0]]
    ),
    "quaternions x, y, z, w that were read as w, x, y, z": lambda r: rot.matrix_from_quat(
        rot.quat_from_matrix(r)[:, [3, 0, 1, 2]]
    ),
    "matrices that were read transposed": lambda r: r.transpose(0, 2, 1),
    "Euler angles about x, y, z that turn with the hand": lambda r: rot.matrix_from_euler(
        -rot.euler_from_matrix(r)
    ).transpose(0, 2, 1),
    "Euler angles given as z, y, x": lambda r: rot.matrix_from_euler(rot.euler_from_matrix(r)[:, ::-1]),
}
"""What the orientations may have been, each with how the stored matrices (n, 3, 3) become right again."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Sums over steps of products of a reading's angular velocity with the recorded one, for each side.

    sums: (2 sides, readings, 2 frames, 3): xy, xx, yy; counts: (2,) steps.
    """

    sums: Array
    counts: Array

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(self.sums + other.sums, self.counts + other.counts)


def agreement(rows: Rows) -> Agreement:
    """Compare each reading with the angular velocity, in the world's frame and in the hand's."""
    sums, counts = np.zeros((2, len(READINGS), 2, 3)), np.zeros(2)
    for number, side in enumerate(SIDES):
        spin = _spin(rows, side)
        if spin is None:
            continue
        count = len(rows.state.values)
        steps = np.arange(0, count - 1, max(1, count // SAMPLED))
        steps = steps[~np.isin(steps, rows.ends)]
        hz = rows.control_hz[np.searchsorted(rows.starts, steps, side="right") - 1, None]
        slots = list(GROUPS[f"{side}_eef_ortho6d"])
        measured = spin.values[steps][:, list(GROUPS[f"{side}_eef_ang_vel"])].astype(np.float64)
        before, after = (_matrices(rows.state.values[at][:, slots]) for at in (steps, steps + 1))
        fine = np.isfinite(before + after).all(axis=(1, 2)) & np.isfinite(measured).all(axis=1)
        for row, read in enumerate(READINGS.values()):
            p, q = read(before[fine]), read(after[fine])
            for frame, change in enumerate((q @ p.transpose(0, 2, 1), p.transpose(0, 2, 1) @ q)):
                x, y = _axis(change) * hz[fine], measured[fine]
                sums[number, row, frame] = [(x * y).sum(), (x * x).sum(), (y * y).sum()]
        counts[number] = fine.sum()
    return Agreement(sums, counts)


def _spin(rows: Rows, side: str) -> Vectors | None:
    """Where the angular velocities of a side are: in the state, in the recorded action, or nowhere."""
    velocity, rotation = GROUPS[f"{side}_eef_ang_vel"], GROUPS[f"{side}_eef_ortho6d"]
    if not rows.state.has(rotation) or not rows.state.mask[:, rotation[0]].all():
        return None
    return next((vectors for vectors in rows.vectors if vectors.has(velocity)), None)


def _matrices(values: npt.NDArray[Any]) -> Array:
    """(n, 6) ortho6d -> (n, 3, 3)."""
    a, b = values[:, :3].astype(np.float64), values[:, 3:].astype(np.float64)
    return np.stack([a, b, np.cross(a, b)], axis=2)


def _axis(change: Array) -> Array:
    """(n, 3, 3) rotations -> (n, 3): axis times the sine of the angle, which is the angle where it is small."""
    return (
        np.stack(
            [change[:, 2, 1] - change[:, 1, 2], change[:, 0, 2] - change[:, 2, 0], change[:, 1, 0] - change[:, 0, 1]], 1
        )
        / 2
    )


def rotation_order(found: Sequence[Agreement]) -> Iterator[Hit]:
    """Sides on which the orientations as stored do not fit the angular velocity, and another reading does."""
    nothing = Agreement(np.zeros((2, len(READINGS), 2, 3)), np.zeros(2))
    total = sum(found, start=nothing)
    for number, side in enumerate(SIDES):
        if total.counts[number] < LEAST_STEPS:
            continue
        xy, xx, yy = np.moveaxis(total.sums[number], -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            fits = np.nan_to_num(xy / np.sqrt(xx * yy)).max(axis=1)
        best = int(fits.argmax())
        if fits[0] < MISFIT and fits[best] > FIT:
            value = f"the orientations fit the angular velocity ({fits[best]:.2f}) as {list(READINGS)[best]}"
            yield Hit(f"{value}; as stored they do not ({fits[0]:.2f})", "as stored", slot=f"{side}_eef_ortho6d")


def _comparable(seen: Seen) -> bool:
    return any(
        set(GROUPS[f"{side}_eef_ortho6d"]) <= seen.state
        and (set(GROUPS[f"{side}_eef_ang_vel"]) <= seen.state or set(GROUPS[f"{side}_eef_ang_vel"]) <= seen.action)
        for side in SIDES
    )


ORDER = (
    Check(
        name="rotation_order",
        severity="warning",
        subject="rows",
        about="orientations read in another order than recorded: quaternion (xyzw, wxyz), Euler, matrix",
        threshold=f"correlation of the change of orientation with the angular velocity below {MISFIT:g} as stored, "
        f"above {FIT:g} for another reading ({len(READINGS) - 1} are tried), over at least {LEAST_STEPS} steps",
        source="a right reading correlates with its own angular velocity; chance over that many steps does not",
        remedy="use the op that says this order (`quat_wxyz_to_ortho6d`, `euler_zxy_to_ortho6d`, …)",
        find=rotation_order,
        gather=agreement,
        need=Need("orientations with an angular velocity in the state or the recorded action", _comparable),
    ),
)
