"""Predicted against recorded: how far a policy's chunks are from what a store's episodes really did next.

In: a policy, a store, which episodes. Chunks begin every so many steps, by default as many as they have, so that each
recorded step is predicted once. Out: a `SampleReport` (mean error per quantity and step of the horizon: joints in rad,
grippers, end effectors in m and degrees, all other slots in their own unit) and a `Trace` per episode, to draw. Open
loop: nothing is executed, and the recorded observation is always the one that is seen.

Knows nothing of files, plots and robots' own units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_data.language import Language
from rdt_data.rotations import matrix_from_ortho6d
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode
from rdt_model.policy import Observation, Policy

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

EPISODE_STRIDE = 2**32
"""Call numbers of an episode begin at its number times this: its noise is the same whatever else is run."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """The mean absolute error of one quantity. by_step: per step of the horizon, None where no chunk had that step."""

    name: str
    unit: str
    mean: float
    by_step: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What was compared and how far it was off.

    chunks: of all episodes, one every `every` steps. compared_steps: recorded steps with a predicted slot. dtype: what
    the network computed in.
    """

    checkpoint: str
    store: str
    dataset: str
    episodes: tuple[str, ...]
    chunks: int
    every: int
    compared_steps: int
    horizon: int
    control_hz: float
    denoising_steps: int
    seed: int
    device: str
    dtype: str
    assumed: tuple[str, ...]
    quantities: tuple[Quantity, ...]

    def __str__(self) -> str:
        """The table."""
        shown = sorted({0, self.horizon // 4, self.horizon // 2, self.horizon - 1})
        heads = ["mean error", "unit", "all", *(f"step {step + 1}" for step in shown)]
        rows = [
            [q.name, q.unit, f"{q.mean:.4f}", *("-" if (e := q.by_step[s]) is None else f"{e:.4f}" for s in shown)]
            for q in self.quantities
        ]
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        lines = [
            f"{self.checkpoint} on {self.store}",
            f"{self.chunks} chunks of {self.horizon} steps, one every {self.every}, at {self.control_hz:g} Hz",
            f"{len(self.episodes)} episodes, {self.denoising_steps} denoising steps, seed {self.seed}, "
            f"{self.device}, {self.dtype}",
            *(f"assumed: {line}" for line in self.assumed),
            "",
        ]
        for row in [heads, *rows]:
            left, right = zip(row[:2], widths[:2], strict=True), zip(row[2:], widths[2:], strict=True)
            lines.append("  ".join([*(t.ljust(w) for t, w in left), *(t.rjust(w) for t, w in right)]))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Trace:
    """One episode. recorded, predicted: (T, 128) actions, a step in several chunks as the last one has it; real:
    (T, 128) bool, what was recorded and predicted; starts: first steps of chunks."""

    number: int
    id: str
    recorded: FloatArray
    predicted: FloatArray
    real: BoolArray
    starts: tuple[int, ...]


class ErrorSums:
    """Errors added up per step of the horizon; `quantities` are their means."""

    def __init__(self, horizon: int) -> None:
        self._slots = np.zeros((2, horizon, layout.DIM))  # sums of |error|, counts
        self._whole: dict[tuple[str, str], Float] = {}

    def add(self, predicted: FloatArray, recorded: FloatArray, real: BoolArray) -> None:
        """Actions of the first steps of a chunk, (T <= H, 128), and which numbers count, (T, 128)."""
        steps = len(predicted)
        self._slots[0, :steps] += np.where(real, np.abs(predicted.astype(np.float64) - recorded), 0)
        self._slots[1, :steps] += real
        for side in ("right", "left"):
            for part, unit, measure in (("eef_pos", "m", distance), ("eef_ortho6d", "deg", angle_between)):
                slots = list(layout.GROUPS[f"{side}_{part}"])
                whole = real[:, slots].all(axis=1)  # (T,)
                if whole.any():
                    sums = self._whole.setdefault((f"{side}_{part}", unit), np.zeros((2, self._slots.shape[1])))
                    error = measure(predicted[:, slots].astype(np.float64), recorded[:, slots].astype(np.float64))
                    sums[0, :steps] += np.where(whole, error, 0)
                    sums[1, :steps] += whole

    def quantities(self) -> tuple[Quantity, ...]:
        """Positions and orientations as wholes, then every other slot that was ever real."""
        covered = {slot for name, _ in self._whole for slot in layout.GROUPS[name]}
        found = [
            _quantity(name.replace("ortho6d", "rotation"), unit, sums) for (name, unit), sums in self._whole.items()
        ]
        for slot in range(layout.DIM):
            if self._slots[1, :, slot].any() and slot not in covered:
                found.append(_quantity(layout.preferred_name(slot), layout.unit(slot), self._slots[:, :, slot]))
        return tuple(found)


def distance(one: Float, other: Float) -> Float:
    """Of points (T, 3): (T,), in their unit."""
    return np.asarray(np.linalg.norm(one - other, axis=-1))


def angle_between(one: Float, other: Float) -> Float:
    """The angle of the rotation from one to the other, degrees, 0 … 180. ortho6d (T, 6), also such as networks give."""
    difference = matrix_from_ortho6d(one) - matrix_from_ortho6d(other)
    # |A - B| = 2 sqrt(2) sin(angle / 2), which unlike the trace keeps the digits of small angles.
    half = np.linalg.norm(difference, axis=(-2, -1)) / np.sqrt(8)
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(half, 0, 1))))


def compare(
    policy: Policy,
    dataset: Dataset,
    numbers: Sequence[int],
    language: Language | None,
    *,
    steps: int | None = None,
    every: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Trace], tuple[Quantity, ...]]:
    """Predict the chunks of these episodes. language: stored embeddings; None: the policy encodes the words itself.

    every: steps from one chunk to the next, None: a chunk's length. With fewer, a recorded step is in several chunks,
    and each of them counts; with more, some are in none. A chunk is the same whatever `every` is. progress: called with
    chunks done and in all. Raises RdtError as the policy does, and when there is no episode.
    """
    horizon = policy.net.config.pred_horizon
    starts = {number: range(0, len(dataset[number]), every or horizon) for number in numbers}
    total, done = sum(map(len, starts.values())), 0
    if not total:
        raise RdtError(f"{dataset.url}: no episode with a step was chosen", remedy="choose others with --episodes")
    sums, traces = ErrorSums(horizon), []
    for number in numbers:
        episode = dataset[number]
        recorded = episode.action
        known = np.broadcast_to(episode.action_mask, recorded.shape)
        predicted, real = np.zeros_like(recorded), np.zeros_like(known)
        for start in starts[number]:
            part = slice(start, start + horizon)
            seen = observe(episode, start, policy, language)
            chunk = policy(seen, steps=steps, index=number * EPISODE_STRIDE + start)
            predicted[part] = chunk.actions[: len(recorded[part])]
            real[part] = known[part] & chunk.mask
            sums.add(predicted[part], recorded[part], real[part])
            done += 1
            progress(done, total)
        traces.append(Trace(number, episode.id, recorded, predicted, real, tuple(starts[number])))
    return traces, sums.quantities()


def observe(episode: StoredEpisode, step: int, policy: Policy, language: Language | None) -> Observation:
    """What an episode's robot saw at a step; before the first there is no frame."""
    state, state_mask = episode.rows("state", step, step + 1)
    _, action_mask = episode.rows("action", step, step + 1)
    first = max(0, step - policy.config.history + 1)
    images = {
        slot: list(episode.images(slot)[first : step + 1]) for slot in episode.cameras if slot in policy.config.cameras
    }
    text = language.wordings(episode)[0] if language else episode.instruction
    return Observation(
        state[0],
        state_mask.reshape(layout.DIM),
        language.embedding(text) if language else text,
        images,
        action_mask.reshape(layout.DIM),
        episode.control_hz,
    )


def _quantity(name: str, unit: str, sums: Float) -> Quantity:
    """sums: (2, H), errors and counts."""
    error, count = sums
    means = tuple(float(e / n) if n else None for e, n in zip(error, count, strict=True))
    return Quantity(name, unit, float(error.sum() / count.sum()), means)
