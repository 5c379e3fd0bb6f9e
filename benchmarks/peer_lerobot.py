"""Convert one ALOHA file (one JPEG camera) with LeRobot's own dataset writer; prints steps per second.

python peer_lerobot.py EPISODE.hdf5 OUT_DIR
"""

import shutil
import sys
import time

import cv2
import h5py
from lerobot.datasets.lerobot_dataset import LeRobotDataset

shutil.rmtree(sys.argv[2], ignore_errors=True)
names = {"names": [f"joint_{i}" for i in range(14)]}
features = {
    "observation.state": {"dtype": "float32", "shape": (14,), **names},
    "action": {"dtype": "float32", "shape": (14,), **names},
    "observation.images.cam_high": {
        "dtype": "video",
        "shape": (480, 640, 3),
        "names": ["height", "width", "channels"],
    },
}
start = time.perf_counter()
dataset = LeRobotDataset.create("bench/aloha", fps=50, features=features, root=sys.argv[2], use_videos=True)
with h5py.File(sys.argv[1]) as file:
    steps = len(file["action"])
    for step in range(steps):
        encoded = file["observations/images/cam_high"][step]
        image = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        dataset.add_frame(
            {
                "observation.state": file["observations/qpos"][step],
                "action": file["action"][step],
                "observation.images.cam_high": image,
                "task": file["instruction"][()].decode(),
            }
        )
dataset.save_episode()
if hasattr(dataset, "finalize"):
    dataset.finalize()
print(steps / (time.perf_counter() - start))
