"""What a LeRobot dataset says of itself: the columns of its table of episodes, `info.json`, `tasks.parquet`.

In: features and counts. Out: JSON and Parquet as `lerobot/datasets/utils.py` and `dataset_metadata.py` lay them down.
"""

import json
from pathlib import Path
from typing import Any

from converters.exports.features import Features
from converters.exports.files import DATA_MEGABYTES, DATA_PATH, FILES_PER_CHUNK, VIDEO_MEGABYTES, VIDEO_PATH
from converters.exports.stats import NAMES
from rdt_data.clock import COLUMNS
from rdt_data.parquet_write import Column, ParquetFile

VERSION = "v3.0"

_EPISODE = (
    Column("episode_index", "int64"),
    Column("tasks", "strings"),
    Column("length", "int64"),
    Column("data/chunk_index", "int64"),
    Column("data/file_index", "int64"),
    Column("dataset_from_index", "int64"),
    Column("dataset_to_index", "int64"),
)
_OURS = (Column("rdt/id", "string"), Column("rdt/source", "string"), Column("rdt/instruction_raw", "string"))
_CLOCK = tuple(Column(f"rdt/{name}", kind) for name, kind in COLUMNS.items())
_PLACE = (Column("meta/episodes/chunk_index", "int64"), Column("meta/episodes/file_index", "int64"))


def episode_columns(features: Features, split: bool) -> list[Column]:
    """The columns of `meta/episodes`; `rdt/…` are more than LeRobot knows. split: whether `rdt/split` is one."""
    columns = [*_EPISODE]
    if features.images == "video":
        for key in features.camera_keys().values():
            columns += [Column(f"videos/{key}/{name}", "int64") for name in ("chunk_index", "file_index")]
            columns += [Column(f"videos/{key}/{name}", "float64") for name in ("from_timestamp", "to_timestamp")]
    for key, feature in features.all().items():
        shape = (3, 1, 1) if feature["dtype"] in ("video", "image") else tuple(feature["shape"])
        columns += [
            Column(f"stats/{key}/count", "int64", (1,))
            if name == "count"
            else Column(f"stats/{key}/{name}", "float64", shape)
            for name in NAMES
        ]
    return [*columns, *_PLACE, *_OURS, *_CLOCK, *([Column("rdt/split", "string")] if split else [])]


def info(features: Features, robot: str, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """`meta/info.json`."""
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_MEGABYTES,
        "video_files_size_in_mb": VIDEO_MEGABYTES,
        "fps": features.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if features.cameras and features.images == "video" else None,
        "features": features.all(),
    }


def write_tasks(path: Path, tasks: list[str]) -> None:
    """The texts by number. LeRobot reads them with pandas and takes the text as the index of a row."""
    index = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
    }
    columns = [Column("task_index", "int64"), Column("task", "string")]
    with ParquetFile(path, columns, metadata={"pandas": json.dumps(index)}) as file:
        file.write({"task_index": list(range(len(tasks))), "task": tasks})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=4, allow_nan=False) + "\n", encoding="utf-8")
