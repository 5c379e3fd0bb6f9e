"""Checks of movement: velocities against positions, actions against next states, jumps, idle heads and tails.

In: `Rows`. Out: hits.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray
from rdt_data.layout import GROUPS, unit
from stats.lint_check import Check, Hit, Need, Seen
from stats.lint_rows import Ints, Rows
from stats.lint_values import JOINTS

JUMP_FACTOR = 10
JUMP_QUANTILE = 0.99
JUMP_LEAST = {"rad": 0.1, "m": 0.03}
JUMP_SAMPLE = 2048  # steps of a block
JUMP_KNOWN = 20  # steps in which the slot moves

IDLE_SECONDS = 2.0
STILL = {"rad": 0.01, "m": 0.002, "1": 0.02, "m/s": 0.01, "rad/s": 0.01}

POSITIONS = tuple(slot for side in ("right", "left") for slot in GROUPS[f"{side}_eef_pos"])
GRIPPER_JOINTS = tuple(slot for side in ("right", "left") for slot in GROUPS[f"{side}_gripper_joint_pos"])
BASE = (*GROUPS["base_lin_vel"], *GROUPS["base_ang_vel"])
MOVING = (*JOINTS, *GRIPPER_JOINTS, *POSITIONS)


def next_state(rows: Rows) -> Iterator[Hit]:
    """Next-state actions that are not the state of the next step, bit for bit (the last one repeats the last state)."""
    if not rows.next_state:
        return
    state, action = (np.ascontiguousarray(v.values).view(np.uint64) for v in (rows.state, rows.action))
    differ = np.zeros(len(state), np.bool_)
    differ[:-1] = (action[:-1] != state[1:]).any(axis=1)
    differ[rows.ends] = (action[rows.ends] != state[rows.ends]).any(axis=1)
    steps = np.flatnonzero(differ)
    after = np.where(np.isin(steps, rows.ends), steps, steps + 1)
    slots = (action[steps].view(np.uint32) != state[after].view(np.uint32)).argmax(axis=1)
    values = rows.action.values[steps, slots].tolist()
    yield from rows.hits(rows.action, steps, slots.tolist(), values, "the state of the next step")


def jump(rows: Rows) -> Iterator[Hit]:
    """Joint and end-effector positions that change far more in a step than they usually do."""
    state = rows.state
    at = state.rows_of((*JOINTS, *POSITIONS))
    if not at:
        return
    slots = [state.slots[row] for row in at]
    sizes = np.abs(state.steps[at])
    limits = JUMP_FACTOR * _usual(sizes) + np.array([JUMP_LEAST[unit(slot)] for slot in slots])
    for row in np.flatnonzero(np.fmax.reduce(sizes, axis=1) > limits).tolist():
        steps = np.flatnonzero((sizes[row] > limits[row]) & (sizes[row] < np.inf))
        expected = f"at most {limits[row]:.3g} {unit(slots[row])} in a step"
        yield from rows.hits(state, steps, [slots[row]] * len(steps), sizes[row, steps].tolist(), expected)


def _usual(sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(k, N) -> (k,): a size that moving steps seldom exceed; infinite where too few move to say.

    The four largest never count, so that a spike (two steps) cannot hide itself in a short recording.
    """
    sample = np.sort(np.nan_to_num(sizes[:, :: max(1, sizes.shape[1] // JUMP_SAMPLE)]), axis=1)
    moving = (sample > 0).sum(axis=1)
    rank = np.minimum(np.ceil(JUMP_QUANTILE * moving), moving - 4).astype(int)
    index = np.clip(sample.shape[1] - moving + rank - 1, 0, sample.shape[1] - 1)
    usual = np.take_along_axis(sample, index[:, None], axis=1)[:, 0].astype(np.float64)
    return np.where(moving >= JUMP_KNOWN, usual, np.inf)


def idle_head(rows: Rows) -> Iterator[Hit]:
    """Episodes that begin with nothing moving."""
    yield from _idle(rows, from_end=False)


def idle_tail(rows: Rows) -> Iterator[Hit]:
    """Episodes that end with nothing moving."""
    yield from _idle(rows, from_end=True)


def _idle(rows: Rows, *, from_end: bool) -> Iterator[Hit]:
    """Episodes whose pose stays that of their first (last) step for IDLE_SECONDS or longer."""
    state = rows.state
    at, base = state.rows_of(MOVING), state.rows_of(BASE)
    if not at and not base:
        return
    limits = np.array([STILL[unit(state.slots[row])] for row in (*at, *base)], np.float32)[:, None]
    wanted = np.ceil(IDLE_SECONDS * rows.control_hz).astype(int)
    for episode in np.flatnonzero(_may_be_idle(rows, at, base, limits, wanted, from_end)).tolist():
        start, stop = int(rows.starts[episode]), int(rows.ends[episode]) + 1
        poses = state.columns[(*at, *base), start:stop][:, :: -1 if from_end else 1]
        origin = poses[:, :1] * (np.arange(len(poses)) < len(at))[:, None]  # base velocities are measured from 0
        moved = (np.abs(poses - origin) > limits).any(axis=0)
        still = int(moved.argmax()) if moved.any() else len(moved)
        if still >= wanted[episode]:
            hz = float(rows.control_hz[episode])
            whole = ", the whole episode" if still == len(moved) else ""
            yield Hit(
                f"nothing moves for {still} steps ({still / hz:.1f} s{whole})",
                f"less than {IDLE_SECONDS:g} s",
                episode=rows.numbers[episode],
                step=len(moved) - still if from_end else 0,
                count=still,
            )


def _may_be_idle(
    rows: Rows, at: list[int], base: list[int], limits: npt.NDArray[np.float32], wanted: Ints, from_end: bool
) -> BoolArray:
    """(E,): at three moments of the head (tail) the pose is still that of the first (last) step; few episodes pass."""
    columns = rows.state.columns
    edge, towards = (rows.ends, -1) if from_end else (rows.starts, 1)
    may = (rows.lengths >= wanted) & (wanted > 0)
    for share in (1, 2, 3):
        moment = edge + towards * np.minimum(share * (wanted - 1) // 3, rows.lengths - 1)
        away = columns[:, moment][[*at, *base]]
        away[: len(at)] -= columns[:, edge][at]
        may &= (np.abs(away) <= limits).all(axis=0)
    return may


def _moving(seen: Seen) -> bool:
    return bool({*MOVING, *BASE} & seen.state)


_POSE = Need("positions in the state", _moving)

MOTION = (
    Check(
        name="next_state",
        severity="error",
        subject="rows",
        about="a next-state action that is not the state of the next step",
        threshold="any bit differs; the last action repeats the last state",
        source="how `convert --action next-state` makes actions",
        remedy="convert again; `rdt-data verify` shows what changed",
        find=next_state,
        need=Need("next-state actions", lambda seen: seen.next_state),
    ),
    Check(
        name="jump",
        severity="warning",
        subject="rows",
        about="a joint or the end-effector is elsewhere one step later: lost steps, a spike, an angle that wraps",
        threshold=f"a step larger than {JUMP_FACTOR} x the {JUMP_QUANTILE:.0%} quantile of the slot's moving steps "
        f"+ {JUMP_LEAST['rad']:g} rad or {JUMP_LEAST['m']:g} m; at least {JUMP_KNOWN} moving steps",
        source="in teleoperated and scripted data the largest step is 1 to 4 times that quantile",
        remedy="cut the episode there; unwrap an angle that jumps by 2 pi",
        find=jump,
        need=Need("joint or end-effector positions", lambda seen: bool({*JOINTS, *POSITIONS} & seen.state)),
    ),
    Check(
        name="idle_head",
        severity="warning",
        subject="rows",
        about="nothing moves at the beginning: a policy learns to wait",
        threshold=f"for {IDLE_SECONDS:g} s or more, within {STILL['rad']:g} rad, {STILL['m']:g} m, {STILL['1']:g} of "
        "gripper of the first pose",
        source="longer than the pause of a person who starts a recording; the tolerances are above encoder noise",
        remedy="cut the head of the recording",
        find=idle_head,
        need=_POSE,
    ),
    Check(
        name="idle_tail",
        severity="warning",
        subject="rows",
        about="nothing moves at the end: a policy learns to stop early",
        threshold=f"as idle_head, from the last pose backwards, for {IDLE_SECONDS:g} s or more",
        source="as idle_head",
        remedy="cut the tail of the recording",
        find=idle_tail,
        need=_POSE,
    ),
)
