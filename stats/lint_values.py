"""Checks of single values: not finite, where nothing is real, out of any joint's or gripper's range, never changing.

In: `Rows`. Out: hits. Ranges of each slot and episode are computed once by `Vectors`; a step is looked for only where a
range says that there is something to find.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdt_data.episode import FloatArray
from rdt_data.layout import DIM, GROUPS, preferred_name, unit
from rdt_data.store import Dataset
from stats.lint_check import Check, Hit
from stats.lint_rows import Rows, Vectors

TURN = 2 * np.pi  # rad
MOST_TURNS = 4
CONSTANT = 1e-4  # of the slot's own unit
ENOUGH_STEPS = 100
GRIPPER_SLACK = 0.5
NARROW_GRIPPER = 0.15  # m, what a wide parallel gripper opens
HIGHEST_RATE = 1000.0  # Hz

JOINTS = tuple(slot for side in ("right", "left") for slot in GROUPS[f"{side}_arm_joint_pos"])
GRIPPERS = tuple(GROUPS[f"{side}_gripper_open"][0] for side in ("right", "left"))
ROTATIONS = tuple(slot for side in ("right", "left") for slot in GROUPS[f"{side}_eef_ortho6d"])


def not_finite(rows: Rows) -> Iterator[Hit]:
    """NaN and infinity, in any of the 128 slots, real or not."""
    for vectors in (rows.state, rows.action):
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(vectors.values.sum()):  # one pass; anything not finite makes the sum so
                continue
        steps, slots = np.nonzero(~np.isfinite(vectors.values))
        yield from rows.hits(vectors, steps, slots.tolist(), vectors.values[steps, slots].tolist(), "a finite number")


def unreal_not_zero(rows: Rows) -> Iterator[Hit]:
    """Values in slots that the mask says are not real."""
    for vectors in (rows.state, rows.action):
        bits = np.bitwise_or.reduce(np.ascontiguousarray(vectors.values).view(np.uint64), axis=0).view(np.uint32)
        used = (bits & np.uint32(0x7FFF_FFFF)) != 0  # the sign alone is -0.0
        real = vectors.mask if vectors.by_step is None else vectors.by_step
        for slot in np.flatnonzero(used & ~real.all(axis=0)).tolist():
            column = vectors.values[:, slot]
            steps = np.flatnonzero((column != 0) & ~vectors.real_columns([slot])[0])
            yield from rows.hits(
                vectors, steps, [slot] * len(steps), column[steps].tolist(), "0: the mask says not real"
            )


def _beyond(
    rows: Rows, vectors: Vectors, slots: Sequence[int], low: float, high: float, most: float, expected: str
) -> Iterator[Hit]:
    """Steps of `slots` outside [low, high], in episodes whose greatest magnitude is at most `most`."""
    for at in vectors.rows_of(slots):
        peak = np.maximum(-vectors.low[at], vectors.high[at])
        outside = ((vectors.low[at] < low) | (vectors.high[at] > high)) & (peak <= most) & (peak < np.inf)
        for episode in np.flatnonzero(outside).tolist():
            start, stop = rows.starts[episode], rows.ends[episode] + 1
            column = vectors.columns[at, start:stop]
            steps = np.flatnonzero((column < low) | (column > high))
            slot = [vectors.slots[at]] * len(steps)
            yield from rows.hits(vectors, steps + start, slot, column[steps].tolist(), expected)


def joint_degrees(rows: Rows) -> Iterator[Hit]:
    """Joint angles beyond any number of turns that an arm makes."""
    limit = MOST_TURNS * TURN
    expected = f"radians within ±{limit:.1f} ({MOST_TURNS} turns)"
    for vectors in rows.vectors:
        yield from _beyond(rows, vectors, JOINTS, -limit, limit, np.inf, expected)


def joint_turns(rows: Rows) -> Iterator[Hit]:
    """Joint angles beyond one turn to either side."""
    for vectors in rows.vectors:
        yield from _beyond(
            rows, vectors, JOINTS, -TURN, TURN, MOST_TURNS * TURN, f"radians within ±{TURN:.2f} (1 turn)"
        )


def gripper_range(rows: Rows) -> Iterator[Hit]:
    """Grippers far outside 0 closed … 1 open."""
    for vectors in rows.vectors:
        low, high = -GRIPPER_SLACK, 1 + GRIPPER_SLACK
        yield from _beyond(rows, vectors, GRIPPERS, low, high, np.inf, "0 (closed) to 1 (open)")


def control_rate(rows: Rows) -> Iterator[Hit]:
    """Control rates that cannot be."""
    with np.errstate(invalid="ignore"):
        fine = (rows.control_hz > 0) & (rows.control_hz <= HIGHEST_RATE)
    for episode in np.flatnonzero(~fine).tolist():
        hz = float(rows.control_hz[episode])
        yield Hit(hz, f"more than 0, at most {HIGHEST_RATE:g} Hz", episode=rows.numbers[episode])


def episode_empty(dataset: Dataset) -> Iterator[Hit]:
    """Episodes of no steps: no other check sees them."""
    first = 0
    for part in dataset.parts:
        lengths = np.asarray(dataset.group[f"parts/{part.id}/episodes/length"][...])
        for row in np.flatnonzero(lengths == 0).tolist():
            yield Hit(0, "at least one step", episode=first + row)
        first += part.episodes


@dataclass(frozen=True, slots=True)
class Span:
    """The range of each slot of the state over some episodes: (128,), infinite where no episode has the slot."""

    low: FloatArray
    high: FloatArray
    steps: int

    def __add__(self, other: "Span") -> "Span":
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Span(low, high, self.steps + other.steps)


def span(rows: Rows) -> Span:
    """The range of the state's slots where they are real."""
    low, high = np.full(DIM, np.inf, np.float32), np.full(DIM, -np.inf, np.float32)
    for at, slot in enumerate(rows.state.slots):
        real = rows.state.mask[:, slot]
        low[slot], high[slot] = rows.state.low[at, real].min(), rows.state.high[at, real].max()
    return Span(low, high, int(rows.lengths.sum()))


def constant_slot(spans: Sequence[Span]) -> Iterator[Hit]:
    """Slots said to be real that never change in the whole store."""
    whole = _total(spans)
    if whole.steps < ENOUGH_STEPS:
        return
    for slot in range(DIM):
        if slot not in ROTATIONS and 0 <= (extent := float(whole.high[slot]) - float(whole.low[slot])) < CONSTANT:
            value = f"always {whole.low[slot]:.6g} {unit(slot)}" if extent == 0 else f"moves {extent:.1g} {unit(slot)}"
            yield Hit(value.strip(), f"more than {CONSTANT:g} between lowest and highest", slot=preferred_name(slot))


def gripper_metres(spans: Sequence[Span]) -> Iterator[Hit]:
    """Grippers that move, but never open: a width in metres, perhaps."""
    whole = _total(spans)
    for slot in GRIPPERS:
        low, high = float(whole.low[slot]), float(whole.high[slot])
        if low >= -CONSTANT and high - low >= CONSTANT and high < NARROW_GRIPPER:
            yield Hit(high, f"above {NARROW_GRIPPER} somewhere: 1 is open", slot=preferred_name(slot))


def _total(spans: Iterable[Span]) -> Span:
    nothing = Span(np.full(DIM, np.inf, np.float32), np.full(DIM, -np.inf, np.float32), 0)
    return sum(spans, start=nothing)


def _row(**fields: Any) -> Check:
    return Check(subject="rows", **fields)


VALUES = (
    _row(
        name="not_finite",
        severity="error",
        about="NaN or infinity in a state or action",
        threshold="any",
        source="no loss survives one",
        remedy="find it in the source; convert with --on-error quarantine, or leave the episode out",
        find=not_finite,
    ),
    _row(
        name="unreal_not_zero",
        severity="error",
        about="a value in a slot that the mask says is not real",
        threshold="anything but 0",
        source="the layout: what is not real is 0",
        remedy="convert again; if a `patch` made these values, let it fill the mask too",
        find=unreal_not_zero,
    ),
    _row(
        name="joint_degrees",
        severity="error",
        about="joint angles beyond what any arm turns: degrees, or encoder counts",
        threshold=f"|angle| > {MOST_TURNS} turns = {MOST_TURNS * TURN:.1f} rad",
        source="arms with limits stay within ±1 turn (UR: ±360°); a continuous wrist seldom makes more than a few",
        remedy="add `deg_to_rad` to the field of the spec, or choose the right columns",
        find=joint_degrees,
    ),
    _row(
        name="joint_turns",
        severity="warning",
        about="joint angles beyond one turn: degrees of a joint that moves little, or an angle that was unwrapped",
        threshold=f"{TURN:.2f} rad < |angle| <= {MOST_TURNS * TURN:.1f} rad",
        source="the widest limits of common arms (UR: ±360°)",
        remedy="compare with the robot's limits; add `deg_to_rad`, or wrap the angle in a `patch`",
        find=joint_turns,
    ),
    _row(
        name="gripper_range",
        severity="error",
        about="a gripper in another unit: -1 … 1, millimetres, counts",
        threshold=f"below {-GRIPPER_SLACK:g} or above {1 + GRIPPER_SLACK:g}",
        source="the layout (0 closed … 1 open), with room for calibration and overshoot",
        remedy="scale the field of the spec to 0 … 1 (`affine: [0.5, 0.5]` for -1 … 1)",
        find=gripper_range,
    ),
    _row(
        name="gripper_metres",
        severity="warning",
        about="a gripper that moves but never opens: a finger position in metres",
        threshold=f"its largest value in the whole store is below {NARROW_GRIPPER}",
        source="parallel grippers open 0.08 to 0.14 m (Franka 0.08, Robotiq 2F-140 0.14)",
        remedy="scale the field of the spec by 1 / the width when open",
        find=gripper_metres,
        gather=span,
    ),
    _row(
        name="constant_slot",
        severity="warning",
        about="a slot of the state that is said to be real but never changes",
        threshold=f"moves less than {CONSTANT:g} (its unit) in the whole store, of at least {ENOUGH_STEPS} steps; "
        "orientations are not looked at",
        source="below the resolution of encoders; dividing by its deviation blows noise up",
        remedy="leave the field out of the spec if the robot has no such joint; else look for a dead sensor",
        find=constant_slot,
        gather=span,
    ),
    _row(
        name="control_rate",
        severity="warning",
        about="a control rate that cannot be",
        threshold=f"not above 0, or above {HIGHEST_RATE:g} Hz",
        source="robot arms are commanded at 1 to 1000 Hz (Franka: 1000)",
        remedy="set `control_hz` in the spec",
        find=control_rate,
    ),
    Check(
        name="episode_empty",
        severity="error",
        subject="store",
        about="an episode without a step",
        threshold="0 steps",
        source="there is nothing to train on",
        remedy="leave it out of the source and convert again",
        find=episode_empty,
    ),
)
