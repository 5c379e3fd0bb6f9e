"""Checks of orientations (ortho6d): no rotation at all, jumps, more turning than the joints allow.

In: `Rows`. Out: hits. A rotation is the first two columns a, b of its matrix. Between two rotations R, S by an angle t
about a unit axis n, |dR|^2 over both columns is 2 (1 - cos t) (1 + n_3^2): it is at least 2 - 2 cos t and at most
2 t^2. So cheap differences bound the angle from both sides, and angles are computed only where they may matter.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rdt_data.episode import FloatArray
from rdt_data.layout import GROUPS
from stats.lint_check import Check, Hit, Need, Seen
from stats.lint_rows import Rows, Vectors

SIDES = ("right", "left")
UNIT = 0.01  # how far the length of a column may be from 1, and the product of both from 0
JUMP = np.pi / 2  # rad
TOO_MUCH = 1.5
SLACK = 0.3  # rad


def ortho6d(rows: Rows) -> Iterator[Hit]:
    """Steps whose two columns are not of length 1 or not at right angles."""
    for vectors in rows.vectors:
        for side in SIDES:
            slots = GROUPS[f"{side}_eef_ortho6d"]
            if vectors.has(slots):
                yield from _not_orthonormal(rows, vectors, slots)


def _not_orthonormal(rows: Rows, vectors: Vectors, slots: tuple[int, ...]) -> Iterator[Hit]:
    first = vectors.rows_of(slots)[0]
    a, b = vectors.columns[first : first + 3], vectors.columns[first + 3 : first + 6]
    lengths = np.einsum("cn,cn->n", a, a), np.einsum("cn,cn->n", b, b)  # squared
    product = np.abs(np.einsum("cn,cn->n", a, b))
    off = np.maximum(np.maximum(np.abs(lengths[0] - 1), np.abs(lengths[1] - 1)) / 2, product)
    bad = off > UNIT
    if not bad.any():
        return
    steps = np.flatnonzero(bad & vectors.real_columns(slots).all(axis=0))
    values = [float(off[step]) for step in steps.tolist()]
    expected = f"two columns of length 1 at right angles, within {UNIT:g}"
    yield from rows.hits(vectors, steps, [slots[0]] * len(steps), values, expected)


def squared_changes(vectors: Vectors, slots: tuple[int, ...]) -> FloatArray:
    """(N,): |dR|^2 from each step to the next, over both columns; 0 at the end of an episode."""
    first = vectors.rows_of(slots)[0]
    changes = vectors.steps[first : first + 6]
    return np.asarray(np.einsum("cn,cn->n", changes, changes))


def angles(before: FloatArray, after: FloatArray) -> npt.NDArray[np.float64]:
    """(n,) rad: the angle between rotations given as (6, n) ortho6d."""
    p, q = before.reshape(2, 3, -1).astype(np.float64), after.reshape(2, 3, -1).astype(np.float64)
    d = np.einsum("icn,jcn->ijn", p, q)
    third = d[0, 0] * d[1, 1] - d[0, 1] * d[1, 0]  # (a x b) . (a' x b')
    return np.asarray(np.arccos(np.clip((d[0, 0] + d[1, 1] + third - 1) / 2, -1, 1)))


def rotation_jump(rows: Rows) -> Iterator[Hit]:
    """Steps between which the hand turns by more than JUMP."""
    state = rows.state
    for side in SIDES:
        slots = GROUPS[f"{side}_eef_ortho6d"]
        if not state.has(slots):
            continue
        steps = np.flatnonzero(squared_changes(state, slots) >= 2 - 2 * np.cos(JUMP))
        columns = state.columns[state.rows_of(slots)]
        turned = angles(columns[:, steps], columns[:, np.minimum(steps + 1, len(state.values) - 1)])
        far = turned > JUMP
        expected = f"less than {JUMP:.2f} rad from one step to the next"
        yield from rows.hits(state, steps[far], [slots[0]] * int(far.sum()), turned[far].tolist(), expected)


def rotation_beyond_joints(rows: Rows) -> Iterator[Hit]:
    """Episodes in which the hand turns by more than all joints together."""
    state = rows.state
    for side in SIDES:
        slots, joints = GROUPS[f"{side}_eef_ortho6d"], state.rows_of(GROUPS[f"{side}_arm_joint_pos"])
        if not state.has(slots) or len(joints) < 6 or state.has(GROUPS["base_ang_vel"]):
            continue
        hand, arm = rows.sums(
            np.stack(
                [
                    np.sqrt(squared_changes(state, slots) / 2),  # at most the angle
                    np.abs(state.steps[joints]).sum(axis=0),  # at least it
                ]
            )
        )
        both = state.mask[:, [slots[0], state.slots[joints[-1]]]].all(axis=1)
        for episode in np.flatnonzero(both & (hand > TOO_MUCH * arm + SLACK)).tolist():
            expected = f"at most {arm[episode]:.3g} rad, the sum of all joint movements"
            number = rows.numbers[episode]
            yield Hit(float(hand[episode]), expected, episode=number, slot=f"{side}_eef_ortho6d")


def _has_rotation(seen: Seen) -> bool:
    return any(set(GROUPS[f"{side}_eef_ortho6d"]) <= seen.state | seen.action for side in SIDES)


def _has_joints_and_rotation(seen: Seen) -> bool:
    arms = ((GROUPS[f"{side}_eef_ortho6d"], GROUPS[f"{side}_arm_joint_pos"][:6]) for side in SIDES)
    return any({*rotation, *joints} <= seen.state for rotation, joints in arms) and 102 not in seen.state


_ROTATION = Need("end-effector orientations", _has_rotation)

ROTATION = (
    Check(
        name="ortho6d",
        severity="error",
        subject="rows",
        about="an orientation that is none: its two columns are not of length 1, or not at right angles",
        threshold=f"off by more than {UNIT:g}; the value is how far",
        source="a rotation matrix rounded to float16 is off by 0.001",
        remedy="look at the op of the field: a quaternion, a matrix or Euler angles must become ortho6d",
        find=ortho6d,
        need=_ROTATION,
    ),
    Check(
        name="rotation_jump",
        severity="warning",
        subject="rows",
        about="the hand turns too far in one step: degrees read as radians, Euler angles in another order near their "
        "singularity, or a lost orientation",
        threshold=f"more than {JUMP:.2f} rad (90 degrees) in a step",
        source="at 3 Hz that is 4.7 rad/s; arms allow about 2.5 rad/s (Franka)",
        remedy="check the unit and the order of the angles in the spec; cut the episode where tracking was lost",
        find=rotation_jump,
        need=_ROTATION,
    ),
    Check(
        name="rotation_beyond_joints",
        severity="warning",
        subject="rows",
        about="the hand turns by more than the joints do: its angles are not in radians, or not of this arm",
        threshold=f"over an episode, more than {TOO_MUCH:g} x the sum of all joint movements + {SLACK:g} rad",
        source="each joint turns the hand by at most its own movement (not where a torso moves unrecorded)",
        remedy="check the unit and the columns of the orientation and of the joints in the spec",
        find=rotation_beyond_joints,
        need=Need("joints and orientation of one arm, on a base that does not turn", _has_joints_and_rotation),
    ),
)
