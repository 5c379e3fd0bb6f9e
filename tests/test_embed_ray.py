"""embed-lang on a Ray cluster: the same embeddings, no failure silent, nothing waits for what cannot come."""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rdt_data.errors import RdtError
from rdt_data.jobs import Holders, _cpus_each
from rdt_data.language import language_of
from stats.embed import Options, embed


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of this machine, for several tests."""
    import ray

    from rdt_data.jobs import connect

    connect("local")
    yield "local"
    ray.shutdown()


def made(code: str) -> Callable[[], Any]:
    """Makes a function of its text: workers cannot import this file."""
    return functools.partial(eval, f"lambda item: {code}")


def test_actors_give_what_one_encoder_gives(seeded_t5, tmp_path, words_store, cluster):
    texts = [f"{number}: pick it up" + " and put it down" * (number % 7) for number in range(60)]
    store, plain = (words_store(tmp_path / name, [[text] for text in texts]) for name in ("a.zarr", "b.zarr"))
    options = Options(str(seeded_t5), dtype="fp32", batch_tokens=400)
    there = embed([str(store)], replace(options, ray=cluster, workers=min(2, os.cpu_count() or 1)))
    here = embed([str(plain)], options)
    assert (there.computed, there.batches) == (here.computed, here.batches) == (61, here.batches)
    ours, theirs = language_of(str(store)), language_of(str(plain))
    for text in texts:
        np.testing.assert_allclose(ours.embedding(text), theirs.embedding(text), atol=1e-4)


def test_an_error_of_an_encoder_on_a_cluster_is_the_callers(seeded_t5, tmp_path, words_store, cluster):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    with pytest.raises(RdtError, match="--device cuda:77 cannot be used"):
        embed([str(store)], Options(str(seeded_t5), device="cuda:77", ray=cluster))
    refuses = made('exec(\'from rdt_data.errors import RdtError; raise RdtError("not this", remedy="leave it out")\')')
    with pytest.raises(RdtError, match=r"not this\n  fix: leave it out"):
        list(Holders(refuses, ray=cluster).map([1, 2, 3]))


def test_an_actor_that_dies_is_begun_again_and_one_that_always_dies_is_told(tmp_path, cluster):
    mark = tmp_path / "died"
    system = "__import__('os')"
    die = f"{system}.mkdir({str(mark)!r}) or {system}._exit(1)"
    once = made(f"-item if item != 3 or {system}.path.exists({str(mark)!r}) else {die}")
    assert dict(Holders(once, ray=cluster).map(range(6))) == {number: -number for number in range(6)}
    assert mark.exists()
    with pytest.raises(RdtError, match="an encoder on the Ray cluster died three times"):
        list(Holders(made("__import__('os')._exit(1)"), ray=cluster).map([1]))


def test_a_cluster_with_too_little_room_is_told_at_once(cluster):
    for count, gpus in ((10_000, 0), (1, 1000)):
        with pytest.raises(RdtError, match=rf"no room for {count} encoders of {gpus} GPUs each\n.*fewer --gpus"):
            list(Holders(made("item"), count, ray=cluster, gpus=gpus).map([1]))


@pytest.mark.parametrize(
    ("nodes", "count", "gpus", "each"),
    [
        ([{"CPU": 8}], 1, 0, 8),
        ([{"CPU": 8}], 3, 0, 2),
        ([{"CPU": 3}, {"CPU": 3}], 3, 0, 1),
        ([{"CPU": 4}, {"CPU": 2}, {}], 3, 0, 2),
        ([{"CPU": 64, "GPU": 8}], 8, 1, 1),
        ([{"CPU": 64, "GPU": 2}, {"CPU": 1, "GPU": 4}], 3, 1, 1),
    ],
)
def test_encoders_get_the_most_cpus_with_which_all_of_them_have_room(nodes, count, gpus, each):
    assert _cpus_each(nodes, count, gpus) == each


def test_without_a_cluster_there_is_one_encoder_which_is_not_made_for_nothing():
    assert list(Holders(made("-item")).map([1, 2])) == [(0, -1), (1, -2)]
    assert list(Holders(made("-item").func).map([])) == []
    with pytest.raises(RdtError, match=r"2 encoders\n.*--ray"):
        Holders(made("-item"), 2)
