"""What a dataset is and where it came from, how long its episodes are, what they say: the first sections of a report.

In: `About`. Out: HTML sections. Numbers come as they are; nothing is read here.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from rdt_data.markup import Content, Html, element, joined
from stats.report_data import About, Camera, LeftOut
from stats.report_html import cell, counted, folded, four, number, right, said, svg, table

SHOWN = 20
"""Rows that are shown at once; the rest is folded."""

_BARS = 48


def tiles(one: About) -> Html:
    """The numbers a person asks for first."""
    stats, words = one.stats, one.words
    found = one.lint
    shown = (
        (f"{stats['episodes']:,}", "episodes", ""),
        (f"{stats['steps']:,}", "steps", ""),
        (_duration(one.hours), "of recording", ""),
        (f"{one.control_hz:g} Hz", "control rate", ""),
        (str(len(one.cameras)), "camera" if len(one.cameras) == 1 else "cameras", ""),
        (f"{words.different:,}", "instruction" if words.different == 1 else "instructions", ""),
        (str(len(found.findings)), "findings", _worst(one)),
    )
    return element(
        "dl", (element("div", element("dt", name), element("dd", value), class_=kind) for value, name, kind in shown),
        class_="tiles",
    )  # fmt: skip


def about(one: About) -> Html:
    """What it is and where it came from."""
    facts = element(
        "dl",
        (element("div", element("dt", name), element("dd", said(value))) for name, value in one.facts.items()),
        class_="facts",
    )
    spec = folded("The spec it was converted with (YAML)", element("pre", one.spec_text, tabindex=0), class_="more")
    return element("div", facts, _cameras(one), _left_out(one.left_out), spec)


def lengths(one: About) -> Html:
    """How long the episodes are."""
    counts = one.measured.stats.lengths.counts
    found = one.stats["lengths"]
    if not counts:
        return element("p", "There are no episodes.")
    low, high = found["min"], found["max"]
    median = found["quantiles"]["50"]
    words = (
        f"Every episode has {low:,} steps ({_seconds(low, one)})."
        if low == high
        else f"From {low:,} to {high:,} steps ({_seconds(low, one)} to {_seconds(high, one)}); half are shorter than "
        f"{four(median)} steps ({_seconds(median, one)}), the mean is {four(found['mean'])}."
    )
    drawn = _length_bars(counts, f"Histogram of episode lengths. {words}") if low != high else None
    return element("figure", element("figcaption", words), drawn, data_figure="lengths", class_="wide")


def instructions(one: About) -> Html:
    """Every instruction with its number of episodes."""
    words = one.words
    shares = [f"{counted(words.different, 'different instruction')}, {counted(words.phrasings, 'phrasing')} in all"]
    if words.missing:
        shares.append(f"{counted(words.missing, 'episode')} without any")
    shares.append(f"embedded with {', '.join(words.encoders)}" if words.encoders else "not embedded yet")
    most = words.counts[0][1] if words.counts else 1
    head = ("Instruction", right("Episodes"), element("th", "Share", scope="col", class_="share"))
    rows = [(said(text), number(count, f"{count:,}"), _bar(count / most)) for text, count in words.counts]
    folds: list[Content] = []
    if len(rows) > SHOWN:
        more = table("More instructions", head, rows[SHOWN:], "words sortable")
        folds.append(folded(f"{len(rows) - SHOWN:,} more instructions", more, class_="more"))
    if words.different > len(rows):
        folds.append(element("p", f"{words.different - len(rows):,} rarer ones are counted, but not listed."))
    if words.missing:
        folds.append(folded(f"Episodes without instruction ({words.missing:,})", _ids(words.without, words.missing)))
    shown = table("Instructions and their episodes", head, rows[:SHOWN], "words sortable") if rows else None
    return element("figure", element("figcaption", "; ".join(shares) + "."), shown, folds, data_figure="instructions")


def _cameras(one: About) -> Html:
    if not one.cameras:
        return element("p", "It has no cameras.")
    every = one.stats["episodes"]
    rows = [_camera_row(camera, every) for camera in one.cameras]
    return table("Cameras", ("Camera", "Read from", "Frames", right("Episodes that have it")), rows)


def _camera_row(camera: Camera, every: int) -> Iterable[Content]:
    share = f"{camera.episodes:,} of {every:,}"
    return element("code", camera.slot), said(camera.source), camera.size, number(camera.episodes, share)


def _left_out(rows: Iterable[LeftOut]) -> Html:
    shown = [(row.what, said(row.reason), number(row.count, f"{row.count:,}"), _which(row)) for row in rows]
    if not shown:
        return element("p", "No episode was left out: none is quarantined, none is filtered.", class_="fine")
    return table("Episodes left out", ("What", "Reason", right("Episodes"), "Which"), shown)


def _which(row: LeftOut) -> Html:
    if row.count <= 3:
        return cell(_ids(row.episodes, row.count))
    return cell(folded(f"list {row.count:,}", _ids(row.episodes, row.count)))


def _ids(names: tuple[str, ...], count: int) -> Html:
    items = [element("li", said(name)) for name in names]
    more = element("li", f"and {count - len(names):,} more") if count > len(names) else None
    return element("ul", items, more, class_="ids")


def _length_bars(counts: Mapping[int, int], label: str) -> Html:
    """Bars of whole steps, equally many steps each, and their axis."""
    low, high = min(counts), max(counts)
    width = -(-(high - low + 1) // _BARS)
    bars = np.zeros((high - low) // width + 1, np.int64)
    for length, count in counts.items():
        bars[(length - low) // width] += count
    tall = int(bars.max())
    heights = [max(round(100 * bar / tall), 1) for bar in bars.tolist()]
    rects = [
        element(
            "rect",
            element("title", f"{low + at * width:,} to {low + (at + 1) * width - 1:,} steps: {bar:,} episodes"),
            x=at * 10 + 1,
            y=100 - heights[at],
            width=8,
            height=heights[at],
        )
        for at, bar in enumerate(bars.tolist())
        if bar
    ]
    scale = f"a bar: {counted(width, 'step')}; the highest: {counted(tall, 'episode')}"
    axis = element(
        "div", (element("span", words) for words in (f"{low:,} steps", scale, f"{high:,} steps")), class_="axis"
    )
    return joined([svg(label, 10 * len(bars), 100, rects, class_="bars"), axis])


def _bar(share: float) -> Html:
    filled = element("rect", x=0, y=0, width=max(1, round(100 * share)), height=10)
    drawing = element("svg", filled, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true", class_="bar")
    return element("td", drawing, class_="share")


def _worst(one: About) -> str:
    return next((severity for severity in ("error", "warning") if one.lint.count(severity)), "fine")


def _duration(hours: float) -> str:
    if hours >= 10:
        return f"{hours:,.0f} h"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _seconds(steps: float, one: About) -> str:
    return f"{four(steps / one.control_hz)} s"
