"""Every slot of a dataset: how its values are distributed, and the table of its statistics.

In: `About`. Out: HTML sections. A histogram spans where 99.8 % of the values of state and action lie, so that a few
values far away do not flatten it; the extremes stand in the table. State and action share its axis.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.layout import GROUPS, SLOTS, preferred_name, unit
from rdt_data.markup import Content, Html, element, joined
from stats.buckets import Buckets
from stats.part_stats import Columns
from stats.reducers import Extent, Moments, Shape
from stats.report_data import About
from stats.report_html import ends, folded, four, named, near, number, right, svg, table

BINS = 48
_TALL = 100
_EDGES = (0.001, 0.999)
_WORDS = {
    "pos": "positions", "vel": "velocities", "eef": "end-effector", "lin": "linear", "ang": "angular",
    "ortho6d": "orientation", "joint": "joint", "arm": "arm",
}  # fmt: skip
_SHARES = ("1", "50", "99")


def grouped(slots: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    """Slots by the group they belong to, in the order of the layout; reserved ones together."""
    left = sorted(set(slots))
    for name, indices in GROUPS.items():
        found = [slot for slot in left if slot in indices] if not name.endswith("gripper_open") else []
        if found:
            yield name, found
    if rest := [slot for slot in left if not SLOTS[slot].unit]:
        yield "reserved", rest


def group_title(name: str, slots: Sequence[int]) -> Html:
    """ "Right arm joint positions, rad"."""
    words = " ".join(_WORDS.get(word, word) for word in name.split("_")).capitalize()
    measure = unit(slots[0])
    return joined([words, element("span", "no unit" if measure in ("", "1") else measure, class_="unit")])


def distributions(one: About) -> Html:
    """Small histograms of every slot, state and action on one axis."""
    columns = one.measured.stats.columns
    state, action = columns["state"], columns["action"]
    groups = [
        element(
            "section",
            element("h4", group_title(name, slots)),
            element("div", (_panel(slot, state, action) for slot in slots), class_="panels"),
        )
        for name, slots in grouped({*state, *action})
    ]
    note = element("p", "Each axis spans 99.8 % of the values; mean ± standard deviation stands below.", class_="note")
    return joined([legend(), note, groups])


def legend() -> Html:
    """What state and action look like."""
    swatches = [
        element("span", element("i", class_=f"swatch {name}", aria_hidden="true"), name) for name in ("state", "action")
    ]
    return element("p", swatches, class_="legend")


def tables(one: About) -> Html:
    """The statistics of state, action, and their difference."""
    stats = one.stats
    shown: list[Content] = []
    for what, words in (("state", "State"), ("action", "Action"), ("action_minus_state", "Action − state")):
        if stats[what]:
            rows = [_row(name, slot) for name, slot in stats[what].items()]
            whole = table(f"{words}: statistics of each slot", _head(what), rows, "stats sortable")
            shown.append(element("h4", words) if what != "action_minus_state" else None)
            shown.append(whole if what != "action_minus_state" else folded(words, whole, class_="more"))
    notes = (
        "std is that of the population. zeros: share of values that are exactly 0. step: change from one step to the "
        "next, its largest by absolute value. Quantiles are exact where nothing is said, else off by at most ±."
    )
    return element("figure", shown, element("figcaption", notes), data_figure="statistics")


def quantiles(column: Mapping[str, Any], shares: Sequence[float]) -> list[float]:
    """Values of a slot at shares of 0 … 1."""
    values, _ = buckets(column).quantiles(np.array(shares))
    found: list[float] = values.tolist()
    return found


def buckets(column: Mapping[str, Any]) -> Buckets:
    """The picture of a slot's values."""
    shape = column["shape"]
    assert isinstance(shape, Shape)
    return shape.buckets


def mean_and_std(column: Mapping[str, Any]) -> str:
    """ "0.157 ± 0.217", or "always 0.157"."""
    moments, extent = column["moments"], column["extent"]
    assert isinstance(moments, Moments)
    assert isinstance(extent, Extent)
    same = extent.low == extent.high
    return f"always {four(moments.mean)}" if same else f"{near(moments.mean, moments.std)} ± {moments.std:.3g}"


def _panel(slot: int, state: Columns, action: Columns) -> Html:
    """The histogram of one slot."""
    there = [(what, columns[slot]) for what, columns in (("state", state), ("action", action)) if slot in columns]
    low, high = _span([column for _, column in there])
    edges = np.linspace(low, high, BINS + 1)
    counts = [(what, _counts(column, edges)) for what, column in there]
    name = preferred_name(slot)
    said = "; ".join(f"{what} {mean_and_std(column)}" for what, column in there)
    tallest = max(float(bins.max()) for _, bins in counts) or 1.0
    shapes = [element("path", d=_outline(bins / tallest), class_=what) for what, bins in counts]
    words = [element("span", mean_and_std(column), class_=f"of {what}") for what, column in there]
    return element(
        "figure",
        element("figcaption", named(name), element("span", slot, class_="index")),
        svg(f"Histogram of {name} from {four(low)} to {four(high)}: {said}", BINS, _TALL, shapes, class_="histogram"),
        ends(low, high),
        element("div", words, class_="moments"),
        data_figure="distribution",
        class_="panel",
    )


def _span(columns: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From where to where a histogram goes: most of the values of all columns; never nothing."""
    spans = [quantiles(column, _EDGES) for column in columns]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        room = 0.5 * max(abs(low), 1.0)
        return low - room, high + room
    return low, high


def _counts(column: Mapping[str, Any], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of all values in each bin, (BINS,)."""
    picture = buckets(column)
    return picture.histogram(edges) / max(picture.count, 1)


def _outline(bins: npt.NDArray[np.float64]) -> str:
    """The upper edge of bars of heights 0 … 1 as a path."""
    heights = [_TALL - round((_TALL - 4) * share) for share in bins.tolist()]
    return f"M0 {_TALL}" + "".join(f"V{height}H{at + 1}" for at, height in enumerate(heights)) + f"V{_TALL}Z"


def _tidy(value: float, scale: float) -> str:
    """Four digits; 0 for what is nothing beside the spread of the values, as the middle of the bucket of 0 is."""
    return "0" if abs(value) < 1e-9 * scale else four(value)


def _head(what: str) -> list[Content]:
    names = ["count", "mean", "std", "min", *(f"{share} %" for share in _SHARES), "max", "zeros"]
    if what != "action_minus_state":
        names += ["step mean", "step std", "step max"]
    return ["Slot", "unit", *map(right, [*names, "±"])]


def _row(name: str, slot: Mapping[str, Any]) -> list[Content]:
    """One slot as cells."""
    step = slot.get("step", {})
    steps = [number(step.get(key)) for key in ("mean", "std", "max")] if "step" in slot else []
    values = [slot["mean"], slot["std"], slot["min"], *(slot["quantiles"][share] for share in _SHARES), slot["max"]]
    return [
        element("code", name),
        slot["unit"] if slot["unit"] != "1" else "",
        number(slot["count"], f"{slot['count']:,}"),
        *(number(value, _tidy(value, slot["std"])) for value in values),
        number(slot["zero_fraction"], f"{slot['zero_fraction']:.1%}"),
        *steps,
        number(slot["quantile_error"], "exact" if slot["exact"] else f"{slot['quantile_error']:.1g}"),
    ]
