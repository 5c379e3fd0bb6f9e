"""The feed against the published RDT consumer and LeRobot's loader, on the same frames, in the same run.

    python benchmarks/feed_peers.py [--out bench-out] [--seconds 15] [--rounds 2] [--lerobot VENV] [--json]

Three 480x640 JPEG cameras, two frames of history, 64 actions, batches of 32, two processes each, warm page cache. The
feed decodes, letterboxes to 384 pixels and shuffles. `peer_published_feed.py` reads ready-made samples of the same
store, written anew after the published program; `peer_lerobot_feed.py` is LeRobot with one camera of it, in a virtual
environment of its own (made on the first run). Each round measures all three one after the other; ratios are within a
round, the lowest and the highest are printed. Per camera: samples per second times cameras.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from convert import PEERS
from feed import write_store

from rdt_data.feed import Feed
from rdt_data.mixture_file import Mixture
from rdt_data.store import open_dataset

HERE = Path(__file__).parent
CHUNKS, CHUNK_SIZE = 8, 32
EPISODES_OF_LEROBOT = 8


def ours(store: Path, seconds: float) -> float:
    """Samples per second of the feed, after as many batches as fill its pool."""
    with Feed(Mixture.of({store: 1}), batch_size=32, producers=2, shuffle_gb=1, split=None) as feed:
        for _ in itertools.islice(feed, 20):
            pass
        start, count = time.perf_counter(), 0
        while (now := time.perf_counter() - start) < seconds:
            count += len(next(feed))
        return count / now


def script(python: Path | str, name: str, *arguments: object) -> str:
    """What a peer prints."""
    command = [str(python), str(HERE / name), *map(str, arguments)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "SVT_LOG": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def rate(printed: str) -> float:
    return float(printed.split()[-1])


def lerobot_python(venv: Path) -> Path:
    """The Python of an environment that has LeRobot; it is made when there is none."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS["lerobot"]], check=True)
    return python


def write_frames(store: Path, folder: Path) -> None:
    """One camera of some episodes as files, for LeRobot's writer."""
    dataset = open_dataset(str(store))
    for number in range(EPISODES_OF_LEROBOT):
        episode = dataset[number]
        there = folder / f"{number:03d}"
        there.mkdir(parents=True)
        np.savez(there / "vectors.npz", state=episode.state[:, :20], action=episode.action[:, :20])
        for step in range(len(episode)):
            (there / f"{step}.jpg").write_bytes(episode.encoded("exterior", step))


def prepare(folder: Path, python: Path) -> None:
    """The store, the published buffer, the LeRobot dataset: of the same frames."""
    write_store(folder / "made.zarr", 24, 100)
    script(
        sys.executable, "peer_published_feed.py", "fill", folder / "made.zarr", folder / "buffer", CHUNKS, CHUNK_SIZE
    )
    write_frames(folder / "made.zarr", folder / "frames")
    script(python, "peer_lerobot_feed.py", "write", folder / "frames", folder / "lerobot")


def measure(folder: Path, python: Path, seconds: float) -> dict[str, float]:
    """One round."""
    feed = ours(folder / "made.zarr", seconds)
    published = rate(script(sys.executable, "peer_published_feed.py", "read", folder / "buffer", seconds))
    lerobot = rate(script(python, "peer_lerobot_feed.py", "read", folder / "lerobot", seconds))
    return {
        "feed, three cameras, samples/s": feed,
        "published consumer, three cameras, samples/s": published,
        "LeRobot, one camera, samples/s": lerobot,
        "feed / published (at least 6)": feed / published,
        "feed / LeRobot per camera (at least 8)": 3 * feed / lerobot,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--lerobot", type=Path, default=None, help="an environment with lerobot")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    python = lerobot_python(given.lerobot or given.out / "venv-lerobot")
    version = _version(python)
    folder = Path(tempfile.mkdtemp(dir=given.out))
    try:
        prepare(folder, python)
        rounds = [measure(folder, python, given.seconds) for _ in range(given.rounds)]
    finally:
        shutil.rmtree(folder)
    spans = {name: (min(r[name] for r in rounds), max(r[name] for r in rounds)) for name in rounds[0]}
    if given.json:
        print(json.dumps({"lerobot": version, **spans}, indent=1))
        return
    for name, (low, high) in spans.items():
        print(f"{name:48} {low:8.1f} to {high:.1f}")
    print(f"LeRobot {version}")


def _version(python: Path) -> str:
    command = [str(python), "-c", "from importlib.metadata import version; print(version('lerobot'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
