"""Which camera frames are looked at, and what is kept of them.

In: a store, how many episodes a camera, a seed. Out: `Clip`s: of one camera of one episode the brightness and colours
of a few decoded frames, and the longest run of identical frames in its beginning. Episodes and steps are a function
of (seed, episode number): more of them include the fewer, and workers change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from rdt_data.episode import FloatArray
from rdt_data.errors import StoreError
from rdt_data.images import ImageError, Pixels
from rdt_data.layout import unit
from rdt_data.store import Dataset
from stats.lint_motion import MOVING, STILL
from stats.lint_rows import Ints

FRAMES = 3
COMPARED = 256
"""Frames from the beginning of an episode whose bytes are compared with the frame before."""

LEVELS = 4  # of each colour in a histogram
MOVED = 5  # times STILL

Clipped = tuple[int, str]
"""Number of an episode and a camera slot."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One camera of one episode.

    steps: those that were decoded; brightness: (F, 2) mean and standard deviation of each. colours: (64,) share of the
    pixels in each cell of red x green x blue, 4 levels each. still: the longest run of identical frames during which
    the robot moved, (first step, frames). unreadable: (step, why), or None.
    """

    number: int
    camera: str
    instruction: str
    control_hz: float
    steps: tuple[int, ...]
    brightness: FloatArray
    colours: npt.NDArray[np.float64]
    still: tuple[int, int]
    unreadable: tuple[int, str] | None


def chosen(dataset: Dataset, episodes: int, seed: int) -> list[Clipped]:
    """For each camera, up to `episodes` episodes that have it, in the order of the store."""
    count = len(dataset)
    left = dict.fromkeys(dataset.cameras, episodes)
    found: list[Clipped] = []
    for number in np.argsort(_mixed(seed, np.arange(count)), kind="stable").tolist():
        if not any(left.values()):
            break
        for camera in dataset[number].cameras if len(dataset[number]) else ():
            if left.get(camera, 0):
                left[camera] -= 1
                found.append((number, camera))
    return sorted(found)


def _mixed(seed: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Well-mixed bits of (seed, index): two rounds of splitmix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = index.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):
            z = z + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return z


def sampled_steps(seed: int, number: int, length: int) -> tuple[int, ...]:
    """Up to FRAMES steps, one in each part of the episode."""
    bits = _mixed(seed + 1, np.arange(number * FRAMES, (number + 1) * FRAMES)).tolist()
    edges = [part * length // FRAMES for part in range(FRAMES + 1)]
    return tuple(low + bit % (high - low) for bit, (low, high) in zip(bits, pairwise(edges), strict=True) if high > low)


def read_clip(dataset: Dataset, number: int, camera: str, seed: int) -> Clip:
    """Decode the sampled frames and compare the first COMPARED ones."""
    episode = dataset[number]
    frames = episode.images(camera)
    pixels: dict[int, Pixels] = {}
    unreadable = None
    for step in sampled_steps(seed, number, len(episode)):
        try:
            pixels[step] = frames[step]
        except (ImageError, StoreError) as error:
            unreadable = unreadable or (step, error.problem)
    still = (0, 0)
    if unreadable is None:
        try:
            sums = list(islice(frames.checksums(), COMPARED))
            still = _longest_still(sums, episode.state[: len(sums)])
        except (ImageError, StoreError) as error:
            unreadable = (0, error.problem)
    return Clip(
        number=number,
        camera=camera,
        instruction=episode.instruction,
        control_hz=episode.control_hz,
        steps=tuple(pixels),
        brightness=np.array([[frame.mean(), frame.std()] for frame in pixels.values()], np.float32).reshape(-1, 2),
        colours=colour_shares(list(pixels.values())),
        still=still,
        unreadable=unreadable,
    )


def colour_shares(frames: Sequence[Pixels]) -> npt.NDArray[np.float64]:
    """(64,): share of the pixels of RGB frames in each cell of red x green x blue; zeros without frames."""
    counts = np.zeros(LEVELS**3)
    for frame in frames:
        level = (frame[::2, ::2] // (256 // LEVELS)).astype(np.intp)
        cells = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
        counts += np.bincount(cells.reshape(-1), minlength=LEVELS**3)
    return np.asarray(counts / max(counts.sum(), 1))


def _longest_still(sums: Sequence[int], state: FloatArray) -> tuple[int, int]:
    """(first step, frames) of the longest run of equal frames while the pose moves well beyond stillness."""
    changes: Ints = np.flatnonzero(np.diff(np.array(sums, np.int64)) != 0) + 1
    edges = [0, *changes.tolist(), len(sums)]
    slots = [slot for slot in MOVING if state[:, slot].any()]
    limits = np.array([MOVED * STILL[unit(slot)] for slot in slots])
    best = (0, 0)
    for start, stop in pairwise(edges):
        run = state[start:stop, slots]
        if stop - start > max(best[1], 1) and slots and bool((run.max(axis=0) - run.min(axis=0) > limits).any()):
            best = (start, stop - start)
    return best
