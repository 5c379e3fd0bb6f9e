"""Iterate the steps of an RLDS directory with tensorflow-datasets; prints steps per second. Run in its own venv.

python peer_tensorflow.py RLDS_DIR EPISODES
"""

import sys
import time
from pathlib import Path

import tensorflow_datasets as tfds

root = next(Path(sys.argv[1]).rglob("features.json")).parent
dataset = tfds.builder_from_directory(root).as_dataset(split="train")
steps, start = 0, time.perf_counter()
for episode in dataset.take(int(sys.argv[2])):
    for step in episode["steps"]:
        step["observation"]["state"].numpy()
        steps += 1
print(steps / (time.perf_counter() - start))
