"""The last page of a training run: one HTML file that says what happened, loads nothing and runs no script.

In: a run's folder, and what was found out about its policy since. Out: the file. Its content security policy names the
one style by its hash and lets pictures and the video come from the page itself only. The same inputs give the same
bytes.
"""

import base64
import hashlib
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from rdt_data.markup import Html, element
from rdt_model.eval_run import POLICY
from rdt_model.run_page_html import STYLE, tile
from rdt_model.run_page_sections import about, closed_loop, film, sampled, training, validation
from rdt_model.run_record import RunRecord, read_record


@dataclass(frozen=True, slots=True)
class RunPage:
    """What was written. missing: parts that the page has to say are not there."""

    path: str
    bytes: int
    missing: tuple[str, ...]


def write_run_page(
    run: Path, out: Path, *, evaluation: Path | None = None, sample: Path | None = None, video: Path | None = None
) -> RunPage:
    """Read and write; the file appears whole. Raises RdtError as `read_record` does."""
    record = read_record(run, evaluation=evaluation, sample=sample, video=video)
    text = page(record, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, out)
    parts = {
        "run.yaml": record.config_text,
        "parameters.txt": record.parameters,
        "metrics.jsonl": record.metrics or None,
        "--eval": evaluation,
        "--sample": sample,
        "--video": video,
    }
    return RunPage(str(out), out.stat().st_size, tuple(name for name, part in parts.items() if part is None))


def page(record: RunRecord, out: Path) -> str:
    """The whole document. out: where it will lie, for the link to a long video."""
    name = record.folder.resolve().name
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(STYLE)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"Run {name}"),
        element("style", Html(STYLE)),
    )
    sections: Final[Sequence[tuple[str, Callable[[RunRecord], Html]]]] = (
        ("Success in its world", closed_loop),
        ("Video", lambda found: film(found, out)),
        ("Training", training),
        ("Validation", validation),
        ("Against recordings", sampled),
        ("The run", about),
    )
    body = element(
        "main",
        element("p", "Training run", class_="kicker"),
        element("h1", name),
        element("p", summary(record)),
        element("dl", tiles(record), class_="tiles"),
        (element("section", element("h2", title), tell(record)) for title, tell in sections),
        element("footer", "Written by rdt report. Nothing on this page is loaded from elsewhere."),
    )
    return "<!doctype html>\n" + element("html", head, element("body", body), lang="en") + "\n"


def summary(record: RunRecord) -> str:
    """What happened, in a sentence."""
    done, asked = last_step(record), record.setting("steps")
    if done is None:
        return "No step of this run was logged."
    ended = f"{done:,} steps" if done == asked or asked is None else f"{done:,} of {asked} steps"
    stopped = isinstance(asked, int) and done < asked
    return f"Trained for {ended}" + (": it was stopped, or is not over yet." if stopped else ".")


def tiles(record: RunRecord) -> list[Html]:
    """The numbers that are looked for first."""
    found = []
    if record.evaluation is not None:
        rate = record.evaluation.results[POLICY].overall
        note = f"{rate.successes} of {rate.episodes}, {100 * rate.low:.0f} to {100 * rate.high:.0f} %"
        found.append(tile("Success", f"{100 * rate.rate:.0f} %", note))
    steps, losses = record.curve("loss")
    if losses:
        found.append(tile("Loss", f"{losses[-1]:.4g}", f"{losses[0]:.4g} at step {steps[0]:,}"))
    _, held_out = record.curve("validation_ema/loss")
    if held_out:
        found.append(tile("Validation loss", f"{held_out[-1]:.4g}", "of the averages"))
    _, speeds = record.curve("samples_per_s")
    if speeds:
        found.append(tile("Samples per second", f"{statistics.median(speeds):.4g}", "median"))
    seconds, waited = spent(record)
    if seconds:
        found.append(tile("Waiting for data", f"{100 * waited / seconds:.1f} %", "of the time"))
        found.append(tile("Time", clock(seconds), "of logged steps"))
    return found


def last_step(record: RunRecord) -> int | None:
    """The last that was logged."""
    return max((line["step"] for line in record.metrics), default=None)


def spent(record: RunRecord) -> tuple[float, float]:
    """Seconds that logged steps took, and those of them that were waited for data."""
    lines = [line for line in record.metrics if line.get("steps_per_s")]
    steps = [0, *(line["step"] for line in lines)]
    seconds = [(b - a) / line["steps_per_s"] for (a, b), line in zip(pairwise(steps), lines, strict=True)]
    waits = [line.get("wait_share", 0.0) for line in lines]
    return sum(seconds), sum(share * took for share, took in zip(waits, seconds, strict=True))


def clock(seconds: float) -> str:
    """3725 -> "1 h 2 min"; 195 -> "3 min 15 s"."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
