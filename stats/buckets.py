"""A mergeable picture of a column of numbers, for quantiles and histograms: how many lie in each bucket of float32s.

Buckets are runs of 2 ** shift neighbouring float32 numbers; `shift` is the smallest for which at most MOST buckets are
used. So the result depends on the multiset of values alone, not on order, split or merge: any number of workers gives
the same bytes, which a randomised sketch cannot. With at most MOST different values (grippers, constants, small data)
every quantile is exact; else it is off by at most the width of its bucket, which is stated with it. Large offsets
cost nothing: buckets follow the float32 grid around the data.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

MOST = 4096

_TABLE = 1 << 18  # entries of the table that values are counted in

_KEYS = 1 << 32
_NEGATIVE_ZERO, _ZERO = 0x7FFFFFFF, 0x80000000


def keys_of(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """The place of each float32 among all: a < b as numbers is a < b as keys. -0.0 counts as 0.0."""
    bits = x.view(np.uint32)
    keys = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(_ZERO))
    return np.where(keys == _NEGATIVE_ZERO, np.uint32(_ZERO), keys)


def values_of(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The inverse of `keys_of`."""
    clipped = np.clip(keys, 0, _KEYS - 1).astype(np.uint32)
    bits = np.where(clipped >> 31 == 1, clipped ^ np.uint32(_ZERO), ~clipped)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """How many values lie in each bucket: keys >> shift, ascending, and their counts."""

    shift: int
    buckets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, x: npt.NDArray[np.float32]) -> Self:
        """x: (N,) finite."""
        if not len(x):
            return cls(0, np.empty(0, np.int64), np.empty(0, np.int64))
        keys = keys_of(np.ascontiguousarray(x))
        low, high = int(keys.min()), int(keys.max())
        shift = max((high - low).bit_length() - _TABLE.bit_length() + 1, 0)
        first = low >> shift
        table = np.bincount(((keys >> np.uint32(shift)) - np.uint32(first)).astype(np.intp))
        used = np.flatnonzero(table != 0)  # much faster of booleans
        if len(used) <= MOST and shift:  # few values far apart: every one of them
            distinct, counts = np.unique(keys, return_counts=True)
            return cls(0, distinct.astype(np.int64), counts.astype(np.int64))._coarsened(MOST)
        return cls(shift, used + first, table[used].astype(np.int64))._coarsened(MOST)

    def __add__(self, other: Self) -> Self:
        shift = max(self.shift, other.shift)
        parts = (self._at(shift), other._at(shift))
        buckets = np.concatenate([part.buckets for part in parts])
        counts = np.concatenate([part.counts for part in parts])
        order = np.argsort(buckets, kind="stable")
        return type(self)(shift, *_summed(buckets[order], counts[order]))._coarsened(MOST)

    def _at(self, shift: int) -> Self:
        return type(self)(shift, *_summed(self.buckets >> (shift - self.shift), self.counts))

    def _coarsened(self, most: int) -> Self:
        """With the smallest shift that leaves at most `most` buckets."""
        result = self
        while len(result.buckets) > most:
            result = result._at(result.shift + 1)
        return result

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def edges(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The smallest and the largest float32 of each bucket."""
        first = self.buckets << self.shift
        return values_of(first), values_of(first + (1 << self.shift) - 1)

    def quantiles(self, shares: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """For each share of 0 … 1 the value there and the most it can be off; NaN of no values.

        As NumPy defines it: linear between the two values whose ranks, from 0, enclose share * (N - 1).
        """
        if not len(self.counts):
            return np.full(len(shares), np.nan), np.full(len(shares), np.nan)
        ranks = shares * (self.count - 1)
        ends = np.cumsum(self.counts)
        low, high = self.edges()
        middle, half = (low + high) / 2, (high - low) / 2
        zero = (low <= 0) & (high >= 0)  # of numbers this small nobody wants another middle
        middle, half = np.where(zero, 0.0, middle), np.where(zero, np.maximum(high, -low), half)
        below, above = (np.searchsorted(ends, rank, side="right") for rank in (np.floor(ranks), np.ceil(ranks)))
        fraction = ranks - np.floor(ranks)
        value = middle[below] + (middle[above] - middle[below]) * fraction
        return value, np.maximum(half[below], half[above])

    def histogram(self, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Counts between ascending edges (B + 1,) -> (B,); a bucket counts where its middle lies."""
        low, high = self.edges()
        counts, _ = np.histogram((low + high) / 2, edges, weights=self.counts)
        return counts.astype(np.int64)


def _summed(
    buckets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Equal neighbours put together."""
    if not len(buckets):
        return buckets, counts
    starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
    return buckets[starts], np.add.reduceat(counts, starts)
