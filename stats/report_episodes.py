"""Sampled episodes: what the cameras saw, and what state and action did, on one clock.

In: `About`. Out: HTML. A slot has the same vertical range in every sampled episode of its dataset, so that they can be
compared. Small ticks below a line stand where the frames above were taken.
"""

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rdt_data.layout import preferred_name
from rdt_data.markup import Html, element, joined
from stats.report_data import About
from stats.report_html import counted, folded, four, named, near, said, svg
from stats.report_sample import Frame, Sampled, Strip
from stats.report_slots import group_title, grouped, legend

WIDE, TALL = 1000, 300
_MARGIN = 12  # of TALL, so that a line at its extreme is seen

Ranges = Mapping[int, tuple[float, float]]
"""Slot -> smallest and largest value in the sampled episodes."""


def episodes(one: About) -> Html:
    """Films and trajectories of the sampled episodes."""
    if not one.sampled:
        return element("p", "No episodes were sampled.")
    ranges = _ranges(one.sampled)
    note = element("p", f"{counted(len(one.sampled), 'episode')} of {one.stats['episodes']:,}, drawn by a seed.")
    shown = [_episode(one.key, at, ranges, opened=position == 0) for position, at in enumerate(one.sampled)]
    return joined([note, shown])


def _episode(key: str, one: Sampled, ranges: Ranges, *, opened: bool) -> Html:
    seconds = one.length / one.control_hz
    facts = f"{counted(one.length, 'step')}, {four(seconds)} s"
    words = element("p", said(one.instruction), class_="instruction") if one.instruction else None
    others = [text for text in one.phrasings if text != one.instruction]
    phrasings = folded(counted(len(others), "other phrasing"), element("ul", (element("li", said(t)) for t in others)))
    label = f"{key}-e{one.number}"
    return element(
        "article",
        element("h4", f"Episode {one.number} ", element("span", said(one.id), class_="id"), id=label),
        element("p", facts, [" · ", said(one.source)] if one.source != one.id else None, class_="note"),
        words or element("p", "No instruction.", class_="note"),
        phrasings if others else None,
        (_film(strip, one) for strip in one.strips),
        folded("State and action over time", _trajectories(one, ranges), opened=opened, class_="more"),
        aria_labelledby=label,
        class_="episode",
    )


def _film(strip: Strip, one: Sampled) -> Html:
    frames = [_frame(frame, strip, one) for frame in strip.frames]
    label = f"{strip.camera} in episode {one.number}: {counted(len(frames), 'frame')}"
    return element(
        "figure",
        element("figcaption", element("code", strip.camera)),
        element("div", frames, class_="film", tabindex=0, role="region", aria_label=label),
        data_figure="film",
    )


def _frame(frame: Frame, strip: Strip, one: Sampled) -> Html:
    time = f"{frame.step / one.control_hz:.2f} s"
    if not frame.jpeg:
        return element("div", element("div", "unreadable: ", said(frame.problem), class_="unreadable"), time)
    source = "data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode()
    alt = f"{strip.camera}, episode {one.number}, at {time}"
    picture = element("img", src=source, alt=alt, width=strip.width, height=strip.height, decoding="async")
    return element("div", picture, element("span", time))


def _trajectories(one: Sampled, ranges: Ranges) -> Html:
    """A panel for each slot, by group."""
    real = np.flatnonzero(~np.isnan(np.concatenate([one.state, one.action])).all(axis=0))
    groups = [
        element(
            "section",
            element("h5", group_title(name, slots)),
            element("div", (_panel(slot, one, ranges[slot]) for slot in slots), class_="panels"),
        )
        for name, slots in grouped(real.tolist())
    ]
    drawn = f"{len(one.steps)} of {one.length} steps are drawn." if len(one.steps) < one.length else None
    return joined([legend(), element("p", drawn, class_="note") if drawn else None, groups])


def _panel(slot: int, one: Sampled, reach: tuple[float, float]) -> Html:
    """State and action of one slot over time."""
    name = preferred_name(slot)
    seconds = (one.length - 1) / one.control_hz
    lines = [
        element("path", d=_line(one, vectors[:, slot], reach), class_=what)
        for what, vectors in (("state", one.state), ("action", one.action))
    ]
    label = f"{name} over {four(seconds)} s, state and action, between {four(reach[0])} and {four(reach[1])}"
    drawing = svg(label, WIDE, TALL, _ticks(one), lines, class_="trace")
    return element(
        "figure",
        element("figcaption", named(name), element("output", class_="reading")),
        element(
            "div",
            drawing,
            element("span", near(reach[1], reach[1] - reach[0]), class_="top"),
            element("span", near(reach[0], reach[1] - reach[0]), class_="bottom"),
            class_="plot",
        ),
        element("div", element("span", "0 s"), element("span", f"{four(seconds)} s"), class_="axis"),
        data_figure="trajectory",
        data_low=repr(reach[0]),
        data_high=repr(reach[1]),
        data_seconds=f"{seconds:.6g}",
        class_="panel",
    )


def _ranges(sampled: Sequence[Sampled]) -> dict[int, tuple[float, float]]:
    every = np.concatenate([vectors for one in sampled for vectors in (one.state, one.action)])
    found = {}
    for slot in np.flatnonzero(~np.isnan(every).all(axis=0)).tolist():
        low, high = float(np.nanmin(every[:, slot])), float(np.nanmax(every[:, slot]))
        room = 0.0 if high > low else 0.5 * max(abs(low), 1.0)
        found[slot] = (low - room, high + room)
    return found


def _line(one: Sampled, values: npt.NDArray[np.float32], reach: tuple[float, float]) -> str:
    """A path, broken where a slot is not real."""
    x = np.round(one.steps / max(one.length - 1, 1) * WIDE).astype(int).tolist()
    share = (values.astype(np.float64) - reach[0]) / (reach[1] - reach[0])
    points, pen = [], "M"
    for at, up in zip(x, share.tolist(), strict=True):
        if np.isnan(up):
            pen = "M"
            continue
        points.append(f"{pen}{at} {round(TALL - _MARGIN - (TALL - 2 * _MARGIN) * up)}")
        pen = "L"
    return "".join(points)


def _ticks(one: Sampled) -> Html | None:
    """Where the frames were taken."""
    if not one.strips:
        return None
    x = [round(frame.step / max(one.length - 1, 1) * WIDE) for frame in one.strips[0].frames]
    return element("path", d="".join(f"M{at} {TALL}v-14" for at in x), class_="ticks")
