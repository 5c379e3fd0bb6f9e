"""Does the control rate fit the timestamps of the source, and does their clock run forward without holes?

In: what each episode keeps of them (`rdt_data.clock.Clock`, measured when it was converted). Out: hits. Episodes
without timestamps, and stores from before they were looked at, have none.
"""

from collections.abc import Iterator

import numpy as np

from rdt_data.clock import Clock
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode
from stats.lint_check import Check, Hit, Need

OFF = 0.1  # of the stated rate
LEAST_STEPS = 10
PERIODS = 3
GAP = 0.1  # s
SLACK = 1.001  # times are rounded; a gap of exactly PERIODS is none


def _clocks(dataset: Dataset) -> Iterator[tuple[int, StoredEpisode, Clock]]:
    """The episodes with timestamps: number, episode, what they say."""
    first = 0
    for at, part in enumerate(dataset.parts):
        table = dataset.table(at)
        for row in range(part.episodes if table.timed else 0):
            if (clock := table.clock(row)).known:
                yield first + row, StoredEpisode(table, row), clock
        first += part.episodes


def timestamp_rate(dataset: Dataset) -> Iterator[Hit]:
    """Episodes recorded at another rate than the stated one."""
    for number, episode, clock in _clocks(dataset):
        hz, measured = episode.control_hz, clock.measured_hz
        if len(episode) <= LEAST_STEPS or not np.isfinite(measured) or not hz > 0:
            continue
        if not abs(measured / hz - 1) <= OFF:
            yield Hit(
                f"the timestamps run at {measured:.4g} Hz",
                f"{hz:g} Hz, as stated, within {OFF:.0%}",
                episode=number,
                remedy=_unit_remedy(measured / hz),
            )


def _unit_remedy(ratio: float) -> str | None:
    """What to do when the rate is wrong by a thousand, a million or so; None: nothing special."""
    for power in (3, 6, 9):
        for factor in (10.0**power, 10.0**-power):
            if abs(ratio / factor - 1) <= OFF:
                return f"correct the unit of `timestamps` in the spec: the times are off by a factor of 1e{power}"
    return None


def timestamp_gap(dataset: Dataset) -> Iterator[Hit]:
    """Episodes in which steps are lost."""
    for number, episode, clock in _clocks(dataset):
        rate = clock.measured_hz if np.isfinite(clock.measured_hz) else episode.control_hz
        if rate > 0 and clock.largest_gap > SLACK * max(PERIODS / rate, GAP):
            yield Hit(
                f"{clock.largest_gap:.4g} s to the next step, {clock.largest_gap * rate:.3g} periods",
                f"about {1 / rate:.4g} s, at most {PERIODS} periods",
                episode=number,
                step=clock.largest_gap_step,
            )


def timestamp_order(dataset: Dataset) -> Iterator[Hit]:
    """Episodes whose clock stands still, runs back, or has no time."""
    for number, episode, clock in _clocks(dataset):
        if clock.clock_faults:
            yield Hit(
                f"{clock.clock_faults} of {len(episode)} times are not finite or not later than the one before",
                "a later time at each step",
                episode=number,
                step=clock.clock_fault_step,
                count=clock.clock_faults,
            )


_NEED = Need(
    "timestamps in the source (`timestamps` in the spec), and a store that was converted with them",
    lambda seen: seen.timed,
)

TIMESTAMPS = (
    Check(
        name="timestamp_rate",
        severity="error",
        subject="store",
        about="the timestamps of the source say another control rate than the stated one",
        threshold=f"1 / the median time from step to step differs by more than {OFF:.0%} from control_hz; episodes of "
        f"more than {LEAST_STEPS} steps",
        source="tells 25 from 30 Hz and 50 from 60; a loop that is late now and then keeps its median",
        remedy="correct `control_hz` (episodes of another rate need a spec of their own), or the unit of `timestamps`",
        find=timestamp_rate,
        need=_NEED,
    ),
    Check(
        name="timestamp_gap",
        severity="warning",
        subject="store",
        about="steps are lost: much more time passes between two of them than between the others",
        threshold=f"the largest gap is above {PERIODS} periods of the measured rate, and above {GAP:g} s",
        source="one late step is usual without a real-time system; in a tenth of a second an arm moves by centimetres",
        remedy="cut the episode there, or leave it out; see what the recorder does at such times",
        find=timestamp_gap,
        need=_NEED,
    ),
    Check(
        name="timestamp_order",
        severity="warning",
        subject="store",
        about="a clock that is broken: times that are not finite, stand still or run back",
        threshold="any step whose time is not finite, or not later than that of the step before",
        source="steps are in the order they were recorded in",
        remedy="look at the recorder: steps out of order or twice, a clock set anew, or times kept too coarsely "
        "(float32 cannot tell the steps of seconds since 1970 apart)",
        find=timestamp_order,
        need=_NEED,
    ),
)
