"""Do velocities fit positions at the stated control rate?

In each episode, positions p and velocities v of one slot should obey p[t+1] - p[t] = (v[t] + v[t+1]) / 2 / rate. Least
squares gives the seconds of a step; how well the line fits says whether to believe it.
In: `Rows`. Out: hits. Where a source has no timestamps (`lint_timestamps`) this is the only sign of the true rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data.layout import GROUPS
from stats.lint_check import Check, Hit, Need, Seen
from stats.lint_rows import Rows, named

Array = npt.NDArray[np.float64]

AGREEMENT = 0.9
RATIOS = (0.7, 1.4)
SINGLE_RATIOS = (0.6, 1.7)
MOVED = {"rad": 0.05, "m": 0.02, "1": 0.1}  # root of the summed squares of all steps of the slot
LEAST_STEPS = 10

PAIRS = {
    f"{side}_{velocity}": (GROUPS[f"{side}_{position}"], GROUPS[f"{side}_{velocity}"], kind)
    for side in ("right", "left")
    for position, velocity, kind in (
        ("arm_joint_pos", "arm_joint_vel", "rad"),
        ("gripper_joint_pos", "gripper_vel", "1"),
        ("eef_pos", "eef_lin_vel", "m"),
    )
}
"""Group of velocities -> slots of the positions, slots of the velocities, unit of the positions."""


@dataclass(frozen=True, slots=True)
class Fit:
    """k slots in E episodes. seconds: (k, E) of a step, NaN where the slot moves too little; agreement: -1 … 1."""

    slots: list[int]  # of the velocities
    seconds: Array
    agreement: Array


def fit(rows: Rows, group: str) -> Fit | None:
    """Fit the velocities of a group; None when the state has no such pair."""
    positions, velocities, kind = PAIRS[group]
    state = rows.state
    pairs = [pair for pair in zip(positions, velocities, strict=True) if state.has(pair)]
    if not pairs:
        return None
    at, by = (state.rows_of([pair[i] for pair in pairs]) for i in (0, 1))
    moved = state.steps[at]
    speed = state.columns[by]
    speed[:, :-1] += speed[:, 1:]
    speed[:, rows.ends] = 0
    dv, vv, dd = (rows.sums(x).astype(np.float64) for x in (moved * speed, speed * speed, moved * moved))
    enough = (np.sqrt(dd) >= MOVED[kind]) & (rows.lengths > LEAST_STEPS)
    with np.errstate(invalid="ignore", divide="ignore"):
        seconds = np.where(enough & (vv > 0), 2 * dv / vv, np.nan)  # speed is twice the mean
        return Fit([pair[1] for pair in pairs], seconds, dv / np.sqrt(dd * vv))


def velocity_rate(rows: Rows) -> Iterator[Hit]:
    """Episodes whose velocities say another rate, or another unit: all slots of a group alike, or single ones."""
    for group in PAIRS:
        found = fit(rows, group)
        if found is None:
            continue
        ratios = found.seconds * rows.control_hz
        with np.errstate(invalid="ignore"):
            sure = (np.abs(found.agreement) > AGREEMENT) & np.isfinite(ratios) & (rows.control_hz > 0)
            off = sure & ((np.abs(ratios) < RATIOS[0]) | (np.abs(ratios) > RATIOS[1]))
            far = sure & ((np.abs(ratios) < SINGLE_RATIOS[0]) | (np.abs(ratios) > SINGLE_RATIOS[1]))
        for episode in np.flatnonzero(off.any(axis=0)).tolist():
            number, hz = rows.numbers[episode], float(rows.control_hz[episode])
            which = np.flatnonzero(off[:, episode]).tolist()
            if len(which) > 1 and len(which) > sure[:, episode].sum() / 2:
                yield _rate_hit(number, group, float(np.median(np.abs(ratios[which, episode]))), hz)
            else:
                for slot in np.flatnonzero(far[:, episode]).tolist():
                    yield _rate_hit(number, named(rows.state, found.slots[slot]), float(abs(ratios[slot, episode])), hz)


def _rate_hit(episode: int, slot: str, ratio: float, hz: float) -> Hit:
    """ratio: seconds of a step times the stated rate."""
    expected = f"{hz:g} Hz, as stated"
    degree = 180 / np.pi
    for factor, which in ((1 / degree, "velocities"), (degree, "positions")):
        if 0.9 < ratio / factor < 1.1:
            value = f"{which} look like degrees: {which} are {degree:.1f} x too large"
            return Hit(
                value, "radians", episode=episode, slot=slot, remedy=f"add `deg_to_rad` to the field of the {which}"
            )
    return Hit(f"positions and velocities agree at about {hz / ratio:.3g} Hz", expected, episode=episode, slot=slot)


def velocity_sign(rows: Rows) -> Iterator[Hit]:
    """Velocity slots that point against the movement."""
    for group in PAIRS:
        found = fit(rows, group)
        if found is None:
            continue
        with np.errstate(invalid="ignore"):
            against = np.isfinite(found.seconds) & (found.agreement < -AGREEMENT)
        for slot, episode in np.argwhere(against).tolist():
            yield Hit(
                float(found.agreement[slot, episode]),
                f"a correlation of position steps and velocities near 1, not below {-AGREEMENT:g}",
                episode=rows.numbers[episode],
                slot=named(rows.state, found.slots[slot]),
            )


def _has_pair(seen: Seen) -> bool:
    pairs = ((p, v) for positions, velocities, _ in PAIRS.values() for p, v in zip(positions, velocities, strict=True))
    return any({*pair} <= seen.state for pair in pairs)


_NEED = Need("positions and velocities of the same slots in the state", _has_pair)

VELOCITY = (
    Check(
        name="velocity_rate",
        severity="error",
        subject="rows",
        about="velocities and positions agree at another rate than the stated one, or only in another unit",
        threshold=f"seconds of a step, fitted, x control_hz is outside {RATIOS[0]:g} … {RATIOS[1]:g} for most slots of "
        f"a group, or outside {SINGLE_RATIOS[0]:g} … {SINGLE_RATIOS[1]:g} for one; only where the fit is good "
        f"(correlation above {AGREEMENT:g}, more than {LEAST_STEPS} steps, some movement)",
        source="half way to a rate twice as high or low, as of a recording of every second step; single joints of the "
        "public ALOHA simulation are at 1.47",
        remedy="correct `control_hz` (such episodes need a spec of their own), or the unit of the velocities",
        find=velocity_rate,
        need=_NEED,
    ),
    Check(
        name="velocity_sign",
        severity="error",
        subject="rows",
        about="a velocity that points against the movement of its position",
        threshold=f"their correlation over an episode is below {-AGREEMENT:g}",
        source="the derivative of a position cannot have the opposite sign",
        remedy="check the columns and the sign of the velocity field in the spec",
        find=velocity_sign,
        need=_NEED,
    ),
)
