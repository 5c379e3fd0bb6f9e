"""Is open really 1? The gripper's command against its state, and its slot against the name of its source.

In: `Rows`, or the store's spec. Out: hits. A next-state action says nothing about polarity: it is the state.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.layout import preferred_name, resolve
from rdt_data.store import Dataset
from stats.lint_check import Check, Hit, Need
from stats.lint_rows import Rows
from stats.lint_values import GRIPPERS

AGAINST = -0.5  # correlation
LONGEST_LAG = 0.5  # s
LAGS = 6
LEAST_SPAN = 0.3  # of 0 … 1
LEAST_PAIRS = 8

_INVERTING = {"affine", "scale", "div"}  # with a negative first number


def gripper_polarity(rows: Rows) -> Iterator[Hit]:
    """Episodes in which the gripper does the opposite of its command, however late it may follow."""
    if rows.next_state:
        return
    for slot in GRIPPERS:
        if not (rows.state.has([slot]) and rows.action.has([slot])):
            continue
        best = _best_agreement(rows, slot)
        for episode in np.flatnonzero(best < AGAINST).tolist():
            expected = f"correlation above {AGAINST:g} with the command of at most {LONGEST_LAG:g} s before"
            number = rows.numbers[episode]
            yield Hit(float(best[episode]), expected, episode=number, slot=preferred_name(slot))


def _best_agreement(rows: Rows, slot: int) -> npt.NDArray[np.float64]:
    """(E,): the largest correlation of command and state over all lags; NaN where one of them hardly moves."""
    at, by = rows.state.rows_of([slot])[0], rows.action.rows_of([slot])[0]
    state, action = rows.state.columns[at], rows.action.columns[by]
    moves = np.minimum(rows.state.high[at] - rows.state.low[at], rows.action.high[by] - rows.action.low[by])
    hz = float(np.median(rows.control_hz))
    lags = {round(seconds * hz) for seconds in np.linspace(0, LONGEST_LAG, LAGS)}
    best = np.full(len(rows.starts), np.nan)
    for lag in sorted(lag for lag in lags if lag < len(state)):
        best = np.fmax(best, _correlation(rows, action, state, lag))
    return np.where(moves >= LEAST_SPAN, best, np.nan)


def _correlation(rows: Rows, action: npt.NDArray[Any], state: npt.NDArray[Any], lag: int) -> npt.NDArray[np.float64]:
    """(E,): of action[t] with state[t + lag] within each episode; NaN for too few pairs or no movement."""
    pair = np.repeat(rows.ends, rows.lengths) - np.arange(len(action)) >= lag
    x = np.where(pair, action, 0).astype(np.float64)
    y = np.where(pair, np.roll(state, -lag), 0).astype(np.float64)
    count, sx, sy, xx, yy, xy = rows.sums(np.stack([pair, x, y, x * x, y * y, x * y]))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (xy - sx * sy / count) / np.sqrt((xx - sx * sx / count) * (yy - sy * sy / count))
    return np.where(count >= LEAST_PAIRS, r, np.nan)


def gripper_declared(dataset: Dataset) -> Iterator[Hit]:
    """Fields of the spec whose source is called closed but fills gripper_open as it is, or the reverse."""
    for part in ("state", "recorded_action"):
        for field in dataset.spec.get(part) or ():
            slots = [slot for slot in GRIPPERS if slot in resolve(field["to"], None)]
            name = str(field["from"]).lower().rsplit("/", 1)[-1]
            says = "clos" in name, "open" in name
            if slots and any(says) and not all(says):
                inverted = sum(map(_inverts, field.get("ops") or ())) % 2 == 1
                if inverted != says[0]:
                    done = "it is inverted" if inverted else "it is not inverted"
                    expected = "1 - x of what says how far closed, x of what says how far open"
                    yield Hit(f"{part} reads {field['from']}, {done}", expected, slot=preferred_name(slots[0]))


def _inverts(op: str | Mapping[str, Any]) -> bool:
    if isinstance(op, str):
        return op == "invert"
    (name, value), *_ = op.items()
    first = value[0] if isinstance(value, list) else value
    return name == "is_lt" or (name in _INVERTING and first < 0)


GRIPPER = (
    Check(
        name="gripper_polarity",
        severity="error",
        subject="rows",
        about="the gripper opens when it is told to close",
        threshold=f"in an episode, the correlation of state and recorded command is below {AGAINST:g} for every delay "
        f"of 0 to {LONGEST_LAG:g} s; both must move by at least {LEAST_SPAN:g}",
        source="a gripper that follows its command correlates with it at its own delay, a few tenths of a second",
        remedy="add or remove `invert` in one of the two gripper fields of the spec (1 is open)",
        find=gripper_polarity,
        need=Need("recorded actions with a gripper", lambda seen: not seen.next_state and bool({10, 60} & seen.action)),
    ),
    Check(
        name="gripper_declared",
        severity="warning",
        subject="store",
        about="the spec fills gripper_open as it is from a source called closed, or inverts one called open",
        threshold='the last part of the key contains "clos" or "open"; the number of inverting ops decides',
        source="the layout: 1 is open",
        remedy="look at an episode, then add or remove `invert` in that field of the spec",
        find=gripper_declared,
    ),
)
