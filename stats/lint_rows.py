"""The vectors and words of a run of whole episodes, laid out so that a check is a few NumPy calls over all of them.

In: episodes of one part, concatenated. Out: `Rows`, whose `Vectors` give the real slots as contiguous columns, their
steps and their ranges, each computed once for all checks. At most `ROWS` steps (or one episode) are in memory.
Knows no thresholds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray, FloatArray
from rdt_data.layout import DIM, preferred_name
from rdt_data.store import Dataset
from stats.lint_check import Hit

Ints = npt.NDArray[np.intp]

ROWS = 16_384
"""Steps looked at together: one shard of a part, so that no chunk is read twice."""

_TILE = 512  # rows transposed at a time; 256 kB fit a core's cache


@dataclass
class Vectors:
    """State or action of N steps in E episodes.

    values: (N, 128) float32; mask: (E, 128) bool, slots real in at least one step of the episode; by_step: (N, 128)
    bool where masks differ within an episode, else None. starts: (E,) first row of each episode; no episode is empty.
    """

    name: str  # "state" or "action"
    values: FloatArray
    mask: BoolArray
    starts: Ints
    by_step: BoolArray | None = None

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """The slots real in any episode, ascending."""
        return tuple(np.flatnonzero(self.mask.any(axis=0)).tolist())

    @cached_property
    def columns(self) -> FloatArray:
        """(C, N): the values of `slots`, one contiguous row each."""
        chosen = np.array(self.slots, np.intp)
        columns = np.empty((len(chosen), len(self.values)), np.float32)
        for at in range(0, len(self.values), _TILE):
            columns[:, at : at + _TILE] = self.values[at : at + _TILE].T[chosen]
        return columns

    @cached_property
    def low(self) -> FloatArray:
        """(C, E): the smallest value of each column in each episode, NaN where there is one."""
        return np.asarray(np.minimum.reduceat(self.columns, self.starts, axis=1))

    @cached_property
    def high(self) -> FloatArray:
        """(C, E): the largest."""
        return np.asarray(np.maximum.reduceat(self.columns, self.starts, axis=1))

    @cached_property
    def steps(self) -> FloatArray:
        """(C, N): value of the next step minus this one's; 0 at the end of an episode, or where one is not real."""
        steps = np.empty_like(self.columns)
        np.subtract(self.columns[:, 1:], self.columns[:, :-1], out=steps[:, :-1])
        steps[:, self.ends] = 0
        if self.by_step is not None:
            real = self.by_step[:, list(self.slots)].T
            steps[:, :-1] *= real[:, 1:] & real[:, :-1]
        return steps

    @cached_property
    def ends(self) -> Ints:
        """(E,): the last row of each episode."""
        return np.append(self.starts[1:], len(self.values)) - 1

    def rows_of(self, slots: Sequence[int]) -> list[int]:
        """Where in `columns` those of `slots` are that are real anywhere."""
        return [self.slots.index(slot) for slot in slots if slot in self.slots]

    def has(self, slots: Sequence[int]) -> bool:
        """Whether all of `slots` are real somewhere."""
        return set(slots) <= set(self.slots)

    def real_columns(self, slots: Sequence[int]) -> BoolArray:
        """(k, N) bool: the steps at which each of `slots` is real."""
        if self.by_step is not None:
            return np.ascontiguousarray(self.by_step[:, list(slots)].T)
        lengths = self.ends - self.starts + 1
        return np.repeat(self.mask[:, list(slots)].T, lengths, axis=1)


@dataclass
class Rows:
    """E episodes, none empty. numbers: (E,) in the store; next_state: whether actions are the next states."""

    numbers: Sequence[int]
    ids: Sequence[str]
    control_hz: npt.NDArray[np.float64]  # (E,)
    instructions: Sequence[str]
    state: Vectors
    action: Vectors
    next_state: bool

    @property
    def starts(self) -> Ints:
        return self.state.starts

    @property
    def ends(self) -> Ints:
        return self.state.ends

    @property
    def lengths(self) -> Ints:
        """(E,) steps of each episode, at least 1."""
        return np.asarray(self.ends - self.starts + 1)

    @property
    def vectors(self) -> tuple[Vectors, ...]:
        """What is worth looking at: the state, and the action where it is not the state once more."""
        return (self.state,) if self.next_state else (self.state, self.action)

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(k, N) -> (k, E): the sum over the steps of each episode."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1))

    def hits(
        self, vectors: Vectors, steps: Ints, slots: Sequence[int], values: Sequence[Any], expected: str
    ) -> list[Hit]:
        """One hit for each (episode, slot): its first row, and how many there are.

        steps: rows of the block, ascending for each slot; slots, values: one for each of them.
        """
        found: dict[tuple[int, int], list[Any]] = {}
        episodes = np.searchsorted(self.starts, steps, side="right") - 1
        for episode, row, slot, value in zip(episodes.tolist(), steps.tolist(), slots, values, strict=True):
            found.setdefault((episode, slot), [row, value, 0])[2] += 1
        return [
            Hit(
                value=float(value),
                expected=expected,
                episode=self.numbers[episode],
                step=row - int(self.starts[episode]),
                slot=named(vectors, slot),
                count=count,
            )
            for (episode, slot), (row, value, count) in found.items()
        ]


def named(vectors: Vectors, slot: int) -> str:
    """ "right_gripper_open", or "action right_gripper_open": the state goes without saying."""
    return preferred_name(slot) if vectors.name == "state" else f"{vectors.name} {preferred_name(slot)}"


@dataclass(frozen=True, slots=True)
class Block:
    """Which episodes to read: those numbered [first, last) in the store, rows [start, stop) of a part."""

    part: str
    first: int
    last: int
    start: int
    stop: int


def blocks(dataset: Dataset) -> Iterator[Block]:
    """Cut the whole store into blocks of at most ROWS steps, or one episode."""
    number = 0
    for part in dataset.parts:
        lengths = np.asarray(dataset.group[f"parts/{part.id}/episodes/length"][...]).tolist()
        first, start, stop = number, 0, 0
        for length in lengths:
            if number > first and stop + length - start > ROWS:
                yield Block(part.id, first, number, start, stop)
                first, start = number, stop
            number, stop = number + 1, stop + length
        if number > first:
            yield Block(part.id, first, number, start, stop)


def read(dataset: Dataset, block: Block) -> Rows:
    """Read the vectors and words of a block's episodes; those without a step are left out (`lint` reports them)."""
    group = dataset.group[f"parts/{block.part}"]
    episodes = [dataset[number] for number in range(block.first, block.last)]
    lengths = [len(episode) for episode in episodes]
    there = [row for row, length in enumerate(lengths) if length]
    starts = np.cumsum([0, *(lengths[row] for row in there)])[:-1].astype(np.intp)
    vectors = {
        name: _vectors(
            name,
            np.asarray(group[name][block.start : block.stop], dtype=np.float32),
            [getattr(episodes[row], f"{name}_mask") for row in there],
            starts,
        )
        for name in ("state", "action")
    }
    return Rows(
        numbers=[block.first + row for row in there],
        ids=[episodes[row].id for row in there],
        control_hz=np.array([episodes[row].control_hz for row in there], np.float64),
        instructions=[episodes[row].instruction for row in there],
        state=vectors["state"],
        action=vectors["action"],
        next_state=dataset.attributes["request"]["action"] != "recorded",
    )


def _vectors(name: str, values: FloatArray, masks: Sequence[BoolArray], starts: Ints) -> Vectors:
    mask = np.array([one.any(axis=0) if one.ndim == 2 else one for one in masks], np.bool_).reshape(-1, DIM)
    by_step = None
    if any(one.ndim == 2 for one in masks):
        lengths = np.diff([*starts.tolist(), len(values)])
        by_step = np.concatenate([np.broadcast_to(m, (t, DIM)) for m, t in zip(masks, lengths.tolist(), strict=True)])
    return Vectors(name, values, mask, starts, by_step)
