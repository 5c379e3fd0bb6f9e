"""Sums without rounding: the same number whatever the order and the split of the data.

In: finite float64 values, one row per slot. Out: each row's sum as a whole number of units of 2 ** -PLACES. A float64
sum depends on the order of its terms; statistics that are cached by part, merged by any worker in any order and
compared byte for byte must not. The idea is that of binned summation (Demmel and Nguyen 2015): cut every value at a
fixed binary place; the tops are multiples of one power of two, so that float64 adds them without rounding; go on with
the rests.
"""

import math

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

PLACES = 1200
"""The unit 2 ** -PLACES is below the smallest bit of any float64 (2 ** -1074)."""

_BLOCK = 4096  # values added at a time: tops keep 52 - 12 = 40 bits, and a block of all slots stays in the cache
_TOP_BITS = 40


def exact_sums(x: Float) -> list[int]:
    """The sum of each row of x (D, N), finite, below 2 ** 900, in units of 2 ** -PLACES."""
    totals = [0] * len(x)
    for start in range(0, x.shape[1], _BLOCK):
        _add_block(x[:, start : start + _BLOCK].copy(), totals)
    return totals


def _add_block(rest: Float, totals: list[int]) -> None:
    """Add the exact sums of a block to `totals`; `rest` is used up."""
    tops = np.empty_like(rest)
    largest = np.abs(rest, out=tops).max(axis=1, initial=0.0)
    while largest.any():
        # A number of magnitude 1.5 * 2 ** (e + 52) has its last bit at 2 ** e: adding it rounds to multiples of 2 ** e.
        exponents = np.maximum(np.frexp(largest)[1].astype(np.int64) - _TOP_BITS, -1074)
        magic = np.ldexp(1.5, exponents + 52)[:, None]
        np.add(rest, magic, out=tops)
        np.subtract(tops, magic, out=tops)
        np.subtract(rest, tops, out=rest)
        for row, (total, exponent) in enumerate(zip(tops.sum(axis=1).tolist(), exponents.tolist(), strict=True)):
            if total:
                totals[row] += int(math.ldexp(total, -exponent)) << (exponent + PLACES)
        rest, tops = _squeezed(rest, tops)
        largest = np.abs(rest, out=tops).max(axis=1, initial=0.0)


def _squeezed(rest: Float, tops: Float) -> tuple[Float, Float]:
    """The same rests without most of the zeros among them, and room for their tops: few values have many bits."""
    there = rest != 0
    most = int(np.count_nonzero(there, axis=1).max(initial=0))
    if most > rest.shape[1] // 2:
        return rest, tops
    squeezed = np.zeros((len(rest), most))
    for row, (values, mine) in enumerate(zip(rest, there, strict=True)):
        kept = values[mine]
        squeezed[row, : len(kept)] = kept
    return squeezed, np.empty_like(squeezed)


def as_float(units: int, count: int = 1) -> float:
    """units * 2 ** -PLACES / count, rounded once; inf where that is too large for a float."""
    try:
        return units / (count << PLACES)
    except OverflowError:
        return math.inf if units > 0 else -math.inf
