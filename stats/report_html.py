"""What the pages of this package are built from: tables that scroll, numbers, axes, what is folded.

In: content, as `rdt_data.markup` takes it. Out: `Html`, as report.css shows it.
"""

import math
from collections.abc import Iterable

from rdt_data.markup import Attribute, Content, Html, element


def said(text: str) -> Html:
    """Text of a dataset: its writing direction stays its own."""
    return element("bdi", text)


def named(name: str) -> Html:
    """The name of a slot; it may be broken after its underscores."""
    first, *words = name.split("_")
    return element("code", first, ([Html("_<wbr>"), word] for word in words))


def svg(label: str, width: int, height: int, *content: Content, class_: str | None = None) -> Html:
    """A drawing that is stretched to its box; its words stand beside it as HTML, so that they stay legible."""
    return element(
        "svg",
        content,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_=class_,
    )


def folded(summary: Content, *content: Content, opened: bool = False, class_: str | None = None) -> Html:
    """A <details>: folded until it is asked for."""
    return element("details", element("summary", summary), content, open=opened, class_=class_)


def table(label: str, head: Iterable[Content], rows: Iterable[Iterable[Content]], class_: str | None = None) -> Html:
    """A table that scrolls in its own box. head, rows: cells, or what goes into one; a row begins with its header."""
    heads = element("thead", element("tr", (cell(c, "th", scope="col") for c in head)))
    body = element("tbody", (element("tr", _row(row)) for row in rows))
    grid = element("table", element("caption", label), heads, body, class_=class_)
    return element("div", grid, class_="scroll", tabindex=0, role="region", aria_label=label)


def cell(content: Content, name: str = "td", **attributes: Attribute) -> Html:
    """A cell of a table; one that is a cell already stays."""
    if isinstance(content, Html) and content.startswith(("<td", "<th")):
        return content
    return element(name, content, **attributes)


def number(value: float | None, shown: str | None = None) -> Html:
    """A cell with a number, sorted by its value; of None a dash."""
    if value is None:
        return element("td", "–", class_="number")
    return element("td", four(value) if shown is None else shown, class_="number", data_value=repr(float(value)))


def four(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def near(value: float, scale: float) -> str:
    """As many decimals as three digits of `scale` have: 0.00001 beside 0.21 is 0.000."""
    if not 1e-6 <= scale < 1e6:
        return f"{value:.3g}"
    decimals = max(0, 2 - math.floor(math.log10(scale)))
    return f"{value:.{decimals}f}" if float(f"{value:.{decimals}f}") else "0"


def ends(low: float, high: float) -> Html:
    """The two ends of a horizontal axis."""
    span = high - low
    return element("div", element("span", near(low, span)), element("span", near(high, span)), class_="axis")


def right(name: str) -> Html:
    """The head of a column of numbers."""
    return element("th", name, scope="col", class_="number")


def counted(count: int, one: str, more: str | None = None) -> str:
    """ "1 episode", "1,200 episodes"."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _row(row: Iterable[Content]) -> Iterable[Html]:
    for position, content in enumerate(row):
        yield cell(content) if position else cell(content, "th", scope="row")
