"""Stores that are far away, on a real Ray: a file system whose every read is late, and one whose read never ends."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rdt_data import Feed, Mixture
from rdt_data.batch import Batch

FEED: dict[str, Any] = {"batch_size": 16, "image_size": 64, "shuffle_gb": 0.02, "run_steps": 16, "horizon": 8}

LATE_S = 0.01

PLUGIN = f"""
import os, time
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem

class LateFiles(LocalFileSystem):
    '''Local files under late://; every read waits. The first to find the file `hang` beside the stores never ends.'''

    protocol = "late"

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(os.fspath(path).removeprefix("late://"))

    def _open(self, path, mode="rb", **options):
        time.sleep({LATE_S})
        hang = Path(self._strip_protocol(path).split(".zarr")[0]).parent / "hang"
        if "/images/" in str(path) and hang.exists():
            try:
                hang.unlink()
            except FileNotFoundError:  # another producer was the first
                pass
            else:
                time.sleep(1000)
        return super()._open(path, mode, **options)
"""


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory) -> Iterator[None]:
    """A Ray whose processes have the file system installed, as they would have s3fs: by an entry point of fsspec."""
    import ray

    from rdt_data.jobs import connect

    folder = tmp_path_factory.mktemp("plugin")
    (folder / "late_files.py").write_text(PLUGIN)
    (folder / "late_files-1.dist-info").mkdir()
    (folder / "late_files-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: late-files\nVersion: 1\n")
    (folder / "late_files-1.dist-info/entry_points.txt").write_text("[fsspec.specs]\nlate = late_files:LateFiles\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        fsspec.register_implementation("late", "late_files.LateFiles", clobber=True)  # here fsspec has begun already
        connect("local")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def store(tmp_path_factory, frame_store) -> Path:
    cameras = ("exterior", "left_wrist")
    return frame_store(tmp_path_factory.mktemp("far") / "a.zarr", [[60, 80, 40]], size=(48, 64), cameras=cameras)


def taken(feed: Feed, batches: int) -> list[tuple[list[int], bytes, bytes]]:
    def kept(batch: Batch) -> tuple[list[int], bytes, bytes]:
        return batch.sample.tolist(), batch.images.tobytes(), batch.action.tobytes()

    return [kept(batch) for batch in itertools.islice(feed, batches)]


@pytest.fixture(scope="module")
def expected(store: Path) -> list[tuple[list[int], bytes, bytes]]:
    with Feed(Mixture.of({store: 1}), producers=0, **FEED) as feed:
        return taken(feed, 30)


def test_a_store_whose_every_read_is_late_gives_the_same_samples(store: Path, expected):
    with Feed(Mixture.of({f"late://{store}": 1}), producers=2, **FEED) as feed:
        began = time.monotonic()
        assert taken(feed, 30) == expected
        assert feed.stats.replaced_producers == 0
        assert feed.stats.busy_s > 30 * 2 * LATE_S, "every block reads two cameras, late"
        assert time.monotonic() - began > feed.stats.waited_s > 0


def test_a_read_that_never_ends_costs_a_producer_and_no_sample(store: Path, expected):
    with Feed(Mixture.of({f"late://{store}": 1}), producers=2, timeout_s=12, **FEED) as feed:
        found = taken(feed, 3)
        (store.parent / "hang").touch()
        found += taken(feed, 27)
        assert feed.stats.replaced_producers == 1
        assert not (store.parent / "hang").exists()
    assert found == expected
