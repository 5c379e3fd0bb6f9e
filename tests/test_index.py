"""Runs: every window of every episode is in exactly one, none is longer than allowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.index import Runs

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=20).map(lambda row: np.array(row, np.int64))


@given(lengths=lengths, longest=st.integers(1, 100))
def test_every_window_is_in_exactly_one_run(lengths, longest):
    runs = Runs(lengths, longest)
    cut = [runs.run(number) for number in range(len(runs))]
    found = [(episode, step) for episode, start, stop in cut for step in range(start, stop)]
    assert found == [(episode, step) for episode, length in enumerate(lengths) for step in range(length)]
    assert runs.windows == len(found)


@given(lengths=lengths, longest=st.integers(1, 100))
def test_runs_of_an_episode_are_as_few_as_can_be_and_of_nearly_equal_length(lengths, longest):
    runs = Runs(lengths, longest)
    sizes: dict[int, list[int]] = {}
    for number in range(len(runs)):
        episode, start, stop = runs.run(number)
        sizes.setdefault(episode, []).append(stop - start)
    for episode, of_episode in sizes.items():
        assert max(of_episode) <= longest
        assert max(of_episode) - min(of_episode) <= 1
        assert len(of_episode) == -(-int(lengths[episode]) // longest)


def test_there_is_no_run_beyond_the_last():
    runs = Runs(np.array([5, 3]), 4)
    assert [runs.run(n) for n in range(len(runs))] == [(0, 0, 2), (0, 2, 5), (1, 0, 3)]
    for number in (-1, 3):
        with pytest.raises(IndexError, match="there are 3 runs"):
            runs.run(number)
