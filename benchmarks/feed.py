"""How fast a feed is, and how well it shuffles: a store of three 480x640 JPEG cameras, as RDT reads it.

    python benchmarks/feed.py [--seconds 60] [--folder DIR] [--episodes 24] [--steps 100]

Writes the store, measures `rdt_data.feed_bench.bench_feed` (the baselines are of the same run), then compares the
samples of batches with ideal shuffling: pairs of one episode in a batch, pairs of neighbouring steps, and the spread of
the share of one of two datasets. Prints JSON; the store is removed again.
"""

import argparse
import itertools
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from rdt_data.episode import CameraFormat, Episode
from rdt_data.feed_bench import bench_feed
from rdt_data.images import encode_jpeg
from rdt_data.index import Runs
from rdt_data.layout import CAMERAS
from rdt_data.ledger import Ledger, commit
from rdt_data.mixture import Plan, Source
from rdt_data.mixture_file import Mixture
from rdt_data.parts import PartWriter
from rdt_data.shuffle import SHARE_OPEN, Pool


def write_store(dest: Path, episodes: int, steps: int) -> None:
    """Episodes of smooth moving noise: about 60 kB a frame."""
    forms = {slot: {"codec": "jpeg", "height": 480, "width": 640} for slot in CAMERAS}
    header = {"dataset": "made", "control_hz": 25.0, "cameras": forms, "request": {}, "spec": {}, "spec_text": ""}
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    mask = np.arange(128) < 20
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(episodes)]) as ledger:
        for number in range(episodes):
            writer = PartWriter(ledger.path(number), {slot: CameraFormat(**form) for slot, form in forms.items()})
            rows = np.cumsum(np.random.default_rng(number).normal(size=(steps, 128)), axis=0).astype(np.float32)
            frames = [encode_jpeg(scene[t % 100 : t % 100 + 480, t % 160 : t % 160 + 640], 90) for t in range(steps)]
            episode = Episode(str(number), str(number), rows, rows, mask, mask, "Go.", "Go.", 25.0)
            writer.add(episode, dict.fromkeys(CAMERAS, frames))
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[1, steps]] * episodes})


def shuffle_quality(batch_size: int, most: int, batches: int = 2000) -> dict[str, float]:
    """Of the default feed over two datasets of 500 episodes each, and of drawing windows independently."""
    lengths = np.random.default_rng(0).integers(60, 400, 500)
    shares = {"a": 0.7, "b": 0.3}
    plan = Plan(0, {name: Source(share, np.arange(500), Runs(lengths, 32)) for name, share in shares.items()})
    pool = Pool(0, "0/1", most=most, rows=int(most * plan.mean_rows / SHARE_OPEN))
    measured = []
    for turn in range(batches):
        while pool.wants_more:
            pool.add(next(plan))
        picks, _ = pool.draw(str(turn), batch_size)
        measured.append([(e.block.dataset, e.block.episode, e.block.start + row) for e, row in picks])
    rng = np.random.default_rng(1)
    ideal = []
    for _ in range(batches):
        names = rng.choice(["a", "b"], batch_size, p=list(shares.values()))
        rows = rng.choice(500, batch_size, p=lengths / lengths.sum())
        ideal.append([(n, int(e), int(rng.integers(lengths[e]))) for n, e in zip(names, rows, strict=True)])
    return {
        f"{name}_{key}": value
        for name, rows in (("feed", measured), ("ideal", ideal))
        for key, value in _pairs(rows).items()
    }


def _pairs(batches: list[list[tuple[str, int, int]]]) -> dict[str, float]:
    same = near = 0
    shares = [np.mean([name == "a" for name, _, _ in batch]) for batch in batches]
    for batch in batches:
        for x, y in itertools.combinations(batch, 2):
            if x[:2] == y[:2]:
                same, near = same + 1, near + (abs(x[2] - y[2]) <= 16)
    return {
        "same_episode_pairs_per_batch": same / len(batches),
        "pairs_within_16_steps_per_batch": near / len(batches),
        "share_mean": float(np.mean(shares)),
        "share_std": float(np.std(shares)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--shuffle-gb", type=float, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        store = folder / "made.zarr"
        write_store(store, arguments.episodes, arguments.steps)
        settings = {"batch_size": 32, "producers": 2, "shuffle_gb": arguments.shuffle_gb, "split": None}
        result = asdict(bench_feed(Mixture.of({store: 1}), seconds=arguments.seconds, settings=settings))
        print(json.dumps(result | {"shuffle": shuffle_quality(32, 90)}, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
