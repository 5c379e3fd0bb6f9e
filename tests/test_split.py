"""A side is a function of source, fraction and seed, so that nothing that happens around an episode changes it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import RdtError, StoreError
from rdt_data.split import Split, read_split, side_of, split_store
from rdt_data.store import open_dataset

sources = st.text(max_size=30)
fractions = st.floats(0, 1)
seeds = st.integers(-(2**63), 2**63)


@pytest.fixture
def store(tmp_path, aloha_source, command) -> Path:
    source = aloha_source(tmp_path, episodes=9)
    assert command("convert", source, tmp_path / "made.zarr", "--dataset", "demo_aloha").code == 0
    return tmp_path / "made.zarr"


def sides(names, fraction: float, seed: int) -> dict[str, str]:
    return {name: side_of(name, fraction, seed) for name in names}


@given(there=st.sets(sources), added=st.sets(sources), fraction=fractions, seed=seeds)
def test_a_side_never_changes_when_other_episodes_are_added(there, added, fraction, seed):
    before, after = sides(there, fraction, seed), sides(sorted(there | added), fraction, seed)
    assert before.items() <= after.items()


@given(source=sources, low=fractions, high=fractions, seed=seeds)
def test_a_larger_fraction_only_moves_episodes_to_validation(source, low, high, seed):
    low, high = sorted((low, high))
    if side_of(source, low, seed) == "validation":
        assert side_of(source, high, seed) == "validation"


@given(source=sources, seed=seeds)
def test_none_and_all_are_none_and_all(source, seed):
    assert side_of(source, 0.0, seed) == "train"
    assert side_of(source, 1.0, seed) == "validation"


@pytest.mark.parametrize("fraction", [0.05, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_about_the_fraction_is_in_validation_whatever_sources_are_called(fraction, seed):
    names = [f"task/episode_{number}" for number in range(20_000)]
    share = sum(side_of(name, fraction, seed) == "validation" for name in names) / len(names)
    assert abs(share - fraction) < 5 * (fraction * (1 - fraction) / len(names)) ** 0.5


def test_another_seed_is_another_choice():
    names = [f"episode_{number}" for number in range(1000)]
    assert sides(names, 0.5, 0) != sides(names, 0.5, 1)


def test_sides_are_the_same_in_every_version_of_this_program():
    names = [f"episode_{number}.hdf5" for number in range(8)]
    assert [name for name in names if side_of(name, 0.5, 0) == "validation"] == [
        "episode_0.hdf5",
        "episode_1.hdf5",
        "episode_4.hdf5",
        "episode_6.hdf5",
    ]


def test_the_store_keeps_the_rule_and_the_command_counts(store, command):
    done = command("split", store, "--validation", "0.5", "--seed", "3", "--json")
    assert done.code == 0
    dataset = open_dataset(str(store))
    want = [side_of(episode.source, 0.5, 3) for episode in dataset]
    assert {side: want.count(side) for side in ("train", "validation")} == done.json["episodes"]
    assert sum(done.json["steps"].values()) == dataset.steps
    assert sum(sum(count.values()) for count in done.json["instructions"].values()) == 9
    assert read_split(dataset) == Split(0.5, 3)
    assert [read_split(dataset).side(episode) for episode in dataset] == want
    assert command("verify", store).code == 0


def test_splitting_again_replaces_the_rule(store, command):
    assert command("split", store).code == 0
    assert read_split(open_dataset(str(store))) == Split(0.05, 0)
    assert "50.0% asked" in command("split", store, "--validation", "0.5").out
    assert read_split(open_dataset(str(store))) == Split(0.5, 0)
    assert [path.name for path in store.glob("splits*")] == ["splits.json"]


def test_a_store_without_a_rule_has_none(store):
    assert read_split(open_dataset(str(store))) is None


@pytest.mark.parametrize(
    "text", ["", "{}", '{"validation": 7, "seed": 0, "hashed": "source"}', '{"hashed": "id"}', "[1]"]
)
def test_a_damaged_rule_is_told(store, text):
    (store / "splits.json").write_text(text)
    with pytest.raises(StoreError, match=r"splits.json does not say how to split[\s\S]*rdt-data split"):
        read_split(open_dataset(str(store)))


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_share_is_from_0_to_1(fraction):
    with pytest.raises(RdtError, match="give a fraction from 0 to 1"):
        Split(fraction, 0)


def test_a_write_that_fails_leaves_the_old_rule(store, monkeypatch):
    split_store(str(store), Split(0.5, 1))
    monkeypatch.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StoreError, match="No space left"):
        split_store(str(store), Split(0.1, 2))
    assert json.loads((store / "splits.json").read_text())["seed"] == 1
    assert [path.name for path in store.glob("*splits*")] == ["splits.json"]
