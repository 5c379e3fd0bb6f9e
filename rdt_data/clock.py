"""What the timestamps of an episode say of its rate: measured once, when it is converted.

In: the time of every step as it was recorded. Out: a `Clock`, five numbers that a store keeps for each episode. A clock
that stands still, runs back or has holes is no error here: it is counted, for `rdt-data lint` to list. The times
themselves are not kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

TICKS: Mapping[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Unit of timestamps -> how many make a second."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The rate of one episode by its timestamps; `Clock()` is that of an episode without any.

    measured_hz: 1 / the median time from step to step; NaN when that is not above 0. largest_gap: the longest time from
    a step to the next one, in seconds, and largest_gap_step: that step; NaN and -1 when time never passes.
    clock_faults: how many steps have a time that is not finite, or not later than that of the step before, and
    clock_fault_step: the first of them, -1 when there is none.
    """

    measured_hz: float = np.nan
    largest_gap: float = np.nan
    largest_gap_step: int = -1
    clock_faults: int = 0
    clock_fault_step: int = -1

    @property
    def known(self) -> bool:
        """Whether there are timestamps that say anything."""
        return self.clock_faults > 0 or bool(np.isfinite(self.measured_hz))

    def same(self, other: "Clock") -> bool:
        """Whether both say the same; NaN is the same as NaN."""
        return np.array_equal(astuple(self), astuple(other), equal_nan=True)


COLUMNS: Mapping[str, Literal["float64", "int64"]] = {
    field.name: "float64" if field.type is float else "int64" for field in fields(Clock)
}
"""The arrays that a store keeps, episodes/<name>, and their types."""


def measure(stamps: npt.NDArray[Any], unit: str) -> Clock:
    """The clock of one episode. stamps: (T,) integers or floats, the time of each step, in a unit of TICKS.

    Whole numbers are compared exactly: nanoseconds since 1970 do not fit a float64.
    """
    whole = stamps.dtype.kind in "iu"
    times = stamps.astype(np.int64 if whole else np.float64)  # the differences of uint64 survive the wrap
    faulty = ~np.isfinite(times)
    if not whole:
        times[faulty] = np.nan
    passed = np.diff(times).astype(np.float64)
    faulty[1:] |= passed <= 0
    first = int(np.argmax(faulty)) if faulty.any() else -1
    passed = np.where(np.isfinite(passed), passed, -np.inf)
    middle = float(np.median(passed[np.isfinite(passed)])) if np.isfinite(passed).any() else 0.0
    widest = int(np.argmax(passed)) if len(passed) and passed.max() > 0 else -1
    return Clock(
        measured_hz=TICKS[unit] / middle if middle > 0 else np.nan,
        largest_gap=float(passed[widest]) / TICKS[unit] if widest >= 0 else np.nan,
        largest_gap_step=widest,
        clock_faults=int(faulty.sum()),
        clock_fault_step=first,
    )


def columns_of(clocks: Sequence[Clock]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of COLUMNS, (E,) each; none when no episode has timestamps."""
    if not any(clock.known for clock in clocks):
        return {}
    return {name: np.array([getattr(clock, name) for clock in clocks], kind) for name, kind in COLUMNS.items()}


def measured_words(clocks: Iterable[Clock]) -> str:
    """ ", by the timestamps 9.9 to 10.1 Hz", to stand behind a stated rate; "" without timestamps."""
    rates = [clock.measured_hz for clock in clocks if np.isfinite(clock.measured_hz)]
    if not rates:
        return ""
    low, high = f"{min(rates):.4g}", f"{max(rates):.4g}"
    return f", by the timestamps {low} Hz" if low == high else f", by the timestamps {low} to {high} Hz"
