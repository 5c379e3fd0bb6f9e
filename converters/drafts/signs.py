"""What numbers show: grippers, velocities, commands, clocks (rotations: `converters.drafts.rotation`).

In: the columns in question, a list of (T, n) float64 arrays, one an episode. Out: a sign with the numbers that make it
one, or None. A sign is evidence and not proof; where two readings fit alike the answer is "?". Pure; knows no keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Episodes = Sequence[Array]

Ops = tuple[str | dict[str, Any], ...]
"""Ops as a spec writes them."""

USUAL_RATES = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 12, 12.5, 15, 20, 24, 25, 30, 40, 50, 60, 75, 90, 100, 120, 125, 200, 240, 250, 500),
    1000,
)
"""Hz."""
LEAST_STEPS = 8
AGREES = 0.9
RESEMBLES = 0.75  # enough to tell which velocity belongs to which position, not what the rate is
DISPLACES = 0.75  # a command is followed only roughly, so less is asked for


@dataclass(frozen=True, slots=True)
class Sign:
    """A reading of some columns. ops: as a spec writes them, ("?",) when the data cannot tell; why: the evidence."""

    unit: str
    ops: Ops
    why: str
    question: str = ""


def joined(x: Episodes) -> Array:
    """All steps of all episodes, (N, n)."""
    return np.concatenate(list(x))


def gripper(x: Array, *, named: bool, polarity: str = "") -> Sign | None:
    """One column (N,) that opens and closes. named: whether a name says so. polarity: "open", "closed", "" unknown.

    Without a name only what rests at an end of its range, or takes few values, is taken for a gripper.
    """
    low, high = float(x.min()), float(x.max())
    few = np.unique(x)
    seen = f"in [{low:.3g}, {high:.3g}]"
    if len(few) <= 3:
        seen = f"takes the values {', '.join(f'{value:g}' for value in few)}"
    if low < -0.5 and low >= -1.05 and high <= 1.05 and (named or len(few) <= 3):
        return _polar("1", ({"affine": [0.5, 0.5]},), ({"affine": [-0.5, 0.5]},), f"{seen}, -1 … 1", polarity)
    if not named and high - low < 0.05 * max(abs(high), 1e-9):
        return None
    if low >= -0.005 and 0.012 < high <= 0.15 and (named or len(few) > 3):
        why = f"{seen}: metres between the fingers; {high:.4f} is the widest seen"
        return Sign("m", ({"div": round(high, 4)},), why)
    if low >= -0.05 and high <= 1.05 and (named or len(few) <= 3 or low < 0.12 or high > 0.88):
        short = "" if high > 0.9 or high < 0.012 else ", never near 1: is that the end of its range?"
        return _polar("1", (), ("invert",), seen + short, polarity)
    if named and low >= -1 and 150 < high <= 255:
        return _polar("1", ({"div": 255},), ({"div": 255}, "invert"), f"{seen}, of 255", polarity)
    if named and low >= -1 and 90 < high <= 100.5:
        return _polar("1", ({"div": 100},), ({"div": 100}, "invert"), f"{seen}, percent", polarity)
    if named and low >= -1 and 20 < high <= 150:
        return Sign("mm", ({"div": round(high, 2)},), f"{seen}: millimetres; {high:.1f} is the widest seen")
    if named and low >= -1 and 1.05 < high <= 20:
        return Sign("1", ("?",), seen, f"{{div: {high:.4g}}} when the largest seen is wide open")
    return None


def _polar(unit: str, as_open: Ops, as_closed: Ops, why: str, polarity: str) -> Sign:
    """A gripper whose high end is open or closed, as a name says; else a question."""
    if polarity:
        ops = as_open if polarity == "open" else as_closed
        return Sign(unit, ops, f"{why}; high is {polarity}")
    shown = " or ".join(f"{end} (ops: {written(ops)})" for end, ops in (("open", as_open), ("closed", as_closed)))
    return Sign(unit, ("?",), why, f"is high {shown}")


def written(ops: Ops) -> str:
    """Ops as YAML in one line: "[{div: 85}, invert]"."""
    shown = (op if isinstance(op, str) else "{" + ", ".join(f"{k}: {v}" for k, v in op.items()) + "}" for op in ops)
    return f"[{', '.join(shown)}]"


def agreement(moved: Array, speed: Array) -> tuple[float, float]:
    """Least squares of moved = seconds * speed: (seconds, correlation through the origin)."""
    power, motion, both = float((speed**2).sum()), float((moved**2).sum()), float((moved * speed).sum())
    if power < 1e-9 or motion < 1e-9:
        return 0.0, 0.0
    return both / power, both / float(np.sqrt(motion * power))


def derivative(position: Episodes, velocity: Episodes) -> tuple[float, float] | None:
    """(rate in Hz, correlation) when velocity resembles the change of position a second; None when it does not.

    The velocity of a step may be that of the change before it, after it, or in between.
    """
    if sum(map(len, position)) < LEAST_STEPS:
        return None
    moved = joined([np.diff(a, axis=0) for a in position])
    taken = ([a[1:] for a in velocity], [a[:-1] for a in velocity], [(a[1:] + a[:-1]) / 2 for a in velocity])
    seconds, fit = max((agreement(moved, joined(speed)) for speed in taken), key=lambda found: found[1])
    return (1 / seconds, fit) if seconds > 0 and fit > RESEMBLES else None


def displacement(state: Episodes, command: Episodes) -> tuple[float, float] | None:
    """(factor, correlation) when a command is the change of the state in one step; None when it is not."""
    if sum(map(len, state)) < LEAST_STEPS:
        return None
    factor, fit = agreement(joined([np.diff(a, axis=0) for a in state]), joined([a[:-1] for a in command]))
    return (factor, fit) if factor > 0 and fit > DISPLACES else None


def followed(state: Episodes, command: Episodes) -> float:
    """How far the state one step on is from the command, as a share of how much the state varies (0: it is there)."""
    error = joined([a[1:] - c[:-1] for a, c in zip(state, command, strict=True)])
    spread = float(joined(state).std(axis=0).mean())
    return float(np.sqrt((error**2).mean(axis=0)).mean()) / spread if spread > 1e-6 and len(error) else np.inf


def clock(x: Episodes) -> tuple[float, str, str] | None:
    """(rate in Hz, unit as a spec has it, evidence) of a column of times; None when it does not run evenly forward."""
    steps = joined([np.diff(a, axis=0) for a in x])[:, 0]
    if len(steps) < 2 or steps.min() <= 0:
        return None
    middle = float(np.median(steps))
    unit, per_second = next(
        (name, size)
        for name, size, least in (("ns", 1e9, 2e5), ("us", 1e6, 5e2), ("ms", 1e3, 0.9), ("s", 1.0, 0.0))
        if middle > least
    )
    rate = per_second / middle
    return rate, unit, f"{middle:.6g} {unit} from step to step"


def usual(rate: float, tolerance: float) -> float:
    """The usual rate within `tolerance` (a share) of a measured one, else the measured one to 3 digits."""
    nearest = min(USUAL_RATES, key=lambda r: abs(r - rate))
    return nearest if abs(nearest - rate) <= tolerance * nearest else float(f"{rate:.3g}")
