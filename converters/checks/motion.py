"""Do the fields agree with each other in time? Velocities, clock and rate, gripper and command.

In: `Seen`. Out: warnings with both numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.checks.seen import FieldSeen, Finding, Seen, warning
from converters.drafts import signs
from converters.drafts.signs import Array, joined
from converters.spec_model import Timestamps
from rdt_data.clock import TICKS, measure
from rdt_data.layout import GROUPS

RATE_OFF = 1.4
"""How many times the rate that velocities show may be from the one in the spec."""

LEAST_STEPS = 30
"""Steps from which a correlation of grippers says something."""

_DEGREES = 180 / np.pi


def motion_findings(seen: Seen) -> Iterator[Finding]:
    """What looks wrong between fields."""
    for side in ("right_", "left_"):
        for position, velocity in (("arm_joint_pos", "arm_joint_vel"), ("eef_pos", "eef_lin_vel")):
            yield from _velocity(seen, GROUPS[side + position], GROUPS[side + velocity])
        yield from _polarity(seen, GROUPS[side + "gripper_open"])
    yield from _clock(seen)


@dataclass(frozen=True, slots=True)
class _Slots:
    """The values of some slots of one section, (T, n) of each episode."""

    fields: list[FieldSeen]
    arrays: list[Array]


def _of(seen: Seen, section: str, group: tuple[int, ...]) -> _Slots | None:
    """All fields of a section within a group, side by side in the order of the slots."""
    fields = [f for f in seen.fields if f.section == section and f.results and f.fills(group)]
    if not fields or len({tuple(map(len, f.results)) for f in fields}) > 1:
        return None
    order = np.argsort([slot for f in fields for slot in f.field.indices])
    count = len(fields[0].results)
    return _Slots(fields, [np.concatenate([f.results[n] for f in fields], axis=1)[:, order] for n in range(count)])


def _velocity(seen: Seen, positions: tuple[int, ...], velocities: tuple[int, ...]) -> Iterator[Finding]:
    position, velocity = _of(seen, "state", positions), _of(seen, "state", velocities)
    if position is None or velocity is None:
        return
    if [a.shape for a in position.arrays] != [a.shape for a in velocity.arrays]:
        return
    name, hz = velocity.fields[0].name, seen.spec.control_hz
    found = signs.derivative(position.arrays, velocity.arrays)
    moved = sum(float(np.abs(np.diff(a, axis=0)).sum()) for a in position.arrays)
    if found is None:
        if moved > 0.5 and sum(map(len, position.arrays)) > 50:
            text = f"the velocities are not the change of {position.fields[0].name}"
            yield warning(name, text, "check the keys, the columns and their order")
        return
    rate, fit = found
    off = rate / hz
    if fit < signs.AGREES or 1 / RATE_OFF < off < RATE_OFF:
        return
    said = f"positions and velocities agree at {rate:.3g} Hz (r={fit:.2f}), the spec says {hz:g} Hz"
    for factor, remedy in (
        (_DEGREES, "the velocities look like degrees: write unit: deg/s, ops: [deg_to_rad]"),
        (1 / _DEGREES, "the velocities look like radians read as degrees: take deg_to_rad out"),
        (1000.0, "the velocities look like millimetres: write unit: mm/s, ops: [mm_to_m]"),
    ):
        if 0.8 < off / factor < 1.25:
            yield warning(name, said, remedy)
            return
    yield warning("control_hz", said, f"if the velocities are right, write control_hz: {signs.usual(rate, 0.15):g}")


def _polarity(seen: Seen, group: tuple[int, ...]) -> Iterator[Finding]:
    state, command = _of(seen, "state", group), _of(seen, "recorded_action", group)
    if state is None or command is None or [len(a) for a in state.arrays] != [len(a) for a in command.arrays]:
        return
    x, y = joined(state.arrays)[:, 0], joined(command.arrays)[:, 0]
    if len(x) < LEAST_STEPS or x.std() < 0.05 or y.std() < 0.05:
        return
    r = float(np.corrcoef(x, y)[0, 1])
    if r < -0.5:
        text = f"the command opens where {state.fields[0].name} closes (r={r:.2f})"
        yield warning(command.fields[0].name, text, "one of the two needs the op invert")


def _clock(seen: Seen) -> Iterator[Finding]:
    for key, arrays in seen.clocks.items():
        if seen.spec.timestamps is not None:
            yield from _named_clock(seen.spec.timestamps, arrays, seen.spec.control_hz)
            return
        found = signs.clock([times.astype(np.float64) for times in arrays])
        if found is not None and not _agree(found[0], seen.spec.control_hz):
            text = f"{key} runs at {found[0]:.4g} Hz ({found[2]}), the spec says {seen.spec.control_hz:g} Hz"
            yield warning("control_hz", text, f"write control_hz: {signs.usual(found[0], 0.02):g}")
            return


def _named_clock(named: Timestamps, arrays: list[npt.NDArray[Any]], hz: float) -> Iterator[Finding]:
    """The timestamps that the spec names, taken as it says. arrays: (T, 1) of each episode."""
    clocks = [measure(times[:, 0], named.unit) for times in arrays]
    if faults := sum(clock.clock_faults for clock in clocks):
        steps = sum(map(len, arrays))
        text = f"{faults} of {steps} times of {named.from_} are not finite or not later than the one before"
        yield warning("timestamps", text, "check the key; if it is right, `rdt-data lint` will list these episodes")
    rates = [clock.measured_hz for clock in clocks if np.isfinite(clock.measured_hz)]
    if not rates or _agree(rate := float(np.median(rates)), hz):
        return
    text = f"{named.from_} runs at {rate:.4g} Hz when it is in {named.unit}, the spec says {hz:g} Hz"
    for unit, ticks in TICKS.items():
        if _agree(rate * ticks / TICKS[named.unit], hz):
            yield warning("timestamps", text, f"write unit: {unit}")
            return
    yield warning("control_hz", text, f"write control_hz: {signs.usual(rate, 0.02):g}, or correct `timestamps`")


def _agree(rate: float, hz: float) -> bool:
    return 0.9 < rate / hz < 1.1
