"""Sine-cosine positional embeddings, as the published network initialises them.

In: widths and lengths. Out: float32 arrays (tokens, width). Published: RoboticsDiffusionTransformer,
`models/rdt/blocks.py`, after the masked autoencoder's (He et al. 2021, arXiv:2111.06377): position p at frequency
10000^(-i / (width / 2)), all sines, then all cosines. Knows nothing of torch or of weights.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rdt_model.config import Positions, as_grid

FloatArray = npt.NDArray[np.floating]


def sincos(width: int, count: int) -> FloatArray:
    """The positions 0 … count-1, (count, width) float64; `width` is even."""
    frequencies = 10000.0 ** -(np.arange(width // 2) / (width / 2))
    phases = np.arange(count)[:, None] * frequencies
    return np.concatenate([np.sin(phases), np.cos(phases)], axis=1)


def grid_sincos(width: int, grid: Sequence[int]) -> FloatArray:
    """The cells of a grid, (cells, width) float64, last side fastest.

    The width is shared out evenly among the sides that have positions. A side below zero has |side| cells at one place;
    a side of 0 places or 1 adds nothing.
    """
    sides = [abs(side) for side in grid]
    placed = [axis for axis, side in enumerate(grid) if side > 1]
    table = np.zeros((*sides, width))
    share = width // max(len(placed), 1) // 2 * 2
    for number, axis in enumerate(placed):
        shape = [1] * len(sides) + [share]
        shape[axis] = -1
        table[..., number * share : (number + 1) * share] += sincos(share, sides[axis]).reshape(shape)
    return table.reshape(-1, width)


def sequence_positions(width: int, horizon: int) -> npt.NDArray[np.float32]:
    """[timestep, control rate, state, actions], (3 + horizon, width).

    The first half of the width says which of the four kinds a token is, the second its place among its kind.
    """
    lengths = (1, 1, 1, horizon)
    kinds = np.repeat(sincos(width // 2, len(lengths)), lengths, axis=0)
    places = np.concatenate([sincos(width // 2, length) for length in lengths])
    return np.concatenate([kinds, places], axis=1).astype(np.float32)


def condition_positions(width: int, length: int, entries: Positions | None) -> npt.NDArray[np.float32]:
    """The tokens of a condition, (length, width): one row of positions, or as `entries` says."""
    if entries is None:
        return sincos(width, length).astype(np.float32)
    return np.concatenate([_entry(width, name, size) for name, size in entries]).astype(np.float32)


def _entry(width: int, name: str, size: int | tuple[int, ...]) -> FloatArray:
    if name == "image" and isinstance(size, tuple):
        return grid_sincos(width, size)
    (length,) = as_grid(size)
    return sincos(width, length) if length > 0 else np.broadcast_to(sincos(width, 1), (-length, width))
