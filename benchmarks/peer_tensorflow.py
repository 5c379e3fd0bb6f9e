"""Iterate the steps of an RLDS directory with tensorflow-datasets, as NumPy values, which a converter needs.

Prints steps per second, of the second pass. Run in its own venv:

python peer_tensorflow.py RLDS_DIR EPISODES
"""

import sys
import time
from pathlib import Path

import tensorflow_datasets as tfds

root = next(Path(sys.argv[1]).rglob("features.json")).parent
dataset = tfds.builder_from_directory(root).as_dataset(split="train")
for _ in range(2):
    steps, start = 0, time.perf_counter()
    for episode in tfds.as_numpy(dataset.take(int(sys.argv[2]))):
        steps += sum(1 for _ in episode["steps"])
    rate = steps / (time.perf_counter() - start)
print(rate)
