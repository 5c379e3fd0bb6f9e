"""What is drawn of a store's episodes: a few of them, their vectors thinned out, frames of their cameras made small.

In: a store, how many, a seed. Out: `Sampled` episodes with plain arrays and JPEG bytes. Which episodes is a function
of (seed, episode number) alone: more of them include the fewer. A frame that cannot be decoded is told, not left out.
"""

import hashlib
import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray, FloatArray
from rdt_data.images import ImageError, encode_jpeg, fitted_size, resize
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode

POINTS = 240
"""The most points of a line."""

LONGEST_SIDE, QUALITY = 176, 62
"""Of a frame in the report, in pixels and as JPEG quality: sharp at the size it is shown in, about 4 kB."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. jpeg: empty where it could not be decoded, and `problem` says why."""

    step: int
    jpeg: bytes
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """Frames of one camera, evenly over the episode. height, width: of the JPEGs, in pixels."""

    camera: str
    height: int
    width: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One episode. steps: (K,) those that are drawn; state, action: (K, 128), NaN where a slot is not real."""

    number: int
    id: str
    source: str
    instruction: str
    phrasings: tuple[str, ...]
    length: int
    control_hz: float
    steps: npt.NDArray[np.int64]
    state: FloatArray
    action: FloatArray
    strips: tuple[Strip, ...]


def sampled_numbers(episodes: int, count: int, seed: int) -> list[int]:
    """Which `count` of so many episodes are looked at, ascending."""
    return sorted(heapq.nsmallest(count, range(episodes), key=lambda number: _drawn(seed, number)))


def sample(dataset: Dataset, count: int, frames: int, seed: int) -> list[Sampled]:
    """Read some episodes. frames: of each camera of each."""
    return [_read(dataset[number], number, frames) for number in sampled_numbers(len(dataset), count, seed)]


def evenly(length: int, count: int) -> npt.NDArray[np.int64]:
    """Up to `count` of so many steps, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.int64))


def _drawn(seed: int, number: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).digest()


def _read(episode: StoredEpisode, number: int, frames: int) -> Sampled:
    steps = evenly(len(episode), POINTS)
    return Sampled(
        number=number,
        id=episode.id,
        source=episode.source,
        instruction=episode.instruction,
        phrasings=episode.phrasings,
        length=len(episode),
        control_hz=episode.control_hz,
        steps=steps,
        state=_real(episode.state, episode.state_mask)[steps],
        action=_real(episode.action, episode.action_mask)[steps],
        strips=tuple(_strip(episode, camera, frames) for camera in episode.cameras),
    )


def _real(vectors: FloatArray, mask: BoolArray) -> FloatArray:
    return np.where(mask, vectors, np.float32(np.nan))


def _strip(episode: StoredEpisode, camera: str, frames: int) -> Strip:
    pictures = episode.images(camera)
    height, width = fitted_size(*pictures.shape[1:3], LONGEST_SIDE)
    steps = evenly(len(pictures), frames).tolist()
    return Strip(camera, height, width, tuple(_frame(episode, camera, step, height, width) for step in steps))


def _frame(episode: StoredEpisode, camera: str, step: int, height: int, width: int) -> Frame:
    try:
        pixels = episode.images(camera)[step]
    except ImageError as error:
        return Frame(step, b"", error.problem)
    return Frame(step, encode_jpeg(resize(pixels, height, width), QUALITY))
