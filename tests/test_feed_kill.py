"""The feed on a real Ray: whatever is killed, stopped or late, the samples are the same, whole, and nothing is left."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rdt_data import Feed, Mixture
from rdt_data.batch import Batch
from rdt_data.errors import RdtError
from rdt_data.producer import EpisodeError

FEED: dict[str, Any] = {"batch_size": 16, "image_size": 128, "shuffle_gb": 0.05, "run_steps": 16, "horizon": 8}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for the tests of this file."""
    import ray

    from rdt_data.jobs import connect

    connect("local")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def mixture(tmp_path_factory, frame_store) -> Mixture:
    folder = tmp_path_factory.mktemp("stores")
    for name, lengths in (("a", [60, 80, 40]), ("b", [70, 90])):
        frame_store(folder / f"{name}.zarr", [lengths], size=(120, 160), cameras=("exterior", "right_wrist"))
    return Mixture.of({folder / "a.zarr": 0.5, folder / "b.zarr": 0.5})


def fingerprint(batch: Batch) -> list[str]:
    """A checksum of every row: of all that it holds and of where it is from."""
    arrays = (batch.images, batch.image_mask, batch.state, batch.action, batch.action_mask, batch.valid)
    places = zip(
        batch.dataset.tolist(), batch.episode.tolist(), batch.step.tolist(), batch.sample.tolist(), strict=True
    )
    return [
        hashlib.sha256(repr(place).encode() + b"".join(array[row].tobytes() for array in arrays)).hexdigest()
        for row, place in enumerate(places)
    ]


def taken(feed: Iterator[Batch], batches: int | None = None) -> list[list[str]]:
    return [fingerprint(batch) for batch in itertools.islice(feed, batches)]


@pytest.fixture(scope="module")
def expected(mixture: Mixture) -> list[list[str]]:
    """The first 60 batches, made in one process."""
    with Feed(mixture, producers=0, **FEED) as feed:
        return taken(feed, 60)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_within(seconds: float, pids: list[int]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.05)
    return not any(map(alive, pids))


LARGE: dict[str, Any] = {"batch_size": 16, "image_size": 384, "shuffle_gb": 0.15, "run_steps": 16, "horizon": 8}
"""Blocks of 34 frames, which take a producer about a tenth of a second to write."""


@pytest.fixture(scope="module")
def large(tmp_path_factory, frame_store) -> Mixture:
    store = tmp_path_factory.mktemp("large") / "a.zarr"
    return Mixture.of({frame_store(store, [[70, 90, 64]], size=(240, 320), cameras=("exterior", "left_wrist")): 1})


def stopped_in_a_write(feed: Feed, not_these: set[int], seconds: float = 1.0) -> tuple[int, int] | None:
    """Stop a producer between the first and the last byte of a block: its process id and the number of the block.

    Watches the slots that are given away, in the memory of the trainer, which this process is. A producer whose block
    has its first frame already is stopped; then it must not have its last one. A block that a killed producer left
    half written would look begun at once, so that none of `not_these` is watched.
    """
    engine = feed._engine
    watched = {}
    for actor in engine.filling._actors:
        for task in actor.tasks:
            if actor.pid and task.block and task.block.number not in not_these:
                images = engine.shape.over(engine.arena.slot(task.slot)).images
                last = images[len(task.block) + engine.shape.window.history - 2, -1]
                watched[task.block.number] = (actor.pid, images[0, 0, 192], images[0, 0, 192].copy(), last, last.copy())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for number, (pid, first, first_before, last, last_before) in watched.items():
            if (first != first_before).any():
                os.kill(pid, signal.SIGSTOP)
                assert stopped_within(5, pid)
                if (last == last_before).all():
                    return pid, number
                os.kill(pid, signal.SIGCONT)  # seen too late
                del watched[number]
                break
        time.sleep(0.0005)
    return None


def stopped_within(seconds: float, pid: int) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T":
            return True
        time.sleep(0.0005)
    return False


def test_ten_producers_killed_within_a_write_change_nothing_and_cost_seconds(large: Mixture):
    with Feed(large, producers=2, **LARGE) as feed:
        found, times = taken(feed, 10), []

        def take() -> None:
            found.extend(taken(feed, 1))
            times.append(time.monotonic())

        def rate(batches: int) -> float:
            """Batches a second, over the last so many."""
            return (batches - 1) / (times[-1] - times[-batches])

        for _ in range(12):
            take()
        usual, torn, recovered = rate(12), set(), []
        while len(torn) < 10 and len(found) < 600:
            take()
            if caught := stopped_in_a_write(feed, torn):
                os.kill(caught[0], signal.SIGKILL)
                torn.add(caught[1])
                killed, times = time.monotonic(), []
                while len(times) < 6 or rate(6) < usual / 2:
                    take()
                    assert time.monotonic() - killed < 60, "it has not recovered"
                recovered.append(times[-1] - killed)
        assert len(torn) == 10
        assert feed.stats.replaced_producers == 10
    assert sorted(recovered)[5] < 15, f"seconds until half the usual throughput after each kill: {recovered}"

    with Feed(large, producers=0, **LARGE) as feed:
        assert taken(feed, len(found)) == found


def test_a_feed_of_relative_paths_is_read_by_producers_with_another_working_directory(
    mixture: Mixture, expected: list[list[str]], monkeypatch
):
    """This Ray was begun from another directory than the one in which the paths are right."""
    monkeypatch.chdir(Path(mixture.url("a")).parent)
    with Feed(Mixture.of({"a.zarr": 0.5, "b.zarr": 0.5}), producers=1, **FEED) as feed:
        assert taken(feed, 8) == expected[:8]
        cwd = os.readlink(f"/proc/{feed.pids[0]}/cwd")
    assert cwd != os.getcwd()


def test_a_mixture_file_with_relative_paths_is_read_from_anywhere(
    mixture: Mixture, expected: list[list[str]], monkeypatch
):
    folder = Path(mixture.url("a")).parent
    (folder / "mine.yaml").write_text("title: Mine\ndatasets: {a: 0.5, b: 0.5}\n")
    monkeypatch.chdir(folder.parent)
    with Feed(Mixture.load(f"{folder.name}/mine.yaml"), producers=1, **FEED) as feed:
        assert taken(feed, 8) == expected[:8]


def test_a_producer_that_hangs_is_replaced_after_the_timeout(mixture: Mixture, expected: list[list[str]]):
    with Feed(mixture, producers=1, timeout_s=4, **FEED) as feed:
        found = taken(feed, 5)
        hung = feed.pids[0]
        os.kill(hung, signal.SIGSTOP)
        found += taken(feed, 25)
        assert feed.stats.replaced_producers == 1
        assert not alive(hung)
    assert found == expected[:30]


def test_the_consumer_may_be_late_and_may_stay_away(mixture: Mixture, expected: list[list[str]]):
    with Feed(mixture, producers=2, **FEED) as feed:
        found = taken(feed, 3)
        time.sleep(1.5)
        busy = feed.stats.busy_s
        found += taken(feed, 3)
        pids = feed.pids
    assert found == expected[:6]
    assert busy < 30
    assert end_within(20, pids)


def test_two_feeds_on_one_machine_do_not_meet(mixture: Mixture, expected: list[list[str]]):
    with Feed(mixture, producers=1, **FEED) as one, Feed(mixture, producers=1, **FEED) as other:
        found = [(taken(one, 1), taken(other, 1)) for _ in range(10)]
        pids = one.pids + other.pids
    assert [batch for first, _ in found for batch in first] == expected[:10]
    assert [batch for _, second in found for batch in second] == expected[:10]
    assert end_within(20, pids)


def test_a_corrupt_frame_is_told_across_processes(tmp_path, frame_store):
    store = frame_store(
        tmp_path / "bad.zarr", [[40]], change=lambda _, frames: [*frames[:-1], frames[-1][:200] + b"\xff\xd9"]
    )
    with Feed(Mixture.of({store: 1}), producers=1, **FEED) as feed, pytest.raises(EpisodeError) as caught:
        taken(feed, 10)
    assert (caught.value.episode, caught.value.field) == (0, "exterior, step 39")


def test_a_block_that_kills_producers_is_given_up(mixture: Mixture):
    with (
        Feed(mixture, producers=1, timeout_s=0.0, **FEED) as feed,
        pytest.raises(RdtError, match="producers die while they start"),
    ):
        taken(feed, 1)
    with pytest.raises(RdtError, match="the Ray cluster has no other machine"):
        next(Feed(mixture, producers=0, remote_producers=1, **FEED))


TRAINER = """
import json, sys
from pathlib import Path
import numpy as np
from rdt_data import Feed, Mixture

if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    mixture = Mixture.of(settings.pop("stores"))
    folder, ray = Path(settings.pop("folder")), settings.pop("ray")
    with Feed(mixture, producers=2, ray=ray, **settings) as feed:
        for number, batch in enumerate(feed):
            saved = {"state": feed.state_dict(), "pids": feed.pids, "batches": number + 1, "arena": feed.arena_bytes}
            (folder / "new").write_text(json.dumps(saved))
            (folder / "new").replace(folder / "saved")
"""


class Trainer:
    """A trainer in a process of its own, which saves its state after every batch."""

    def __init__(self, mixture: Mixture, folder: Path, ray: str) -> None:
        self.saved = folder / "saved"
        stores = {mixture.url(name): share for name, share in mixture.shares.items()}
        settings = {**FEED, "stores": stores, "folder": str(folder), "ray": ray}
        self.process = subprocess.Popen([sys.executable, "-c", TRAINER, json.dumps(settings)], start_new_session=True)

    def read(self, batches: int) -> dict[str, Any]:
        """What it saved, once it has taken so many batches."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.saved.exists() and (saved := json.loads(self.saved.read_text()))["batches"] >= batches:
                return saved
            assert self.process.poll() is None, "the trainer has ended"
            time.sleep(0.02)
        raise AssertionError("the trainer is too slow")


def address_of_this_ray() -> str:
    import ray

    return ray.get_runtime_context().gcs_address


@pytest.mark.parametrize("ray", ["local", "here"])
def test_a_killed_trainer_goes_on_from_its_last_state_and_leaves_nothing(
    ray: str, mixture: Mixture, expected: list[list[str]], tmp_path
):
    before = set(os.listdir("/dev/shm"))
    trainer = Trainer(mixture, tmp_path, address_of_this_ray() if ray == "here" else ray)
    pids = trainer.read(5)["pids"]
    trainer.process.kill()
    trainer.process.wait()
    saved = json.loads(trainer.saved.read_text())
    assert end_within(30, pids)
    assert set(os.listdir("/dev/shm")) <= before
    with Feed(mixture, producers=1, **FEED) as feed:
        feed.load_state_dict(saved["state"])
        assert taken(feed, 8) == expected[saved["batches"] : saved["batches"] + 8]


@pytest.mark.parametrize("seconds", [0.7, 1.5, None])
def test_an_interruption_at_any_stage_leaves_nothing(seconds: float | None, mixture: Mixture, tmp_path):
    before = set(os.listdir("/dev/shm"))
    trainer = Trainer(mixture, tmp_path, address_of_this_ray())
    pids = []
    if seconds is None:
        pids = trainer.read(3)["pids"]
    else:
        time.sleep(seconds)
    trainer.process.send_signal(signal.SIGINT)
    assert trainer.process.wait(30) != 0
    assert end_within(20, pids)
    assert set(os.listdir("/dev/shm")) <= before


CLUSTER = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from rdt_data import Feed, Mixture

if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    mixture = Mixture.of(settings.pop("stores"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    found = []
    for counts in ({"producers": 0}, {"producers": 0, "remote_producers": 1}, {"producers": 1, "remote_producers": 1}):
        with Feed(mixture, **counts, **settings) as feed:
            found.append([(next(feed).images.sum(), next(feed).sample.tolist()) for _ in range(6)])
    assert found[0] == found[1] == found[2]
    ray.shutdown()
    cluster.shutdown()
"""


def test_producers_on_another_machine_give_the_same(mixture: Mixture):
    stores = {mixture.url(name): share for name, share in mixture.shares.items()}
    subprocess.run([sys.executable, "-c", CLUSTER, json.dumps({**FEED, "stores": stores})], check=True, timeout=90)


MEMORY = """
import json, sys
from rdt_data import Feed, Mixture
from rdt_data.feed_memory import Memory

if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    memory = Memory()
    with Feed(Mixture.of(settings.pop("stores")), producers=2, **settings) as feed:
        for number in range(30):
            next(feed)
            memory.look(feed, float(number))
        pids = feed.pids
    grown = {row.process: row for row in memory.growth(10.0)}
    assert {"trainer", *(f"producer {pid}" for pid in pids)} <= set(grown), grown
    assert any(name.startswith("raylet") for name in grown), grown
    assert any(name.startswith("gcs_server") for name in grown), grown
    assert len(memory.rss_mb["trainer"]) == 30
    held = feed.arena_bytes / 1e6
    assert all(grown[f"producer {pid}"].rss_mb[0] - grown[f"producer {pid}"].private_mb[0] > held for pid in pids)
"""


def test_the_memory_of_the_trainer_of_producers_and_of_the_ray_it_began_is_looked_at(mixture: Mixture):
    stores = {mixture.url(name): share for name, share in mixture.shares.items()}
    subprocess.run([sys.executable, "-c", MEMORY, json.dumps({**FEED, "stores": stores})], check=True, timeout=90)
