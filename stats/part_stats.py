"""Statistics of one part of a store: its vectors read once, a bounded piece at a time.

In: a store and the number of a part. Out: `PartStats`, which add up without rounding. Only slots that are real count,
and only at steps where they are; differences are taken within an episode. No image is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from rdt_data.errors import StoreError
from rdt_data.layout import preferred_name
from rdt_data.store import Dataset
from stats.reducers import REDUCERS, STEP_REDUCERS, Lengths, Reducer

ROWS = 3 << 15  # steps in memory at a time, whole shards; more would need more than 500 MB

QUANTITIES: Mapping[str, Mapping[str, type[Reducer]]] = {
    "state": REDUCERS,
    "action": REDUCERS,
    "action_minus_state": REDUCERS,
    "state_step": STEP_REDUCERS,
    "action_step": STEP_REDUCERS,
}
"""What is measured, and what is kept of it. `…_step` is the change from one step to the next."""

Columns = dict[int, dict[str, Reducer]]  # slot -> reducer -> summary


@dataclass(frozen=True, slots=True)
class PartStats:
    """Summaries of every quantity and slot, and of the lengths of episodes; `a + b` is that of both together."""

    columns: Mapping[str, Columns]
    lengths: Lengths

    @classmethod
    def empty(cls) -> Self:
        return cls({name: {} for name in QUANTITIES}, Lengths({}))

    def __add__(self, other: Self) -> Self:
        columns = {name: _merged(self.columns[name], other.columns[name]) for name in QUANTITIES}
        return type(self)(columns, self.lengths + other.lengths)

    def state(self) -> dict[str, Any]:
        """As plain JSON-able data."""
        return {
            "lengths": self.lengths.state(),
            **{
                name: {
                    str(slot): {kind: summary.state() for kind, summary in kinds.items()} for slot, kinds in c.items()
                }
                for name, c in self.columns.items()
            },
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        columns = {
            name: {
                int(slot): {kind: reducers[kind].restored(state) for kind, state in kinds.items()}
                for slot, kinds in state[name].items()
            }
            for name, reducers in QUANTITIES.items()
        }
        return cls(columns, Lengths.restored(state["lengths"]))


def _merged(a: Columns, b: Columns) -> Columns:
    merged: Columns = {}
    for slot in sorted({*a, *b}):
        if slot in a and slot in b:
            merged[slot] = {kind: summary + b[slot][kind] for kind, summary in a[slot].items()}
        else:
            merged[slot] = a[slot] if slot in a else b[slot]
    return merged


def measure_part(store: Dataset, part: int) -> PartStats:
    """Statistics of the part at position `part`. Raises StoreError where a value is not finite."""
    table = store.table(part)
    lengths = table.column("length").astype(np.int64)
    result = PartStats({name: {} for name in QUANTITIES}, Lengths.of(lengths))
    for piece in _pieces(table, lengths):
        result = result + PartStats(_measured(piece, f"{store.url}: part {store.part_counts[part][0]}"), Lengths({}))
    return result


Step = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]  # the vector of one step and its mask, (128,) each


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some steps of a part. vectors: (N, 128); masks: (N, 128) or (128,); last: the step before them, if there is one.

    follows: (N,), with a last step (N + 1,): whether a step has one before it in its episode.
    """

    vectors: Mapping[str, npt.NDArray[np.float32]]
    masks: Mapping[str, npt.NDArray[np.bool_]]
    last: Mapping[str, Step]
    follows: npt.NDArray[np.bool_]


def _pieces(table: Any, lengths: npt.NDArray[np.int64]) -> Iterator[_Piece]:
    """Runs of whole shards: zarr reads those twice as fast as parts of them, so the step before is kept."""
    ends = np.cumsum(lengths)
    steps = int(ends[-1]) if len(ends) else 0
    firsts = ends - lengths
    last: dict[str, Step] = {}
    for start in range(0, steps, ROWS):
        stop = min(start + ROWS, steps)
        vectors = {name: table.rows(name, start, stop) for name in ("state", "action")}
        masks = {name: table.step_masks(f"{name}_mask", start, stop) for name in vectors}
        follows = ~np.isin(np.arange(start - (1 if last else 0), stop), firsts)
        yield _Piece(vectors, masks, dict(last), follows)
        for name, rows in vectors.items():
            last[name] = rows[-1].copy(), masks[name][-1] if masks[name].ndim == 2 else masks[name]


def _measured(piece: _Piece, where: str) -> dict[str, Columns]:
    state, action = (
        _Real.of(piece.vectors[name], piece.masks[name], piece.last.get(name), f"{where}: {name}")
        for name in ("state", "action")
    )
    first = 1 if piece.last else 0  # the step before counts for differences only
    both = state.minus(action)
    found = {
        "state": state.after(first),
        "action": action.after(first),
        "action_minus_state": both.after(first),
        "state_step": state.steps(piece.follows),
        "action_step": action.steps(piece.follows),
    }
    return {name: real.reduced(QUANTITIES[name]) for name, real in found.items()}


@dataclass(frozen=True, slots=True)
class _Real:
    """The slots that are real in some step: x (D, N) float64; there (D, N) which of them are, None for all."""

    slots: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    there: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, rows: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], last: Step | None, where: str) -> Self:
        """With the step `last` in front, when there is one."""
        first = 0 if last is None else 1
        slots = np.flatnonzero(np.atleast_2d(mask).any(axis=0))
        x = np.empty((len(slots), first + len(rows)))
        x[:, first:] = rows[:, slots].T
        if last is not None:
            x[:, 0] = last[0][slots]
        if not np.isfinite(x).all():
            slot = int(slots[np.flatnonzero(~np.isfinite(x).all(axis=1))[0]])
            raise StoreError(
                f"{where} of {preferred_name(slot)} is not finite",
                remedy="run `rdt-data verify`, and convert this dataset again",
            )
        there = np.empty(x.shape, np.bool_)
        there[:, first:] = np.broadcast_to(mask, rows.shape)[:, slots].T
        if last is not None:
            there[:, 0] = last[1][slots]
        return cls(slots, x, None if there.all() else there)

    def after(self, first: int) -> Self:
        return type(self)(self.slots, self.x[:, first:], None if self.there is None else self.there[:, first:])

    def minus(self, action: Self) -> Self:
        """action - self, where both are real."""
        slots, mine, its = np.intersect1d(self.slots, action.slots, assume_unique=True, return_indices=True)
        there = None
        if self.there is not None or action.there is not None:
            parts = [np.True_ if r.there is None else r.there[rows] for r, rows in ((self, mine), (action, its))]
            there = np.broadcast_to(parts[0] & parts[1], (len(slots), self.x.shape[1]))
        return type(self)(slots, action.x[its] - self.x[mine], there)

    def steps(self, follows: npt.NDArray[np.bool_]) -> Self:
        """The change to each step from the one before, where both are real and of one episode."""
        inner = follows[1:]
        there = None if self.there is None else (self.there[:, 1:] & self.there[:, :-1])[:, inner]
        return type(self)(self.slots, np.ascontiguousarray(np.diff(self.x, axis=1)[:, inner]), there)

    def reduced(self, reducers: Mapping[str, type[Reducer]]) -> Columns:
        if self.there is None:
            found = {kind: reducer.of_rows(self.x) for kind, reducer in reducers.items()}
            return {slot: {kind: found[kind][row] for kind in reducers} for row, slot in enumerate(self.slots.tolist())}
        columns: Columns = {}
        for row, slot in enumerate(self.slots.tolist()):
            values = self.x[row, self.there[row]][None]
            if values.size:
                columns[slot] = {kind: reducer.of_rows(values)[0] for kind, reducer in reducers.items()}
        return columns
