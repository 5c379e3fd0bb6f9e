"""What is counted of each column of numbers: associative reducers, `of(values)` and `a + b`, none of which rounds.

In: the values of one slot. Out: a small frozen summary. `of(x) + of(y) == of(x and y)` holds exactly, in any order, so
that a statistic is the same bytes whatever the parts, the workers and the merge order. `REDUCERS` is the table of all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from stats.buckets import Buckets
from stats.exact import PLACES, as_float, exact_sums

Float = npt.NDArray[np.float64]

PUBLISHED_ZERO = 1e-8
"""The published statistics take |x| at most this for zero (`stats.published`)."""


class Reducer(Protocol):
    """A summary of values that can be added to another one, and written as plain JSON-able data and read back."""

    @classmethod
    def of_rows(cls, x: Float) -> list[Self]:
        """x: (D, N) finite float64 -> a summary of each row."""

    def __add__(self, other: Self) -> Self: ...

    def state(self) -> Any: ...

    @classmethod
    def restored(cls, state: Any) -> Self: ...


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, exact sum and exact sum of squares (of the squares as float64 holds them), in units of 2 ** -PLACES."""

    count: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of_rows(cls, x: Float) -> list[Self]:
        pairs = zip(exact_sums(x), exact_sums(np.square(x)), strict=True)
        return [cls(x.shape[1], total, squares) for total, squares in pairs]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """NaN of no values."""
        return as_float(self.total, self.count) if self.count else math.nan

    @property
    def std(self) -> float:
        """Of the population (divided by N); the difference of squares is taken before anything is rounded."""
        if not self.count:
            return math.nan
        scaled = self.count * (self.squares << PLACES) - self.total * self.total  # N^2 var, units of 2 ** (-2 PLACES)
        return math.sqrt(max(as_float(scaled, (self.count * self.count) << PLACES), 0.0))

    def state(self) -> Any:
        return [self.count, hex(self.total), hex(self.squares)]

    @classmethod
    def restored(cls, state: Any) -> Self:
        return cls(int(state[0]), int(state[1], 16), int(state[2], 16))


@dataclass(frozen=True, slots=True)
class Extent:
    """The smallest and the largest value; inf and -inf of none."""

    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of_rows(cls, x: Float) -> list[Self]:
        lows, highs = x.min(axis=1, initial=math.inf), x.max(axis=1, initial=-math.inf)
        return [cls(low + 0.0, high + 0.0) for low, high in zip(lows.tolist(), highs.tolist(), strict=True)]

    def __add__(self, other: Self) -> Self:
        return type(self)(min(self.low, other.low), max(self.high, other.high))

    def state(self) -> Any:
        return [self.low, self.high]

    @classmethod
    def restored(cls, state: Any) -> Self:
        return cls(float(state[0]), float(state[1]))


@dataclass(frozen=True, slots=True)
class Zeros:
    """How many values are exactly 0, and how many the published statistics take for 0."""

    exact: int = 0
    published: int = 0

    @classmethod
    def of_rows(cls, x: Float) -> list[Self]:
        exact, published = ((np.abs(x) <= most).sum(axis=1).tolist() for most in (0.0, PUBLISHED_ZERO))
        return [cls(*counts) for counts in zip(exact, published, strict=True)]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.exact + other.exact, self.published + other.published)

    def state(self) -> Any:
        return [self.exact, self.published]

    @classmethod
    def restored(cls, state: Any) -> Self:
        return cls(int(state[0]), int(state[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Where the values lie: quantiles and histograms, see `stats.buckets`. Values are taken as float32."""

    buckets: Buckets

    @classmethod
    def of_rows(cls, x: Float) -> list[Self]:
        return [cls(Buckets.of(row)) for row in x.astype(np.float32)]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.buckets + other.buckets)

    def state(self) -> Any:
        b = self.buckets
        return [b.shift, np.diff(b.buckets, prepend=0).tolist(), b.counts.tolist()]

    @classmethod
    def restored(cls, state: Any) -> Self:
        shift, steps, counts = state
        return cls(Buckets(int(shift), np.cumsum(np.array(steps, np.int64)), np.array(counts, np.int64)))


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many episodes have how many steps."""

    counts: Mapping[int, int]

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64]) -> Self:
        values, counts = np.unique(lengths, return_counts=True)
        return cls(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def __add__(self, other: Self) -> Self:
        keys = sorted({*self.counts, *other.counts})
        return type(self)({key: self.counts.get(key, 0) + other.counts.get(key, 0) for key in keys})

    @property
    def episodes(self) -> int:
        return sum(self.counts.values())

    @property
    def steps(self) -> int:
        return sum(length * count for length, count in self.counts.items())

    def quantiles(self, shares: Float) -> Float:
        """Exact, as NumPy's; NaN of no episodes."""
        if not self.counts:
            return np.full(len(shares), np.nan)
        lengths = np.repeat([*self.counts], [*self.counts.values()])
        return np.asarray(np.quantile(lengths, shares), np.float64)

    def state(self) -> Any:
        return [[*self.counts], [*self.counts.values()]]

    @classmethod
    def restored(cls, state: Any) -> Self:
        return cls(dict(zip(state[0], state[1], strict=True)))


REDUCERS: Mapping[str, type[Reducer]] = {"moments": Moments, "extent": Extent, "zeros": Zeros, "shape": Shape}
"""What is kept of every slot."""

STEP_REDUCERS: Mapping[str, type[Reducer]] = {"moments": Moments, "extent": Extent}
"""What is kept of the change from step to step."""
