"""The unified vector: which of its 128 slots means what, in which unit, and under which names.

State and action share this layout. One arm is the right arm; the left arm is the same table 50 slots later.
In: named values (T, k). Out: one (T, 128) vector and the (128,) mask of the slots that are real. Pure NumPy.
Slots 45-49, 95-99 and 103-127 are reserved and cannot be addressed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError, unknown

DIM = 128
CAMERAS = ("exterior", "right_wrist", "left_wrist")
"""The camera slots; a single wrist camera is `right_wrist`."""

FloatArray = npt.NDArray[np.float32]
Indices = tuple[int, ...]
Part = tuple[Sequence[int], FloatArray]
"""Slot indices and the (T, k) values that belong there."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the 128 numbers. `unit` is "" and `aliases` is empty for a reserved slot."""

    name: str
    index: int
    unit: str
    aliases: tuple[str, ...] = ()


# One arm: (group, first index, unit, slot name per element, alias of the group). {side} is "right_" or "left_".
_ARM = (
    ("arm_joint_pos", 0, "rad", [f"arm_joint_{i}_pos" for i in range(10)], ()),
    ("gripper_joint_pos", 10, "1", [f"gripper_joint_{i}_pos" for i in range(5)], ()),
    ("arm_joint_vel", 15, "rad/s", [f"arm_joint_{i}_vel" for i in range(10)], ()),
    ("gripper_vel", 25, "1/s", [f"gripper_joint_{i}_vel" for i in range(5)], ("gripper_joint_vel",)),
    ("eef_pos", 30, "m", [f"eef_pos_{axis}" for axis in "xyz"], ()),
    ("eef_ortho6d", 33, "1", [f"eef_angle_{i}" for i in range(6)], ("eef_rot6d",)),
    ("eef_lin_vel", 39, "m/s", [f"eef_vel_{axis}" for axis in "xyz"], ("eef_vel",)),
    (
        "eef_ang_vel",
        42,
        "rad/s",
        [f"eef_angular_vel_{axis}" for axis in ("roll", "pitch", "yaw")],
        ("eef_angular_vel",),
    ),
)
_BASE = (
    ("base_lin_vel", 100, "m/s", ["base_vel_x", "base_vel_y"], ("base_vel_xy",)),
    ("base_ang_vel", 102, "rad/s", ["base_angular_vel"], ()),
)
_ALSO = {"gripper_joint_0_pos": ("gripper_open",), "gripper_joint_0_vel": ("gripper_open_vel",)}
_FLEXIBLE = ("arm_joint_pos", "gripper_joint_pos", "arm_joint_vel", "gripper_vel")  # robots differ in how many
_LEFT_OFFSET = 50


def _arm_slots(side: str, offset: int) -> Iterator[Slot]:
    for _, first, unit, names, _ in _ARM:
        for position, name in enumerate(names):
            also = _ALSO.get(name, ())
            sideless = (name, *also) if side == "right_" else ()
            yield Slot(side + name, offset + first + position, unit, (*(side + a for a in also), *sideless))


def _slots() -> tuple[Slot, ...]:
    table = {slot.index: slot for slot in (*_arm_slots("right_", 0), *_arm_slots("left_", _LEFT_OFFSET))}
    for _, first, unit, names, _ in _BASE:
        table |= {first + i: Slot(name, first + i, unit) for i, name in enumerate(names)}
    return tuple(table.get(i, Slot(f"reserved_{i}", i, "")) for i in range(DIM))


def _groups() -> tuple[dict[str, Indices], dict[str, Indices]]:
    """The groups by their own name, and by their further names (without a side: the right arm)."""
    own: dict[str, Indices] = {}
    further: dict[str, Indices] = {}
    for side, offset in (("right_", 0), ("left_", _LEFT_OFFSET)):
        for name, first, _, names, aliases in _ARM:
            own[side + name] = indices = tuple(range(offset + first, offset + first + len(names)))
            sideless = (name, *aliases) if side == "right_" else ()
            further |= dict.fromkeys((*(side + alias for alias in aliases), *sideless), indices)
        own[side + "gripper_open"] = (offset + 10,)
    for name, first, _, names, aliases in _BASE:
        own[name] = indices = tuple(range(first, first + len(names)))
        further |= dict.fromkeys(aliases, indices)
    return own, further


SLOTS: tuple[Slot, ...] = _slots()
GROUPS, _FURTHER = _groups()
"""Groups of slots by name: "right_arm_joint_pos" is ten slots, "base_lin_vel" two."""

NAMES: dict[str, Indices] = {
    **{name: (slot.index,) for slot in SLOTS if slot.unit for name in (slot.name, *slot.aliases)},
    **_FURTHER,
    **GROUPS,
}
_FLEXIBLE_GROUPS = {GROUPS[side + name] for side in ("right_", "left_") for name in _FLEXIBLE}


def resolve(to: str | Sequence[str], width: int | None) -> Indices:
    """The slot indices that `width` values named `to` belong to; with None, all that `to` names.

    to: a group ("right_eef_pos"), a slot ("base_vel_x"), or one slot name per value. A group of joints or
    of gripper joints may be given fewer values than it has slots: they are its first ones.
    """
    indices = _named(to) if isinstance(to, str) else _listed(to)
    if width is None or width == len(indices):
        return indices
    flexible = isinstance(to, str) and indices in _FLEXIBLE_GROUPS
    if flexible and 0 < width < len(indices):
        return indices[:width]
    allowed = f"1 to {len(indices)}" if flexible else str(len(indices))
    raise RdtError(f"{_said(to)} takes {allowed} values, {width} are given", remedy=_widths_hint(width))


def _named(name: str) -> Indices:
    if name not in NAMES:
        raise unknown("slot or group of slots", name, NAMES)
    return NAMES[name]


def _listed(names: Sequence[str]) -> Indices:
    indices: list[int] = []
    for name in names:
        found = _named(name)
        if len(found) != 1:
            raise RdtError(f"{name} is {len(found)} slots", remedy="in a list, name one slot for each value")
        if found[0] in indices:
            raise RdtError(f"{name} is named twice", remedy="give each value a slot of its own")
        indices.append(found[0])
    if not indices:
        raise RdtError("no slot is named", remedy="name a group or at least one slot")
    return tuple(indices)


def _said(to: str | Sequence[str]) -> str:
    return to if isinstance(to, str) else f"[{', '.join(to)}]"


def _widths_hint(width: int) -> str:
    fitting = [name for name, slots in GROUPS.items() if name.startswith("right_") and len(slots) == width]
    also = f" ({width} wide: {', '.join(fitting)})" if fitting else ""
    return f"choose the columns and ops that make the widths equal, or another target{also}"


def slot_name(index: int) -> str:
    """The name of slot `index`: "right_arm_joint_0_pos", "reserved_45"."""
    return SLOTS[index].name


def preferred_name(index: int) -> str:
    """The name a person would use: "right_gripper_open" rather than "right_gripper_joint_0_pos"."""
    slot = SLOTS[index]
    return slot.aliases[0] if slot.aliases and slot.aliases[0].endswith("gripper_open") else slot.name


def unit(index: int) -> str:
    """The unit of slot `index`: "rad", "1", "rad/s", "1/s", "m" or "m/s"; "" when it is reserved."""
    return SLOTS[index].unit


def describe(mask: npt.ArrayLike) -> list[str]:
    """The True slots of a (128,) mask as short ranges: ["right_arm_joint_pos[0:6]", "right_gripper_open"]."""
    chosen = np.asarray(mask, dtype=bool)
    if chosen.shape != (DIM,):
        raise RdtError(f"a mask of shape {chosen.shape} is given", remedy=f"give one of shape ({DIM},)")
    ranges: list[str] = []
    for name, indices in GROUPS.items():
        if not name.endswith("gripper_open"):
            ranges += _ranges(name, [i for i in indices if chosen[i]])
    return ranges + [slot.name for slot in SLOTS if chosen[slot.index] and not slot.unit]


def _ranges(group: str, chosen: list[int]) -> list[str]:
    """The runs of the ascending slots `chosen` within a group."""
    first = GROUPS[group][0]
    if len(chosen) == len(GROUPS[group]):
        return [group]
    runs: list[list[int]] = []
    for index in chosen:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return [
        f"{group}[{run[0] - first}:{run[-1] + 1 - first}]" if len(run) > 1 else preferred_name(run[0]) for run in runs
    ]


def place(parts: Sequence[Part], *, steps: int | None = None) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Put values where they belong: (T, 128) float32, zero elsewhere, and the (128,) mask of what was put.

    steps: T, needed only when there may be no parts. Refuses two parts that claim one slot.
    """
    if steps is None:
        if not parts:
            raise RdtError("nothing to place", remedy="give `steps` when there may be no parts")
        steps = len(parts[0][1])
    vector = np.zeros((steps, DIM), np.float32)
    mask = np.zeros(DIM, np.bool_)
    for indices, values in parts:
        if values.shape != (steps, len(indices)):
            raise RdtError(
                f"values of shape {values.shape} are given for {len(indices)} slots over {steps} steps",
                remedy=f"give shape ({steps}, {len(indices)})",
            )
        where = list(indices)
        taken = [i for i in where if mask[i]]
        if taken or len(set(where)) < len(where):
            names = ", ".join(map(slot_name, taken)) or "one of its own slots"
            raise RdtError(f"{names} is filled twice", remedy="let one part fill each slot")
        vector[:, where] = values
        mask[where] = True
    return vector, mask
