"""LeRobot's own loader on LeRobot's own dataset, one camera: samples per second. Run with the Python that has lerobot.

    python peer_lerobot_feed.py write FRAMES OUT           FRAMES/EPISODE/{vectors.npz,STEP.jpg} -> a dataset
    python peer_lerobot_feed.py read OUT SECONDS [--workers 2] [--backend pyav]     prints samples per second

Its defaults decide how videos are encoded. A sample has two frames of the camera, the state and 64 actions; frames come
as LeRobot gives them, 480x640 float32: nothing is resized, which is in its favour.
"""

import argparse
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from loader_rate import BATCH, loader_rate
from PIL import Image

CAMERA, FPS, WIDTH = "observation.images.exterior", 25, 20


def write(frames: Path, out: Path) -> None:
    names = {"names": [f"slot_{n}" for n in range(WIDTH)]}
    video = {"dtype": "video", "shape": (480, 640, 3), "names": ["height", "width", "channels"]}
    features = {key: {"dtype": "float32", "shape": (WIDTH,), **names} for key in ("observation.state", "action")}
    dataset = LeRobotDataset.create("bench/feed", fps=FPS, features={**features, CAMERA: video}, root=out)
    for episode in sorted(frames.iterdir()):
        with np.load(episode / "vectors.npz") as vectors:
            state, action = vectors["state"], vectors["action"]
        for step in range(len(state)):
            picture = np.asarray(Image.open(episode / f"{step}.jpg"))
            row = {"observation.state": state[step], "action": action[step], CAMERA: picture, "task": "Go."}
            dataset.add_frame(row)
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()


def read(out: Path, seconds: float, workers: int, backend: str) -> float:
    times = {CAMERA: [-1 / FPS, 0.0], "observation.state": [0.0], "action": [n / FPS for n in range(64)]}
    dataset = LeRobotDataset("bench/feed", root=out, delta_timestamps=times, video_backend=backend)
    return loader_rate(dataset, seconds, workers, check)


def check(batch: dict) -> None:
    assert batch[CAMERA].shape == (BATCH, 2, 3, 480, 640)
    assert batch["action"].shape == (BATCH, 64, WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing, reading = commands.add_parser("write"), commands.add_parser("read")
    writing.add_argument("frames", type=Path)
    writing.add_argument("out", type=Path)
    reading.add_argument("out", type=Path)
    reading.add_argument("seconds", type=float)
    reading.add_argument("--workers", type=int, default=2)
    reading.add_argument("--backend", default="pyav")
    given = parser.parse_args()
    if given.command == "write":
        write(given.frames, given.out)
    else:
        print(read(given.out, given.seconds, given.workers, given.backend))


if __name__ == "__main__":
    main()
