"""Data to measure with: genuine source formats, photo-like frames, made on the spot and kept for the next run."""

import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from converters.demo_rlds import Shard, rlds_features, rlds_info, rlds_record
from converters.readers.tfrecord import example_proto, write_records
from rdt_data.images import encode_jpeg, resize

HEIGHT, WIDTH = 480, 640
STEPS = 100
VARIANTS = 48


def photo_like(number: int) -> np.ndarray:
    """(480, 640, 3) uint8 RGB with structure at several scales, about 45 kB as JPEG quality 90."""
    rng = np.random.default_rng(number)
    image = np.full((HEIGHT, WIDTH, 3), 128.0)
    for cells, strength in ((4, 70.0), (16, 35.0), (64, 14.0), (240, 5.0)):
        coarse = rng.normal(0, strength, (cells, cells * 4 // 3, 3)).clip(-127, 127)
        image += resize((coarse + 128).astype(np.uint8), HEIGHT, WIDTH).astype(np.float64) - 128
    return image.clip(0, 255).astype(np.uint8)


def photo_jpegs() -> list[bytes]:
    return [encode_jpeg(photo_like(number), 90) for number in range(VARIANTS)]


def _demo(rng: np.random.Generator, steps: int) -> SimpleNamespace:
    vectors = rng.normal(size=(3, steps, 14)).astype(np.float32)
    seen = [SimpleNamespace(qpos=q, qvel=v) for q, v in zip(vectors[0], vectors[1], strict=True)]
    scene = SimpleNamespace(instruction="Touch the red block with the left arm.")
    return SimpleNamespace(actions=vectors[2], observations=seen, scene=scene, success=True)


def make_rlds(root: Path, total_bytes: int, shards: int = 8) -> Path:
    """An RLDS directory of the demo_two_arm kind with 480x640 JPEG frames of three cameras."""
    folder = root / "demo_two_arm" / "1.0.0"
    if (folder / "dataset_info.json").exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    jpegs, rng = photo_jpegs(), np.random.default_rng(0)
    per_episode = sum(map(len, jpegs)) / len(jpegs) * STEPS * 3
    count = max(1, round(total_bytes / per_episode / shards))
    plan = [Shard("train", n, shards, tuple(range(n * count, (n + 1) * count))) for n in range(shards)]
    sizes = []
    for shard in plan:
        records = []
        for _ in shard.episodes:
            order = rng.integers(0, len(jpegs), (3, STEPS))
            frames = {
                camera: [jpegs[i] for i in order[at]]
                for at, camera in enumerate(("exterior", "right_wrist", "left_wrist"))
            }
            records.append(rlds_record(_demo(rng, STEPS), frames, "benchmark"))
        write_records(folder / shard.file_name, records)
        sizes.append(sum(map(len, records)))
    features = json.dumps(rlds_features()).replace('["120", "160", "3"]', '["480", "640", "3"]')
    (folder / "features.json").write_text(features)
    (folder / "dataset_info.json").write_text(json.dumps(rlds_info(plan, sizes)))
    return root


def make_bridge(root: Path, total_bytes: int, shards: int = 8) -> Path:
    """An RLDS directory as BridgeData's debug set: 40 steps, four 64x64 JPEG cameras, of which the spec uses one."""
    folder = root / "bridge_dataset" / "1.0.0"
    if (folder / "dataset_info.json").exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    rng, example = np.random.default_rng(3), example_proto().Example()
    jpegs = [encode_jpeg(resize(photo_like(number), 64, 64), 95) for number in range(VARIANTS)]
    steps, feature = 40, example.features.feature
    for key, width in (("action", 7), ("observation/state", 7), ("language_embedding", 512)):
        feature[f"steps/{key}"].float_list.value.extend(rng.normal(size=steps * width).astype(np.float32).tolist())
    for number in range(4):
        chosen = [jpegs[i] for i in rng.integers(0, len(jpegs), steps)]
        feature[f"steps/observation/image_{number}"].bytes_list.value.extend(chosen)
    feature["steps/is_first"].int64_list.value.extend([1] + [0] * (steps - 1))
    feature["steps/language_instruction"].bytes_list.value.extend([b"put the carrot on the plate"] * steps)
    record = bytes(example.SerializeToString(deterministic=True))
    count = max(1, round(total_bytes / len(record) / shards))
    for shard in range(shards):
        write_records(folder / f"bridge_dataset-train.tfrecord-{shard:05d}-of-{shards:05d}", [record] * count)
    splits = [{"name": "train", "numBytes": str(len(record) * count * shards), "shardLengths": [str(count)] * shards}]
    info = {"name": "bridge_dataset", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (folder / "features.json").write_text(json.dumps(_bridge_features()))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return root


def _bridge_features() -> dict[str, object]:
    def kind(name: str, **content: object) -> dict[str, object]:
        return {"pythonClassName": f"tensorflow_datasets.core.features.{name}", **content}

    def tensor(dtype: str, *shape: str) -> dict[str, object]:
        value = {"shape": {"dimensions": list(shape)} if shape else {}, "dtype": dtype, "encoding": "none"}
        return kind("tensor_feature.Tensor" if shape else "scalar.Scalar", tensor=value)

    def nested(**features: object) -> dict[str, object]:
        return kind("features_dict.FeaturesDict", featuresDict={"features": features})

    shape = {"dimensions": ["64", "64", "3"]}
    image = kind("image_feature.Image", image={"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"})
    steps = nested(
        action=tensor("float32", "7"),
        language_embedding=tensor("float32", "512"),
        language_instruction=kind("text_feature.Text", text={}),
        is_first=tensor("bool"),
        observation=nested(state=tensor("float32", "7"), **{f"image_{number}": image for number in range(4)}),
    )
    return nested(steps=kind("dataset_feature.Dataset", sequence={"feature": steps, "length": "-1"}))


def make_aloha_jpeg(root: Path, total_bytes: int, steps: int = 400) -> Path:
    """ALOHA files with one 480x640 camera of padded JPEGs."""
    if root.exists():
        return root
    root.mkdir(parents=True)
    jpegs, rng = photo_jpegs(), np.random.default_rng(1)
    padded = max(map(len, jpegs))
    rows = np.stack([np.frombuffer(jpeg.ljust(padded, b"\0"), np.uint8) for jpeg in jpegs])
    for number in range(max(2, round(total_bytes / (padded * steps)))):
        frames = rows[rng.integers(0, len(rows), steps)]
        _aloha_file(root / f"episode_{number}.hdf5", rng, {"cam_high": frames}, (1, padded))
    return root


def make_aloha_raw(root: Path, steps: int, files: int, cameras: tuple[str, ...] = ("cam_high",)) -> Path:
    """ALOHA files with raw 480x640 frames."""
    if root.exists():
        return root
    root.mkdir(parents=True)
    rng = np.random.default_rng(2)
    photos = np.stack([photo_like(number) for number in range(VARIANTS)])
    for number in range(files):
        _aloha_file(root / f"episode_{number}.hdf5", rng, dict.fromkeys(cameras, photos), (1, HEIGHT, WIDTH, 3), steps)
    return root


def _aloha_file(
    path: Path, rng: np.random.Generator, cameras: dict[str, np.ndarray], chunks: tuple[int, ...], steps: int = 0
) -> None:
    """One episode; with `steps` the frames are drawn from the given ones, so that the file can exceed the memory."""
    length = steps or len(next(iter(cameras.values())))
    with h5py.File(path, "w") as file:
        file.attrs.update({"sim": True, "compress": not steps})
        file["action"] = rng.normal(size=(length, 14)).astype(np.float32)
        file["observations/qpos"] = rng.normal(size=(length, 14)).astype(np.float32)
        file["observations/qvel"] = rng.normal(size=(length, 14)).astype(np.float32)
        file["instruction"] = "Touch the red block with the left arm."
        for name, frames in cameras.items():
            shape = (length, *frames.shape[1:])
            data = file.create_dataset(f"observations/images/{name}", shape, "uint8", chunks=chunks)
            for start in range(0, length, 32):
                rows = range(start, min(start + 32, length))
                data[rows.start : rows.stop] = frames[[row % len(frames) for row in rows]] if steps else frames[rows]
