"""Random numbers of training are a function of (seed, sample, purpose, item), and streams never meet."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_model.draws import Purpose, generator

words = st.integers(0, 2**64 - 1)
keys = st.tuples(words, words, st.sampled_from(Purpose), words)


@given(key=keys)
def test_the_same_key_gives_the_same_numbers(key):
    assert np.array_equal(generator(*key).random(5), generator(*key).random(5))


@given(one=keys, other=keys)
def test_another_key_gives_other_numbers(one, other):
    assert (one == other) == np.array_equal(generator(*one).random(2), generator(*other).random(2))


@pytest.mark.parametrize("place", range(4))
def test_streams_of_neighbours_share_no_number(place):
    key = [1, 2, Purpose.CONDITIONS, 3]
    neighbours = (generator(*key[:place], value, *key[place + 1 :]) for value in range(4))
    numbers = [rng.integers(2**63, size=1000) for rng in neighbours]
    assert all(not np.intersect1d(one, other).size for one, other in itertools.combinations(numbers, 2))


def test_the_numbers_never_change_between_versions():
    drawn = {purpose.name: generator(7, 11, purpose, 2).integers(1000, size=3).tolist() for purpose in Purpose}
    assert drawn == {
        "CONDITIONS": [303, 477, 105],
        "STATE_NOISE": [976, 661, 696],
        "DIFFUSION": [803, 815, 430],
        "IMAGES": [754, 645, 959],
    }


@pytest.mark.parametrize("value", [-1, 2**64])
@pytest.mark.parametrize("name", ["seed", "sample", "item"])
def test_a_number_that_is_no_word_is_refused_by_name(name, value):
    with pytest.raises(RdtError, match=rf"{name} is {value}\n  fix: give a whole number"):
        generator(**{"seed": 0, "sample": 0, "purpose": Purpose.IMAGES, "item": 0, name: value})
