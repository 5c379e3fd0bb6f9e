"""Do the values of each field look like what it says they are? Ranges, units, gripper, rotations.

In: `Seen`. Out: warnings. Every check names the number it saw, what was expected and what to change.
"""

from collections.abc import Iterator

import numpy as np

from converters.checks.seen import FieldSeen, Finding, Seen, warning
from converters.drafts import rotation as rot
from converters.drafts.signs import Array, joined
from rdt_data.layout import GROUPS, preferred_name

TWO_TURNS = 4 * np.pi
FARTHEST = 5.0  # m
LEAST_STEPS = 10
GRIPPER = (-0.05, 1.05)


def value_findings(seen: Seen) -> Iterator[Finding]:
    """What looks wrong about single fields."""
    for one in seen.fields:
        if one.results and sum(map(len, one.results)):
            values = joined(one.results)
            yield from _constant(one, values)
            yield from _joints(one, values)
            yield from _position(one, values)
            yield from _gripper(one, values)
            yield from _rotation(one)


def _group(*stems: str) -> tuple[int, ...]:
    return tuple(index for side in ("right_", "left_") for stem in stems for index in GROUPS[side + stem])


_JOINTS, _POSITION, _OPEN = _group("arm_joint_pos"), _group("eef_pos"), _group("gripper_open")
_TURNED = _group("eef_ortho6d")


def _constant(one: FieldSeen, values: Array) -> Iterator[Finding]:
    slots = one.field.indices
    still = {slots[n]: values[0, n] for n in np.flatnonzero(np.ptp(values, axis=0) < 1e-6)}
    some_may = one.fills(_TURNED) or one.section == "recorded_action"  # a turn about one axis, a joint held at 0
    if len(values) < LEAST_STEPS or not still or (some_may and len(still) < len(slots)):
        return
    named = ", ".join(f"{preferred_name(slot)} (always {value:.4g})" for slot, value in still.items())
    text = f"{'all its slots' if len(still) == len(slots) else named} never changed in {len(values)} steps"
    yield warning(one.name, text, "check the key and the columns; leave out what the robot does not have")


def _joints(one: FieldSeen, values: Array) -> Iterator[Finding]:
    if not one.fills(_JOINTS):
        return
    largest, raw = float(np.abs(values).max()), float(np.abs(joined(one.raw)).max())
    if largest > TWO_TURNS:
        yield warning(
            one.name,
            f"joints reach {largest:.4g} rad, more than two turns",
            "if they are degrees, write unit: deg, ops: [deg_to_rad]",
        )
    turned = any(op.name == "deg_to_rad" for op in one.field.ops)
    if turned and len(one.field.indices) > 3 and raw < 2 * np.pi:
        yield warning(
            one.name,
            f"no joint goes beyond {raw:.3g} degrees",
            "if they are radians, write unit: rad without deg_to_rad",
        )


def _position(one: FieldSeen, values: Array) -> Iterator[Finding]:
    if one.fills(_POSITION) and (largest := float(np.abs(values).max())) > FARTHEST:
        yield warning(
            one.name, f"the hand is {largest:.4g} m away", "if they are millimetres, write unit: mm, ops: [mm_to_m]"
        )


def _gripper(one: FieldSeen, values: Array) -> Iterator[Finding]:
    if not one.fills(_OPEN):
        return
    low, high = float(values.min()), float(values.max())
    if low < GRIPPER[0] or high > GRIPPER[1]:
        yield warning(
            one.name,
            f"the gripper is in [{low:.4g}, {high:.4g}], it should be in [0, 1]",
            "scale it: ops: [{div: WIDEST}], or [{affine: [0.5, 0.5]}] for -1 … 1",
        )
    elif (high < 0.5 or low > 0.5) and high > low:
        never = "opens" if high < 0.5 else "closes"
        yield warning(
            one.name,
            f"the gripper never {never}: it is in [{low:.4g}, {high:.4g}], 0 closed and 1 open",
            "check the polarity (invert) and the scale; look at more episodes (--episodes)",
        )


def _rotation(one: FieldSeen) -> Iterator[Finding]:
    names = [op.name for op in one.field.ops]
    raw = joined(one.raw)
    for order in ("xyzw", "wxyz"):
        if f"quat_{order}_to_ortho6d" in names:
            yield from _quaternion(one, raw, order)
    if names[:1] in (["euler_xyz_to_ortho6d"], ["euler_zxy_to_ortho6d"], ["axis_angle_to_ortho6d"]):
        largest = float(np.abs(raw).max())
        if largest > 2.2 * np.pi:
            text = f"angles reach {largest:.4g} rad"
            yield warning(one.name, text, "if they are degrees, write unit: deg and deg_to_rad before the rotation")
    if names == [] and one.fills(_TURNED) and raw.shape[1] == 6 and rot.ortho6d([raw]) is None:
        text = "the six numbers are not two directions of length 1 at right angles"
        yield warning(one.name, text, "check the columns, or name the op that makes an ortho6d of them")
    if any(name.startswith("mat4_") for name in names) and raw.shape[1] == 16:
        yield from _matrix(one, raw, names)


def _quaternion(one: FieldSeen, raw: Array, order: str) -> Iterator[Finding]:
    off = float(np.abs(np.linalg.norm(raw, axis=1) - 1).max())
    if off > 0.01:
        text = f"the quaternion's length is off 1 by up to {off:.3g}; it is normalised"
        yield warning(one.name, text, "check the columns: four, and no others")
        return
    sign = rot.quaternion(one.raw)
    other = "wxyz" if order == "xyzw" else "xyzw"
    if sign is not None and sign.ops == (f"quat_{other}_to_ortho6d",):
        text = f"the quaternion looks like {other}: {sign.why}"
        yield warning(one.name, text, f"if so, write ops: [quat_{other}_to_ortho6d]")


def _matrix(one: FieldSeen, raw: Array, names: list[str]) -> Iterator[Finding]:
    found = rot.matrix4([raw])
    if found is None:
        yield warning(one.name, "the sixteen numbers are no homogeneous matrix", "check the columns")
    elif found[0] != "?" and not any(found[0] in name for name in names):
        yield warning(one.name, f"the matrix looks {found[0]}: {found[1]}", f"use the ops mat4_{found[0]}_to_…")
