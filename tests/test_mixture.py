"""The plan: shares hold, every window comes once in each epoch, and it does not matter where one begins to read it."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdt_data.errors import RdtError, SpecError
from rdt_data.index import Runs
from rdt_data.mixture import Block, Plan, Source
from rdt_data.mixture_file import Mixture, load_mixture
from rdt_data.shuffle import SHARE_OPEN, Pool


def source(share: float, lengths: list[int], longest: int = 32) -> Source:
    return Source(share, np.arange(len(lengths)) * 2, Runs(np.array(lengths, np.int64), longest))


def two(epochs: int | None = None) -> Plan:
    return Plan(7, {"a": source(0.7, [40, 33, 200]), "b": source(0.3, [90] * 9)}, epochs=epochs)


def windows(blocks: list[Block]) -> Counter[tuple[str, int, int]]:
    return Counter((block.dataset, block.episode, step) for block in blocks for step in range(block.start, block.stop))


def first(plan: Plan, samples: int) -> list[Block]:
    return list(itertools.takewhile(lambda block: block.sample < samples, plan))


def test_the_shares_of_the_published_mixture_hold_within_one_percent_of_100_000_samples():
    rng, shares = np.random.default_rng(0), load_mixture("rdt_pretrain").shares
    plan = Plan(0, {name: source(share, rng.integers(32, 900, 50).tolist()) for name, share in shares.items()})
    for begin in (0, 400_000):
        drawn = Counter[str]()
        for block in first(plan, begin + 100_000):
            drawn[block.dataset] += len(block) if block.sample >= begin else 0
        for name, share in shares.items():
            assert drawn[name] / 100_000 == pytest.approx(share, abs=0.001)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.05, 1), st.lists(st.integers(1, 90), min_size=1, max_size=6)), min_size=1, max_size=4
    ),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_every_window_comes_exactly_once_in_each_epoch(datasets, epochs, shuffled, seed):
    sources = {str(n): source(share, lengths, 16) for n, (share, lengths) in enumerate(datasets)}
    blocks = list(Plan(seed, sources, epochs=epochs, shuffled=shuffled))
    found = windows(blocks)
    assert set(found.values()) == {epochs}
    assert len(found) == sum(s.runs.windows for s in sources.values())
    for name, one in sources.items():
        of_dataset = [block for block in blocks if block.dataset == name]
        for epoch in range(epochs):
            part = of_dataset[epoch * len(one.runs) : (epoch + 1) * len(one.runs)]
            assert set(windows(part).values()) == {1}
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert [block.sample for block in blocks] == [0, *itertools.accumulate(len(b) for b in blocks)][:-1]


@given(st.integers(0, 300))
def test_a_plan_goes_on_from_its_state(stop):
    whole, begun, resumed = two(), two(), two()
    expected = list(itertools.islice(whole, stop + 50))[stop:]
    for _ in range(stop):
        next(begun)
    resumed.state = json.loads(json.dumps(begun.state))
    assert list(itertools.islice(resumed, 50)) == expected


def test_another_seed_gives_another_order_and_the_same_seed_the_same():
    orders = [[b.as_json() for b in itertools.islice(Plan(seed, two().sources), 40)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_in_order_means_dataset_by_dataset_episode_by_episode():
    plan = Plan(0, {"a": source(0.1, [40, 33]), "b": source(0.9, [70])}, epochs=1, shuffled=False)
    found = [(block.dataset, block.episode, block.start) for block in plan]
    assert found == [("a", 0, 0), ("a", 0, 20), ("a", 2, 0), ("a", 2, 16), ("b", 0, 0), ("b", 0, 23), ("b", 0, 46)]


def test_no_epochs_are_refused():
    with pytest.raises(RdtError, match="epochs=0"):
        two(epochs=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_a_pool_gives_every_row_once_and_batches_are_full_until_the_end(size, most, shuffled):
    plan = two(epochs=1)
    blocks = iter(list(plan))
    pool = Pool(3, "lane", most=most, rows=most * 16, shuffled=shuffled)
    found, ended = Counter[tuple[int, int]](), False
    while not ended:
        while pool.wants_more and (block := next(blocks, None)) is not None:
            pool.add(block)
        assert len(pool.open) <= most
        picks, _ = pool.draw(str(len(found)), size)
        found.update((entry.block.number, row) for entry, row in picks)
        ended = not picks
    assert set(found.values()) == {1}
    assert len(found) == sum(s.runs.windows for s in plan.sources.values())


def test_rows_of_a_batch_are_of_different_blocks_while_there_are_enough():
    pool = Pool(3, "lane", most=40, rows=10_000)
    for block in itertools.islice(two(), 40):
        pool.add(block)
    for turn in range(20):
        picks, _ = pool.draw(str(turn), 20)
        assert len({entry.block.number for entry, _ in picks}) == 20


def test_blocks_are_asked_for_at_an_even_rate_from_the_beginning():
    plan = Plan(1, {"a": source(1, [320] * 500)})
    pool, asked = Pool(1, "lane", most=64, rows=64 * 32 // SHARE_OPEN), []
    for turn in range(400):
        before = len(asked)
        while pool.wants_more:
            pool.add(next(plan))
            asked.append(turn)
        assert turn == 0 or len(asked) - before <= 2  # 32 rows a turn are one block's worth
        pool.draw(str(turn), 32)


def test_a_mixture_can_be_made_of_paths_and_weights():
    mixture = Mixture.of({"data/a.zarr": 0.7, "s3://bucket/b.zarr": 0.3})
    assert mixture.shares == pytest.approx({"a": 0.7, "b": 0.3})
    assert mixture.url("b") == "s3://bucket/b.zarr"
    with pytest.raises(SpecError, match=r"stores of one name: x/a\.zarr and y/a\.zarr"):
        Mixture.of({"x/a.zarr": 1, "y/a.zarr": 1})
    with pytest.raises(SpecError, match="weight"):
        Mixture.of({"a.zarr": 0})
