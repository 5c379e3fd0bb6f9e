"""One run of `rdt sample`: a checkpoint and a store -> predicted against recorded, and the files that show it.

In: where the two lie, and choices. Out: a `SampleReport`, and in the output directory report.json, report.txt,
errors.svg and an episode_<n>.svg for each episode. What a checkpoint without policy.json does not tell is assumed as
published and listed in the report.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from rdt_data import layout
from rdt_data.errors import RdtError, unknown
from rdt_data.language import Language, language_of, pointers
from rdt_data.store import Dataset, open_dataset
from rdt_model.config import ModelConfig
from rdt_model.encoders import KEYPOINTS
from rdt_model.keypoints import KeypointConfig
from rdt_model.offline import Quantity, SampleReport, Trace, compare
from rdt_model.plots import Curve, Panel, figure
from rdt_model.policy import Policy
from rdt_model.policy_files import PolicyConfig, read_policy
from rdt_model.pretrained import read_config

SIGLIP: Final = "google/siglip-so400m-patch14-384"
"""The image encoder of the published checkpoints."""

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""No float16: the numbers of a T5 overflow in it."""

RECORDED, PREDICTED = "#222", "#d33"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """episodes: "3" the first three, "4,7," or "0,some-id" these, by number or id. image_encoder, language: hub id or
    directory, in place of what the checkpoint names; without language stored embeddings are used where the store has
    any. steps: denoising steps. every: steps from one chunk to the next, None: a chunk's length. dtype: what networks
    compute in, one of `DTYPES`, None: as `Policy.load` chooses. compile: as `Policy` has it. quantize: the network's
    weights in "int8" or "int4".
    """

    episodes: str = "5"
    steps: int = 5
    seed: int = 0
    device: str = "auto"
    image_encoder: str | None = None
    language: str | None = None
    every: int | None = None
    dtype: str | None = None
    compile: bool = False
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise unknown("--dtype", self.dtype, DTYPES)


def sample_store(
    checkpoint: str,
    store: str,
    out: Path,
    options: SampleOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SampleReport:
    """Predict, compare and write; files of an earlier run are replaced. progress: chunks done and in all."""
    dataset = open_dataset(store)
    numbers = chosen_episodes(dataset, options.episodes)
    config, assumed = policy_config(checkpoint, dataset, options.image_encoder)
    assumed += cameras_not_shared(dataset, config)
    stored, encoder = words(dataset, config, options.language)
    policy = Policy.load(
        checkpoint,
        config=config,
        language=encoder,
        device=options.device,
        dtype=None if options.dtype is None else DTYPES[options.dtype],
        seed=options.seed,
        compile=options.compile,
        quantize=options.quantize,
    )
    every = options.every or policy.net.config.pred_horizon
    traces, quantities = compare(policy, dataset, numbers, stored, steps=options.steps, every=every, progress=progress)
    report = SampleReport(
        checkpoint=checkpoint,
        store=store,
        dataset=dataset.name,
        episodes=tuple(trace.id for trace in traces),
        chunks=sum(len(trace.starts) for trace in traces),
        every=every,
        compared_steps=sum(int(trace.real.any(axis=1).sum()) for trace in traces),
        horizon=policy.net.config.pred_horizon,
        control_hz=dataset.control_hz,
        denoising_steps=options.steps,
        seed=options.seed,
        device=str(policy.net.device),
        dtype=str(policy.net.dtype).removeprefix("torch.")
        + (f", {options.quantize} weights" if options.quantize else ""),
        assumed=tuple(assumed),
        quantities=quantities,
    )
    write_results(out, report, traces)
    return report


def chosen_episodes(dataset: Dataset, wanted: str) -> list[int]:
    """Numbers of episodes: see `SampleOptions`. Raises RdtError for one that is not there."""
    if wanted.strip().isdecimal():
        return list(range(min(int(wanted), len(dataset))))
    ids: dict[str, int] = {}
    numbers = []
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        if name.isdecimal() and int(name) < len(dataset):
            numbers.append(int(name))
            continue
        ids = ids or {episode.id: number for number, episode in enumerate(dataset)}
        if name not in ids:
            error = unknown("episode of this store", name, ids)
            raise RdtError(f"{error.problem} ({len(dataset)} episodes, from 0)", remedy=error.remedy[:300])
        numbers.append(ids[name])
    return list(dict.fromkeys(numbers))


def policy_config(checkpoint: str, dataset: Dataset, image_encoder: str | None) -> tuple[PolicyConfig, list[str]]:
    """What policy.json says, or without one what is assumed, with a line for each assumption."""
    config = read_policy(checkpoint, dataset.name)
    if config is not None:
        changes = {} if image_encoder is None else {"image_encoder": image_encoder}
        told = [f"{name} is {value}, as asked" for name, value in changes.items()]
        if config.dataset != dataset.name:
            told.append(
                f"the policy was trained on {config.dataset}, this is {dataset.name}: its normalisation is used"
            )
        return config.model_copy(update=changes), told
    cameras, history, assumed = _images(read_config(checkpoint))
    encoder = image_encoder or SIGLIP
    request = dataset.attributes["request"]
    config = PolicyConfig(
        dataset=dataset.name,
        spec_text=dataset.spec_text,
        corrected=bool(request.get("corrected", False)),
        action=str(request.get("action", "next_state")).replace("-", "_"),
        control_hz=dataset.control_hz,
        state_slots=None,
        action_slots=None,
        cameras=cameras,
        history=history,
        image_encoder=encoder,
        keypoints=KeypointConfig() if encoder == KEYPOINTS else None,
    )
    return config, [
        f"{checkpoint} has no policy.json: every slot of the store is taken as one that it was trained on",
        f"image encoder {encoder}" + ("" if image_encoder else " (published; --image-encoder gives another)"),
        f"images: {history} frames of {', '.join(cameras)}{assumed}",
        "state and actions in physical units, not normalised",
    ]


def cameras_not_shared(dataset: Dataset, config: PolicyConfig) -> list[str]:
    """A line for the cameras that only the store has, and for those that only the policy has."""
    unused = [slot for slot in dataset.cameras if slot not in config.cameras]
    missing = [slot for slot in config.cameras if slot not in dataset.cameras]
    return [
        *([f"{', '.join(unused)} of the store not shown: the policy has no such camera"] if unused else []),
        *([f"{', '.join(missing)} of the policy missing: the background image in its place"] if missing else []),
    ]


def words(dataset: Dataset, config: PolicyConfig, asked: str | None) -> tuple[Language | None, str | None]:
    """Where instructions come from: stored embeddings, or the T5 to load. Raises StoreError when there is neither."""
    if asked is not None:
        return None, asked
    if config.language_encoder is not None and not pointers(dataset):
        return None, config.language_encoder
    # A store names an encoder by its hub id, or by the last name of its directory.
    named = config.language_encoder
    return language_of(dataset, Path(named).name if named and Path(named).is_dir() else named), None


def write_results(out: Path, report: SampleReport, traces: Sequence[Trace]) -> None:
    """report.json, report.txt, errors.svg, episode_<n>.svg; each appears whole."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "report.json", json.dumps(asdict(report), indent=1, allow_nan=False) + "\n")
    _write(out / "report.txt", f"{report}\n")
    _write(out / "errors.svg", error_plot(report))
    for trace in traces:
        _write(out / f"episode_{trace.number}.svg", trace_plot(trace))


def error_plot(report: SampleReport) -> str:
    """Mean error per step of the horizon, a panel for each quantity."""
    return figure(
        f"Mean error by step of the chunk: {report.checkpoint} on {report.dataset}", [*map(_errors, report.quantities)]
    )


def trace_plot(trace: Trace) -> str:
    """Each slot's recorded and predicted action over an episode; chunks begin at the vertical lines."""
    panels = []
    for slot in range(layout.DIM):
        real = trace.real[:, slot]
        if real.any():
            recorded, predicted = (
                [float(value) if there else None for value, there in zip(values[:, slot], real, strict=True)]
                for values in (trace.recorded, trace.predicted)
            )
            curves = [Curve(recorded, RECORDED), Curve(predicted, PREDICTED)]
            panels.append(Panel(f"{layout.preferred_name(slot)}, {layout.unit(slot)}", curves, trace.starts))
    legend = [("recorded", RECORDED), ("predicted", PREDICTED)]
    return figure(f"Episode {trace.number}: {trace.id}", panels, legend)


def _errors(quantity: Quantity) -> Panel:
    return Panel(f"{quantity.name}, {quantity.unit}", [Curve(quantity.by_step, PREDICTED, 1)], from_zero=True)


def _images(net: ModelConfig) -> tuple[tuple[str, ...], int, str]:
    """Cameras and frames of each that a network without policy.json takes, and how that is known."""
    if net.image_grid is None:
        return layout.CAMERAS, 2, " (published; its config.json does not tell)"
    history, cameras, _ = net.image_grid
    if cameras > len(layout.CAMERAS):
        raise RdtError(
            f"config.json: img_pos_embed_config has {cameras} cameras",
            remedy=f"a store has {len(layout.CAMERAS)}: {', '.join(layout.CAMERAS)}",
        )
    return layout.CAMERAS[:cameras], history, ""


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
