"""Exact and near duplicate episodes, without comparing all pairs.

Exact: the checksum and length of an episode's vectors. Near: its pose at five moments, in units of the tolerance; of
such signatures, those that fall into the same cell of a grid in some random dimensions (locality-sensitive hashing,
Datar et al. 2004) are compared. Both then compare the episodes themselves, so that a finding is certain.
In: `Rows`; to confirm, the store. Out: hits, on the later episode of a pair.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdt_data.episode import FloatArray
from rdt_data.layout import unit
from rdt_data.shards import crc32c
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode
from stats.lint_check import Check, Hit, Need
from stats.lint_motion import MOVING
from stats.lint_rows import Ints, Rows

TOLERANCE = {"rad": 0.01, "m": 0.002, "1": 0.02}
MOMENTS = 5
CONFIRMED_AT = 64  # moments
LEAST_MOVED = 10  # tolerances
TABLES = 8
DIMENSIONS = 6  # of the grid of a table
CELL = 8.0  # tolerances
NEIGHBOURS = 4  # of an episode within a cell


@dataclass(frozen=True, slots=True)
class Print:
    """What E episodes of one block are recognised by.

    sums: per episode (steps, checksum of states, of actions). signatures: slots -> (numbers of the episodes that have
    just these and move, (e, MOMENTS * slots) poses in tolerances).
    """

    numbers: list[int]
    sums: list[tuple[int, int, int]]
    signatures: Mapping[tuple[int, ...], tuple[list[int], FloatArray]]


def checksums(rows: Rows) -> Print:
    """Exact marks of each episode."""
    sums = []
    for start, end in zip(rows.starts.tolist(), rows.ends.tolist(), strict=True):
        state = crc32c(rows.state.values[start : end + 1])
        action = 0 if rows.next_state else crc32c(rows.action.values[start : end + 1])
        sums.append((end + 1 - start, state, action))
    return Print(list(rows.numbers), sums, {})


def signatures(rows: Rows) -> Print:
    """The poses of each episode at MOMENTS, evenly in time."""
    state = rows.state
    at = state.rows_of(MOVING)
    slots = [state.slots[row] for row in at]
    scale = np.array([TOLERANCE[unit(slot)] for slot in slots], np.float32)
    poses = _resampled(state.columns, at, rows.starts, rows.ends, MOMENTS) / scale[:, None, None]
    moved = ((state.high[at] - state.low[at]) / scale[:, None]).max(axis=0, initial=0) >= LEAST_MOVED
    found: dict[tuple[int, ...], tuple[list[int], FloatArray]] = {}
    masks, which = np.unique(state.mask[:, slots], axis=0, return_inverse=True)
    for group, mask in enumerate(masks):
        members = np.flatnonzero(moved & (which.reshape(-1) == group))
        if len(members) and mask.any():
            key = tuple(slot for slot, real in zip(slots, mask.tolist(), strict=True) if real)
            values = poses[mask][:, members].transpose(1, 0, 2).reshape(len(members), -1)
            found[key] = [rows.numbers[member] for member in members.tolist()], np.ascontiguousarray(values)
    return Print([], [], found)


def _resampled(columns: FloatArray, at: Sequence[int], first: Ints, last: Ints, moments: int) -> FloatArray:
    """(k, E, moments): columns `at` interpolated evenly in time from row `first` to row `last` of each episode."""
    times = first[:, None] + np.linspace(0, 1, moments) * (last - first)[:, None]
    low = np.floor(times).astype(np.intp)
    high = np.minimum(low + 1, last[:, None])
    share = (times - low).astype(np.float32)
    before, after = (
        np.stack([columns[row][index] for row in at]) if at else np.empty((0, *low.shape)) for index in (low, high)
    )
    return np.asarray(before * (1 - share) + after * share, np.float32)


def duplicate(found: Sequence[Print], dataset: Dataset) -> Iterator[Hit]:
    """Episodes whose states and actions are those of an earlier one."""
    first: dict[tuple[int, int, int], int] = {}
    for one in found:
        for number, sums in zip(one.numbers, one.sums, strict=True):
            earlier = first.setdefault(sums, number)
            if earlier != number and _equal(dataset[earlier], dataset[number]):
                yield Hit(
                    f"the vectors of episode {earlier} ({dataset[earlier].id})", "an episode of its own", episode=number
                )


def _equal(a: StoredEpisode, b: StoredEpisode) -> bool:
    return np.array_equal(a.state, b.state) and np.array_equal(a.action, b.action)


def near_duplicate(found: Sequence[Print], dataset: Dataset) -> Iterator[Hit]:
    """Episodes that follow an earlier one within the tolerance, but are not equal to it."""
    seen: set[int] = set()
    for slots in sorted({slots for one in found for slots in one.signatures}):
        parts = [one.signatures[slots] for one in found if slots in one.signatures]
        numbers = [number for part, _ in parts for number in part]
        poses = np.concatenate([values for _, values in parts])
        for earlier, later in sorted(_candidates(poses), key=lambda pair: (pair[1], pair[0])):
            a, b = dataset[numbers[earlier]], dataset[numbers[later]]
            if numbers[later] in seen or np.array_equal(a.state, b.state):
                continue
            if (away := _distance(a, b, slots)) <= 1:
                seen.add(numbers[later])
                value = f"follows episode {numbers[earlier]} ({a.id}) within {away:.2g} of the tolerance"
                yield Hit(value, "a movement of its own", episode=numbers[later])


def _candidates(poses: FloatArray) -> set[tuple[int, int]]:
    """Pairs (earlier, later) of rows within one tolerance everywhere, found by hashing. poses: (E, D)."""
    pairs: set[tuple[int, int]] = set()
    spread = poses.std(axis=0, dtype=np.float64)
    if len(poses) < 2 or not np.isfinite(spread).all() or spread.sum() == 0:
        spread = np.ones(poses.shape[1])
    for table in range(TABLES):
        rng = np.random.Generator(np.random.Philox(key=np.array([0, table], np.uint64)))
        dims = rng.choice(poses.shape[1], DIMENSIONS, p=spread / spread.sum())  # where episodes differ most
        cells = np.floor(np.nan_to_num(poses[:, dims]) / CELL + rng.random(DIMENSIONS)).astype(np.int64)
        order = np.lexsort((np.arange(len(cells)), *cells.T))
        cells = cells[order]
        for step in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero((cells[step:] == cells[:-step]).all(axis=1))
            one, other = order[same], order[same + step]
            near = (np.abs(poses[one] - poses[other]) <= 1).all(axis=1)
            pairs.update(zip(one[near].tolist(), other[near].tolist(), strict=True))
    return pairs


def _distance(a: StoredEpisode, b: StoredEpisode, slots: Sequence[int]) -> float:
    """The largest distance of two episodes at any of many moments, in tolerances."""
    scale: npt.NDArray[np.float64] = np.array([TOLERANCE[unit(slot)] for slot in slots])[:, None]
    both = []
    for episode in (a, b):
        columns = episode.state[:, list(slots)].T
        ends = np.array([0]), np.array([len(episode) - 1])
        both.append(_resampled(columns, range(len(slots)), *ends, CONFIRMED_AT)[:, 0])
    return float((np.abs(both[0] - both[1]) / scale).max())


_TWO = Need("two episodes", lambda seen: seen.episodes > 1)

DUPLICATES = (
    Check(
        name="duplicate",
        severity="warning",
        subject="rows",
        about="an episode that is in the store twice (its text and frames may differ)",
        threshold="states and actions equal, bit for bit",
        source="no two recordings are",
        remedy="leave the second out, or know that it counts twice; never let one be in training and one in validation",
        find=duplicate,
        gather=checksums,
        confirm=True,
        need=_TWO,
    ),
    Check(
        name="near_duplicate",
        severity="warning",
        subject="rows",
        about="an episode that repeats another: copied at another rate, rounded, with noise added",
        threshold=f"at {CONFIRMED_AT} moments, evenly in time, within {TOLERANCE['rad']:g} rad, {TOLERANCE['m']:g} m, "
        f"{TOLERANCE['1']:g} of gripper; moves at least {LEAST_MOVED} times that. Pairs are found by hashing: one in a "
        "hundred may be missed. Parts cut out of an episode are not found",
        source="two demonstrations by a person differ by more than a degree and by centimetres",
        remedy="as for `duplicate`; a scripted policy without randomness gives such episodes, too",
        find=near_duplicate,
        gather=signatures,
        confirm=True,
        need=Need("two episodes with positions", lambda seen: seen.episodes > 1 and bool({*MOVING} & seen.state)),
    ),
)
