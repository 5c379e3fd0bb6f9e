"""Write demonstrations from the built-in simulation in genuine source formats, to try every command without a robot.

In: a directory, a number of episodes, a seed. Out: each episode in each format asked for, the same in all. The
same arguments give the same bytes. A file appears whole or not at all. Knows nothing of specs or the store.

`aloha`: DIR/demo_aloha/episode_<i>.hdf5, as ALOHA records with JPEG compression (here the JPEGs are true RGB):
    action, observations/qpos, observations/qvel      (T, 14) f32: left 6 joints, left gripper, then right
    observations/images/<cam_high|cam_right_wrist|cam_left_wrist>   (T, P) u8, JPEG bytes padded with zeros
    compress_len        (3, T) f32, the lengths without padding, rows in the order above, which is not HDF5's
    instruction         one string;  attributes sim, compress = True
`rlds`: DIR/rlds/demo_two_arm/1.0.0/, as tensorflow-datasets lays it out in TFRecord files, splits train and val;
    the keys are those of RLDS_FEATURES below.

Units are rad, rad/s and, for grippers, 0 closed … 1 open; `rdt_data.sim.CONTROL_HZ` steps a second.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from converters.readers.tfrecord import example_proto, write_records
from rdt_data import sim
from rdt_data.errors import RdtError, unknown
from rdt_data.images import encode_jpeg

IMAGE_SIZE: Final = (120, 160)  # pixels, (H, W)
ALOHA_CAMERAS: Final = {"exterior": "cam_high", "right_wrist": "cam_right_wrist", "left_wrist": "cam_left_wrist"}
RLDS_CAMERAS: Final = {"exterior": "image", "right_wrist": "right_wrist_image", "left_wrist": "left_wrist_image"}
RLDS_NAME: Final = "demo_two_arm"
RLDS_VERSION: Final = "1.0.0"
FOLDERS: Final = {"aloha": "demo_aloha", "rlds": f"rlds/{RLDS_NAME}/{RLDS_VERSION}"}
FORMATS: Final = tuple(FOLDERS)
TRAIN_SHARDS: Final = 4  # at least, if there are so many episodes
SHARD_EPISODES: Final = 64  # at most; a shard's records are held in memory until it is written
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
class DemoData:
    """What was written."""

    roots: dict[str, Path]  # by format: the directory to point a reader at
    episodes: int  # in each format
    steps: int  # in each format
    successes: int  # episodes in which the demonstrator did what the instruction says
    bytes: int  # of all files together


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


def write_demo_data(
    directory: Path,
    *,
    episodes: int = 60,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DemoData:
    """Record `episodes` demonstrations and write each in every one of `formats`.

    Earlier demo data in `directory` is an error, or with `overwrite` is deleted first. `progress` is called with
    (episodes done, episodes in all) after each one.
    """
    _check(directory, episodes, seed, formats)
    roots = {name: directory / FOLDERS[name] for name in formats}
    _make_room(roots, overwrite)
    shards, successes, steps, record_bytes = plan_shards(episodes), 0, 0, []
    for shard in shards:
        records: list[bytes] = []
        for number in shard.episodes:
            demo = sim.record(seed, number, image_size=IMAGE_SIZE)
            records.append(_write_episode(roots, number, demo, f"{RLDS_NAME}/seed_{seed}/episode_{number}"))
            successes, steps = successes + demo.success, steps + len(demo.actions)
            if progress is not None:
                progress(number + 1, episodes)
        if "rlds" in roots:
            with _whole(roots["rlds"] / shard.file_name) as partial:
                write_records(partial, records)
        record_bytes.append(sum(map(len, records)))
    if "rlds" in roots:
        _write_tables(roots["rlds"], shards, record_bytes)
    size = sum(path.stat().st_size for name, root in roots.items() for path in _written(name, root))
    return DemoData(roots, episodes, steps, successes, size)


def _write_episode(roots: Mapping[str, Path], number: int, demo: sim.Demonstration, file_path: str) -> bytes:
    """Write an episode where it is a file of its own. returns: the RLDS record, empty if none is asked for."""
    frames = {camera: [encode_jpeg(seen.images[camera]) for seen in demo.observations] for camera in sim.CAMERAS}
    if "aloha" in roots:
        with _whole(roots["aloha"] / f"episode_{number}.hdf5") as partial:
            write_aloha(partial, demo, frames)
    return rlds_record(demo, frames, file_path) if "rlds" in roots else b""


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


def write_aloha(path: Path, demo: sim.Demonstration, frames: Frames) -> None:
    """Write one episode as an ALOHA HDF5 file."""
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = True
        file.attrs["compress"] = True
        file["action"] = demo.actions
        file["observations/qpos"] = np.stack([seen.qpos for seen in demo.observations])
        file["observations/qvel"] = np.stack([seen.qvel for seen in demo.observations])
        for camera, name in ALOHA_CAMERAS.items():
            padded = max(map(len, frames[camera]))
            rows = [np.frombuffer(jpeg.ljust(padded, b"\0"), np.uint8) for jpeg in frames[camera]]
            file.create_dataset(f"observations/images/{name}", data=np.stack(rows), chunks=(1, padded))
        file["compress_len"] = np.array([[len(jpeg) for jpeg in frames[c]] for c in ALOHA_CAMERAS], np.float32)
        file["instruction"] = demo.scene.instruction


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
    about = {"name": RLDS_NAME, "version": RLDS_VERSION, "description": description, "moduleName": __name__}
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


def _write_tables(root: Path, shards: Sequence[Shard], record_bytes: Sequence[int]) -> None:
    """The JSON files beside the shards; the one that lists the shards comes last, so that it lists no missing one."""
    tables = {"features.json": rlds_features(), "dataset_info.json": rlds_info(shards, record_bytes)}
    for name, table in tables.items():
        with _whole(root / name) as partial:
            partial.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _check(directory: Path, episodes: int, seed: int, formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise unknown("demo data format", name, FORMATS)
    if not formats:
        raise RdtError("no demo data format was asked for", remedy=f"choose from {', '.join(FORMATS)}")
    if episodes < 1 or not 0 <= seed < 2**64:
        problem = f"cannot record {episodes} episodes with seed {seed}"
        raise RdtError(problem, remedy="ask for at least 1 episode and use 0 <= seed < 2**64")
    if directory.exists() and not directory.is_dir():
        raise RdtError(f"{directory} is not a directory", remedy="name a directory, or one that is yet to be made")


def _written(name: str, root: Path) -> Iterator[Path]:
    """What a run writes there; the tables, which make it a dataset, first."""
    for pattern in ["episode_*.hdf5"] if name == "aloha" else ["*.json", f"{RLDS_NAME}-*.tfrecord-*"]:
        yield from sorted(root.glob(pattern))


def _make_room(roots: Mapping[str, Path], overwrite: bool) -> None:
    """Make the directories; refuse or delete what an earlier run left there."""
    earlier = [path for name, root in roots.items() for path in _written(name, root)]
    if earlier and not overwrite:
        problem = f"there is demo data already: {earlier[0]} and {len(earlier) - 1} more files"
        raise RdtError(problem, remedy="name another directory, or overwrite it (--overwrite)")
    for path in earlier:
        path.unlink()
    for root in roots.values():
        root.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the name `path` when the block ends well, and else is deleted."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
