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

ROWS = 1 << 17  # steps in memory at a time

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
        result = result + PartStats(_measured(piece, f"{store.url}: part {store.parts[part].id}"), Lengths({}))
    return result


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some steps of a part, and the one before them. x: (N, 128); masks: (N, 128) or (128,); follows: (N,) bool."""

    vectors: Mapping[str, npt.NDArray[np.float32]]
    masks: Mapping[str, npt.NDArray[np.bool_]]
    follows: npt.NDArray[np.bool_]  # whether a step has one before it in its episode
    before: int  # 1 when the first row is the step before this piece and counts for differences only


def _pieces(table: Any, lengths: npt.NDArray[np.int64]) -> Iterator[_Piece]:
    ends = np.cumsum(lengths)
    steps = int(ends[-1]) if len(ends) else 0
    firsts = ends - lengths
    for start in range(0, steps, ROWS):
        low, stop = max(start - 1, 0), min(start + ROWS, steps)
        follows = ~np.isin(np.arange(low, stop), firsts)
        yield _Piece(
            {name: table.rows(name, low, stop) for name in ("state", "action")},
            {name: table.step_masks(f"{name}_mask", low, stop) for name in ("state", "action")},
            follows,
            start - low,
        )


def _measured(piece: _Piece, where: str) -> dict[str, Columns]:
    state, action = (
        _Real.of(piece.vectors[name], piece.masks[name], f"{where}: {name}") for name in ("state", "action")
    )
    both = state.minus(action)
    found = {
        "state": state.after(piece.before),
        "action": action.after(piece.before),
        "action_minus_state": both.after(piece.before),
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
    def of(cls, rows: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], where: str) -> Self:
        used = mask if mask.ndim == 1 else mask.any(axis=0)
        slots = np.flatnonzero(used)
        x = np.ascontiguousarray(rows[:, slots].T, np.float64)
        if not np.isfinite(x).all():
            slot = int(slots[np.flatnonzero(~np.isfinite(x).all(axis=1))[0]])
            raise StoreError(
                f"{where} of {preferred_name(slot)} is not finite",
                remedy="run `rdt-data verify`, and convert this dataset again",
            )
        whole = mask.ndim == 1 or bool(mask[:, slots].all())
        return cls(slots, x, None if whole else np.ascontiguousarray(mask[:, slots].T))

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
