"""Where every random number of training comes from: a generator for (seed, sample number, purpose, item).

In: the seed of the run, the number of a window in the feed's order, and what the numbers are for. Out: a NumPy
generator that depends on nothing else. So a window is masked, made noisy and augmented in the same way in any batch, on
any rank, in any order, and after a resume; and another use added later changes none of the numbers there are.

Philox is a generator that counts (Salmon et al. 2011): key and counter are free to choose, and streams of another key
or another upper half of the counter never meet.
"""

from enum import IntEnum

import numpy as np

from rdt_data.errors import RdtError

_WORD = 2**64


class Purpose(IntEnum):
    """What numbers are drawn for. A row's number is part of every stream: add rows, never renumber them."""

    CONDITIONS = 0
    """which conditions of a window are masked"""
    STATE_NOISE = 1
    """noise added to the state"""
    DIFFUSION = 2
    """timesteps and noise of the diffusion loss; item: the number of the draw"""
    IMAGES = 3
    """augmentation of camera frames; item: history index * cameras + camera"""


def generator(seed: int, sample: int, purpose: Purpose, item: int = 0) -> np.random.Generator:
    """The generator of one window and purpose; item: for several independent streams of it.

    seed, sample, item: whole numbers from 0 to 2**64 - 1. Raises RdtError for others.
    """
    for name, value in (("seed", seed), ("sample", sample), ("item", item)):
        if not 0 <= value < _WORD:
            raise RdtError(f"{name} is {value}", remedy="give a whole number from 0 to 2**64 - 1")
    key = np.array([seed, sample], np.uint64)
    counter = np.array([0, 0, item, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
