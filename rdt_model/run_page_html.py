"""The look of a run's page: what it is built from, pictures, and the one style sheet.

In: names, content, numbers. Out: `Html`, as `rdt_data.markup` makes it. Knows nothing of runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rdt_data.markup import Html, element
from rdt_model.plots import Panel, figure

STYLE: Final = """
:root {
  color-scheme: light dark; --paper: #fafaf8; --panel: #fff; --raised: #eef1f3; --ink: #1a1f24; --quiet: #57606a;
  --line: #d9dee3; --link: #005a9c; --first: #0072b2; --second: #c2410c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101418; --panel: #171c22; --raised: #262e36; --ink: #e7eaed; --quiet: #a3adb7;
    --line: #2d363f; --link: #7cc4f5; --first: #56b4e9; --second: #f0a020;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.7rem, 5vw, 2.4rem); margin: .2rem 0 .5rem; }
h2 { margin: 2.8rem 0 .6rem; padding-top: 1.2rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p { max-width: 75ch; overflow-wrap: anywhere; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .86em; overflow-wrap: anywhere; }
pre { overflow: auto; max-height: 26rem; padding: 1rem; background: var(--raised); border-radius: 8px; }
summary { cursor: pointer; padding: .4rem 0; color: var(--link); }
.kicker, .note, footer { color: var(--quiet); font-size: .9rem; }
.kicker { margin: 0; text-transform: uppercase; letter-spacing: .08em; }
.missing { padding: .8rem 1rem; border: 1px dashed var(--quiet); border-radius: 8px; }
.missing code { display: block; margin-top: .3rem; }
.tiles, .facts { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.tiles > div { padding: .7rem .9rem; background: var(--panel); border: 1px solid var(--line); border-radius: 10px; }
.facts { gap: .9rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
dt { color: var(--quiet); font-size: .84rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.tiles dd { font-size: 1.35rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-size: .8rem; font-weight: 400; color: var(--quiet); }
.plots { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.plots svg { width: 100%; height: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 10px; }
.plots svg > rect { fill: none; }
.plots text:not([fill]) { fill: var(--ink); }
.plots text[fill="#555"] { fill: var(--quiet); }
.plots rect[stroke] { stroke: var(--line); }
.rates { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.rates b { display: inline-block; font-variant-numeric: tabular-nums; }
.rates span { margin-right: .6rem; overflow-wrap: anywhere; }
.rates p { margin: 0 0 .3rem; }
.rates .note { margin: .3rem 0 0; }
.rates svg { display: block; width: 100%; height: 1rem; border-radius: 4px; background: var(--raised); }
.reach { fill: var(--first); opacity: .45; }
.found { fill: var(--ink); }
.scroll { overflow-x: auto; }
.scroll img { display: block; max-width: none; border-radius: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 400; } thead th { color: var(--quiet); font-size: .84rem; }
td { text-align: right; } thead th:not(:first-child) { text-align: right; }
figure { margin: 0; }
video { display: block; max-width: 100%; max-height: 80vh; border-radius: 10px; }
footer { margin-top: 3rem; }
"""


def facts(pairs: Mapping[str, object]) -> Html:
    """Names and what they are; None is left out."""
    given = [(name, value) for name, value in pairs.items() if value is not None]
    return element(
        "dl", (element("div", element("dt", name), element("dd", value)) for name, value in given), class_="facts"
    )


def tile(name: str, value: object, note: str | None = None) -> Html:
    """A number that is seen first, in a `dl` of class tiles."""
    return element("div", element("dt", name), element("dd", value, element("small", note) if note else None))


def table(label: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table that scrolls in its own box; a row begins with its header."""
    heads = element("thead", element("tr", (element("th", name, scope="col") for name in head)))
    body = element(
        "tbody",
        (element("tr", element("th", row[0], scope="row"), (element("td", c) for c in row[1:])) for row in rows),
    )
    return element("div", element("table", heads, body), class_="scroll", tabindex=0, role="region", aria_label=label)


def folded(summary: str, *content: object) -> Html:
    """What is shown when it is asked for."""
    return element("details", element("summary", summary), content)


def missing(what: str, command: str) -> Html:
    """That a part is not there, and the command that makes it."""
    return element("p", what, " ", element("code", command), class_="missing")


def plots(titled: Iterable[tuple[str, Panel, Sequence[tuple[str, str]]]]) -> Html:
    """A figure each of a title, a panel and a legend, side by side where there is room."""
    return element(
        "div",
        (element("figure", Html(figure(title, [panel], legend))) for title, panel, legend in titled),
        class_="plots",
    )


def interval(rate: float, low: float, high: float) -> Html:
    """A rate and its interval, all 0 … 1, on a bar from 0 to 100 %. Its words stand beside it."""
    return element(
        "svg",
        element("rect", class_="reach", x=f"{100 * low:.2f}", width=f"{100 * (high - low):.2f}", height=10),
        element("rect", class_="found", x=f"{99 * rate:.2f}", width=1, height=10),
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
