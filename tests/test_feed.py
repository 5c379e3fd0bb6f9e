"""The feed in one process: what a batch holds, that each sample comes once, and that a state is an exact place."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdt_data import Feed, Mixture, open_dataset
from rdt_data.batch import Batch, instruction_id
from rdt_data.errors import RdtError, StoreError
from rdt_data.images import decode
from rdt_data.language import language_of
from rdt_data.letterbox import BACKGROUND, fitted, write_letterboxed
from rdt_data.producer import EpisodeError
from rdt_data.split import Split, split_store

Sample = tuple[str, int, int]
SMALL: dict[str, Any] = {
    "batch_size": 8,
    "producers": 0,
    "image_size": 16,
    "run_steps": 8,
    "shuffle_gb": 0.004,
    "horizon": 4,
}


def samples(batches: Iterable[Batch]) -> list[Sample]:
    return [
        sample
        for batch in batches
        for sample in zip(batch.dataset.tolist(), batch.episode.tolist(), batch.step.tolist(), strict=True)
    ]


@pytest.fixture(scope="module")
def stores(tmp_path_factory, frame_store) -> Mixture:
    folder = tmp_path_factory.mktemp("stores")
    frame_store(folder / "a.zarr", [[40, 35], [60]], cameras=("exterior", "left_wrist"))
    frame_store(folder / "b.zarr", [[33, 12]])
    return Mixture.of({folder / "a.zarr": 0.6, folder / "b.zarr": 0.4})


ALL = {("a", e, t) for e, length in enumerate((40, 35, 60)) for t in range(length)} | {("b", 0, t) for t in range(33)}


def test_a_row_is_what_the_store_holds_and_says_where_it_is_from(stores: Mixture):
    opened = {name: open_dataset(stores.url(name)) for name in ("a", "b")}
    seen = 0
    with Feed(stores, epochs=1, **SMALL) as feed:
        assert feed.shape.cameras == ("exterior", "left_wrist")
        for batch in feed:
            for row in range(len(batch)):
                store, t = opened[str(batch.dataset[row])], int(batch.step[row])
                episode = store[int(batch.episode[row])]
                ahead = np.minimum(np.arange(t, t + 4), len(episode) - 1)
                assert (batch.state[row, 0] == episode.state[t]).all()
                assert (batch.state_mask[row, 0] == episode.state_mask).all()
                assert (batch.action[row] == episode.action[ahead]).all()
                assert (batch.action_mask[row] == episode.action_mask).all()
                assert batch.valid[row].tolist() == [t + n < len(episode) for n in range(4)]
                assert batch.control_hz[row] == 5
                assert batch.instruction[row] == episode.instruction
                assert batch.language[row] == instruction_id(episode.instruction)
                there = [slot in episode.cameras for slot in feed.shape.cameras]
                assert batch.image_mask[row].tolist() == [[one and t > 0 for one in there], there]
                for frame, step in enumerate((max(t - 1, 0), t)):
                    assert (batch.images[row, frame, 0] == square(episode.encoded("exterior", step))).all()
                    if not there[1]:
                        assert (batch.images[row, frame, 1] == BACKGROUND).all()
                seen += 1
    assert seen == len(ALL)


def square(data: bytes) -> np.ndarray:
    out = np.empty((16, 16, 3), np.uint8)
    write_letterboxed(data, (24, 32), out)
    return out


def test_every_sample_comes_once_an_epoch_and_has_a_number_of_its_own(stores: Mixture):
    with Feed(stores, epochs=2, **SMALL) as feed:
        numbers, found = [], Counter[Sample]()
        for batch in feed:
            found.update(samples([batch]))
            numbers += batch.sample.tolist()
    assert found == dict.fromkeys(ALL, 2)
    assert sorted(numbers) == list(range(2 * len(ALL)))


def test_the_order_is_that_of_the_seed_and_is_mixed(stores: Mixture):
    def order(seed: int) -> list[Sample]:
        with Feed(stores, seed=seed, **SMALL) as feed:
            return samples(itertools.islice(feed, 20))

    assert order(1) == order(1) != order(2)
    neighbours = sum(abs(x[2] - y[2]) == 1 and x[:2] == y[:2] for x, y in itertools.pairwise(order(1)))
    assert neighbours < 20  # of 159 pairs; in order it were nearly all


def test_without_shuffling_a_side_is_walked_once_in_order(stores: Mixture):
    with Feed(stores, epochs=1, **{**SMALL, "shuffle_gb": 0}) as feed:
        assert samples(feed) == sorted(ALL)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_batches_are_of_the_size_asked_for_except_the_last(stores: Mixture, size: int):
    with Feed(stores, epochs=1, **{**SMALL, "batch_size": size}) as feed:
        sizes = [len(batch) for batch in feed]
    assert sum(sizes) == len(ALL)
    assert set(sizes[:-1]) <= {size}
    assert 0 < sizes[-1] <= size


def test_ranks_share_the_samples_between_them(stores: Mixture):
    found: list[Sample] = []
    for rank in range(3):
        with Feed(stores, epochs=1, rank=rank, world_size=3, **SMALL) as feed:
            found += samples(feed)
    assert sorted(found) == sorted(ALL)


@pytest.mark.parametrize("stop", [0, 1, 5, 13])
def test_a_feed_goes_on_exactly_where_it_was(stores: Mixture, stop: int):
    with Feed(stores, epochs=2, **SMALL) as feed:
        whole = samples(feed)
    with Feed(stores, epochs=2, **SMALL) as feed:
        before = samples(itertools.islice(feed, stop))
        state = json.loads(json.dumps(feed.state_dict()))
    with Feed(stores, epochs=2, **SMALL) as feed:
        feed.load_state_dict(state)
        assert before + samples(feed) == whole


def test_another_number_of_ranks_takes_up_what_is_left(stores: Mixture):
    found: list[Sample] = []
    states: list[dict[str, Any]] = []
    for world_size, steps in ((1, 3), (2, 4), (4, 2), (1, None)):
        saved = []
        for rank in range(world_size):
            with Feed(stores, epochs=2, rank=rank, world_size=world_size, **SMALL) as feed:
                if states:
                    feed.load_state_dict(states)
                found += samples(itertools.islice(feed, steps + (rank == 1) if steps else None))
                saved.append(json.loads(json.dumps(feed.state_dict())))
        states = saved
    assert Counter(found) == dict.fromkeys(ALL, 2)


def test_a_state_that_cannot_be_taken_up_says_why(stores: Mixture):
    with Feed(stores, rank=1, world_size=2, **SMALL) as feed:
        state = feed.state_dict()
        next(feed)
        with pytest.raises(RdtError, match="this feed has begun"):
            feed.load_state_dict(state)
    with pytest.raises(RdtError, match="this feed is closed"):
        next(feed)
    with pytest.raises(RdtError, match=r"ranks \[1\] of 2 cannot be taken up by 1 ranks\n  fix: .* all 2 ranks"):
        Feed(stores, **SMALL).load_state_dict(state)
    with pytest.raises(RdtError, match="the state was saved with seed=0, this feed has 5"):
        Feed(stores, seed=5, **SMALL).load_state_dict(state)
    with pytest.raises(RdtError, match="version None, this program reads 1"):
        Feed(stores, **SMALL).load_state_dict({})
    with pytest.raises(RdtError, match="no state to take up"):
        Feed(stores, **SMALL).load_state_dict([])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"rank": 2, "world_size": 2}, "rank=2 of world_size=2"),
        ({"producers": -1}, "producers=-1"),
        ({"cameras": ("exteriour",)}, "did you mean 'exterior'"),
        ({"on_bad": "skip"}, "no way to treat broken episodes is called 'skip'"),
        ({"split": "test"}, "choose one of train, validation"),
        ({"history": 0}, "history=0"),
        ({"image_size": 0}, "image_size=0"),
        (
            {"shuffle_gb": 1e-5},
            r"shuffle_gb=1e-05 holds not one block of .* MB\n  fix: give shuffle_gb=",
        ),
        ({"split": "validation"}, "is not split"),
        ({"language": True}, "holds no language embeddings"),
    ],
)
def test_what_cannot_be_meant_is_refused(stores: Mixture, wrong: dict[str, Any], said: str):
    with pytest.raises(RdtError, match=said):
        next(Feed(stores, **{**SMALL, **wrong}))


def test_the_sides_of_a_split_are_apart(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[32] * 30], cameras=())
    split_store(str(store), Split(0.3, 0))
    sides = {}
    for side in ("train", "validation", None):
        with Feed(Mixture.of({store: 1}), split=side, epochs=1, **SMALL) as feed:
            sides[side] = set(samples(feed))
    assert sides["train"] | sides["validation"] == sides[None]
    assert not sides["train"] & sides["validation"]
    assert len(sides[None]) == 30 * 32
    assert sides["validation"]


def broken(number: int, frames: list[bytes]) -> list[bytes]:
    """The frames of episode 1, step 20 of them cut."""
    return [*frames[:20], frames[20][:300] + b"\xff\xd9", *frames[21:]] if number == 1 else frames


@pytest.fixture(scope="module")
def bad_store(tmp_path_factory, frame_store) -> Path:
    return frame_store(tmp_path_factory.mktemp("bad") / "bad.zarr", [[40, 40, 40]], change=broken)


def test_a_corrupt_frame_stops_the_feed_with_its_place(bad_store: Path):
    with Feed(Mixture.of({bad_store: 1}), **SMALL) as feed, pytest.raises(EpisodeError) as caught:
        list(itertools.islice(feed, 50))
    assert caught.value.file == str(bad_store)
    assert (caught.value.episode, caught.value.field) == (1, "exterior, step 20")
    assert "JPEG cannot be decoded" in caught.value.problem
    assert "quarantine" in caught.value.remedy
    assert feed.state_dict()["batches"] < 50


def test_a_broken_episode_gives_no_sample_and_is_told(bad_store: Path):
    """Its first block may be a sound one: the episode is read whole before any sample of it is given."""
    runs = []
    for size in (8, 3):
        with Feed(Mixture.of({bad_store: 1}), epochs=2, on_bad="quarantine", **{**SMALL, "batch_size": size}) as feed:
            runs.append(samples(feed))
            assert feed.stats.left_out == ("bad, episode 1",)
            assert feed.state_dict()["left_out"] == [["bad", 1]]
    expected = dict.fromkeys([("bad", e, t) for e in (0, 2) for t in range(40)], 2)
    assert Counter(runs[0]) == Counter(runs[1]) == expected


def test_a_store_that_grows_is_read_as_it_was(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[40, 40], [32]], complete=False)
    hidden = store / "parts" / "1"
    hidden.rename(tmp_path / "1")
    mixture = Mixture.of({store: 1})
    with Feed(mixture, epochs=2, **SMALL) as feed:
        whole = samples(feed)
    with Feed(mixture, epochs=2, **SMALL) as feed:
        before = samples(itertools.islice(feed, 4))
        (tmp_path / "1").rename(hidden)
        before += samples(itertools.islice(feed, 4))
        state = feed.state_dict()
    with Feed(mixture, epochs=2, **SMALL) as feed:
        feed.load_state_dict(state)
        assert before + samples(feed) == whole
    with Feed(mixture, epochs=1, **SMALL) as feed:
        assert len(samples(feed)) == 40 + 40 + 32
    (store / "parts" / "0").rename(tmp_path / "0")
    feed = Feed(mixture, epochs=2, **SMALL)
    with pytest.raises(StoreError, match="is not what it was when this state was saved"):
        feed.load_state_dict(state)


def test_a_store_that_moves_is_told_and_the_feed_goes_on_from_its_new_place(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[40, 40]])
    settings = {**SMALL, "shuffle_gb": 0.0005, "epochs": 1, "on_bad": "quarantine"}
    with Feed(Mixture.of({store: 1}), **settings) as feed:
        whole = samples(feed)
    found: list[Sample] = []
    with Feed(Mixture.of({store: 1}), **settings) as feed:
        for batch in itertools.islice(feed, 2):
            found += samples([batch])
        store.rename(tmp_path / "b.zarr")
        with pytest.raises(StoreError, match=r"a\.zarr"):
            found += itertools.chain.from_iterable(samples([batch]) for batch in feed)
        with pytest.raises(RdtError, match="this feed has failed"):
            next(feed)
        state = feed.state_dict()
    moved = Mixture.model_validate({"title": "x", "datasets": {"a": {"weight": 1, "path": str(tmp_path / "b.zarr")}}})
    with Feed(moved, **settings) as feed:
        feed.load_state_dict(state)
        assert found + samples(feed) == whole


@pytest.mark.parametrize("shape", [(480, 640), (64, 64), (640, 480), (100, 33), (12, 15)])
@pytest.mark.parametrize("size", [16, 48, 384])
def test_a_letterboxed_frame_keeps_its_proportions_and_lies_in_the_middle(shape, size):
    from rdt_data.images import encode_jpeg, encode_png

    pixels = np.full((*shape, 3), 250, np.uint8)
    for data in (encode_jpeg(pixels), encode_png(pixels)):
        out = np.zeros((size, size, 3), np.uint8)
        write_letterboxed(data, shape, out)
        height, width = fitted(*shape, size)
        top, left = (size - height) // 2, (size - width) // 2
        inside = np.zeros((size, size), np.bool_)
        inside[top : top + height, left : left + width] = True
        assert max(height, width) == size
        assert (out[inside] > 245).all()
        assert (out[~inside] == BACKGROUND).all()


def test_a_frame_decoded_smaller_looks_like_one_that_was_shrunk_afterwards():
    import cv2

    from rdt_data.images import encode_jpeg, resize

    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    data = encode_jpeg(cv2.GaussianBlur(noise, (0, 0), 4))
    for size in (384, 160, 80):
        out = np.zeros((size, size, 3), np.uint8)
        write_letterboxed(data, (480, 640), out)
        height, width = fitted(480, 640, size)
        top = (size - height) // 2
        wanted = resize(decode(data), height, width).astype(int)
        assert np.abs(out[top : top + height] - wanted).mean() < 2


def test_embeddings_come_padded_with_their_mask(tmp_path, frame_store, seeded_t5, command):
    store = frame_store(tmp_path / "a.zarr", [[32, 32, 32]], cameras=())
    assert command("embed-lang", store, "--model", seeded_t5).code == 0
    language = language_of(str(store))
    with Feed(Mixture.of({store: 1}), epochs=1, **SMALL) as feed:
        for batch in feed:
            for row, text in enumerate(batch.instruction):
                wanted, mask = language.embedding(text), batch.language.mask[row]
                assert mask.sum() == len(wanted)
                assert (batch.language.tokens[row][mask] == wanted).all()
                assert not batch.language.tokens[row][~mask].any()
    with Feed(Mixture.of({store: 1}), language=False, **SMALL) as feed:
        batch = next(feed)
        assert batch.language.tolist() == [instruction_id(text) for text in batch.instruction]


def test_stores_of_which_only_some_are_embedded_are_refused(tmp_path, frame_store, seeded_t5, command):
    first, second = (frame_store(tmp_path / f"{name}.zarr", [[32]], cameras=()) for name in "ab")
    assert command("embed-lang", first, "--model", seeded_t5).code == 0
    with pytest.raises(StoreError, match=r"b\.zarr has no language embeddings, other stores of the mixture have"):
        Feed(Mixture.of({first: 1, second: 1}), **SMALL)


def test_the_package_is_light_until_a_feed_is_used():
    code = "import sys, rdt_data; assert not {'ray', 'zarr', 'numpy', 'cv2'} & set(sys.modules); rdt_data.Feed; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_url_is_read_like_a_path(tmp_path, frame_store):
    store = frame_store(tmp_path / "a.zarr", [[40, 33]])
    found = []
    for url in (str(store), f"file://{store}"):
        with Feed(Mixture.of({url: 1}), epochs=1, **SMALL) as feed:
            found.append([(batch.images.tobytes(), batch.action.tobytes()) for batch in feed])
    assert found[0] == found[1]


def test_the_bench_command_measures_a_feed_against_its_baselines(tmp_path, frame_store, command):
    store = frame_store(tmp_path / "a.zarr", [[40, 40]], size=(48, 64))
    arguments = ("bench", "feed", store, "--seconds", 1, "--producers", 0, "--image-size", 32, "--shuffle-gb", 0.01)
    result = command(*arguments, "--json").json
    assert result["samples_per_s"] > 0
    assert result["frame_ratio"] == pytest.approx(result["frames_per_s"] / result["bare_frames_per_s"])
    assert result["copy_ratio"] == pytest.approx(result["copy_s"] / result["memcpy_s"])
    assert result["bytes_per_sample"] == 2 * 32 * 32 * 3 + 2 + 128 * 5 + 64 * (128 * 5 + 1)
    assert len(result["rss_mb"]["trainer"]) > 3
    grown = next(row for row in result["growth"] if row["process"] == "trainer")
    assert grown["rss_mb"][0] in result["rss_mb"]["trainer"]
    assert grown["rss_mb"][1] == result["rss_mb"]["trainer"][-1] > grown["private_mb"][1] > 10
    assert grown["share"] == pytest.approx(grown["rss_mb"][1] / grown["rss_mb"][0] - 1)
    shown = command(*arguments)
    assert shown.code == 0
    assert "x a bare loop that decodes and resizes" in shown.out
    assert "resident memory (private in brackets), after 0 s and at the end:\n  trainer " in shown.out
    assert command(*arguments, "--minutes", 0.01).code == 2
