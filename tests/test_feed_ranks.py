"""Several ranks on a real Ray: what is left out, and that a run goes on from files with any number of ranks."""

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rdt_data import Feed, Mixture, open_dataset
from rdt_data.batch import Batch
from rdt_data.errors import RdtError
from rdt_data.feed_files import read_states, write_state

Sample = tuple[int, int, int]
"""Episode, step, number of the sample."""

FEED: dict[str, Any] = {"batch_size": 8, "image_size": 16, "run_steps": 8, "shuffle_gb": 0.004, "horizon": 4}
BROKEN = {1: 20, 4: 0, 5: 39}
"""Episode -> its step with a frame that cannot be decoded."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for the tests of this file."""
    import ray

    from rdt_data.jobs import connect

    connect("local")
    yield
    ray.shutdown()


def broken(number: int, frames: list[bytes]) -> list[bytes]:
    at = BROKEN.get(number)
    return frames if at is None else [*frames[:at], frames[at][:300] + b"\xff\xd9", *frames[at + 1 :]]


@pytest.fixture(scope="module")
def bad(tmp_path_factory, frame_store) -> Mixture:
    store = frame_store(tmp_path_factory.mktemp("bad") / "bad.zarr", [[40, 40, 40], [40, 40, 40]], change=broken)
    return Mixture.of({store: 1})


@pytest.fixture(scope="module")
def sound(tmp_path_factory, frame_store) -> Mixture:
    return Mixture.of({frame_store(tmp_path_factory.mktemp("sound") / "a.zarr", [[60, 45], [80, 33]]): 1})


def samples(batch: Batch) -> list[Sample]:
    return list(zip(batch.episode.tolist(), batch.step.tolist(), batch.sample.tolist(), strict=True))


def walked(feeds: list[Feed], paces: tuple[int, ...]) -> list[list[Sample]]:
    """What each rank gives to the end, when they take so many batches each in turn."""
    found: list[list[Sample]] = [[] for _ in feeds]
    going = set(range(len(feeds)))
    while going:
        for rank in sorted(going):
            batches = list(itertools.islice(feeds[rank], paces[rank]))
            found[rank] += itertools.chain.from_iterable(map(samples, batches))
            if len(batches) < paces[rank]:
                going.discard(rank)
    return found


def test_a_broken_episode_is_left_out_by_every_rank_whoever_is_ahead(bad: Mixture):
    runs = []
    for paces in ((1, 3), (2, 1)):
        settings = {**FEED, "epochs": 2, "on_bad": "quarantine", "producers": 1, "world_size": 2}
        with Feed(bad, rank=0, **settings) as first, Feed(bad, rank=1, **settings) as second:
            runs.append(walked([first, second], paces))
            assert set(first.stats.left_out) == set(second.stats.left_out) == {f"bad, episode {n}" for n in BROKEN}
    assert runs[0] == runs[1]
    assert not set(runs[0][0]) & set(runs[0][1])
    union = Counter((episode, step) for episode, step, _ in runs[0][0] + runs[0][1])
    assert union == {(episode, step): 2 for episode in range(6) if episode not in BROKEN for step in range(40)}


def test_a_broken_episode_is_left_out_although_producers_die_that_were_to_find_it(bad: Mixture):
    settings = {**FEED, "shuffle_gb": 0.0004, "epochs": 2, "on_bad": "quarantine", "world_size": 2, "rank": 1}
    with Feed(bad, producers=0, **settings) as feed:
        expected = list(map(samples, feed))
    found = []
    with Feed(bad, producers=1, **settings) as feed:
        for number, batch in enumerate(feed):
            found.append(samples(batch))
            if number in (0, 3, 6):
                os.kill(feed.pids[0], signal.SIGKILL)
        assert feed.stats.replaced_producers == 3
        assert len(feed.stats.left_out) == len(BROKEN)
    assert found == expected


def test_what_is_left_out_is_the_same_after_a_resume_on_other_ranks(bad: Mixture, tmp_path):
    settings = {**FEED, "epochs": 2, "on_bad": "quarantine", "producers": 0}
    found: list[Sample] = []
    with Feed(bad, **settings) as feed:
        for batch in itertools.islice(feed, 3):
            found += samples(batch)
        feed.save(tmp_path)
    for rank in range(2):
        with Feed(bad, rank=rank, world_size=2, **settings) as feed:
            feed.load(tmp_path)
            found += itertools.chain.from_iterable(map(samples, feed))
    union = Counter((episode, step) for episode, step, _ in found)
    assert union == {(episode, step): 2 for episode in range(6) if episode not in BROKEN for step in range(40)}


def test_an_episode_that_breaks_while_it_is_read_is_left_out_from_then_on(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[40, 40, 40]])
    frame = open_dataset(str(store))[1].encoded("exterior", 33)
    settings = {**FEED, "shuffle_gb": 0.0004, "producers": 0, "on_bad": "quarantine"}
    with Feed(Mixture.of({store: 1}), epochs=3, **settings) as feed:
        found = [sample for batch in itertools.islice(feed, 15) for sample in samples(batch)]
        damage(store, frame)
        rest = [sample for batch in feed for sample in samples(batch)]
        assert feed.stats.left_out == ("a, episode 1",)
    assert len([sample for sample in found if sample[0] == 1]) > 20
    assert len([sample for sample in rest if sample[0] == 1]) < 40
    counts = Counter((episode, step) for episode, step, _ in found + rest if episode != 1)
    assert counts == {(episode, step): 3 for episode in (0, 2) for step in range(40)}


def damage(store: Path, frame: bytes) -> None:
    """Overwrite a frame where it lies."""
    for file in (store / "parts/0/images").rglob("c/**/*"):
        if file.is_file() and (at := file.read_bytes().find(frame)) >= 0:
            with file.open("r+b") as opened:
                opened.seek(at + 300)
                opened.write(b"\xff\xd9" * ((len(frame) - 300) // 2))
            return
    raise AssertionError("the frame is in no file")


def test_a_run_goes_on_from_the_files_of_its_ranks_with_any_number_of_them(sound: Mixture, tmp_path):
    """1, 2, 4 and 1 ranks, each on producers of their own, which stop after different numbers of batches."""
    with Feed(sound, epochs=3, producers=0, **FEED) as feed:
        whole = [sample for batch in feed for sample in samples(batch)]
    found: list[Sample] = []
    folder: Path | None = None
    for stage, (world_size, steps) in enumerate(((1, 15), (2, 10), (4, 4), (1, None))):
        saved, ranks = tmp_path / f"checkpoint-{stage}", []
        for rank in range(world_size):
            with Feed(sound, epochs=3, rank=rank, world_size=world_size, producers=1, **FEED) as feed:
                if folder:
                    feed.load(folder)
                batches = itertools.islice(feed, steps + rank if steps else None)
                ranks.append([sample for batch in batches for sample in samples(batch)])
                assert feed.save(saved).name == f"feed-{rank}-of-{world_size}.json"
        assert len({number for rank in ranks for _, _, number in rank}) == sum(map(len, ranks)), "ranks are disjoint"
        assert all(ranks)
        found += itertools.chain.from_iterable(ranks)
        folder = saved
    assert sorted(found) == sorted(whole)


def test_the_same_number_of_ranks_goes_on_exactly_from_the_files(sound: Mixture, tmp_path):
    settings = {**FEED, "epochs": 2, "producers": 0, "world_size": 2}
    for rank in range(2):
        with Feed(sound, rank=rank, **settings) as feed:
            whole = list(map(samples, feed))
        with Feed(sound, rank=rank, **settings) as feed:
            before = list(map(samples, itertools.islice(feed, 5)))
            feed.save(tmp_path / str(rank))
            feed.save(tmp_path)
        with Feed(sound, rank=rank, **settings) as feed:
            feed.load_state_dict(json.loads((tmp_path / f"feed-{rank}-of-2.json").read_text()))
            assert before + list(map(samples, feed)) == whole
    with Feed(sound, rank=1, **settings) as feed:
        feed.load(tmp_path)
        assert before + list(map(samples, feed)) == whole


def state(rank: int, world_size: int) -> dict[str, Any]:
    return {"rank": rank, "world_size": world_size}


def test_files_of_a_state_that_are_not_all_there_are_told(tmp_path):
    with pytest.raises(RdtError, match=f"{tmp_path} holds no state of a feed\n  fix: give the folder"):
        read_states(tmp_path)
    for rank in (3, 0):
        write_state(tmp_path, state(rank, 4))
    with pytest.raises(RdtError, match=r"lacks feed-1-of-4\.json, feed-2-of-4\.json\n  fix: copy the files of all"):
        read_states(tmp_path)
    for rank in (1, 2):
        write_state(tmp_path, state(rank, 4))
    assert read_states(tmp_path) == [state(rank, 4) for rank in range(4)]
    write_state(tmp_path, state(0, 2))
    with pytest.raises(RdtError, match="states of runs with 2 and 4 ranks\n  fix: save each checkpoint into a folder"):
        read_states(tmp_path)
    (tmp_path / "feed-0-of-2.json").unlink()
    (tmp_path / "feed-2-of-4.json").write_text('{"rank": 2, "wor')
    with pytest.raises(RdtError, match=r"feed-2-of-4\.json cannot be read: .*\n  fix: go on from an earlier"):
        read_states(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_states_of_ranks_that_saw_a_store_grow_are_refused(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[40, 40], [32]], complete=False)
    hidden = store / "parts" / "1"
    hidden.rename(tmp_path / "1")
    for rank in range(2):
        with Feed(Mixture.of({store: 1}), rank=rank, world_size=2, producers=0, **FEED) as feed:
            next(feed)
            feed.save(tmp_path / "saved")
        if not hidden.exists():
            (tmp_path / "1").rename(hidden)
    feed = Feed(Mixture.of({store: 1}), producers=0, **FEED)
    with pytest.raises(RdtError, match="ranks 0 and 1 did not read the same parts"):
        feed.load(tmp_path / "saved")
