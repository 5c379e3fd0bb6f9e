"""What a conversion would make, without making it: for `convert --dry-run`.

Counts every step where the source is small or says its lengths; otherwise measures the first episode of some
parts and says that it estimated.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np

from converters.convert import convert_episode, convert_frames
from converters.fields import keep
from converters.patch_call import open_episode
from converters.plan import Plan, Segment
from rdt_data import layout
from rdt_data.errors import SourceError
from rdt_data.shards import FRAMES_PER_SHARD

EXACT_BYTES = 1 << 30
"""Sources up to this size are read through once, which takes seconds."""

SAMPLES = 16
VECTOR_BYTES = 2 * 128 * 4


@dataclass(slots=True)
class Outlook:
    """The plan in numbers. `exact`: whether every episode was looked at.

    episodes and steps are of the episodes that can be opened and that the spec's rules keep; the others are `broken`
    and `filtered`.
    """

    dataset: str
    parts: int
    episodes: int
    steps: int
    bytes: int
    store_bytes: int
    exact: bool
    cameras: Mapping[str, str] = field(default_factory=dict)
    state_slots: list[str] = field(default_factory=list)
    action_slots: list[str] = field(default_factory=list)
    problem: str | None = None
    filtered: int = 0
    broken: int = 0


def estimate(plan: Plan) -> Outlook:
    """Look at every episode of a small source, at samples of a large one."""
    exact = plan.bytes <= EXACT_BYTES
    segments = plan.segments if exact else plan.segments[:: max(1, len(plan.segments) // SAMPLES)]
    seen = [look for segment in segments for look in _looks(plan, segment, first_only=not exact)]
    lengths = [look for look in seen if isinstance(look, int)]
    share = plan.episodes / max(len(seen), 1)
    outlook = Outlook(
        plan.request.dataset,
        parts=len(plan.parts),
        episodes=round(len(lengths) * share),
        steps=round(sum(lengths) * share),
        bytes=plan.bytes,
        store_bytes=0,
        exact=exact,
        filtered=round(seen.count("filtered") * share),
        broken=round(seen.count("broken") * share),
    )
    outlook.cameras = {
        slot: f"{form.width}x{form.height} {form.codec}" + (f":{form.quality}" if form.quality else " as it is")
        for slot, form in plan.cameras.items()
    }
    _first_episode(plan, outlook)
    return outlook


Look = int | Literal["filtered", "broken"]
"""The number of steps of an episode, or why there are none."""


def _looks(plan: Plan, segment: Segment, *, first_only: bool) -> list[Look]:
    """What each episode of a segment looks like before it is converted."""
    spec = plan.request.spec
    found: list[Look] = ["broken"] * (1 if first_only else segment.stop - segment.start)
    with suppress(SourceError), plan.reader.open_file(plan.root, segment.file, spec.options) as file:
        for position in range(len(found)):
            with suppress(SourceError):
                raw = open_episode(file, segment.start + position, spec)
                found[position] = "filtered" if keep(spec, raw) else len(raw)
    return found


def _first_episode(plan: Plan, outlook: Outlook) -> None:
    """Convert the first episode in memory: which slots are filled, how many bytes a step takes."""
    segment = plan.segments[0]
    try:
        with plan.reader.open_file(plan.root, segment.file, plan.request.spec.options) as file:
            raw = open_episode(file, segment.start, plan.request.spec)
            episode = convert_episode(plan.request, raw)
            frames = convert_frames(plan.request, plan.cameras, raw)
            image_bytes = sum(len(frame) for frame in chain.from_iterable(frames.values()))
    except SourceError as error:
        outlook.problem = str(error.within(file=segment.file.path, episode=segment.start))
        return
    state, action = (np.atleast_2d(mask).any(axis=0) for mask in (episode.state_mask, episode.action_mask))
    outlook.state_slots, outlook.action_slots = layout.describe(state), layout.describe(action)
    real = int(state.sum() + action.sum()) * 4
    indexes = len(frames) * max(outlook.parts, math.ceil(outlook.steps / FRAMES_PER_SHARD)) * 16 * FRAMES_PER_SHARD
    outlook.store_bytes = indexes + round((image_bytes / len(episode) + min(real, VECTOR_BYTES)) * outlook.steps)
