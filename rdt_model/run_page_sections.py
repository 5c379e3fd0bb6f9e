"""What a run's page tells, part by part: how training went, how good the policy is on held-out data and in its world.

In: a `RunRecord`. Out: `Html`. Every part that is not there says so, and names the command that makes it. Knows
nothing of the document around them.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from rdt_data.markup import Html, element, joined
from rdt_model.eval_run import POLICY
from rdt_model.plots import Curve, Panel
from rdt_model.run_page_html import facts, folded, interval, missing, plots, table
from rdt_model.run_record import RunRecord
from rdt_model.success import Rate

FIRST: Final = "var(--first)"
SECOND: Final = "var(--second)"

POINTS: Final = 500
"""Of a curve at most: a page is no log."""

INLINE: Final = 8_000_000
"""Bytes of a video that becomes part of the page; a longer one is linked."""

H264: Final = b"avc1"
"""Names the codec in an MP4 file; browsers show no other one everywhere."""

TRACES: Final = 3

ASKS: Final = {
    POLICY: "as it was trained",
    "untrained": "the same network with fresh weights: what chance does",
    "swapped": "told, and judged by, another task than the start was drawn for: as good as the policy if it listens",
    "blank": "shown no images: worse than the policy if it looks",
}
"""What each evaluation asks (see `rdt_model.eval_run`)."""


def about(record: RunRecord) -> Html:
    """The run's configuration."""
    if record.config_text is None:
        return missing("The folder has no run.yaml, so what was asked for is not known.", "rdt train --out DIR")
    stores, draws = record.setting("data") or record.setting("mixture"), record.setting("draws")
    rate, schedule = record.setting("optimiser.learning_rate"), record.setting("optimiser.schedule")
    cameras = record.setting("model.cameras")
    return joined(
        [
            facts(
                {
                    "Data": ", ".join(map(str, stores)) if isinstance(stores, list) else stores,
                    "Model": f"{record.setting('model.size')}, {record.parameters or 'no parameters.txt'}",
                    "Begins with": record.setting("model.init"),
                    "Image encoder": record.setting("model.image_encoder"),
                    "Cameras": ", ".join(map(str, cameras)) if isinstance(cameras, list) else "all of the data",
                    "Chunk": f"{record.setting('model.horizon')} actions",
                    "Steps asked for": record.setting("steps"),
                    "Batch": f"{record.setting('batch_size')} samples a rank, {draws} draws of noise each",
                    "Accumulated": record.setting("accumulate"),
                    "Learning rate": f"{rate}, {schedule}, {record.setting('optimiser.warmup_steps')} steps of warm-up",
                    "Loss": record.setting("loss"),
                    "Seed": record.setting("seed"),
                }
            ),
            folded("run.yaml, all of it", element("pre", record.config_text)),
        ]
    )


def training(record: RunRecord) -> Html:
    """Loss, gradient norm, speed and waiting over steps."""
    shown = [
        ("Loss", Panel("mean since the line before, log scale", [_curve(record, "loss", FIRST)], logarithmic=True)),
        ("Gradient norm", Panel("before clipping", [_curve(record, "grad_norm", FIRST)], from_zero=True)),
        ("Samples per second", Panel("on all ranks", [_curve(record, "samples_per_s", FIRST)], from_zero=True)),
        ("Waiting for data", Panel("% of the time", [_curve(record, "wait_share", FIRST, 100)], from_zero=True)),
    ]
    drawn = [(title, panel, ()) for title, panel in shown if panel.curves[0].y]
    if not drawn:
        return missing("No step was logged: metrics.jsonl is not there or empty.", "rdt train")
    return joined([element("p", "Over the steps of the optimiser.", class_="note"), plots(drawn)])


def validation(record: RunRecord) -> Html:
    """Raw weights beside their averages: over steps, and every number of the last time."""
    keys = [key for line in record.metrics for key in line if key.startswith(("validation/", "validation_ema/"))]
    names = list(dict.fromkeys(key.partition("/")[2] for key in keys))
    if not names:
        return missing("The run did not validate on held-out episodes. Another may:", "rdt train validation.every=500")
    legend = [("raw weights", FIRST), ("EMA", SECOND)]
    drawn = [
        (title, Panel("", _pair(record, name), logarithmic=True), legend)
        for name, title in (("loss", "Loss"), ("overall_avg_sample_mse", "Squared error of samples"))
        if name in names
    ]
    rows = [(name, *(_last(record, f"{kind}/{name}") for kind in ("validation", "validation_ema"))) for name in names]
    return joined(
        [
            element("p", "On held-out episodes; lower is better. EMA: averaged weights, the policy.", class_="note"),
            plots(drawn),
            folded("Every number of the last validation", table("Validation", ("", "raw weights", "EMA"), rows)),
        ]
    )


def closed_loop(record: RunRecord) -> Html:
    """Success rates with their intervals: policy and comparisons, and by instruction."""
    found = record.evaluation
    if found is None:
        return missing(
            "Not evaluated, or not told here. Let the policy act, then give --eval eval.json:",
            f"rdt eval --checkpoint {record.folder}/checkpoints/last --env … --json > eval.json",
        )
    policy = found.results[POLICY]
    failed = [str(episode.seed) for episode in policy.episodes if not episode.success]
    told = policy.by_instruction if len(policy.by_instruction) > 1 else {}
    return joined(
        [
            facts(
                {
                    "Environment": f"{found.env}, at most {found.limit} steps an episode",
                    "Execution": f"{found.execution}, {found.denoising_steps} denoising steps",
                    "Checkpoint": found.checkpoint,
                    "Starts": f"{policy.overall.episodes} from seed {found.seed}, the same for every row",
                    "Took": f"{found.seconds:.1f} s on {found.device}",
                }
            ),
            element("h3", "Success rate, with its 95 % interval, from 0 to 100 %"),
            _rates([(name, ASKS.get(name), evaluation.overall) for name, evaluation in found.results.items()]),
            [element("h3", "The policy by instruction"), _rates([(t, None, r) for t, r in told.items()])]
            if told
            else element("p", "All with one instruction: ", *policy.by_instruction, class_="note"),
            folded(f"Seeds of the {len(failed)} starts that failed", element("p", ", ".join(failed)))
            if failed
            else None,
        ]
    )


def film(record: RunRecord, page: Path) -> Html:
    """The video, in the page if it is small enough for one. page: where it will lie, for a link."""
    if record.video is None:
        return missing("No video was given. Film the first episodes, then give --video eval.mp4:", "rdt eval … --video")
    link = quote(os.path.relpath(record.video, page.parent))
    size = record.video.stat().st_size
    data = record.video.read_bytes() if size <= INLINE else b""
    if H264 in data:
        source = "data:video/mp4;base64," + base64.b64encode(data).decode()
        return joined(
            [
                element("p", "Border grey: not done yet; green: done; red: never done.", class_="note"),
                element("video", controls=True, muted=True, loop=True, playsinline=True, src=source),
            ]
        )
    reason = f"not H.264, which a browser may not show, {size / 1e6:.1f} MB" if data else f"{size / 1e6:.1f} MB"
    return element("p", "Beside this page: ", element("a", record.video.name, href=link), f" ({reason})")


def sampled(record: RunRecord) -> Html:
    """Predicted chunks against recorded ones, open loop."""
    found = record.sample
    if found is None:
        return missing(
            "Not compared with recordings, or not told here. Compare, then give --sample DIR:",
            f"rdt sample --checkpoint {record.folder}/checkpoints/last --data STORE -o DIR",
        )
    rows = [
        (q.name, q.unit, f"{q.mean:.4f}", *(_short(q.by_step[at]) for at in (0, len(q.by_step) - 1)))
        for q in found.quantities
        if q.by_step
    ]
    drawn = [
        (q.name, Panel(f"mean error, {q.unit}", [Curve(q.by_step, FIRST, 1)], from_zero=True), ())
        for q in found.quantities
    ]
    return joined(
        [
            facts(
                {
                    "Data": found.store,
                    "Checkpoint": found.checkpoint,
                    "Compared": f"{found.compared_steps} steps of {len(found.episodes)} episodes",
                    "Chunks": f"{found.chunks} of {found.horizon} steps, one every {found.every}",
                    "Rate": f"{found.control_hz:g} Hz",
                    "Assumed": "; ".join(found.assumed) or None,
                }
            ),
            element("h3", "Mean error by quantity"),
            table("Mean error", ("", "unit", "all", "first step", "last step"), rows),
            folded("By step of the chunk", plots(drawn)),
            [folded(f"{name}: recorded and predicted", _picture(name, svg)) for name, svg in record.traces[:TRACES]],
        ]
    )


def _rates(rows: Sequence[tuple[str, str | None, Rate]]) -> Html:
    return element(
        "div",
        (
            element(
                "div",
                element("p", element("span", name), element("b", rate)),
                interval(rate.rate, rate.low, rate.high),
                element("p", asks, class_="note") if asks else None,
            )
            for name, asks, rate in rows
        ),
        class_="rates",
    )


def _picture(name: str, svg: str) -> Html:
    """As an image, in which no script of a file could run."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return element("div", element("img", src=source, alt=f"{name}, drawn by rdt sample"), class_="scroll", tabindex=0)


def _curve(record: RunRecord, key: str, colour: str, scale: float = 1.0) -> Curve:
    """At most POINTS points: means of neighbours, at the last step of each."""
    steps, values = record.curve(key)
    size = max(1, -(-len(steps) // POINTS))
    groups = [values[at : at + size] for at in range(0, len(values), size)]
    return Curve(
        [scale * sum(group) / len(group) for group in groups],
        colour,
        x=[steps[min(at + size, len(steps)) - 1] for at in range(0, len(steps), size)],
    )


def _pair(record: RunRecord, name: str) -> list[Curve]:
    return [_curve(record, f"validation/{name}", FIRST), _curve(record, f"validation_ema/{name}", SECOND)]


def _last(record: RunRecord, key: str) -> str:
    _, values = record.curve(key)
    return _short(values[-1] if values else None)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
