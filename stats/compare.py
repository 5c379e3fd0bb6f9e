"""Would a policy trained on A be safe on B? Slot by slot: shift, outliers, constants, masks that differ; a verdict.

In: the statistics of two datasets. Out: findings, worst first, and "safe", "check" or "unsafe". Pure. What counts:

    unsafe  a slot that B commands or reads and A never had; a mean that lies more than `FAR` of A's stds away; more
            than `MANY_OUTSIDE` of B beyond A's 1 … 99 %; a slot constant in A that is another constant or moves in B
    check   a slot that A had and B lacks; a mean more than `NEAR` stds away; more than `SOME_OUTSIDE` beyond; another
            control rate (a policy's chunk then lasts longer or shorter)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rdt_data.layout import preferred_name
from stats.measure import Measured
from stats.part_stats import Columns
from stats.reducers import Extent, Moments, Shape

Verdict = Literal["safe", "check", "unsafe"]
NEAR, FAR = 1.0, 3.0
SOME_OUTSIDE, MANY_OUTSIDE = 0.10, 0.50  # 0.02 is what A itself has beyond its 1 … 99 %
CONSTANT = 1e-4
"""A std below this share of the larger of 1 and |mean| is that of a constant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. value: as measured, in the words of `expected`."""

    verdict: Verdict
    what: str  # "state", "action" or "rate"
    slot: str
    problem: str
    value: float | None
    expected: str


@dataclass(frozen=True, slots=True)
class SlotComparison:
    """One slot in both. shift: (mean of B - mean of A) / std of A; outside: share of B beyond A's 1 … 99 %."""

    what: str
    slot: str
    shift: float | None
    outside: float | None
    std_ratio: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    a: str
    b: str
    verdict: Verdict
    findings: list[Finding]
    slots: list[SlotComparison]


def compare(a: Measured, b: Measured) -> Comparison:
    """Compare B with what A's policy has seen."""
    findings = list(_rates(a.document, b.document))
    slots = []
    for what in ("state", "action"):
        mine, its = a.stats.columns[what], b.stats.columns[what]
        findings += _masks(what, mine, its)
        for slot in sorted(mine.keys() & its.keys()):
            row, found = _slot(what, slot, mine, its)
            slots.append(row)
            findings += found
    order = {"unsafe": 0, "check": 1, "safe": 2}
    findings.sort(key=lambda finding: order[finding.verdict])
    return Comparison(a.name, b.name, findings[0].verdict if findings else "safe", findings, slots)


def _rates(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Finding]:
    if a["control_hz"] != b["control_hz"]:
        yield Finding("check", "rate", "", "another control rate", b["control_hz"], f"{a['control_hz']:g} Hz")


def _masks(what: str, a: Columns, b: Columns) -> Iterator[Finding]:
    for slot in sorted(b.keys() - a.keys()):
        yield Finding("unsafe", what, preferred_name(slot), "B has this slot, A never had it", None, "no such slot")
    for slot in sorted(a.keys() - b.keys()):
        yield Finding("check", what, preferred_name(slot), "A has this slot, B lacks it", None, "the slot A has")


def _slot(what: str, slot: int, a: Columns, b: Columns) -> tuple[SlotComparison, list[Finding]]:
    (mean_a, std_a, constant_a), (mean_b, std_b, constant_b) = _moments(a[slot]), _moments(b[slot])
    name = preferred_name(slot)
    if constant_a:
        same = constant_b and abs(mean_b - mean_a) <= CONSTANT * max(1.0, abs(mean_a))
        row = SlotComparison(what, name, None, None, None)
        constant = Finding("unsafe", what, name, "constant in A, not the same in B", mean_b, f"always {mean_a:.4g}")
        return row, ([] if same else [constant])
    shift, outside = (mean_b - mean_a) / std_a, _outside(a[slot], b[slot])
    findings = []
    if abs(shift) > NEAR:
        findings.append(
            Finding(
                "unsafe" if abs(shift) > FAR else "check",
                what,
                name,
                f"the mean lies {shift:+.1f} of A's stds away",
                mean_b,
                f"{mean_a:.4g} +- {std_a:.3g}",
            )
        )
    if outside > SOME_OUTSIDE:
        low, high = _range(a[slot])
        findings.append(
            Finding(
                "unsafe" if outside > MANY_OUTSIDE else "check",
                what,
                name,
                f"{outside:.0%} of B lies beyond A's 1 to 99 %",
                outside,
                f"{low:.4g} … {high:.4g}",
            )
        )
    return SlotComparison(what, name, shift, outside, std_b / std_a), findings


def _moments(kinds: Mapping[str, Any]) -> tuple[float, float, bool]:
    """Mean, std, and whether the slot is constant."""
    moments, extent = kinds["moments"], kinds["extent"]
    assert isinstance(moments, Moments)
    assert isinstance(extent, Extent)
    constant = extent.low == extent.high or moments.std <= CONSTANT * max(1.0, abs(moments.mean))
    return moments.mean, moments.std, constant


def _range(kinds: Mapping[str, Any]) -> tuple[float, float]:
    shape = kinds["shape"]
    assert isinstance(shape, Shape)
    values, errors = shape.buckets.quantiles(np.array([0.01, 0.99]))
    return float(values[0] - errors[0]), float(values[1] + errors[1])


def _outside(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The share of B beyond A's 1 … 99 %."""
    low, high = _range(a)
    shape = b["shape"]
    assert isinstance(shape, Shape)
    first, last = shape.buckets.edges()
    middle = (first + last) / 2
    counts = shape.buckets.counts
    return float(counts[(middle < low) | (middle > high)].sum() / counts.sum())
