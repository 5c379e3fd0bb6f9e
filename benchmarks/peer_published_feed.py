"""The published RDT consumer's way of reading, written anew: samples per second of a DataLoader on a disk buffer.

    python peer_published_feed.py fill STORE BUFFER CHUNKS CHUNK_SIZE     one sample a file, frames not compressed
    python peer_published_feed.py read BUFFER SECONDS [--workers 2]       prints samples per second

What the published program (thu-ml/RoboticsDiffusionTransformer, data/producer.py, train/dataset.py) does for a sample
is done here: read a chunk's bits twice and write them once, each under a lock on a file beside it; read the sample's
JSON and NPZ under theirs; hide conditions at random; make six frames square, shrink them to 384 with Pillow's bicubic
filter, normalise them to float32; stack batches in worker processes. In its favour: no augmentation, no tokens, no
embedding files, float32 where it computes in float64, and its producers cost nothing: a process sets all bits back
twice a second, so that a sample that was read is "new" again.
"""

import argparse
import contextlib
import fcntl
import json
import random
import time
from collections.abc import Iterator
from multiprocessing import Event, Process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader_rate import BATCH, loader_rate
from PIL import Image

SIZE, GREY = 384, 127
HIDDEN = 0.1


@contextlib.contextmanager
def locked(file: Path, how: int) -> Iterator[None]:
    """The lock of a file, tried again and again for ten seconds, as published."""
    end = time.time() + 10
    with open(f"{file}.lock", "a") as handle:
        while True:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.time() > end:
                    raise
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def read_bits(chunk: Path) -> np.ndarray:
    """(CHUNK_SIZE,) uint8, 1 for a sample that was read already."""
    file = chunk / "dirty_bit"
    while True:
        with locked(file, fcntl.LOCK_SH):
            bits = np.frombuffer(file.read_bytes(), np.uint8).copy()
        if len(bits):
            return bits


def write_bits(chunk: Path, bits: np.ndarray) -> None:
    file = chunk / "dirty_bit"
    with locked(file, fcntl.LOCK_EX):
        file.write_bytes(bits.tobytes())


def fill(store: str, buffer: Path, chunks: int, size: int) -> None:
    """Write chunks * size samples of a store, drawn at random."""
    from rdt_data.store import open_dataset

    dataset, rng = open_dataset(store), np.random.default_rng(0)
    for number in range(chunks):
        chunk = buffer / f"chunk_{number}"
        chunk.mkdir(parents=True)
        write_bits(chunk, np.zeros(size, np.uint8))
        for item in range(size):
            episode = dataset[int(rng.integers(len(dataset)))]
            step = int(rng.integers(1, len(episode)))
            content = {"dataset_name": dataset.name, "instruction": episode.instruction, "#steps": len(episode)}
            (chunk / f"json_content_{item}.json").write_text(json.dumps({**content, "step_id": step}, indent=4))
            np.savez(chunk / f"sample_{item}.npz", **_sample(episode, step))


def _sample(episode: Any, step: int) -> dict[str, np.ndarray]:
    ahead = np.minimum(np.arange(step, step + 64), len(episode) - 1)
    state, action = episode.state, episode.action
    frames = {f"past_frames_{n}": episode.images(name)[step - 1 : step + 1] for n, name in enumerate(episode.cameras)}
    frames["past_frames_3"] = np.zeros((2, 0, 0, 0), np.uint8)
    of_cameras = {}
    for name, pixels in frames.items():
        of_cameras |= {name: pixels, f"{name}_time_mask": np.full(2, pixels.size > 0)}
    return {
        "step_id": np.array(step),
        "state_chunk": state[step : step + 1],
        "state_chunk_time_mask": np.ones(1, np.bool_),
        "action_chunk": action[ahead],
        "action_chunk_time_mask": np.arange(step, step + 64) < len(episode),
        "state_vec_mask": episode.state_mask.astype(np.float32),
        **of_cameras,
        "state_std": state.std(axis=0),
        "state_mean": state.mean(axis=0),
        "state_norm": np.sqrt((state**2).mean(axis=0)),
    }


class Buffer(torch.utils.data.Dataset):
    """Samples of a buffer, each drawn from the chunk that its index begins in, or the next with any that is new."""

    def __init__(self, folder: Path) -> None:
        self.chunks = sorted(folder.glob("chunk_*"), key=lambda path: int(path.name.split("_")[1]))
        self.chunk_size = len(read_bits(self.chunks[0]))

    def __len__(self) -> int:
        return len(self.chunks) * self.chunk_size

    def __getitem__(self, index: int) -> dict[str, Any]:
        content, arrays = self._take(index)
        state, mask = arrays["state_chunk"], arrays["state_vec_mask"]
        hide = [random.random() < HIDDEN for _ in range(3)]
        images = [self._image(arrays, camera, at) for at in range(2) for camera in range(3)]
        return {
            "states": torch.from_numpy(np.tile(arrays["state_mean"], (1, 1)) if hide[0] else state),
            "actions": torch.from_numpy(arrays["action_chunk"]),
            "state_elem_mask": torch.from_numpy(np.zeros_like(mask) if hide[1] else mask),
            "state_norm": torch.from_numpy(arrays["state_norm"]),
            "ctrl_freq": 0 if hide[2] else 25,
            "instruction": content["instruction"],
            "images": images,
        }

    def _take(self, index: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        at = index // self.chunk_size
        while not len(new := np.flatnonzero(read_bits(self.chunks[at]) == 0)):
            at = (at + 1) % len(self.chunks)
        chunk, item = self.chunks[at], int(new[index % len(new)])
        bits = read_bits(chunk)
        bits[item] = 1
        write_bits(chunk, bits)
        file = chunk / f"json_content_{item}.json"
        with locked(file, fcntl.LOCK_SH):
            content = json.loads(file.read_text())
        file = chunk / f"sample_{item}.npz"
        with locked(file, fcntl.LOCK_SH), np.load(file) as arrays:
            return content, dict(arrays.items())

    def _image(self, arrays: dict[str, np.ndarray], camera: int, at: int) -> torch.Tensor:
        pixels, there = arrays[f"past_frames_{camera}"][at], arrays[f"past_frames_{camera}_time_mask"][at]
        if not there or random.random() < HIDDEN:
            pixels = np.full((SIZE, SIZE, 3), GREY, np.uint8)
        image = Image.fromarray(pixels)
        longest = max(image.size)
        square = Image.new(image.mode, (longest, longest), (GREY, GREY, GREY))
        square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        small = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        normal = (small.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.5)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def together(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch."""
    stacked = {key: torch.stack([s[key] for s in samples]) for key in ("states", "actions", "state_elem_mask")}
    images = torch.stack([torch.stack(sample["images"]) for sample in samples])
    frequencies = torch.tensor([sample["ctrl_freq"] for sample in samples])
    return {**stacked, "images": images, "ctrl_freqs": frequencies, "words": [s["instruction"] for s in samples]}


def refresh(folder: Path, size: int, over: Any) -> None:
    """What producers do in the end, for nothing: every sample is new again, twice a second."""
    while not over.wait(0.5):
        for chunk in folder.glob("chunk_*"):
            with contextlib.suppress(BlockingIOError):
                write_bits(chunk, np.zeros(size, np.uint8))


def read(folder: Path, seconds: float, workers: int) -> float:
    """Samples per second, after the workers have begun."""
    buffer, over = Buffer(folder), Event()
    producer = Process(target=refresh, args=(folder, buffer.chunk_size, over), daemon=True)
    producer.start()
    rate = loader_rate(buffer, seconds, workers, check, together)
    over.set()
    return rate


def check(batch: dict[str, Any]) -> None:
    assert batch["images"].shape == (BATCH, 6, 3, SIZE, SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    filling, reading = commands.add_parser("fill"), commands.add_parser("read")
    filling.add_argument("store")
    filling.add_argument("buffer", type=Path)
    filling.add_argument("chunks", type=int)
    filling.add_argument("size", type=int)
    reading.add_argument("buffer", type=Path)
    reading.add_argument("seconds", type=float)
    reading.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "fill":
        fill(given.store, given.buffer, given.chunks, given.size)
    else:
        print(read(given.buffer, given.seconds, given.workers))


if __name__ == "__main__":
    main()
