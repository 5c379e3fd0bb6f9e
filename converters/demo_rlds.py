"""The RLDS format of the demo data: what a record holds, how records are dealt out to files, the tables beside them.

In: a demonstration and its frames as JPEGs. Out: bytes and tables as tensorflow-datasets lays them out in TFRecord
files, splits train and val; the keys are those of RLDS_FEATURES. Units are rad, rad/s and, for grippers, 0 closed …
1 open. Writes no file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from converters.readers.tfrecord import example_proto
from rdt_data import sim

IMAGE_SIZE: Final = (120, 160)  # pixels, (H, W), in every format of the demo data
RLDS_CAMERAS: Final = {"exterior": "image", "right_wrist": "right_wrist_image", "left_wrist": "left_wrist_image"}
RLDS_NAME: Final = "demo_two_arm"
RLDS_VERSION: Final = "1.0.0"
WRITER: Final = "converters.demo_data"  # stands in the tables as the module that made the dataset
TRAIN_SHARDS: Final = 4  # at least, if there are so many episodes
SHARD_EPISODES: Final = 64  # at most
VAL_SHARE: Final = 0.1  # of the episodes, the last ones

Frames = dict[str, list[bytes]]  # by simulation camera: T JPEGs


@dataclass(frozen=True, slots=True)
class Feature:
    """One RLDS feature: its kind ("float32", "bool", "text" or "jpeg"), its meaning, and its shape."""

    kind: str
    description: str
    shape: tuple[int, ...] = ()


_JOINTS = "left 6 joints, left gripper, right 6 joints, right gripper"
RLDS_FEATURES: Final = {
    "steps/action": Feature("float32", f"Positions to be reached one step later, rad and 0..1: {_JOINTS}.", (14,)),
    "steps/discount": Feature("float32", "Always 1."),
    "steps/is_first": Feature("bool", "True on the first step."),
    "steps/is_last": Feature("bool", "True on the last step."),
    "steps/is_terminal": Feature("bool", "True on the last step: all episodes are demonstrations."),
    "steps/language_instruction": Feature("text", "What the arms are asked to do."),
    "steps/observation/image": Feature("jpeg", "Exterior camera, RGB.", (*IMAGE_SIZE, 3)),
    "steps/observation/left_wrist_image": Feature("jpeg", "Camera on the left hand, RGB.", (*IMAGE_SIZE, 3)),
    "steps/observation/right_wrist_image": Feature("jpeg", "Camera on the right hand, RGB.", (*IMAGE_SIZE, 3)),
    "steps/observation/state": Feature("float32", f"Positions, rad and 0 closed .. 1 open: {_JOINTS}.", (14,)),
    "steps/observation/velocity": Feature("float32", f"Velocities, rad/s and 1/s: {_JOINTS}.", (14,)),
    "steps/reward": Feature("float32", "1 on the last step of a successful episode, else 0."),
    "episode_metadata/file_path": Feature("text", "Which episode of the simulation this is."),
    "episode_metadata/success": Feature("bool", "Whether the named arm touched the named block and no other."),
}


@dataclass(frozen=True, slots=True)
class Shard:
    """One TFRecord file: number `index` of `count` in its split, and the episodes in it."""

    split: str
    index: int
    count: int
    episodes: tuple[int, ...]

    @property
    def file_name(self) -> str:
        return f"{RLDS_NAME}-{self.split}.tfrecord-{self.index:05d}-of-{self.count:05d}"


def plan_shards(episodes: int) -> list[Shard]:
    """How the episodes are dealt out to TFRecord files, in their order: train, then val (none for 1 episode)."""
    val = max(1, round(VAL_SHARE * episodes)) if episodes > 1 else 0
    shards = []
    for split, numbers in (("train", range(episodes - val)), ("val", range(episodes - val, episodes))):
        least = TRAIN_SHARDS if split == "train" else 1
        count = min(len(numbers), max(least, math.ceil(len(numbers) / SHARD_EPISODES)))
        for n in range(count):
            cut = slice(len(numbers) * n // count, len(numbers) * (n + 1) // count)
            shards.append(Shard(split, n, count, tuple(numbers[cut])))
    return shards


def rlds_record(demo: sim.Demonstration, frames: Frames, file_path: str) -> bytes:
    """One episode as a serialized `tf.train.Example`: each feature one list over all steps."""
    step = np.arange(len(demo.actions))
    values: dict[str, Any] = {
        "steps/action": demo.actions,
        "steps/discount": np.ones(len(step)),
        "steps/is_first": step == 0,
        "steps/is_last": step == step[-1],
        "steps/is_terminal": step == step[-1],
        "steps/language_instruction": [demo.scene.instruction.encode()] * len(step),
        "steps/observation/state": np.stack([seen.qpos for seen in demo.observations]),
        "steps/observation/velocity": np.stack([seen.qvel for seen in demo.observations]),
        "steps/reward": (step == step[-1]) * float(demo.success),
        "episode_metadata/file_path": [file_path.encode()],
        "episode_metadata/success": np.array([demo.success]),
    } | {f"steps/observation/{name}": frames[camera] for camera, name in RLDS_CAMERAS.items()}
    example = example_proto().Example()
    for key, feature in RLDS_FEATURES.items():
        lists = example.features.feature[key]
        if feature.kind == "float32":
            lists.float_list.value.extend(values[key].ravel().tolist())
        elif feature.kind == "bool":
            lists.int64_list.value.extend(values[key].astype(int).tolist())
        else:
            lists.bytes_list.value.extend(values[key])
    return bytes(example.SerializeToString(deterministic=True))


def rlds_features() -> dict[str, Any]:
    """The contents of features.json."""
    table = _nested(RLDS_FEATURES)
    top = table["featuresDict"]["features"]
    top["steps"] = _class("dataset_feature.Dataset") | {"sequence": {"feature": top["steps"], "length": "-1"}}
    return table


def rlds_info(shards: Sequence[Shard], record_bytes: Sequence[int]) -> dict[str, Any]:
    """The contents of dataset_info.json. record_bytes: of each shard, without the framing."""
    splits = []
    for split in dict.fromkeys(shard.split for shard in shards):
        mine = [n for n, shard in enumerate(shards) if shard.split == split]
        files = {"filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "name": split}
        size, lengths = sum(record_bytes[n] for n in mine), [str(len(shards[n].episodes)) for n in mine]
        splits.append(files | {"numBytes": str(size), "shardLengths": lengths})
    description = "Scripted demonstrations in the two-arm simulation of rdt-data."
    about = {"name": RLDS_NAME, "version": RLDS_VERSION, "description": description, "moduleName": WRITER}
    return about | {"fileFormat": "tfrecord", "splits": splits}


def _nested(features: Mapping[str, Feature]) -> dict[str, Any]:
    """A features dictionary with one level for each part of the slash paths."""
    groups: dict[str, dict[str, Feature]] = {}
    for key, feature in features.items():
        first, _, rest = key.partition("/")
        groups.setdefault(first, {})[rest] = feature
    inner = {name: _described(group[""]) if "" in group else _nested(group) for name, group in groups.items()}
    return _class("features_dict.FeaturesDict") | {"featuresDict": {"features": inner}}


def _described(feature: Feature) -> dict[str, Any]:
    """A feature as features.json says it."""
    shape = {"dimensions": [str(side) for side in feature.shape]} if feature.shape else {}
    if feature.kind == "text":
        content = _class("text_feature.Text") | {"text": {}}
    elif feature.kind == "jpeg":
        image = {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}
        content = _class("image_feature.Image") | {"image": image}
    else:
        tensor = {"shape": shape, "dtype": feature.kind, "encoding": "none"}
        content = _class("tensor_feature.Tensor" if feature.shape else "scalar.Scalar") | {"tensor": tensor}
    return content | {"description": feature.description}


def _class(name: str) -> dict[str, Any]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{name}"}
