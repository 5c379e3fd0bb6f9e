"""How fast a feed is: against a bare loop that decodes and resizes the same frames, and a bare copy of a batch.

In: stores, the settings of a feed, seconds. Out: samples and frames per second, the share of time the consumer waited
and the producers worked, bytes copied, the memory of every process over time, and ratios to baselines of the same run.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rdt_data.feed import Feed
from rdt_data.feed_memory import SETTLED_S, Growth, Memory
from rdt_data.images import use_one_thread
from rdt_data.letterbox import write_letterboxed
from rdt_data.mixture_file import Mixture
from rdt_data.pool import Pool
from rdt_data.store import open_dataset

_FRAMES = 64
"""Frames of each camera a bare loop decodes over and over: more than its caches hold when decoded."""

_LOOKS = 40
"""At the memory, in a run."""


@dataclass
class FeedBench:
    """What was measured. wait_share, busy_share: of the seconds, for one producer; copy_ratio: to `memcpy_s`.

    frame_ratio: of the feed's frames per second to those of the bare loop with as many processes. rss_mb: process ->
    resident megabytes at equal distances in time; growth: of each, from `settled_s` seconds on to the end.
    """

    seconds: float = 0.0
    samples_per_s: float = 0.0
    frames_per_s: float = 0.0
    wait_share: float = 0.0
    busy_share: float = 0.0
    bytes_per_sample: float = 0.0
    arena_gb: float = 0.0
    copy_s: float = 0.0
    memcpy_s: float = 0.0
    copy_ratio: float = 0.0
    bare_frames_per_s: float = 0.0
    frame_ratio: float = 0.0
    replaced_producers: int = 0
    rss_mb: dict[str, list[float]] = field(default_factory=dict)
    settled_s: float = 0.0
    growth: list[Growth] = field(default_factory=list)


def bench_feed(
    mixture: Mixture,
    *,
    seconds: float,
    settings: dict[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeedBench:
    """Measure a feed for so many seconds after its start, then the baselines. settings: of `Feed`."""
    result = FeedBench()
    workers = max(int(settings.get("producers", 2)), 1)
    with Feed(mixture, **settings) as feed:
        _run(feed, seconds, workers, result, progress)
    result.copy_ratio = result.copy_s / result.memcpy_s
    if feed.shape.cameras:
        result.bare_frames_per_s = _bare(mixture, feed.image_size, workers, min(seconds, 10.0))
        result.frame_ratio = result.frames_per_s / result.bare_frames_per_s
    return result


def _run(feed: Feed, seconds: float, workers: int, result: FeedBench, progress: Callable[[int, int], None]) -> None:
    next(feed)  # producers have begun
    begun, start = asdict(feed.stats), time.perf_counter()
    bare_copy = _Copy(feed.batch_size * feed.row_bytes)
    memory = Memory()
    while (now := time.perf_counter() - start) < seconds:
        next(feed)
        if now >= len(memory.looks) * seconds / _LOOKS:
            memory.look(feed, now)
            bare_copy()
            progress(int(now), int(seconds))
    result.seconds = time.perf_counter() - start
    memory.look(feed, result.seconds)
    result.settled_s = min(SETTLED_S, seconds / 10)
    result.rss_mb, result.growth = memory.rss_mb, memory.growth(result.settled_s)
    result.memcpy_s = float(np.median(bare_copy.seconds))
    stats = feed.stats
    samples, batches = stats.samples - begun["samples"], stats.batches - begun["batches"]
    result.samples_per_s = samples / result.seconds
    result.frames_per_s = (stats.frames - begun["frames"]) / result.seconds
    result.wait_share = (stats.waited_s - begun["waited_s"]) / result.seconds
    result.busy_share = (stats.busy_s - begun["busy_s"]) / result.seconds / workers
    result.bytes_per_sample = (stats.copied_bytes - begun["copied_bytes"]) / samples
    result.copy_s = (stats.copied_s - begun["copied_s"]) / batches
    result.arena_gb, result.replaced_producers = feed.arena_bytes / 1e9, stats.replaced_producers


class _Copy:
    """A bare copy of so many bytes, timed; made while the producers work, as the feed's own copies are."""

    def __init__(self, size: int) -> None:
        self.source, self.target = np.full(size, 1, np.uint8), np.full(size, 2, np.uint8)
        self.seconds: list[float] = []

    def __call__(self) -> None:
        start = time.perf_counter()
        np.copyto(self.target, self.source)
        self.seconds.append(time.perf_counter() - start)


def _bare(mixture: Mixture, image_size: int, workers: int, seconds: float) -> float:
    """Frames per second of `workers` processes that do nothing but decode frames in memory into one square."""
    urls = [mixture.url(name) for name in mixture.datasets]
    pool = Pool(workers)
    try:
        for _ in range(workers):
            pool.start(_decode_for, (urls, image_size, seconds))
        rates: list[float] = []
        while len(rates) < workers:
            rates += [rate for _, rate in pool.finished()]
    finally:
        pool.close()
    return sum(rates)


def _decode_for(task: tuple[list[str], int, float]) -> float:
    """Frames per second of this process."""
    urls, image_size, seconds = task
    use_one_thread()
    frames = list(_frames(urls))
    squares = np.zeros((len(frames), image_size, image_size, 3), np.uint8)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for (data, shape, swapped), square in zip(frames, squares, strict=True):
            write_letterboxed(data, shape, square, swapped=swapped)
        count += len(frames)
    return count / (time.perf_counter() - start)


def _frames(urls: list[str]) -> Iterator[tuple[memoryview, tuple[int, int], bool]]:
    for url in urls:
        episode = open_dataset(url)[0]
        for slot in episode.cameras:
            frames = episode.images(slot)
            for data in frames.encoded_run(0, min(_FRAMES, len(frames))):
                yield data, (frames.shape[1], frames.shape[2]), frames.swapped
