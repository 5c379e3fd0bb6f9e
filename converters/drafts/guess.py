"""What a sample seems to be: fields of state and command, the control rate, cameras, words, each with its evidence.

In: a `Sample`. Out: a `Guesses`. Runs of columns come from `converters.drafts.runs`; here they get an arm, velocities
are matched with what they are the change of, and commands with the state they lead to. "?" is what nothing tells.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from converters.drafts import rotation as rot
from converters.drafts import signs
from converters.drafts.arms import with_sides
from converters.drafts.commands import alike, commands_of, cover, displaced_by
from converters.drafts.runs import STEMS, Run, joint_run, runs_of
from converters.drafts.sample import Sample, Values
from converters.drafts.signs import Array, Sign
from converters.drafts.words import Role, column_role, kind_of, role_of, says_velocity, side_of


@dataclass(frozen=True, slots=True)
class Timed:
    """The time of each step. optional: not every episode has it; rate: Hz."""

    key: str
    unit: str
    optional: bool
    rate: float
    why: str


@dataclass(slots=True)
class Guesses:
    """state, commands: the fields of a spec; unread: value -> why no field uses it, or which of its columns."""

    state: list[Run] = field(default_factory=list)
    commands: list[Run] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    rate: tuple[float | None, str] = (None, "")
    timestamps: Timed | None = None


def guess(sample: Sample) -> Guesses:
    """The fields that a sample seems to have."""
    found = Guesses()
    by_kind = {kind: [v for v in sample.values.values() if kind_of(v.key) == kind] for kind in ("state", "action")}
    states, actions = by_kind["state"], by_kind["action"]
    velocities = [v for v in states if _says_velocity(v)]
    positions = [v for v in states if v not in velocities]
    grippers_apart = any(role_of(v.key) == "gripper" for v in positions)

    def is_pose(values: Values, at: int) -> str:
        return displaced_by(values, at, actions)

    runs = [r for v in positions for r in runs_of(v, is_pose, grippers_apart=grippers_apart)]
    runs = with_sides([_decided(run, velocities, sample) for run in sorted(runs, key=_certainty)], sample)
    matched, rates = _velocities(runs, velocities, sample)
    found.state = _without_overlap([*_with_turning(runs, velocities, sample), *matched], found)
    found.commands = _without_overlap(commands_of(found.state, actions, sample), found)
    found.timestamps = _timestamps(sample)
    found.rate = _rate(found.timestamps, rates)
    _note_unread(sample, found)
    return found


def slots_of(run: Run) -> str:
    """The `to` of a run; "?" when its arm or its meaning is not known."""
    if run.role not in STEMS or run.side == "":
        return "?"
    return f"{run.side}_{STEMS[run.role]}"


def _says_velocity(values: Values) -> bool:
    if values.names and any(column_role(name) for name in values.names):
        return all(column_role(name) in ("joint_vel", "") for name in values.names)
    return role_of(values.key) in ("joint_vel", "gripper_vel", "lin_vel", "ang_vel", "twist") or says_velocity(
        values.key
    )


def _certainty(run: Run) -> int:
    """Runs whose key says what they are come first: they get the slots."""
    return 0 if role_of(run.key) else 1


def _decided(run: Run, velocities: list[Values], sample: Sample) -> Run:
    """Six columns that may be joints or a pose, decided where each has its velocity."""
    own = sample.values[run.key]
    for values in velocities if run.role == "" else []:
        if values.width == own.width and alike(own, values):
            moves = signs.derivative(own.cols(run.start, run.stop), values.cols(run.start, run.stop))
            if moves is not None and moves[1] > signs.AGREES:
                why = f"{values.key} is the change of each column (r={moves[1]:.2f}), usual for joints, rare for angles"
                return joint_run(own, run.start, run.stop, why)
    return run


def _velocities(
    runs: list[Run], velocities: list[Values], sample: Sample
) -> tuple[list[Run], list[tuple[float, float, str]]]:
    """Runs of velocities, each matched with the run whose change it is; and the rates that this shows."""
    found: list[Run] = []
    rates: list[tuple[float, float, str]] = []
    for values in velocities:
        own: list[Run] = []
        for run in runs:
            same_side = not side_of(values.key) or side_of(values.key) == run.side
            if run.role in ("joints", "pos") and same_side and alike(values, sample.values[run.key]):
                matched = _matched(run, values, sample)
                if matched is not None and not any(cover(matched[0], other) for other in own):
                    own.append(matched[0])
                    rates.append((*matched[1:], f"{values.key} is the change of {run.key}"))
        found += own or _velocity_by_name(values, runs, sample)
        if role_of(values.key) == "twist" and any(run.role == "lin_vel" for run in own) and values.width == 6:
            found.append(_turn_run(values, 3))
    return found, rates


def _matched(run: Run, values: Values, sample: Sample) -> tuple[Run, float, float] | None:
    """(the run of velocities, rate, correlation): the same columns, or all when the value is as wide as the run."""
    start = run.start if values.width == sample.values[run.key].width else 0
    if start + run.width > values.width or (run.role == "pos") != (role_of(values.key) in ("lin_vel", "twist")):
        return None
    result = signs.derivative(sample.values[run.key].cols(run.start, run.stop), values.cols(start, start + run.width))
    if result is None or not 0.2 < result[0] < 2000:
        return None
    why = f"the change of {run.key}[{run.start}:{run.stop}] (r={result[1]:.3f})"
    sign = Sign(f"{run.sign.unit}/s" if run.sign.unit != "?" else "?", run.sign.ops, why, run.sign.question)
    role: Role = "joint_vel" if run.role == "joints" else "lin_vel"
    if run.side == "":
        sign = replace(sign, question="the arm of these joints, left_arm_joint_vel or right_arm_joint_vel")
    return Run(values.key, start, start + run.width, role, sign, run.side), result[0], result[1]


def _velocity_by_name(values: Values, runs: list[Run], sample: Sample) -> list[Run]:
    """Velocities that only their name gives away: too few steps, or no position that changes like them."""
    why = "named so; no position changes like it"
    role, side = role_of(values.key), side_of(values.key) or "right"
    alike_in_columns = [r for r in runs if r.role == "joints" and sample.values[r.key].width == values.width]
    if role == "joint_vel" and alike_in_columns:
        signs_of = ((r, replace(r.sign, unit=f"{r.sign.unit}/s", why=f"named so; columns as in {r.key}")) for r in runs)
        return [replace(r, key=values.key, role=role, sign=s) for r, s in signs_of if r in alike_in_columns]
    if role == "joint_vel" and values.width <= 10:
        return [Run(values.key, 0, values.width, role, Sign("rad/s", (), why), side)]
    if role == "lin_vel" and values.width == 3:
        return [Run(values.key, 0, 3, role, Sign("m/s", (), why), side)]
    if role == "twist" and values.width == 6:
        return [Run(values.key, 0, 3, "lin_vel", Sign("m/s", (), why), side), replace(_turn_run(values, 3), side=side)]
    if role == "ang_vel" and values.width == 3:
        return [replace(_turn_run(values, 0), side=side)]
    return []


def _turn_run(values: Values, start: int) -> Run:
    why = "named so; roll, pitch, yaw a second"
    return Run(values.key, start, start + 3, "ang_vel", Sign("rad/s", (), why), side_of(values.key) or "right")


def _with_turning(runs: list[Run], velocities: list[Values], sample: Sample) -> list[Run]:
    """The runs, quaternions of unknown order judged once more by an angular velocity beside them."""
    turning = [v for v in velocities if v.width in (3, 6) and role_of(v.key) in ("ang_vel", "twist")]
    result = []
    for run in runs:
        if run.role == "rotation" and run.width == 4 and run.sign.ops == ("?",):
            own = sample.values[run.key]
            for values in turning:
                speed: list[Array] = values.cols(values.width - 3, values.width)
                sign = rot.quaternion(own.cols(run.start, run.stop), speed) if alike(own, values) else None
                if sign is not None and "?" not in sign.ops:
                    run = replace(run, sign=sign)
        result.append(run)
    return result


def _without_overlap(runs: list[Run], found: Guesses) -> list[Run]:
    """The runs whose slots no earlier one fills; those left out are noted."""
    taken: dict[str, str] = {}
    kept = []
    for run in runs:
        slots = slots_of(run)
        if slots != "?" and slots in taken:
            found.unread[f"{run.key}[{run.start}:{run.stop}]"] = f"looks like {slots} too, which {taken[slots]} fills"
            continue
        taken[slots] = run.key
        kept.append(run)
    return kept


def _timestamps(sample: Sample) -> Timed | None:
    """The first value that is called a clock and runs like one."""
    for values in sample.values.values():
        if kind_of(values.key) == "clock" and values.width == 1 and (read := signs.clock(values.arrays)) is not None:
            rate, unit, why = read
            return Timed(values.key, unit, len(values.arrays) < sample.looked_at, rate, why)
    return None


def _rate(timed: Timed | None, rates: list[tuple[float, float, str]]) -> tuple[float | None, str]:
    """Steps a second: from a clock, else from velocities."""
    if timed is not None:
        return signs.usual(timed.rate, 0.02), f"{timed.key}: {timed.why}"
    sure = [(rate, fit, what) for rate, fit, what in rates if fit > signs.AGREES]
    if sure:
        middle = float(np.median([rate for rate, _, _ in sure]))
        return signs.usual(middle, 0.15), f"{sure[0][2]} at {middle:.4g} Hz (r={sure[0][1]:.3f})"
    if rates:
        rate, fit, what = rates[0]
        return None, f"{what} only roughly (r={fit:.2f}), at about {rate:.2g} Hz; no clock"
    return None, "no clock, and no velocity that is the change of a position"


def _note_unread(sample: Sample, found: Guesses) -> None:
    """Every value that no field uses, or not all of whose columns."""
    for key, values in sample.values.items():
        used = {column for r in (*found.state, *found.commands) if r.key == key for column in range(r.start, r.stop)}
        left = [column for column in range(values.width) if column not in used]
        told = any(other.startswith(f"{key}[") for other in found.unread)
        if kind_of(key) in ("clock", "ignored") or not left or told:
            continue
        what = ", ".join(values.names[column] for column in left) if values.names else "columns that no field uses"
        which = "" if not used else f"[{', '.join(map(str, left))}]"
        found.unread.setdefault(f"{key}{which}", what if used else str(values))
    for key, what in sample.unused.items():
        found.unread.setdefault(key, what)
