"""`rdt-data view` in a real browser: list, search, cameras that play in step with the curves, keys, findings.

A headless Chromium is told what to do over its debugging pipe, with real key and mouse events. The frames of the made
stores are flat: their brightness says which camera and step they are of, so that what is compared is what is seen.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdt_data.images import encode_jpeg
from stats.view import Server

PHONE, DESKTOP = (375, 812), (1440, 900)
CAMERAS = ("exterior", "right_wrist", "left_wrist")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title = 'taken'</script> " + "x" * 300
LONG = 40

_BEGIN = """
import os, sys
inside = [os.dup(os.dup(int(one))) for one in sys.argv[1:3]]
os.dup2(inside[0], 3), os.dup2(inside[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads commands from descriptor 3 and answers on 4


class Browser:
    """A headless Chromium with one page. console: what the page or the browser complained of."""

    def __init__(self, path: str, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", _BEGIN, str(theirs_in), str(theirs_out), path, "--headless", "--no-sandbox",
                "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}",
                "--remote-debugging-pipe", "about:blank",
            ],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._left, self._number, self._session = b"", 0, ""
        self.console: list[Any] = []
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            if answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(answer["params"])
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._in], [], [], 60)[0], "the browser is silent"
            self._left += os.read(self._in, 1 << 20)
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))

    def js(self, code: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, code: str, seconds: float = 12) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        code = f"((found) => found instanceof Element || found)({code})"  # an element comes as an empty dict
        while not (value := self.js(code)):
            assert time.monotonic() < end, (code, self.console, self.js("document.body.innerText.slice(0, 2000)"))
            time.sleep(0.02)
        return value

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press and release."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            given = text if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0, **given)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def click(self, code: str, across: float = 0.5) -> None:
        """Click an element, so far across it."""
        self.js(f"({code}).scrollIntoView({{block: 'center'}})")
        box = self.js(f"(({code}).getBoundingClientRect().toJSON())")
        at = {"x": box["x"] + across * box["width"], "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def open(self, url: str, size: tuple[int, int] = DESKTOP) -> None:
        """Show a page from the beginning, and wait until its list is there."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )
        self.call("Page.navigate", url="about:blank")
        self.console.clear()
        self.call("Page.navigate", url=url)
        self.until("location.protocol === 'http:' && document.querySelector('#count')?.textContent.trim()")

    def close(self) -> None:
        self._session = ""
        self.call("Browser.close")
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or CHROMIUM=PATH)")
    browser = Browser(found, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@contextmanager
def serving(store: Path) -> Iterator[Server]:
    server = Server(str(store))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.view.findings.wait()  # the folder is removed after the test
        server.server_close()


def flat(number: int, step: int, camera: int) -> bytes:
    """A frame whose left half says by its brightness what it is of: 5 for a step, 15 for a camera, 1 for an episode."""
    pixels = np.full((24, 32, 3), 5 * step + 15 * camera + number, np.uint8)
    pixels[:12, 16:] = 255  # lint takes one colour for a camera that is covered
    return encode_jpeg(pixels, 100)


def as_converted(store: Path, **camera: Any) -> Path:
    """The store of a fixture, with what `convert` writes of its request. camera: attributes of the exterior camera."""
    header = json.loads((store / "zarr.json").read_text())
    header["attributes"]["request"]["action"] = "recorded"
    header["attributes"]["cameras"].get("exterior", {}).update(camera)
    (store / "zarr.json").write_text(json.dumps(header))
    return store


@pytest.fixture(scope="module")
def flat_store(tmp_path_factory, frame_store) -> Path:
    """Three episodes of 40, 6 and 4 steps at 5 Hz, three cameras. Joint 0 counts the steps: beyond a turn it is wrong."""
    turn = {"camera": -1, "before": -1}

    def change(number: int, frames: list[bytes]) -> list[bytes]:
        turn["camera"] = turn["camera"] + 1 if turn["before"] == number else 0
        turn["before"] = number
        return [flat(number, step, turn["camera"]) for step in range(len(frames))]

    folder = tmp_path_factory.mktemp("flat")
    store = frame_store(folder / "flat.zarr", [[LONG, 6], [4]], cameras=CAMERAS, change=change)
    return as_converted(store)


@pytest.fixture(scope="module")
def flat_url(flat_store) -> Iterator[str]:
    with serving(flat_store) as server:
        yield server.url


@pytest.fixture
def page(browser, flat_url) -> Iterator[Browser]:
    """The first episode, shown with its findings; at the end nothing may be in the console."""
    browser.open(flat_url)
    browser.until(f"document.title.startsWith('0:') && ({SEEN}).step === 0")
    browser.until("document.querySelector('.findings .finding')")
    yield browser
    assert browser.console == []


SEEN = """(() => {
  const paper = (window.looking ??= document.createElement("canvas")).getContext("2d", { willReadFrequently: true });
  const grey = (one) => (paper.drawImage(one, 0, 0), paper.getImageData(9, 9, 1, 1).data[0]);
  const canvases = [...document.querySelectorAll("canvas")];
  const panel = document.querySelector(".panel"), plot = panel?.querySelector(".plot").getBoundingClientRect();
  const cursor = panel?.querySelector(".cursor").getBoundingClientRect();
  const number = Number(/Episode (\\d+)/.exec(document.querySelector(".kicker")?.textContent ?? "")?.[1]);
  return {
    step: Number(/step (\\d+) /.exec(document.querySelector(".index")?.textContent ?? "")?.[1] ?? -1),
    cameras: canvases.map((one, camera) => (grey(one) - 15 * camera - number) / 5),
    cursor: plot && (cursor.left + cursor.width / 2 - plot.left) / plot.width,
    slider: Number(document.querySelector(".track input")?.value),
    reading: Number(panel?.querySelector(".readings .state").textContent),
  };
})()"""


def assert_in_step(seen: dict[str, Any], step: int, last: int = LONG - 1) -> None:
    """Pictures, counter, slider, cursor and reading are all of one step."""
    assert seen["step"] == seen["slider"] == step
    assert seen["cameras"] == pytest.approx([step] * len(CAMERAS), abs=0.41)  # JPEG: off by at most 2 of 255
    assert seen["cursor"] == pytest.approx(step / last, abs=0.006)
    assert seen["reading"] == step


def test_the_page_opens_on_the_first_episode(page):
    rows = page.js("[...document.querySelectorAll('.row')].map((row) => row.textContent)")
    assert [row.split(".")[0] for row in rows] == ["Go to 0", "Go to 1", "Go to 2"]
    assert page.js("document.querySelector('h2.instruction').textContent") == "Go to 0."
    assert page.js("document.querySelector('.row [aria-current]').hash") == "#/episodes/0"
    assert page.js("[...document.querySelectorAll('.curves h4')].map((one) => one.textContent)") == [
        "Right arm",
        "Right gripper",
    ]
    assert page.js("document.querySelectorAll('.panel').length") == 20
    assert_in_step(page.js(SEEN), 0)


def test_cameras_curves_and_counter_play_in_step(page):
    watch = f"""new Promise((done) => {{
      const seen = [], begun = performance.now();
      document.querySelector(".play").click();
      const look = () => {{
        seen.push({SEEN});
        if (seen.at(-1).step === {LONG - 1} || performance.now() - begun > 30000) done({{ seen, took: performance.now() - begun }});
        else requestAnimationFrame(look);
      }};
      requestAnimationFrame(look);
    }})"""
    page.js(
        "const speed = document.querySelector('.transport select'); speed.value = '4'; speed.dispatchEvent(new Event('change'))"
    )
    found = page.js(watch)
    for seen in found["seen"]:
        assert_in_step(seen, seen["step"])
    steps = [seen["step"] for seen in found["seen"]]
    assert steps == sorted(steps)
    assert len(set(steps)) > LONG // 2, "it plays, it does not jump"
    assert found["took"] > 0.9 * 1000 * (LONG - 1) / (4 * 5), "no faster than four times the control rate"
    assert page.until("document.querySelector('.play').textContent === '▶'"), "it stops at the end"


def test_space_plays_and_pauses(page):
    page.key(" ")
    page.until(f"({SEEN}).step > 2")
    page.key(" ")
    at = page.js(SEEN)
    time.sleep(0.5)
    assert page.js(SEEN) == at
    assert_in_step(at, at["step"])


def test_keys_seek(page):
    wanted = [("ArrowRight", False, 1), ("ArrowRight", True, 6), ("ArrowLeft", False, 5), ("End", False, LONG - 1),
              ("ArrowRight", False, LONG - 1), ("ArrowLeft", True, LONG - 6), ("Home", False, 0), ("ArrowLeft", False, 0)]  # fmt: skip
    for key, shift, step in wanted:
        page.key(key, shift=shift)
        page.until(f"({SEEN}).step === {step}")
        assert_in_step(page.js(SEEN), step)
    page.key("+")
    assert page.js("document.querySelector('.transport select').value") == "2"
    page.key("-")
    page.key("-")
    assert page.js("document.querySelector('.transport select').value") == "0.5"


def test_a_click_on_a_curve_seeks_and_the_address_remembers(page):
    page.click("document.querySelectorAll('.plot')[2]", 10.2 / (LONG - 1))
    page.until(f"({SEEN}).step === 10")
    assert_in_step(page.js(SEEN), 10)
    assert page.until("location.hash === '#/episodes/0/10'")


def test_the_search_finds_by_instruction_and_id_and_enter_opens(page):
    page.key("/")
    page.type("go 1")
    page.until("document.querySelector('#count').textContent === '1 episode'")
    page.key("Enter")
    page.until(f"document.title.startsWith('1:') && ({SEEN}).step === 0")
    assert_in_step(page.js(SEEN), 0, last=5)
    page.key("/")
    page.type("episode 2")
    page.until("document.querySelector('.row a')?.hash === '#/episodes/2'")
    page.key("Escape")
    page.until("document.querySelectorAll('.row').length === 3")


def test_neighbours_are_a_key_away(page):
    for key, number in (("n", 1), ("n", 2), ("n", 2), ("p", 1)):
        page.key(key)
        page.until(f"document.title.startsWith('{number}:')")
    assert page.js("document.querySelector('.row [aria-current]').hash") == "#/episodes/1"


def test_findings_are_marked_in_list_slider_and_curve(page):
    page.until("!document.querySelector('#only').disabled")
    assert page.js("document.querySelector('.row[data-number=\"0\"] .badge').title.includes('finding')")
    card = "[...document.querySelectorAll('.finding')].find((one) => one.querySelector('code')?.textContent === 'right_arm_joint_0_pos')"
    assert "joint_degrees" in page.until(f"{card}?.textContent")
    panel = "document.querySelector('.panel.found[data-slot=right_arm_joint_0_pos]')"
    assert page.js(f"{panel}.querySelectorAll('.shades rect').length") >= 1
    assert page.js("document.querySelectorAll('.marks i').length") >= 1
    page.click(f"{card}.querySelector('button')")
    step = page.until(f"({SEEN}).step")
    assert step >= 7, "the first step beyond a turn"
    assert_in_step(page.js(SEEN), step)
    page.key("Home")
    page.until(f"({SEEN}).step === 0")
    page.key("x")
    page.until(f"({SEEN}).step > 0")
    page.key("f")
    page.until("!document.querySelector('.row[data-number=\"2\"]')")


def test_the_keys_are_listed(page):
    page.key("?")
    listed = page.until("document.querySelector('#keys').open && document.querySelector('#keys').innerText")
    assert all(words in listed for words in ("play or pause", "one step", "one second", "next finding", "search"))
    page.key("End")
    assert page.js(SEEN)["step"] == 0, "keys of the page behind do nothing"
    page.click("document.querySelector('#keys button')")
    page.until("!document.querySelector('#keys').open")


def test_nothing_jumps_when_it_plays_or_another_episode_of_its_kind_is_shown(page):
    layout = "JSON.stringify([...document.querySelectorAll('.camera, .transport, .transport > *, .curves, .row')].map((one) => one.getBoundingClientRect().toJSON()))"
    before = page.js(layout)
    page.key("End")
    page.until(f"({SEEN}).step === {LONG - 1}")
    assert page.js(layout) == before


OVERFLOW = """
[...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.matches(".unseen, .skip") &&
  !node.closest("svg, .row .words, .row .id") && node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 150))
"""


def test_on_a_phone_list_and_episode_are_two_pages_that_do_not_scroll_sideways(browser, flat_url):
    browser.open(flat_url, PHONE)
    browser.until("document.querySelectorAll('.row a').length === 3")
    assert not browser.js("document.querySelector('main').checkVisibility()")
    assert browser.js("document.documentElement.scrollWidth") == PHONE[0]
    assert browser.js(OVERFLOW) == []
    browser.click("document.querySelector('.row a')")
    browser.until(f"({SEEN}).step === 0 && document.querySelector('.findings .finding')")
    assert not browser.js("document.querySelector('aside').checkVisibility()")
    assert browser.js("document.documentElement.scrollWidth") == PHONE[0]
    assert browser.js(OVERFLOW) == []
    browser.click("document.querySelector('#back')")
    browser.until("document.querySelector('aside').checkVisibility()")
    assert browser.console == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(browser, flat_url, scheme):
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(250, 250, 248)", "rgb(16, 20, 24)"
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(flat_url)
    seen = [browser.js(paper)]
    for _ in range(3):
        browser.click("document.querySelector('#theme')")
        seen.append(browser.js(paper))
    system = light if scheme == "light" else dark
    assert seen == [system, light, dark, system]


def test_words_of_a_dataset_are_only_words(browser, tmp_path, words_store):
    store = words_store(tmp_path / "hostile.zarr", [[HOSTILE, HOSTILE + "!"], []])
    with serving(as_converted(store)) as server:
        for size in (DESKTOP, PHONE):
            browser.open(server.url + "#/episodes/0", size)
            browser.until("document.querySelector('h2')?.textContent.includes('onerror')")
            browser.until("/^Lint: /.test(document.querySelector('#lint-says').textContent)")
            assert browser.js("document.querySelector('main img, main script, .row img')") is None
            assert browser.js("document.documentElement.scrollWidth") <= size[0]
            assert not browser.js("document.title").startswith("taken")
        browser.js("location.hash = '#/episodes/7'")
        browser.until("document.querySelector('[role=alert]')?.textContent.includes('no episode 7')")
        browser.js("location.hash = '#/episodes/1'")
        browser.until("document.querySelector('h2')?.textContent === 'No instruction'")
    told_of = [entry["entry"]["text"] for entry in browser.console if "entry" in entry]
    assert len(told_of) == len(browser.console) <= 1, "but for the 404 that was asked for"
    assert all("404" in text for text in told_of)


def test_a_long_list_scrolls_with_few_rows(browser, tmp_path, words_store):
    store = words_store(tmp_path / "many.zarr", [[f"Do task {number}."] for number in range(600)])
    with serving(as_converted(store)) as server:
        browser.open(server.url)
        browser.until("document.querySelector('.row a')")
        assert browser.js("document.querySelectorAll('.row').length") < 60
        browser.js("document.querySelector('#list').scrollTop = 1e9")
        browser.until("[...document.querySelectorAll('.row a')].at(-1)?.textContent.includes('Do task 599.')")
        assert browser.js("document.querySelectorAll('.row').length") < 60
        browser.js("location.hash = '#/episodes/300'")
        browser.until("document.querySelector('.row [aria-current]')?.textContent.includes('Do task 300.')")
        browser.key("n")
        browser.until("document.querySelector('.row [aria-current]')?.textContent.includes('Do task 301.')")
        browser.key("/")
        browser.type("task 432")
        browser.until("document.querySelector('.row a .words')?.textContent === 'Do task 432.'")
        assert browser.js("document.querySelector('#count').textContent") == "1 episode"


def test_exchanged_colours_are_put_right_and_a_broken_frame_is_said(browser, tmp_path, frame_store):
    blue = np.zeros((24, 32, 3), np.uint8)
    blue[..., 2] = 250

    def change(number: int, frames: list[bytes]) -> list[bytes]:
        good = encode_jpeg(blue, 100, swapped=True)
        return [good, b"\xff\xd8 not a picture \xff\xd9", good]

    store = frame_store(tmp_path / "bgr.zarr", [[3]], change=change)
    with serving(as_converted(store, swapped=True)) as server:
        browser.open(server.url)
        browser.until("document.querySelector('canvas')?.dataset.step === '0'")
        pixel = "[...document.querySelector('canvas').getContext('2d').getImageData(9, 9, 1, 1).data]"
        red, green, seen_blue, _ = browser.js(pixel)
        assert max(red, green) < 10 < 240 < seen_blue
        browser.key("ArrowRight")
        assert "cannot be decoded" in browser.until("document.querySelector('.problem:not([hidden])')?.textContent")
        browser.key("ArrowRight")
        browser.until(
            "document.querySelector('.problem').hidden && document.querySelector('canvas').dataset.step === '2'"
        )
        assert browser.js(pixel)[2] > 240
