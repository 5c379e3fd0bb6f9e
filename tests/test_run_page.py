"""The last page of a run: what it says of a run's folder, of an evaluation and of a comparison, and what it never does."""

import contextlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli.train
from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_data.video_write import VideoFile
from rdt_model import run_page_sections
from rdt_model.eval_run import EvalReport
from rdt_model.offline import Quantity, SampleReport, Trace
from rdt_model.plots import Curve, Panel, figure
from rdt_model.run_config import RunConfig
from rdt_model.run_page import write_run_page
from rdt_model.sample_run import write_results
from rdt_model.success import EpisodeResult, Evaluation

STEPS = 40


def hostile(where: str) -> str:
    """A text that would run, were it not escaped, and that is known again."""
    return f"</title></style><script>document.title='{where}'</script>&\""


def run_folder(folder: Path, name: str = "run", steps: int = STEPS, validates: bool = True) -> Path:
    """What `rdt train` leaves of a run of 40 steps, of which so many were done."""
    run = folder / name
    run.mkdir()
    config = RunConfig(data=(hostile("data"),), out=str(run), steps=STEPS)
    (run / "run.yaml").write_text(config.to_yaml(), "utf-8")
    (run / "parameters.txt").write_text(f"1,234 trained {hostile('parameters')}\ntrained  net.x  (3, 4)\n", "utf-8")
    rates = {"grad_norm": 1.5, "steps_per_s": 0.5, "samples_per_s": 16.0, "wait_share": 0.25}
    lines: list[dict[str, Any]] = [{"step": step, "loss": 8 / step, **rates} for step in range(10, steps + 1, 10)]
    if validates:
        numbers = {"loss": 0.75, hostile("store"): 0.125}
        raw = {f"validation/{key}": value for key, value in numbers.items()}
        lines.append({"step": steps, **raw, **{f"validation_ema/{key}": value / 2 for key, value in numbers.items()}})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return run


def outcomes(*successes: bool) -> Evaluation:
    told = ("Touch it.", hostile("instruction"))
    return Evaluation.of(EpisodeResult(seed, told[seed % 2], done, 9) for seed, done in enumerate(successes))


def eval_json(folder: Path) -> Path:
    """What `rdt eval --untrained --swapped --json` prints."""
    results = {
        "policy": outcomes(True, False, True, True),
        "untrained": outcomes(False, False, False, False),
        "swapped": outcomes(True, True, False, False),
    }
    report = EvalReport(hostile("checkpoint"), hostile("env"), "demo", "a chunk every 4", 5, 40, 0, "cpu", 2.5, results)
    (folder / "eval.json").write_text(json.dumps(asdict(report)), "utf-8")
    return folder / "eval.json"


def sample_folder(folder: Path) -> Path:
    """What `rdt sample` writes."""
    quantity = Quantity(hostile("quantity"), "rad", 0.0625, (0.03125, None, 0.5))
    report = SampleReport(
        checkpoint="c", store=hostile("store"), dataset="demo", episodes=("a",), chunks=1, every=3, compared_steps=3,
        horizon=3, control_hz=10.0, denoising_steps=5, seed=0, device="cpu", dtype="float32",
        assumed=(hostile("assumed"),), quantities=(quantity,),
    )  # fmt: skip
    real = np.zeros((3, layout.DIM), bool)
    real[:, 0] = True
    values = np.zeros((3, layout.DIM), np.float32)
    write_results(folder / "sample", report, [Trace(0, hostile("episode"), values, values, real, (0,))])
    return folder / "sample"


def video_file(folder: Path) -> Path:
    video = VideoFile(folder / "films & more.mp4", fps=5, height=32, width=48)
    for shade in range(5):
        video.add(np.full((32, 48, 3), 40 * shade, np.uint8))
    video.close()
    return video.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A page of everything, all texts hostile."""
    folder = tmp_path_factory.mktemp("whole")
    parts = {"evaluation": eval_json(folder), "sample": sample_folder(folder), "video": video_file(folder)}
    written = write_run_page(run_folder(folder), folder / "page.html", **parts)
    assert written.missing == ()
    return folder / "page.html"


def words(page: Path) -> str:
    """What a reader sees, in one line, pictures left out."""
    text = re.sub(r"<(style|svg).*?</\1>", " ", page.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_the_page_says_what_happened(whole: Path):
    text = words(whole)
    for said in (
        "Trained for 40 steps.",
        "Success 75 % 3 of 4, 30 to 95 %",
        "Loss 0.2 0.8 at step 10",
        "Validation loss 0.375 of the averages",
        "Samples per second 16 median",
        "Waiting for data 25.0 % of the time",
        "Time 1 min 20 s",
        "untrained 0 % (0 of 4, 0 to 49 %)",
        "swapped 50 % (2 of 4, 15 to 85 %)",
        "Touch it. 100 % (2 of 2, 34 to 100 %)",
        "Seeds of the 1 starts that failed 1",
        "loss 0.75 0.375",
        "rad 0.0625 0.03125 0.5",
        "1,234 trained",
        "horizon: 64",
    ):
        assert said in text, said
    assert "blank" not in re.search("Success in its world(.*)Video", text)[1], "only what was asked for is told"


def test_every_text_is_escaped(whole: Path):
    text = whole.read_text("utf-8")
    assert "<script" not in text
    assert (text.count("</style>"), text.count("</title>")) == (1, 1)
    for where in ("data", "parameters", "store", "instruction", "checkpoint", "env", "quantity", "assumed"):
        assert hostile(where) in words(whole) or hostile(where) in html.unescape(text), where


def test_the_page_stands_alone_and_is_the_same_again(whole: Path, tmp_path: Path):
    text = whole.read_text("utf-8")
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert text.count('src="data:video/mp4;base64,') == 1
    assert text.count('src="data:image/svg+xml;base64,') == 1, "one episode"
    folder = whole.parent
    again = {"evaluation": folder / "eval.json", "sample": folder / "sample", "video": folder / "films & more.mp4"}
    write_run_page(folder / "run", tmp_path / "page.html", **again)
    assert (tmp_path / "page.html").read_bytes() == whole.read_bytes()


def test_parts_that_are_not_there_are_told_with_the_command_that_makes_them(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    written = write_run_page(tmp_path / "empty", tmp_path / "page.html")
    assert written.missing == ("run.yaml", "parameters.txt", "metrics.jsonl", "--eval", "--sample", "--video")
    text = words(tmp_path / "page.html")
    for said in (
        "No step of this run was logged.",
        f"rdt eval --checkpoint {tmp_path}/empty/checkpoints/last",
        f"rdt sample --checkpoint {tmp_path}/empty/checkpoints/last",
        "No video was given.",
        "No step was logged: metrics.jsonl is not there or empty.",
        "The run did not validate on held-out episodes.",
        "The folder has no run.yaml",
    ):
        assert said in text, said


def test_a_run_that_was_killed_early_is_told_as_far_as_it_came(tmp_path: Path):
    run = run_folder(tmp_path, steps=20, validates=False)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 30, "loss": NaN}\n{"step": 40, "lo')
    write_run_page(run, tmp_path / "page.html")
    text = words(tmp_path / "page.html")
    assert "Trained for 30 of 40 steps: it was stopped, or is not over yet." in text
    assert "Loss 0.4 0.8 at step 10" in text, "a loss that is no number is no point of a curve"


def test_a_long_log_is_drawn_as_means_of_neighbours(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_page_sections, "POINTS", 2)
    write_run_page(run_folder(tmp_path), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    labels, path = re.search('log scale</text>(.*?)<path d="([^"]*)"', text, re.DOTALL).groups()
    assert len(re.findall("[ML]", path)) == 2
    assert re.findall(">([^<]+)</text>", labels) == ["0.233", "0.6", "20", "40"]


def test_a_long_video_or_one_that_browsers_do_not_show_is_linked(whole: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "pages").mkdir()
    (tmp_path / "other codec.mp4").write_bytes(b"ftypisom mp4v")
    run = run_folder(tmp_path)
    write_run_page(run, tmp_path / "pages" / "page.html", video=tmp_path / "other codec.mp4")
    text = (tmp_path / "pages" / "page.html").read_text("utf-8")
    assert '<a href="../other%20codec.mp4">other codec.mp4</a> (not H.264' in text
    monkeypatch.setattr(run_page_sections, "INLINE", 100)
    write_run_page(run, whole.parent / "linked.html", video=whole.parent / "films & more.mp4")
    text = (whole.parent / "linked.html").read_text("utf-8")
    assert '<a href="films%20%26%20more.mp4">films &amp; more.mp4</a> (0.0 MB)' in text
    assert "<video" not in text


def test_what_is_named_and_cannot_be_read_is_explained(whole: Path, tmp_path: Path):
    run, page = run_folder(tmp_path), tmp_path / "page.html"
    broken = tmp_path / "broken.json"
    unjudged = json.loads((whole.parent / "eval.json").read_text("utf-8")) | {"results": {}}
    for text, told in (
        ("", "broken.json: Invalid JSON"),
        ('{"error": "no policy"}', "broken.json: checkpoint: Field required"),
        (json.dumps(unjudged), "results: nothing, but not policy"),
    ):
        broken.write_text(text, "utf-8")
        with pytest.raises(RdtError, match=re.escape(told)):
            write_run_page(run, page, evaluation=broken)
    for options, told in (
        ({"evaluation": tmp_path / "none.json"}, "none.json is not there"),
        ({"sample": tmp_path}, "report.json is not there"),
        ({"video": tmp_path / "none.mp4"}, "none.mp4 is not there"),
    ):
        with pytest.raises(RdtError, match=re.escape(told)):
            write_run_page(run, page, **options)
    with pytest.raises(RdtError, match=r"is not a run's folder\n  fix: give the folder that `rdt train --out` wrote"):
        write_run_page(tmp_path / "elsewhere", page)
    assert not page.exists()


def test_the_command_writes_the_page_and_says_what_it_lacks(whole: Path, tmp_path: Path, monkeypatch):
    def told(*arguments: object) -> str:
        out = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["rdt", "report", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.train.main()
        return out.getvalue()

    page, given = tmp_path / "deep" / "page.html", ["--eval", whole.parent / "eval.json"]
    said = told(whole.parent / "run", "-o", page, *given)
    assert re.fullmatch(rf"{re.escape(str(page))}: [\d.]+ kB; without --sample, --video\n", said)
    assert "75 %" in words(page)
    found = json.loads(told(whole.parent / "run", "-o", page, *given, "--json"))
    assert found == {"path": str(page), "bytes": page.stat().st_size, "missing": ["--sample", "--video"]}


def test_a_curve_may_have_its_own_places_and_a_logarithmic_axis():
    text = figure("", [Panel("", [Curve([1, 10, 0, 100], "#222", x=[0, 10, 15, 20])], logarithmic=True)])
    path = re.search(r'<path d="([^"]*)" fill="none" stroke="#222"', text)[1]
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, point.split(","))) for point in re.findall(r"[\d.]+,[\d.]+", path)]
    assert (x0 + x2) / 2 == pytest.approx(x1, abs=0.1)
    assert (y0 + y2) / 2 == pytest.approx(y1, abs=0.1), "10 is in the middle of 1 and 100"
    assert path.count("M") == 2, "0 has no logarithm: a gap"
    assert re.findall(">([^<]+)</text>", text) == ["1", "100", "0", "20"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Callable[..., tuple[str, list[str]]]:
    """Show a page in headless Chromium: its document as it then is, and the lines of its console."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    chromium = next((path for name in names if name and (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or CHROMIUM=PATH)")
    profile = tmp_path_factory.mktemp("profile")

    def shown(page: Path, *options: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                f"--user-data-dir={profile}", "--window-size=1100,900", "--virtual-time-budget=3000",
                "--enable-logging=stderr", "--dump-dom", *options, page.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return shown


FRAME = """<!doctype html><title>null</title><script>onmessage = (event) => { document.title = event.data; };</script>
<iframe src="asked.html" width="390" height="844" style="border: 0"></iframe>
"""  # a window is never as narrow as a phone, a frame can be

QUESTION = """<script>
for (const one of document.querySelectorAll("details")) one.open = true;
const film = document.querySelector("video");
const answer = () => parent.postMessage(JSON.stringify({
  page: document.documentElement.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector(".plots text")).fill,
  empty: [...document.querySelectorAll("svg, img, video")].filter((node) => {
    const box = node.getBoundingClientRect(); return box.width < 40 || box.height < 10; }).length,
  lines: [...document.querySelectorAll(".plots path")].map((path) => getComputedStyle(path).stroke),
  film: film.videoWidth || !film.canPlayType('video/mp4; codecs="avc1.64001f"'),
}), "*");
film.readyState ? answer() : ["loadedmetadata", "error"].forEach((name) => film.addEventListener(name, answer));
</script></body>"""

LIGHT = {"paper": "rgb(250, 250, 248)", "ink": "rgb(26, 31, 36)", "first": "rgb(0, 114, 178)"}
DARK = {"paper": "rgb(16, 20, 24)", "ink": "rgb(231, 234, 237)", "first": "rgb(86, 180, 233)"}


def test_in_a_browser_nothing_runs_and_nothing_is_refused(browser, whole: Path):
    document, console = browser(whole)
    assert not console
    assert "<title>Run run</title>" in document


@pytest.mark.parametrize(("scheme", "colours"), [("1", LIGHT), ("0", DARK)], ids=["light", "dark"])
def test_on_a_phone_everything_is_drawn_in_the_colours_of_the_system(browser, whole: Path, tmp_path, scheme, colours):
    text, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", whole.read_text("utf-8"))
    assert removed == 1, "the page as it is written keeps such a script from running"
    (tmp_path / "asked.html").write_text(text.replace("</body>", QUESTION), "utf-8")
    (tmp_path / "frame.html").write_text(FRAME, "utf-8")
    document, _ = browser(tmp_path / "frame.html", f"--blink-settings=preferredColorScheme={scheme}")
    found: dict[str, Any] = json.loads(html.unescape(re.search("<title>(.*?)</title>", document, re.DOTALL)[1]))
    assert found["page"] == 390, "no scrolling sideways"
    assert found["empty"] == 0
    assert (found["paper"], found["ink"]) == (colours["paper"], colours["ink"])
    assert found["lines"].count(colours["first"]) == 6
    assert found["film"] in (48, True), "the video plays, if this Chromium has the codec"
