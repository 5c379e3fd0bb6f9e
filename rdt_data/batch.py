"""A batch as the trainer gets it, and the memory it is gathered into: one copy, out of the arena.

In: rows of filled slots. Out: NumPy views of buffers that are the same from batch to batch, so that a batch is valid
until the next one is gathered, and no memory is taken or given back in between. Nothing is normalised or augmented.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray, FloatArray
from rdt_data.images import Pixels
from rdt_data.index import IntArray
from rdt_data.language import Embedding
from rdt_data.layout import DIM
from rdt_data.mixture import Block
from rdt_data.producer import Facts
from rdt_data.slot import Slot, SlotShape


@dataclass(frozen=True, slots=True)
class Tokens:
    """The embedding of each row's instruction. tokens: (B, L, D), 0 after its end; mask: (B, L) bool, real tokens."""

    tokens: Embedding
    mask: BoolArray


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows; views that are valid until the next batch (`copy` to keep one).

    images: (B, history, cameras, S, S, 3) uint8 RGB, letterboxed; image_mask: (B, history, cameras) bool. state:
    (B, 1, 128) float32, units of `layout`; state_mask: (B, 1, 128) bool. action, action_mask: (B, horizon, 128);
    valid: (B, horizon) bool, False after the end of the episode. language: the embeddings, or where the stores have
    none (B,) int64 ids of the instructions (`instruction_id`). control_hz: (B,) float32. dataset: (B,) names;
    episode: (B,) int64 numbers in the store; step: (B,) int64; sample: (B,) int64, the number of the window in the
    whole run, unique and independent of ranks: what randomness of this row is drawn from.
    """

    images: Pixels
    image_mask: BoolArray
    state: FloatArray
    state_mask: BoolArray
    action: FloatArray
    action_mask: BoolArray
    valid: BoolArray
    language: Tokens | IntArray
    instruction: tuple[str, ...]
    control_hz: FloatArray
    dataset: npt.NDArray[np.str_]
    episode: IntArray
    step: IntArray
    sample: IntArray

    def __len__(self) -> int:
        return len(self.sample)


@dataclass(frozen=True, slots=True)
class Filled:
    """A slot that holds a block."""

    number: int
    arrays: Slot
    facts: Facts


Row = tuple[Block, Filled, int]
"""Window i of a block, and the slot that holds it."""


def instruction_id(text: str) -> int:
    """A number that stands for an instruction, the same in every process and store (a digest, 0 … 2**63 - 1)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def row_bytes(shape: SlotShape) -> int:
    """Bytes of one row of a batch."""
    return sum(int(np.prod(row)) * np.dtype(dtype).itemsize for dtype, row in _rows(shape).values())


def _rows(shape: SlotShape) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of one row of each array."""
    cameras, side = len(shape.cameras), shape.image_size
    history, horizon = shape.window.history, shape.window.horizon
    return {
        "images": (np.uint8, (history, cameras, side, side, 3)),
        "image_mask": (np.bool_, (history, cameras)),
        "state": (np.float32, (1, DIM)),
        "state_mask": (np.bool_, (1, DIM)),
        "action": (np.float32, (horizon, DIM)),
        "action_mask": (np.bool_, (horizon, DIM)),
        "valid": (np.bool_, (horizon,)),
    }


class Buffers:
    """The memory of one batch of up to `size` rows."""

    def __init__(self, shape: SlotShape, size: int) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {
            name: np.full((size, *row), 0, dtype)  # unlike np.zeros, full takes the memory now, not in the first batch
            for name, (dtype, row) in _rows(shape).items()
        }

    def copy(self, start: int, rows: Sequence[Row]) -> None:
        """Copy rows into the places from `start` on; their slots are free afterwards."""
        for name, array in self._arrays.items():
            length = array.shape[1]
            for at, (_, filled, row) in enumerate(rows, start):
                array[at] = getattr(filled.arrays, name)[row : row + length]

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The batch of all rows that were copied, with where each is from."""
        facts = [filled.facts for _, filled, _ in rows]
        return Batch(
            **{name: array[: len(rows)] for name, array in self._arrays.items()},
            language=_language(facts),
            instruction=tuple(fact.instruction for fact in facts),
            control_hz=np.array([fact.control_hz for fact in facts], np.float32),
            dataset=np.array([block.dataset for block, _, _ in rows], np.str_),
            episode=np.array([block.episode for block, _, _ in rows], np.int64),
            step=np.array([block.start + row for block, _, row in rows], np.int64),
            sample=np.array([block.sample + row for block, _, row in rows], np.int64),
        )


def _language(facts: Sequence[Facts]) -> Tokens | IntArray:
    embeddings = [fact.embedding for fact in facts if fact.embedding is not None]
    if len(embeddings) < len(facts):
        return np.array([instruction_id(fact.instruction) for fact in facts], np.int64)
    longest = max(len(embedding) for embedding in embeddings)
    tokens = np.zeros((len(facts), longest, embeddings[0].shape[1]), embeddings[0].dtype)
    mask = np.zeros((len(facts), longest), np.bool_)
    for row, embedding in enumerate(embeddings):
        tokens[row, : len(embedding)], mask[row, : len(embedding)] = embedding, True
    return Tokens(tokens, mask)
