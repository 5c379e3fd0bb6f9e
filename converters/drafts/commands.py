"""What commands are, from the state they lead to: positions to reach, or changes in one step.

In: the runs of the state and the values that hold commands. Out: runs of the commands. A command that no part of the
state follows has no reading.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from converters.drafts import rotation as rot
from converters.drafts import signs
from converters.drafts.runs import Run, polarity
from converters.drafts.sample import Sample, Values
from converters.drafts.signs import Sign, joined
from converters.drafts.words import Role, role_of

MATCHES = 0.35
"""Rms distance of the state from the command, as a share of how much the state varies, below which it follows."""


def alike(a: Values, b: Values) -> bool:
    """Whether two values are of the same episodes, so that their steps can be compared."""
    return [len(x) for x in a.arrays] == [len(x) for x in b.arrays]


def cover(a: Run, b: Run) -> bool:
    """Whether two runs share a column."""
    return a.key == b.key and a.start < b.stop and b.start < a.stop


def displaced_by(values: Values, at: int, actions: Sequence[Values]) -> str:
    """What shows that six columns are a pose: wraps of the angles, or commands that displace them."""
    angles = rot.three_angles(values.cols(at + 3, at + 6))
    if "wraps" in angles.why:
        return "the last three wrap from one end of the circle to the other"
    for action in actions:
        for start in range(action.width - 5) if alike(values, action) else ():
            parts = [
                signs.displacement(values.cols(at + i, at + i + 3), action.cols(start + i, start + i + 3))
                for i in (0, 3)
            ]
            if all(parts):
                r = min(part[1] for part in parts if part)
                moves = f"{action.key}[{start}:{start + 6}] holds their changes from step to step (r={r:.2f})"
                return f"{moves}, usual for a pose, rare for joints"
    return ""


def commands_of(state: list[Run], actions: list[Values], sample: Sample) -> list[Run]:
    """Commands as the state they lead to, or as its change; what follows no run of the state is left out."""
    found: list[tuple[Run, Run]] = []  # of the state, of the command
    for run in (r for r in state if r.role in ("joints", "pos", "rotation") and r.width < 16):
        options = []
        for action in actions:
            own = sample.values[run.key]
            for start in range(action.width - run.width + 1) if alike(own, action) else ():
                here = _command(run, own, action, start)
                if here is not None and not any(cover(here[1], other) for _, other in found):
                    options.append(here)
        if options:
            found.append((run, min(options, key=lambda option: option[0])[1]))
    for run in (r for r in state if r.role == "gripper"):
        for action in actions:
            at = _gripper_column(run, action, found)
            if at is None or not alike(sample.values[run.key], action):
                continue
            if (command := _gripper_command(run, sample.values[run.key], action, at)) is not None:
                found.append((run, command))
                break
    return sorted((command for _, command in found), key=lambda run: (run.key, run.start))


def _command(run: Run, own: Values, action: Values, start: int) -> tuple[float, Run] | None:
    """(how far off, the run) when columns of an action lead to this run of the state, or hold its changes."""
    state, command = own.cols(run.start, run.stop), action.cols(start, start + run.width)
    place = f"{run.key}[{run.start}:{run.stop}]"
    off = signs.followed(state, command)
    named = bool(own.names) and action.names[start : start + run.width] == own.names[run.start : run.stop]
    if off < MATCHES or named:
        why = (
            f"named as {place}"
            if off >= MATCHES
            else f"{place} is there one step later (off by {off:.0%} of its spread)"
        )
        sign = replace(run.sign, why=why, question=run.sign.question and f"as in {place}")
        return min(off, 1.0), Run(action.key, start, start + run.width, run.role, sign, run.side)
    moved = signs.displacement(state, command) if run.role == "pos" or run.width == 3 else None
    if moved is None:
        return None
    scaled = not 0.4 < moved[0] < 2.5
    why = f"the change of {place} in one step (r={moved[1]:.2f}, factor {moved[0]:.2g})"
    unit = "?" if scaled else "m" if run.role == "pos" else "rad"
    if not scaled and run.sign.unit in ("mm", "deg"):
        unit = run.sign.unit
    first = {"mm": ("mm_to_m",), "deg": ("deg_to_rad",)}.get(unit, ())
    asked = (
        f"what 1 is: it moves the state by {moved[0]:.3g}, write {{scale: …}} before times_control_hz" if scaled else ""
    )
    sign = Sign(unit, (*first, "times_control_hz"), why, asked)
    role: Role = "lin_vel" if run.role == "pos" else "ang_vel"
    return 2 - moved[1], Run(action.key, start, start + run.width, role, sign, run.side)


def _gripper_column(run: Run, action: Values, found: Sequence[tuple[Run, Run]]) -> int | None:
    """The column that may command a gripper: of a value named so, else the one behind the commands of its arm."""
    if role_of(action.key) == "gripper" and action.width <= 2:
        return 0
    arms = [(own.stop, command.stop) for own, command in found if command.key == action.key and own.role != "gripper"]
    before = [(end, at) for end, at in arms if end <= run.start] if any(o.key == run.key for o, _ in found) else arms
    at = max(before, default=(0, action.width))[1]
    free = at < action.width and not any(c.key == action.key and c.start <= at < c.stop for _, c in found)
    return at if free else None


def _gripper_command(run: Run, own: Values, action: Values, at: int) -> Run | None:
    """One column of an action as the command of a gripper; None when it does not look like one."""
    column, state = (joined(v.cols(i, i + 1))[:, 0] for v, i in ((action, at), (own, run.start)))
    both = float(np.corrcoef(column, state)[0, 1]) if column.std() > 0 and state.std() > 0 else 0.0
    sign = signs.gripper(column, named=True, polarity=polarity(action.key) or _polarity_of(run, both))
    if sign is None:
        return None
    moves = f"; moves {'with' if both > 0 else 'against'} {run.key}[{run.start}] (r={both:.2f})"
    asked = f"{sign.question}; as the answer for {run.key}" if sign.question and not run.side else sign.question
    sign = replace(sign, why=sign.why + (moves if abs(both) > 0.3 else ""), question=asked)
    return Run(action.key, at, at + 1, "gripper", sign, run.side)


def _polarity_of(run: Run, both: float) -> str:
    """The high end of a command that moves with or against a gripper whose own reading is known."""
    if "?" in run.sign.ops or abs(both) < 0.3:
        return "open" if "as in ALOHA" in run.sign.why else ""
    opens = "invert" not in run.sign.ops and {"affine": [-0.5, 0.5]} not in run.sign.ops
    return "open" if opens == (both > 0) else "closed"
