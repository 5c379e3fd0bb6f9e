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


def test_ten_producers_killed_while_they_write_change_nothing(mixture: Mixture, expected: list[list[str]]):
    with Feed(mixture, producers=2, **FEED) as feed:
        found = taken(feed, 1)
        kills = 0
        for _ in range(59):
            running = [pid for pid in feed.pids if alive(pid)]
            if kills < 10 and running and len(found) % 3 == 0:
                os.kill(running[kills % len(running)], signal.SIGKILL)
                kills += 1
            found += taken(feed, 1)
        assert feed.stats.replaced_producers == 10
    assert kills == 10
    assert found == expected


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
