"""The report: everything of a dataset is in one page that loads nothing, runs nothing of the data, and never varies."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.episode import CameraFormat, Episode
from rdt_data.errors import RdtError, StoreError
from rdt_data.images import decode, encode_jpeg, resize
from rdt_data.layout import preferred_name, unit
from rdt_data.ledger import Ledger, commit
from rdt_data.markup import element
from rdt_data.parts import PartWriter
from rdt_data.store import open_dataset
from stats.compare import compare
from stats.measure import measure_stores
from stats.report import write_report
from stats.report_page import SECTIONS
from stats.report_sample import LONGEST_SIDE, evenly, sampled_numbers

HOSTILE = "</bdi></title><script>alert('words')</script><img src=x onerror=alert(1)> \u202egnirts\" onload='x"
JOINTS, GRIPPER = [0, 1, 2], 10
SIZE = (120, 400)


def picture(number: int, step: int) -> np.ndarray:
    """A smooth picture, so that its JPEG is near to it."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x // 2 % 256, y + 10 * number, np.full_like(x, 7 * step % 256)], axis=-1).astype(np.uint8)


def made_episode(
    number: int, steps: int, slots: list[int], words: str, shift: float = 0.0, far: float = 0.0
) -> Episode:
    rng = np.random.default_rng(number)
    state = np.zeros((steps, 128), np.float32)
    state[:, slots] = rng.normal(size=(steps, len(slots))).cumsum(axis=0) + shift
    state[-1, slots[1]] += far
    mask = np.isin(np.arange(128), slots)
    state_mask = mask
    if steps > 6:  # the first slot is not real in steps 3 and 4
        state_mask = np.tile(mask, (steps, 1))
        state_mask[3:5, slots[0]] = False
        state[3:5, slots[0]] = 0
    action = np.concatenate([state[1:], state[-1:]])
    return Episode(f"e<{number}>", f"file&{number}", state, action, state_mask, mask, words, words, 10.0, ("Go.",))


def write_store(
    dest: Path,
    *,
    slots: list[int] | None = None,
    lengths: tuple[int, ...] = (1, 7, 300),
    name: str = "made",
    shift: float = 0.0,
    far: float = 0.0,
) -> Path:
    """A store of hostile words with frames; the last episode has neither words nor frames, some were left out."""
    form = CameraFormat("jpeg", *SIZE)
    header = {
        "dataset": name,
        "control_hz": 10.0,
        "cameras": {"exterior": {key: getattr(form, key) for key in form.__slots__}},
        "request": {"action": "next-state", "split": HOSTILE},
        "spec": {"title": HOSTILE, "robot": HOSTILE, "source": HOSTILE, "cameras": {"exterior": HOSTILE}},
        "spec_text": f"title: {HOSTILE}\n",
    }
    left_out = {
        "quarantined": [{"file": "a<b>", "episode": n, "field": "x", "reason": HOSTILE} for n in range(5)],
        "filtered": [{"episode": "f<1>", "reason": "too <short>"}],
    }
    with Ledger(dest, header, [{"sources": ["s"]}]) as ledger:
        writer = PartWriter(ledger.path(0), {"exterior": form})
        for number, steps in enumerate(lengths):
            last = number == len(lengths) - 1
            frames = {} if last else {"exterior": [encode_jpeg(picture(number, s), 95) for s in range(steps)]}
            words = "" if last else HOSTILE
            writer.add(made_episode(number, steps, slots or [*JOINTS, GRIPPER], words, shift, far), frames)
        writer.close({"sources": [["s<1>", 0, 3, 10_000_000]], **left_out})
        commit(ledger.path(0), dest, 0)
        ledger.finish({"parts": [[len(lengths), sum(lengths)]]})
    return dest


@dataclass
class Node:
    """An element of a parsed page."""

    name: str
    attributes: dict[str, str | None]
    children: "list[Node]" = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words)


class Page(HTMLParser):
    """A page as elements; fails on a tag that is closed wrongly."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.every: list[Node] = []
        self.open: list[Node] = []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), f"{name}: an attribute twice"
        node = Node(name, dict(attributes))
        self.every.append(node)
        for outer in self.open:
            outer.children.append(node)
        if name not in ("meta", "img", "wbr"):
            self.open.append(node)

    def handle_endtag(self, name):
        assert self.open.pop().name == name

    def handle_data(self, data):
        for node in self.open:
            node.words.append(data)

    def all(self, name: str, **attributes: str) -> list[Node]:
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [n for n in self.every if n.name == name and wanted.items() <= n.attributes.items()]

    def one(self, name: str, **attributes: str) -> Node:
        (node,) = self.all(name, **attributes)
        return node

    def section(self, key: str) -> Node:
        return self.one("section", aria_labelledby=key)


def found(node: Node, name: str, class_: str | None = None) -> list[Node]:
    return [n for n in node.children if n.name == name and (class_ is None or n.attributes.get("class") == class_)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("one") / "made.zarr")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    return write_store(folder / "other.zarr", slots=[1, 2, 30], shift=5.0, lengths=(9, 12), name="other")


@pytest.fixture(scope="module")
def page(store, tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report([str(store)], out)
    return Page(out)


@pytest.fixture(scope="module")
def both(store, other, tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("pages") / "report.html"
    write_report([str(store), str(other)], out, title="Two <of> them")
    return Page(out)


def test_every_section_is_there_and_reached_from_the_contents(page):
    links = {node.attributes["href"]: node.text for node in found(page.one("nav"), "a")}
    for anchor, heading, _ in SECTIONS:
        assert links[f"#d1-{anchor}"] == heading
        assert page.one("h3", id=f"d1-{anchor}").text == heading


def test_words_of_a_dataset_are_shown_and_never_become_markup(both):
    assert len(both.all("script")) == 1
    assert HOSTILE in both.section("d1-instructions").text
    assert HOSTILE in both.section("d1-about").text
    assert HOSTILE in both.section("d1-episodes").text
    assert both.one("h1").text == both.all("title")[0].text == "Two <of> them"
    for node in both.every:
        assert not [key for key in node.attributes if key.startswith("on") or key == "style"], node
        assert node.attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert node.attributes.get("href", "#").startswith("#")
    assert {node.name for node in both.every}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})


def test_the_policy_lets_only_the_one_style_and_script_run(page):
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for name, rule in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(page.one(name).text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "url(" not in page.one("style").text
    assert "@import" not in page.one("style").text


def test_the_page_is_built_for_everybody(both):
    ids = [node.attributes["id"] for node in both.every if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {node.attributes["href"][1:] for node in both.all("a")} <= set(ids)
    assert {n.attributes["aria-labelledby"] for n in both.every if "aria-labelledby" in n.attributes} <= set(ids)
    levels = [int(node.name[1]) for node in both.every if re.fullmatch(r"h[1-6]", node.name)]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels)), "a level is left out"
    assert both.one("html").attributes["lang"] == "en"
    assert all(node.attributes["alt"] for node in both.all("img"))
    assert all(n.attributes.get("aria-label") or n.attributes.get("aria-hidden") for n in both.all("svg"))
    assert all(found(node, "caption") for node in both.all("table"))
    assert all(node.attributes.get("scope") for node in both.all("th"))
    assert all(found(node, "summary") for node in both.all("details"))


def test_what_it_is_tells_origin_cameras_and_what_was_left_out(page):
    about = page.section("d1-about")
    facts = dict(zip((n.text for n in found(about, "dt")), (n.text for n in found(about, "dd")), strict=True))
    assert facts["Robot"] == facts["Origin"] == HOSTILE
    assert facts["Control rate"] == "10 Hz"
    assert facts["Source files"] == "1 (10.0 MB)"
    assert facts["Actions"] == "the state one step later"
    rows = [[cell.text for cell in row.children if cell.name in ("th", "td")] for row in found(about, "tr")]
    assert ["exterior", HOSTILE, "400 × 120, JPEG", "2 of 3"] in rows
    assert ["filtered", "too <short>", "1", "f<1>"] in rows
    quarantined = next(row for row in rows if row[0] == "quarantined")
    assert quarantined[1:3] == [HOSTILE, "5"]
    assert "a<b>, episode 4, field x" in quarantined[3]
    assert found(about, "pre")[0].text == f"title: {HOSTILE}\n"


def test_instructions_are_counted_and_episodes_without_are_listed(page):
    words = page.section("d1-instructions")
    rows = [[cell.text for cell in row.children if cell.name in ("th", "td")][:2] for row in found(words, "tr")]
    assert [HOSTILE, "2"] in rows
    assert "1 episode without any" in words.text
    assert "e<2>" in [node.text for node in found(words, "li")]


def test_lengths_are_drawn_as_a_histogram_of_whole_steps(page):
    rects = found(page.section("d1-lengths"), "rect")
    bars = [re.fullmatch(r"([\d,]+) to ([\d,]+) steps: ([\d,]+) episodes", n.text).groups() for n in rects]
    counts = Counter([1, 7, 300])
    for low, high, count in bars:
        assert int(count) == sum(counts.pop(n, 0) for n in range(int(low), int(high) + 1))
    assert not counts


def test_equal_lengths_are_told_in_words(tmp_path):
    store = write_store(tmp_path / "x.zarr", lengths=(8, 8))
    write_report([str(store)], tmp_path / "r.html", episodes=0)
    lengths = Page(tmp_path / "r.html").section("d1-lengths")
    assert lengths.text.endswith("Every episode has 8 steps (0.8 s).")
    assert not found(lengths, "svg")


def test_every_slot_has_a_histogram_with_its_name(page, store):
    panels = found(page.section("d1-distributions"), "figure", "panel")
    assert [found(panel, "code")[0].text for panel in panels] == [preferred_name(s) for s in (*JOINTS, GRIPPER)]
    values = np.concatenate([e.action[:, 1] for e in open_dataset(str(store))])
    drawing = next(panel for panel in panels if found(panel, "code")[0].text == preferred_name(1))
    heights = {}
    for what in ("state", "action"):
        d = found(drawing, "path", what)[0].attributes["d"]
        heights[what] = np.array([(100 - int(v)) / 96 for v in re.findall(r"V(\d+)H", d)])
    low, high = np.quantile(values, [0.001, 0.999])
    drawn = heights["action"] / heights["action"].sum()
    expected, _ = np.histogram(values, np.linspace(low, high, 49))
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.02)
    assert max(map(np.max, heights.values())) == 1, "the highest bar of both is full"


def test_the_axis_of_a_histogram_is_not_stretched_by_one_value_far_away(tmp_path):
    lengths = (1, 6000)  # the last has no frames
    plain, wild = (
        write_store(tmp_path / f"{name}.zarr", lengths=lengths, far=far)
        for name, far in (("plain", 0.0), ("wild", 1e6))
    )
    axes = []
    for store in (plain, wild):
        write_report([str(store)], tmp_path / "r.html", episodes=0)
        axis = found(Page(tmp_path / "r.html").section("d1-distributions"), "div", "axis")[1]
        axes.append([float(end.text) for end in found(axis, "span")])
    np.testing.assert_allclose(axes[1], axes[0], atol=0.1 * np.ptp(axes[0]))  # buckets are wider: see stats.buckets


def test_a_constant_slot_and_units_are_told(tmp_path):
    store = write_store(tmp_path / "x.zarr", lengths=(1,))
    write_report([str(store)], tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    value = open_dataset(str(store))[0].state[0, 0]
    assert f"always {value:.4g}" in page.section("d1-distributions").text
    assert f"Right arm joint positions{unit(0)}" in [n.text for n in found(page.section("d1-distributions"), "h4")]


def test_the_table_holds_the_statistics_themselves(page, store):
    slots = measure_stores([str(store)])[0].document["stats"]["state"]
    table = found(page.section("d1-statistics"), "table")[0]
    head = [node.text for node in found(table, "th") if node.attributes["scope"] == "col"]
    rows = {found(row, "th")[0].text: row for row in found(table, "tr")[1:]}
    assert list(rows) == list(slots)
    for name, row in rows.items():
        cells = dict(zip(head[1:], found(row, "td"), strict=True))
        assert cells["unit"].text == slots[name]["unit"].replace("1", "")
        for column, key in (("mean", "mean"), ("std", "std"), ("min", "min"), ("max", "max"), ("count", "count")):
            assert float(cells[column].attributes["data-value"]) == slots[name][key]
        assert float(cells["99 %"].attributes["data-value"]) == slots[name]["quantiles"]["99"]
        assert float(cells["step max"].attributes["data-value"]) == slots[name]["step"]["max"]


def test_lines_go_through_the_values_and_break_where_a_slot_is_not_real(page, store):
    longest = page.one("article", aria_labelledby="d1-e2")
    panel = next(n for n in found(longest, "figure", "panel") if found(n, "code")[0].text == preferred_name(0))
    low, high = (float(panel.attributes[f"data-{key}"]) for key in ("low", "high"))
    episode = open_dataset(str(store))[2]
    steps = evenly(300, 240)
    d = found(panel, "path", "state")[0].attributes["d"]
    points = {int(x): low + (288 - int(y)) / 276 * (high - low) for x, y in re.findall(r"[ML](\d+) (\d+)", d)}
    assert d.count("M") == 2
    for step in steps.tolist():
        at = round(step / 299 * 1000)
        if 3 <= step < 5:
            assert at not in points
        else:
            assert points[at] == pytest.approx(episode.state[step, 0], abs=(high - low) / 276)
    assert "240 of 300 steps are drawn." in longest.text


def test_frames_are_small_jpegs_evenly_over_the_episode(page, store):
    pictures = found(page.one("article", aria_labelledby="d1-e1"), "img")
    assert [n.attributes["alt"] for n in pictures] == [f"exterior, episode 1, at {s / 10:.2f} s" for s in range(7)]
    for step, node in enumerate(pictures):
        shown = decode(base64.b64decode(node.attributes["src"].removeprefix("data:image/jpeg;base64,")))
        assert max(shown.shape) == LONGEST_SIDE == int(node.attributes["width"])
        assert shown.shape[0] == int(node.attributes["height"])
        original = resize(open_dataset(str(store))[1].images("exterior")[step], *shown.shape[:2])
        assert np.abs(shown.astype(int) - original).mean() < 6


def test_a_frame_that_cannot_be_decoded_is_told(tmp_path):
    store = write_store(tmp_path / "x.zarr")
    first = open_dataset(str(store))[0].encoded("exterior", 0)
    shard = next(p for p in (store / "parts/0/images/exterior").rglob("*") if p.is_file() and first in p.read_bytes())
    shard.write_bytes(shard.read_bytes().replace(first, b"\0" * len(first)))
    write_report([str(store)], tmp_path / "r.html")
    article = Page(tmp_path / "r.html").one("article", aria_labelledby="d1-e0")
    assert "unreadable" in article.text
    assert not found(article, "img")


def test_findings_of_lint_are_grouped_with_what_to_do(page):
    findings = page.section("d1-findings")
    badges = [node.text for node in found(findings, "span") if str(node.attributes.get("class")).startswith("badge")]
    assert badges
    order = ["error", "warning", "info"]
    severities = [order.index(next(s for s in order if f" {s}: " in badge)) for badge in badges]
    assert severities == sorted(severities)
    assert len([n for n in found(findings, "strong") if n.text == "To do: "]) >= len(badges)


def test_several_datasets_are_compared_side_by_side(both, store, other):
    a, b = measure_stores([str(store), str(other)])
    whole = both.section("comparison")
    tables = found(whole, "table")
    rows = [[cell.text for cell in row.children if cell.name in ("th", "td")] for row in found(tables[0], "tr")]
    assert rows[0] == ["", "made", "other"]
    assert ["Episodes", "3", "2"] in rows
    verdicts = [[n.text.split()[-1] for n in found(row, "td")] for row in found(tables[1], "tr")[1:]]
    assert verdicts == [["–", compare(a, b).verdict], [compare(b, a).verdict, "–"]]
    assert verdicts[0][1] == "unsafe", "5 beside, and another slot"
    panels = [n for n in found(whole, "figure", "panel") if n.attributes["data-figure"] == "compare-state"]
    assert [found(n, "code")[0].text for n in panels] == [preferred_name(1), preferred_name(2)]
    alone = next(n for n in tables if found(n, "caption")[0].text == "Slots that only one of them has")
    assert preferred_name(30) in alone.text


def test_one_dataset_is_not_compared(page):
    assert not page.all("h2", id="comparison")


def test_the_same_stores_give_the_same_bytes(store, page, tmp_path):
    for number, workers in enumerate((1, 2)):
        write_report([str(store)], tmp_path / f"{number}.html", workers=workers)
        assert (tmp_path / f"{number}.html").read_text("utf-8") == page.source


@given(st.integers(0, 200), st.integers(0, 10), st.integers(0, 5))
def test_more_sampled_episodes_include_the_fewer(episodes, count, seed):
    fewer, more = sampled_numbers(episodes, count, seed), sampled_numbers(episodes, count + 1, seed)
    assert len(fewer) == min(count, episodes)
    assert set(fewer) <= set(more)
    assert fewer == sorted(set(fewer))
    grown = sampled_numbers(episodes + 1, count, seed)
    assert len(set(grown) - set(fewer)) <= 1, "an episode more changes at most one"


def test_another_seed_draws_other_episodes():
    assert len({tuple(sampled_numbers(100, 4, seed)) for seed in range(5)}) == 5


@given(st.integers(1, 1000), st.integers(1, 50))
def test_even_steps_have_both_ends(length, count):
    steps = evenly(length, count).tolist()
    assert len(steps) == min(length, count)
    assert steps[0] == 0
    if count > 1:
        assert steps[-1] == length - 1


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_text_and_attributes_come_back_as_they_were(text):
    class Read(HTMLParser):
        words, title = "", None

        def handle_starttag(self, name, attributes):
            assert name == "p"
            self.title = dict(attributes)["title"]

        def handle_data(self, data):
            self.words += data

    reader = Read()
    reader.feed(element("p", text, [text], title=text))
    reader.close()
    assert (reader.words, reader.title) == (text + text, text)


def test_datasets_of_one_name_are_told_apart_by_their_folders(tmp_path):
    urls = [str(write_store(tmp_path / name / "x.zarr", lengths=(3,))) for name in ("a", "b")]
    write_report(urls, tmp_path / "r.html", episodes=0)
    assert [n.text for n in Page(tmp_path / "r.html").all("h2")] == ["Comparison", *(f"made ({url})" for url in urls)]


def test_what_cannot_be_reported_is_refused(store, tmp_path):
    out = tmp_path / "r.html"
    for urls, words in (([], "no store"), ([str(store), f"{store}/"], "given twice")):
        with pytest.raises(RdtError, match=words):
            write_report(urls, out)
    with pytest.raises(RdtError, match="frames 0"):
        write_report([str(store)], out, frames=0)
    with pytest.raises(RdtError, match="nowhere is not a folder"):
        write_report([str(store)], tmp_path / "nowhere" / "r.html")
    with pytest.raises(RdtError, match="is a folder"):
        write_report([str(store)], tmp_path)
    with pytest.raises(StoreError, match=r"no zarr\.json"):
        write_report([str(tmp_path)], out)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_the_command_writes_a_page_of_a_conversion(command, aloha_source, tmp_path):
    root = aloha_source(tmp_path)
    assert command("convert", root, tmp_path / "a.zarr").code == 0
    done = command("report", tmp_path / "a.zarr", "-o", tmp_path / "r.html")
    assert done.code == 0, done.err
    assert "4 episodes" in done.out
    page = Page(tmp_path / "r.html")
    assert {n.attributes["data-figure"] for n in page.every if "data-figure" in n.attributes} == {
        "findings", "lengths", "instructions", "film", "trajectory", "distribution", "statistics",
    }  # fmt: skip
    assert len(page.all("figure", data_figure="film")) == 3 * 4
    assert command("report", tmp_path / "none.zarr", "-o", tmp_path / "r.html").code == 1
