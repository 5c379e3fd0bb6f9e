"""Several datasets side by side: what they are, where their values lie, and whether a policy could change over.

In: `About`s. Out: an HTML section. The verdicts are those of `stats.compare`: trained on the row, run on the column.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rdt_data.layout import DIM, describe, preferred_name
from rdt_data.markup import Content, Html, element, joined
from stats.compare import Comparison, compare
from stats.part_stats import Columns
from stats.report_data import About
from stats.report_findings import counts
from stats.report_html import counted, ends, folded, four, named, svg, table
from stats.report_slots import group_title, grouped, mean_and_std, quantiles

REASONS = 12
"""The most reasons that are listed for one pair."""

_SHARES = (0.01, 0.10, 0.50, 0.90, 0.99)
_SIGNS = {"safe": "✓", "check": "▲", "unsafe": "✕"}
_WIDE = 1000


def comparison(every: Sequence[About]) -> Html:
    """Facts, verdicts, and the range of every slot in each dataset."""
    return joined([
        element("figure", _facts(every), data_figure="compare-facts"),
        element("h3", "Would a policy trained on one be safe on another?"),
        element("figure", _verdicts(every), data_figure="compare-verdicts"),
        element("h3", "Where the values lie"),
        element("p", "Thin: 1 to 99 % of the values; thick: 10 to 90 %; mark: the median.", class_="note"),
        [_ranges(every, what, opened=what == "state") for what in ("state", "action")],
    ])  # fmt: skip


def _facts(every: Sequence[About]) -> Html:
    rows: list[tuple[str, Callable[[About], Content]]] = [
        ("Robot", lambda one: one.spec.get("robot") or "–"),
        ("Episodes", lambda one: f"{one.stats['episodes']:,}"),
        ("Steps", lambda one: f"{one.stats['steps']:,}"),
        ("Hours", lambda one: f"{one.hours:.2f}"),
        ("Control rate", lambda one: f"{one.control_hz:g} Hz"),
        ("Cameras", lambda one: ", ".join(camera.slot for camera in one.cameras) or "–"),
        ("Slots of the state", lambda one: len(one.stats["state"])),
        ("Slots of the action", lambda one: len(one.stats["action"])),
        ("Actions", lambda one: one.facts["Actions"]),
        ("Instructions", lambda one: f"{one.words.different:,}"),
        ("Left out", lambda one: sum(row.count for row in one.left_out)),
        ("Lint", counts),
    ]
    head = ["", *(element("a", one.label, href=f"#{one.key}") for one in every)]
    return table("The datasets in numbers", head, [(name, *(say(one) for one in every)) for name, say in rows], "facts")


def _verdicts(every: Sequence[About]) -> Html:
    """A table of all pairs, and the reasons."""
    pairs = {(a.key, b.key): compare(a.measured, b.measured) for a in every for b in every if a is not b}
    rows = [(a.label, *(_verdict(pairs.get((a.key, b.key))) for b in every)) for a in every]
    grid = table(
        "Trained on the row, run on the column", ("trained on ↓ run on →", *(b.label for b in every)), rows, "verdicts"
    )
    labels = {one.key: one.label for one in every}
    reasons = [_reasons(labels[a], labels[b], result) for (a, b), result in pairs.items() if result.verdict != "safe"]
    return joined(
        [grid, folded(f"Why {counted(len(reasons), 'pair')} differ", reasons, class_="more") if reasons else None]
    )


def _verdict(result: Comparison | None) -> Html:
    if result is None:
        return element("td", "–", class_="verdict")
    return element("td", _badge(result.verdict), class_="verdict")


def _badge(verdict: str) -> Html:
    return element("span", element("i", _SIGNS[verdict], aria_hidden="true"), f" {verdict}", class_=f"badge {verdict}")


def _reasons(a: str, b: str, result: Comparison) -> Html:
    """The reasons of one pair; slots that differ in the same words are told together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for found in result.findings:
        value = "" if found.value is None else f" ({four(found.value)})"
        key = (found.verdict, found.what, f"{found.problem}{value}; expected {found.expected}")
        together.setdefault(key, []).append(found.slot)
    items = [
        element(
            "li",
            _badge(verdict),
            f" {what}",
            [" ", element("code", ", ".join(slots))] if any(slots) else None,
            f": {words}",
        )
        for (verdict, what, words), slots in list(together.items())[:REASONS]
    ]
    left = len(together) - REASONS
    more = element("li", f"and {left} more: rdt-data stats compare lists all") if left > 0 else None
    words = f" trained on {a}, run on {b}: {counted(len(result.findings), 'difference')}"
    return folded(joined([_badge(result.verdict), words]), element("ul", items, more), class_="more")


def _ranges(every: Sequence[About], what: str, *, opened: bool) -> Html:
    """The values of each slot that any dataset has."""
    columns = [(one.label, one.measured.stats.columns[what]) for one in every]
    having = Counter(slot for _, its in columns for slot in its)
    groups = [
        element(
            "section",
            element("h4", group_title(name, slots)),
            element("div", (_slot(slot, what, columns) for slot in slots), class_="panels ranges"),
        )
        for name, slots in grouped(slot for slot, count in having.items() if count > 1)
    ]
    alone = [(label, [slot for slot in its if having[slot] == 1]) for label, its in columns]
    return folded(what.capitalize(), groups, _alone(alone), opened=opened, class_="more")


def _alone(rows: Sequence[tuple[str, list[int]]]) -> Html | None:
    """The slots that one dataset has and no other."""
    shown = [
        (label, element("code", ", ".join(describe(np.isin(range(DIM), slots))))) for label, slots in rows if slots
    ]
    return table("Slots that only one of them has", ("Dataset", "Slots"), shown) if shown else None


def _slot(slot: int, what: str, columns: Sequence[tuple[str, Columns]]) -> Html:
    """One row for each dataset, on one axis."""
    found = {label: quantiles(its[slot], _SHARES) for label, its in columns if slot in its}
    low, high = min(shares[0] for shares in found.values()), max(shares[-1] for shares in found.values())
    if high <= low:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(low), 1.0)
    name = preferred_name(slot)
    return element(
        "figure",
        element("figcaption", named(name), element("span", slot, class_="index")),
        element("div", _rows(columns, slot, found, (low, high)), class_="range-rows"),
        ends(low, high),
        data_figure=f"compare-{what}",
        class_="panel",
    )


def _rows(
    columns: Sequence[tuple[str, Columns]], slot: int, found: dict[str, list[float]], reach: tuple[float, float]
) -> Iterator[Html]:
    for label, its in columns:
        if label not in found:
            yield element("div", element("span", label, class_="label"), element("span", "no such slot", class_="none"))
            continue
        x = [round((value - reach[0]) / (reach[1] - reach[0]) * _WIDE) for value in found[label]]
        shapes = [
            element("rect", x=x[0], y=44, width=max(x[4] - x[0], 4), height=12, class_="most"),
            element("rect", x=x[1], y=25, width=max(x[3] - x[1], 4), height=50, class_="many"),
            element("rect", x=min(max(x[2] - 5, 0), _WIDE - 10), y=5, width=10, height=90, class_="median"),
        ]
        words = f"{label}: median {four(found[label][2])}, {mean_and_std(its[slot])}"
        drawing = svg(words, _WIDE, 100, shapes, class_="range")
        yield element("div", element("span", label, class_="label"), drawing, title=words)
