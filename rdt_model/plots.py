"""Small line plots as SVG, by hand: error against the step of the horizon, predicted beside recorded, loss of a run.

In: numbers. Out: the text of an SVG file that every browser shows. Knows what a curve is and nothing of policies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 320  # of a panel, pixels
HEIGHT: Final = 170
COLUMNS: Final = 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 24, 22  # margins of a panel's axes


@dataclass(frozen=True, slots=True)
class Curve:
    """y over x, by default over first, first + 1, …; None leaves a gap. colour: any of SVG's."""

    y: Sequence[float | None]
    colour: str
    first: int = 0
    x: Sequence[int] | None = None

    @property
    def places(self) -> Sequence[int]:
        """x of each y."""
        return range(self.first, self.first + len(self.y)) if self.x is None else self.x


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes. title: with the unit. marks: x of thin vertical lines. logarithmic: y; 0 and less is a gap."""

    title: str
    curves: Sequence[Curve]
    marks: Sequence[int] = ()
    from_zero: bool = False
    logarithmic: bool = False


def figure(title: str, panels: Sequence[Panel], legend: Sequence[tuple[str, str]] = ()) -> str:
    """Panels in rows of three. legend: (text, colour)."""
    columns = min(COLUMNS, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    wide, high = columns * WIDTH, rows * HEIGHT + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, (text, colour) in enumerate(legend):
        parts.append(f'<text x="{10 + 120 * number}" y="34" fill="{colour}">— {escape(text)}</text>')
    for number, panel in enumerate(panels):
        x, y = number % columns * WIDTH, 40 + number // columns * HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_panel(panel)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel) -> str:
    curves = [[_height(value, panel) for value in curve.y] for curve in panel.curves]
    known = [value for curve in curves for value in curve if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    low = min(low, 0.0) if panel.from_zero else low
    high = high if high > low else low + (abs(low) or 1.0) * 0.1
    first = min((x for curve in panel.curves for x in curve.places), default=0)
    last = max((x for curve in panel.curves for x in curve.places), default=1)
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place_x(x: float) -> float:
        return _LEFT + wide * (x - first) / max(1, last - first)

    def place_y(y: float) -> float:
        return _TOP + tall * (high - y) / (high - low)

    parts = [
        f'<text x="{_LEFT}" y="{_TOP - 6}">{escape(panel.title)}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{wide}" height="{tall}" fill="none" stroke="#999"/>',
        *(_text(_LEFT - 4, place_y(value) + 4, _label(value, panel), "end") for value in (low, high)),
        _text(_LEFT, HEIGHT - 8, str(first), "middle"),
        _text(WIDTH - 2, HEIGHT - 8, str(last), "end"),
        *(f'<path d="M{place_x(x):.1f},{_TOP}v{tall}" stroke="#ddd"/>' for x in panel.marks),
    ]
    for curve, heights in zip(panel.curves, curves, strict=True):
        path, pen = [], "M"
        for x, y in zip(curve.places, heights, strict=True):
            if y is not None:
                path.append(f"{pen}{place_x(x):.1f},{place_y(y):.1f}")
            pen = "M" if y is None else "L"
        parts.append(f'<path d="{" ".join(path)}" fill="none" stroke="{curve.colour}" stroke-width="1.5"/>')
    return "".join(parts)


def _height(value: float | None, panel: Panel) -> float | None:
    """Where on the vertical axis a value is."""
    if value is None or not panel.logarithmic:
        return value
    return math.log10(value) if value > 0 else None


def _label(height: float, panel: Panel) -> str:
    return f"{10**height if panel.logarithmic else height:.3g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">{escape(text)}</text>'
