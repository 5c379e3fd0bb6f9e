"""Exact sums and mergeable buckets: the same whatever the order and the split, and right."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stats.buckets import MOST, Buckets, keys_of, values_of
from stats.exact import PLACES, as_float, exact_sums

few = settings(max_examples=40, deadline=None)
ANY_DOUBLE = st.floats(-1e200, 1e200)
ANY_SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHARES = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])


@few
@given(x=arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 60)), elements=ANY_DOUBLE))
def test_a_sum_is_that_of_fractions(x: np.ndarray):
    expected = [sum(map(Fraction, row), Fraction(0)) for row in x.tolist()]
    assert [Fraction(total, 1 << PLACES) for total in exact_sums(x)] == expected


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_large_blocks_of_numbers_of_very_different_size_add_up(scale: float):
    rng = np.random.default_rng(0)
    x = scale * rng.normal(size=(2, 20_000)) * 10.0 ** rng.integers(-25, 25, (2, 20_000))
    for total, row in zip(exact_sums(x), x.tolist(), strict=True):
        assert Fraction(total, 1 << PLACES) == sum(map(Fraction, row))


def test_a_quotient_is_rounded_once_and_may_be_infinite():
    assert as_float(1 << PLACES, 3) == 1 / 3
    assert as_float(-(1 << (PLACES + 1100))) == -np.inf


@few
@given(x=arrays(np.float32, st.integers(0, 300), elements=ANY_SINGLE))
def test_keys_keep_the_order_of_numbers_and_lead_back(x: np.ndarray):
    ordered = np.sort(x)
    keys = keys_of(ordered).astype(np.int64)
    assert (np.diff(keys) >= 0).all()
    np.testing.assert_array_equal(np.diff(keys) == 0, np.diff(ordered) == 0)
    np.testing.assert_array_equal(values_of(keys), ordered.astype(np.float64))


COLUMNS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "a large offset": lambda rng, n: 1e4 + 1e-2 * rng.normal(size=n),
    "two values": lambda rng, n: rng.integers(0, 2, n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n) ** 3,
    "constant": lambda rng, n: np.full(n, -0.3),
    "zeros of both signs": lambda rng, n: rng.choice([-0.0, 0.0], n),
    "a narrow range": lambda rng, n: rng.uniform(0.5, 1.5, n),
    "tiny and huge": lambda rng, n: rng.choice([1e-38, 1e38], n) * rng.normal(size=n).clip(-3, 3),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_any_split_and_any_order_give_the_same_buckets(name: str):
    rng = np.random.default_rng(3)
    x = COLUMNS[name](rng, 30_000).astype(np.float32)
    whole = Buckets.of(x)
    for _ in range(5):
        parts = [Buckets.of(part) for part in np.split(rng.permutation(x), np.sort(rng.integers(0, len(x), 6)))]
        total = Buckets.of(x[:0])
        for at in rng.permutation(len(parts)):
            total = total + parts[at]
        assert total.shift == whole.shift
        np.testing.assert_array_equal(total.buckets, whole.buckets)
        np.testing.assert_array_equal(total.counts, whole.counts)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("count", [1, 2, 1000, 60_000])
def test_quantiles_are_within_the_stated_error_and_exact_of_few_values(name: str, count: int):
    x = COLUMNS[name](np.random.default_rng(4), count).astype(np.float32)
    buckets = Buckets.of(x)
    values, errors = buckets.quantiles(SHARES)
    true = np.quantile(x.astype(np.float64), SHARES)
    assert (np.abs(values - true) <= errors + 1e-12 * np.abs(true)).all()
    assert buckets.count == count
    assert len(buckets.counts) <= MOST
    if len(np.unique(x)) <= MOST:
        assert errors.max() == 0
        assert buckets.shift == 0


def test_the_stated_error_is_small_where_it_matters():
    x = np.random.default_rng(5).normal(size=200_000).astype(np.float32)
    values, errors = Buckets.of(x).quantiles(SHARES)
    assert (errors <= 0.005 * np.abs(values) + 1e-6).all()
    offset = (1e4 + 1e-2 * np.random.default_rng(6).normal(size=200_000)).astype(np.float32)
    assert Buckets.of(offset).quantiles(SHARES)[1].max() == 0


def test_a_histogram_counts_every_value_once():
    x = np.random.default_rng(7).normal(size=50_000).astype(np.float32)
    edges = np.linspace(x.min(), x.max(), 41)
    edges[0], edges[-1] = -np.inf, np.inf
    counts = Buckets.of(x).histogram(edges)
    true, _ = np.histogram(x, edges)
    assert counts.sum() == len(x)
    assert np.abs(counts - true).max() <= 0.02 * len(x)


def test_no_values_have_no_quantile():
    values, errors = Buckets.of(np.empty(0, np.float32)).quantiles(SHARES)
    assert np.isnan(values).all()
    assert np.isnan(errors).all()
