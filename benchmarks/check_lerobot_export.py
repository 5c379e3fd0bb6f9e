"""Open an export with the real `lerobot` package and compare it with the store: `check_lerobot_export.py STORE DEST`.

DEST is a LeRobot export of STORE. `lerobot` needs Python 3.12 and gigabytes of other packages, so it gets a virtual
environment of its own (--venv, made with --python when it is not there). Every step's vectors are compared exactly,
sampled frames by PSNR; videos are decoded with torchcodec where FFmpeg is installed, else with PyAV.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def expected(store: str, dest: Path, file: Path, frames_per_episode: int = 8) -> None:
    """What the export must say: vectors of all steps, and some frames with their numbers."""
    import json

    from rdt_data.layout import SLOTS
    from rdt_data.store import open_dataset

    index = {name: slot.index for slot in SLOTS for name in (slot.name, *slot.aliases)}
    info = json.loads((dest / "meta" / "info.json").read_text())
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] in ("video", "image")]
    dataset = open_dataset(store)
    names = {key: info["features"][key]["names"] for key in ("observation.state", "action") if key in info["features"]}
    arrays: dict[str, list[np.ndarray]] = {key: [] for key in names}
    frames: dict[str, np.ndarray] = {}
    row = 0
    for episode in dataset:
        for key, values in (("observation.state", episode.state), ("action", episode.action)):
            if key in names:
                arrays[key].append(values[:, [index[name] for name in names[key]]])
        for step in np.unique(np.linspace(0, len(episode) - 1, frames_per_episode).round().astype(int)).tolist():
            for camera in cameras:
                slot = camera.rsplit(".", 1)[-1]
                if slot in episode.cameras:
                    frames[f"{camera}@{row + step}"] = episode.images(slot)[step]
        row += len(episode)
    tasks = [episode.instruction for episode in dataset for _ in range(len(episode))]
    vectors = {key: np.concatenate(found) for key, found in arrays.items()}
    np.savez(file, **vectors, **frames, tasks=np.array(tasks))


INSIDE = """
import sys, numpy as np, lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dest, file = sys.argv[1:]
dataset = LeRobotDataset("local/export", root=dest)
want = np.load(file)
print(f"lerobot {lerobot.__version__}: {dataset.num_episodes} episodes, {len(dataset)} frames, {dataset.fps} fps, "
      f"video backend {dataset._video_backend}")
rows = dataset.hf_dataset.with_format("numpy")
for key in ("observation.state", "action"):
    if key in want:
        got = np.asarray(rows[:][key]).reshape(want[key].shape)
        assert got.dtype == np.float32 and np.array_equal(got, want[key]), key
        print(f"{key}: {got.shape} equal")
assert len(want["tasks"]) == len(dataset)
worst = {}
for name in want:
    if "@" in name:
        key, row = name.split("@")
        item = dataset[int(row)]
        assert item["task"] == want["tasks"][int(row)]
        got = np.rint(item[key].numpy().transpose(1, 2, 0) * 255)
        error = ((got - want[name].astype(float)) ** 2).mean()
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        worst[key] = min(worst.get(key, np.inf), psnr)
for key, psnr in worst.items():
    print(f"{key}: worst frame {psnr:.1f} dB")
    assert psnr >= 40, key
stats = dataset.meta.stats["action"]
assert np.allclose(stats["mean"], want["action"].mean(0), atol=1e-5)
assert np.allclose(stats["max"], want["action"].max(0))
assert np.allclose(stats["std"], want["action"].std(0), atol=1e-5)
print("statistics agree")
windowed = LeRobotDataset("local/export", root=dest, delta_timestamps={"action": [0, 1 / dataset.fps, 2 / dataset.fps]})
assert windowed[0]["action"].shape[0] == 3
print("ok")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("dest", type=Path)
    parser.add_argument("--venv", type=Path, default=Path(tempfile.gettempdir()) / "rdt-lerobot-venv")
    parser.add_argument("--python", default="python3.12")
    given = parser.parse_args()
    python = given.venv / "bin" / "python"
    if not python.exists():
        subprocess.run([given.python, "-m", "venv", given.venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "lerobot[dataset]"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "expected.npz"
        expected(given.store, given.dest, file)
        done = subprocess.run([python, "-c", INSIDE, given.dest.absolute(), file], cwd=folder, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
