"""What a conversion would make, without making it: for `convert --dry-run`.

Counts every step where the source is small or says its lengths; otherwise measures the first episode of some
parts and says that it estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from converters.convert import convert_episode, convert_frames
from converters.plan import Plan, Segment
from rdt_data import layout
from rdt_data.errors import SourceError

EXACT_BYTES = 1 << 30
"""Sources up to this size are read through once, which takes seconds."""

SAMPLES = 16
VECTOR_BYTES = 2 * 128 * 4


@dataclass(slots=True)
class Outlook:
    """The plan in numbers. `exact`: whether every episode was looked at."""

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
    broken: int = 0


def estimate(plan: Plan) -> Outlook:
    """Look at every episode of a small source, at samples of a large one."""
    exact = plan.bytes <= EXACT_BYTES
    segments = plan.segments if exact else plan.segments[:: max(1, len(plan.segments) // SAMPLES)]
    steps = seen = broken = 0
    for segment in segments:
        for length in _lengths(plan, segment, first_only=not exact):
            broken += length is None
            steps += length or 0
            seen += 1
    outlook = Outlook(plan.request.dataset, len(plan.parts), plan.episodes, steps, plan.bytes, 0, exact, broken=broken)
    if not exact:
        outlook.steps = round(steps * plan.episodes / max(seen, 1))
    outlook.cameras = {
        slot: f"{form.width}x{form.height} {form.codec}" + (f":{form.quality}" if form.quality else " as it is")
        for slot, form in plan.cameras.items()
    }
    _first_episode(plan, outlook)
    return outlook


def _lengths(plan: Plan, segment: Segment, *, first_only: bool) -> list[int | None]:
    """Steps of each episode of a segment; None for one that cannot be read."""
    numbers = range(segment.start, segment.start + 1 if first_only else segment.stop)
    found: list[int | None] = []
    try:
        with plan.reader.open_file(plan.root, segment.file, plan.request.spec.options) as file:
            for number in numbers:
                try:
                    found.append(len(file[number]))
                except SourceError:
                    found.append(None)
    except SourceError:
        return [None] * len(numbers)
    return found


def _first_episode(plan: Plan, outlook: Outlook) -> None:
    """Convert the first episode in memory: which slots are filled, how many bytes a step takes."""
    segment = plan.segments[0]
    try:
        with plan.reader.open_file(plan.root, segment.file, plan.request.spec.options) as file:
            raw = file[segment.start]
            episode = convert_episode(plan.request, raw)
            frames = convert_frames(plan.request, plan.cameras, raw)
            image_bytes = sum(len(frame) for frame in chain.from_iterable(frames.values()))
    except SourceError as error:
        outlook.problem = str(error.within(file=segment.file.path, episode=segment.start))
        return
    outlook.state_slots = layout.describe(episode.state_mask)
    outlook.action_slots = layout.describe(episode.action_mask)
    real = int(episode.state_mask.sum() + episode.action_mask.sum()) * 4
    outlook.store_bytes = round((image_bytes / len(episode) + min(real, VECTOR_BYTES)) * outlook.steps)
