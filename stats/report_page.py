"""Put a report together: one HTML document that loads nothing.

In: `About`s. Out: the text of the page. Its content security policy names the one style and the one script by their
hashes and lets pictures come from the page itself only: a text of a dataset could run nothing even if it were not
escaped, and nothing is ever asked of a network.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files

from rdt_data.markup import Html, element, joined
from stats.report_about import about, instructions, lengths, tiles
from stats.report_compare import comparison
from stats.report_data import About
from stats.report_episodes import episodes
from stats.report_findings import findings
from stats.report_html import counted, said
from stats.report_slots import distributions, tables

SECTIONS: Sequence[tuple[str, str, Callable[[About], Html]]] = (
    ("about", "What it is", about),
    ("findings", "What looks wrong", findings),
    ("lengths", "Episode lengths", lengths),
    ("instructions", "Instructions", instructions),
    ("episodes", "Sampled episodes", episodes),
    ("distributions", "Distributions", distributions),
    ("statistics", "Statistics", tables),
)
"""Anchor, heading and content of what is told of each dataset."""


def page(every: Sequence[About], title: str | None = None) -> str:
    """The whole document."""
    heading = title or (every[0].title if len(every) == 1 else f"{len(every)} datasets side by side")
    style, script = _resource("palette.css") + _resource("report.css"), _resource("report.js")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", heading),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        _contents(every),
        element("main", _header(every, heading), _sections(every, heading), _footer(), id="content", tabindex=-1),
        element("script", Html(script)),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("stats").joinpath(name).read_text("utf-8")


def _header(every: Sequence[About], heading: str) -> Html:
    steps = sum(one.stats["steps"] for one in every)
    total = sum(one.stats["episodes"] for one in every)
    words = f"{counted(total, 'episode')}, {counted(steps, 'step')}, {sum(one.hours for one in every):,.2f} hours: "
    lead = element("p", words, ", ".join(one.label for one in every), class_="lead") if len(every) > 1 else None
    return element(
        "header",
        element("p", "Dataset report", class_="kicker"),
        element("h1", said(heading)),
        lead,
    )


def _contents(every: Sequence[About]) -> Html:
    """Links to every section, in a box that stays in sight."""
    compared = [element("li", element("a", "Comparison", href="#comparison"))] if len(every) > 1 else []
    datasets = [
        element(
            "li",
            element("a", one.label, href=f"#{one.key}"),
            element("ul", (element("li", element("a", n, href=f"#{one.key}-{a}")) for a, n, _ in SECTIONS)),
        )
        for one in every
    ]
    toggle = element("button", "Theme: as the system", type="button", id="theme", hidden=True)
    inner = element("nav", element("ul", compared, datasets), aria_label="Contents")
    return element("details", element("summary", "Contents"), inner, toggle, open=True, id="contents")


def _sections(every: Sequence[About], heading: str) -> Html:
    side_by_side = (
        element(
            "section", element("h2", "Comparison", id="comparison"), comparison(every), aria_labelledby="comparison"
        )
        if len(every) > 1
        else None
    )
    return joined([side_by_side, [_dataset(one, heading) for one in every]])


def _dataset(one: About, heading: str) -> Html:
    lead = element("p", said(one.title), class_="lead") if one.title not in (one.label, heading) else None
    sections = [
        element(
            "section",
            element("h3", name, id=f"{one.key}-{anchor}"),
            draw(one),
            aria_labelledby=f"{one.key}-{anchor}",
            class_=anchor,
        )
        for anchor, name, draw in SECTIONS
    ]
    head = element("h2", one.label, id=one.key)
    return element("section", head, lead, tiles(one), sections, aria_labelledby=one.key, class_="dataset")


def _footer() -> Html:
    return element("footer", f"Made by rdt-data {version('rdt-data')}. This page asks nothing of a network.")
