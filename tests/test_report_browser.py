"""The report in a real browser: nothing in the console, every figure drawn, no page that scrolls sideways on a phone.

A headless Chromium prints what becomes of a page. What a test asks of the page is asked by a script that is put into a
copy of it, whose policy is taken out; the page as it is written must keep such a script from running.
"""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters import catalog
from converters.plan import Request
from converters.run import convert_dataset
from rdt_data.store import open_dataset
from stats.report import write_report

PHONE, DESKTOP = (375, 812), (1280, 900)
HOSTILE = "<script>console.error('the words of a dataset ran')</script> " + "x" * 300
FRAME = """<!doctype html><title>null</title><script>onmessage = (event) => {{ document.title = event.data; }};</script>
<iframe src="page.html" width="{width}" height="{height}" style="border: 0"></iframe>
"""  # a window is never as narrow as a phone, a frame can be
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="module")
def chromium() -> str:
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or CHROMIUM=PATH)")
    return found


@pytest.fixture(scope="module")
def look(chromium, tmp_path_factory) -> Callable[..., tuple[str, list[str]]]:
    """Show a page: its document as it then is, and the lines of its console."""
    profile = tmp_path_factory.mktemp("profile")

    def shown(page: Path, size: tuple[int, int], *options: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=2000",
                "--enable-logging=stderr", "--dump-dom", *options, page.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return shown


@pytest.fixture(scope="module")
def ask(look, tmp_path_factory) -> Callable[..., Any]:
    """What a JavaScript function body returns in a page of that size."""

    def answer(page: Path, size: tuple[int, int], body: str, *options: str) -> Any:
        text, removed = POLICY.subn("", page.read_text("utf-8"))
        assert removed == 1
        script = f"<script>parent.postMessage(JSON.stringify((() => {{ {body} }})()), '*');</script></body>"
        folder = tmp_path_factory.mktemp("asked")
        (folder / "page.html").write_text(text.replace("</body>", script), "utf-8")
        (folder / "frame.html").write_text(FRAME.format(width=size[0], height=size[1]), "utf-8")
        document, console = look(folder / "frame.html", DESKTOP, *options)
        assert not console
        return json.loads(html.unescape(re.search("<title>(.*?)</title>", document, re.DOTALL)[1]))

    return answer


def say(words: str, steps: int) -> Callable[[Any], None]:
    """Change the words of an ALOHA recording, and cut it."""

    def change(file: Any) -> None:
        del file["instruction"]
        file["instruction"] = words
        keys: list[str] = []
        file.visit(lambda key: keys.append(key) if hasattr(file[key], "shape") and file[key].ndim else None)
        for key in keys:
            values = file[key][:steps]
            del file[key]
            file[key] = values

    return change


@pytest.fixture(scope="module")
def pages(tmp_path_factory, aloha_source, rlds_source) -> dict[str, Path]:
    """A report of one dataset with hostile words, and one of two datasets."""
    folder = tmp_path_factory.mktemp("pages")
    recorded = aloha_source(folder, change={1: say(HOSTILE, 3), 2: say("Go.", 4)})
    convert_dataset(recorded, folder / "aloha.zarr", Request.of(catalog.get("demo_aloha")))
    convert_dataset(rlds_source(folder), folder / "rlds.zarr", Request.of(catalog.get("demo_two_arm")))
    stores = [str(folder / f"{name}.zarr") for name in ("aloha", "rlds")]
    write_report(stores[:1], folder / "one.html")
    write_report(stores, folder / "two.html")
    return {name: folder / f"{name}.html" for name in ("one", "two")}


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_console_stays_empty(look, pages, name):
    document, console = look(pages[name], DESKTOP)
    assert not console
    assert '<html lang="en" class="scripted">' in document, "the script ran"


def test_nothing_else_may_run(look, pages, tmp_path):
    attack = "<script>document.title = 'taken'</script><img src='https://example.org/x.png'></body>"
    (tmp_path / "attacked.html").write_text(pages["one"].read_text("utf-8").replace("</body>", attack), "utf-8")
    document, console = look(tmp_path / "attacked.html", DESKTOP)
    assert "<title>taken" not in document
    assert sum("Content Security Policy" in line for line in console) == 2, console


FIGURES = """
for (const one of document.querySelectorAll("details")) one.open = true;
const seen = {}, empty = [];
for (const figure of document.querySelectorAll("[data-figure]")) {
  const kind = figure.dataset.figure, box = figure.getBoundingClientRect();
  seen[kind] = (seen[kind] || 0) + 1;
  if (box.width < 50 || box.height < 15) empty.push(kind);
}
for (const drawn of document.querySelectorAll("svg:not(.bar), img")) {
  const box = drawn.getBoundingClientRect();
  const broken = drawn.tagName === "IMG" ? !drawn.naturalWidth : !drawn.querySelector("path, rect").getBoundingClientRect().width;
  if (box.width < 20 || box.height < 10 || broken) empty.push(drawn.outerHTML.slice(0, 200));
}
return { seen, empty };
"""


def test_every_figure_is_drawn(ask, pages):
    found = ask(pages["two"], DESKTOP, FIGURES)
    assert found["empty"] == []
    state = len(open_dataset(str(pages["two"].parent / "aloha.zarr"))[0].state_mask.nonzero()[0])
    kinds = found["seen"]
    assert kinds.pop("compare-state") == state
    assert kinds.pop("compare-action") == state
    assert kinds == {
        "compare-facts": 1,
        "compare-verdicts": 1,
        **dict.fromkeys(("findings", "lengths", "instructions", "statistics"), 2),
        "film": 2 * 4 * 3,
        "trajectory": 2 * 4 * state,
        "distribution": 2 * state,
    }


OVERFLOW = """
for (const one of document.querySelectorAll("main details")) one.open = true;
const scrolled = (node) => node && (getComputedStyle(node).overflowX !== "visible" || scrolled(node.parentElement));
const wide = [...document.querySelectorAll("main *")].filter((node) =>
  node.getBoundingClientRect().right > innerWidth + 1 && !scrolled(node) && !node.closest("svg"));
return { inner: innerWidth, page: document.documentElement.scrollWidth, wide: wide.map((n) => n.outerHTML.slice(0, 120)) };
"""


@pytest.mark.parametrize("name", ["one", "two"])
def test_on_a_phone_the_page_does_not_scroll_sideways(ask, pages, name):
    found = ask(pages[name], PHONE, OVERFLOW)
    assert found == {"inner": 375, "page": 375, "wide": []}


def test_the_measure_of_a_phone_would_find_what_is_too_wide(ask, pages, tmp_path):
    wide = pages["one"].read_text("utf-8").replace("<footer>", "<footer><pre>" + "x" * 500 + "</pre>")
    (tmp_path / "wide.html").write_text(wide.replace("pre { overflow: auto", "pre { overflow: visible"), "utf-8")
    found = ask(tmp_path / "wide.html", PHONE, OVERFLOW)
    assert found["page"] > 375


THEME = """
const paper = () => getComputedStyle(document.body).backgroundColor;
const button = document.getElementById("theme"), seen = [[button.hidden, button.textContent, paper()]];
for (let n = 0; n < 3; n++) { button.click(); seen.push([button.hidden, button.textContent, paper()]); }
return seen;
"""
LIGHT, DARK = "rgb(250, 250, 248)", "rgb(16, 20, 24)"


@pytest.mark.parametrize(("system", "option"), [(LIGHT, "preferredColorScheme=1"), (DARK, "preferredColorScheme=0")])
def test_the_theme_follows_the_system_until_it_is_chosen(ask, pages, system, option):
    assert ask(pages["one"], DESKTOP, THEME, f"--blink-settings={option}") == [
        [False, "Theme: as the system", system],
        [False, "Theme: light", LIGHT],
        [False, "Theme: dark", DARK],
        [False, "Theme: as the system", system],
    ]


HANDLING = """
const table = document.querySelector("table.stats"), heads = [...table.tHead.rows[0].cells];
const column = heads.findIndex((head) => head.textContent === "mean");
const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.value));
const before = values(), button = heads[column].querySelector("button");
button.click();
const up = values(), said = heads[column].getAttribute("aria-sort");
button.click();
const down = values();
const drawing = document.querySelector("svg.trace"), box = drawing.getBoundingClientRect();
drawing.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.left, clientY: box.top + 5 }));
const reading = drawing.closest(".panel").querySelector(".reading").textContent;
const reached = [...document.querySelectorAll("a, button, summary, [tabindex='0']")].filter((node) => { node.focus(); return document.activeElement !== node && node.checkVisibility(); });
const skip = document.querySelector(".skip");
skip.focus();
return { before, up, down, said, reading, unreached: reached.length, skip: skip.getBoundingClientRect().left >= 0 };
"""


def test_tables_sort_and_lines_are_read_and_all_is_reached_by_keyboard(ask, pages):
    found = ask(pages["one"], DESKTOP, HANDLING)
    assert found["said"] == "ascending"
    assert found["up"] == sorted(found["before"]) != found["before"]
    assert found["down"] == found["up"][::-1]
    assert found["unreached"] == 0
    assert found["skip"], "the link to the content shows itself when it has the focus"
    time, state, _ = re.fullmatch(r"(.*) s: (.*) / (.*)", found["reading"]).groups()
    dataset = open_dataset(str(pages["one"].parent / "aloha.zarr"))
    assert float(time) == 0
    assert float(state) == pytest.approx(dataset[0].state[0, 0], abs=0.03)


CONTENTS = """
const box = document.getElementById("contents"), folded = !box.open;
box.open = true;
box.querySelector("a").click();
return { folded, again: !box.open, marked: document.querySelectorAll("#contents a[aria-current]").length };
"""


def test_on_a_phone_the_contents_are_folded_until_they_are_asked_for(ask, pages):
    assert ask(pages["one"], PHONE, CONTENTS) == {"folded": True, "again": True, "marked": 1}
    assert ask(pages["one"], DESKTOP, CONTENTS)["folded"] is False
