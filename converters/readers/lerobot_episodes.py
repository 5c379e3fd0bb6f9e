"""Which episodes a LeRobot dataset lists, and in which files each of them lies.

In: the root and its `Info`. Out: `EpisodeRow`s in the order of episode_index, and the words of the tasks. Reads the
tables below `meta/` only: episodes.jsonl and tasks.jsonl (v2.0, v2.1), episodes/*/*.parquet and tasks.parquet (v3.0).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from converters.readers.lerobot_meta import INFO, Info, read_info, wrong
from rdt_data import parquet
from rdt_data.errors import SourceError

EPISODES, TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"
EPISODES_V3, TASKS_V3 = "meta/episodes", "meta/tasks.parquet"
_REMEDY = "download the folder meta again; it must belong to this data"


@dataclass(frozen=True, slots=True)
class VideoPart:
    """Where an episode lies in a video: from `start` to `stop` seconds, None: to its end."""

    path: str
    start: float = 0.0
    stop: float | None = None


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One listed episode. length: steps. tasks: its instructions. data: its Parquet file. All paths from the root."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: str
    videos: Mapping[str, VideoPart]


@dataclass(frozen=True, slots=True)
class Meta:
    """All that is known before a data file is opened. tasks: task_index → words, None without a tasks file."""

    info: Info
    episodes: tuple[EpisodeRow, ...]
    tasks: Mapping[int, str] | None
    listed_in: str
    tasks_file: str
    by_file: Mapping[str, list[EpisodeRow]] = field(default_factory=dict)


def read_meta(root: Path) -> Meta:
    """Read everything below meta/; what was read before and has not changed is not read again."""
    paths = [
        root / INFO,
        root / EPISODES,
        root / TASKS,
        root / TASKS_V3,
        *sorted((root / EPISODES_V3).rglob("*.parquet")),
    ]
    stats = [(path, path.stat()) for path in paths if path.is_file()]
    return _read(root, tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=4)
def _read(root: Path, seen: tuple[tuple[str, int, int], ...]) -> Meta:
    info = read_info(root)
    listed_in, tasks_file = (EPISODES_V3, TASKS_V3) if info.many_per_file else (EPISODES, TASKS)
    rows = sorted(_rows_v3(root, info) if info.many_per_file else _rows_v2(root, info), key=lambda row: row.index)
    for row, following in pairwise(rows):
        if row.index == following.index:
            raise SourceError(f"episode {row.index} is listed twice", remedy=_REMEDY, file=listed_in)
    if info.total_episodes is not None and info.total_episodes != len(rows):
        raise wrong(
            f"it says {info.total_episodes} episodes, {listed_in} lists {len(rows)}",
            "total_episodes",
            f"correct whichever is wrong: no episode is left out without being named in {listed_in}",
        )
    tasks = (_tasks_v3 if info.many_per_file else _tasks_v2)(root)
    by_file: dict[str, list[EpisodeRow]] = {}
    for row in rows:
        by_file.setdefault(row.data, []).append(row)
    return Meta(info, tuple(rows), tasks, listed_in, tasks_file, by_file)


def _rows_v2(root: Path, info: Info) -> Iterator[EpisodeRow]:
    for entry in _lines(root, EPISODES, {"episode_index": int, "length": int}):
        index = entry["episode_index"]
        values = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        videos = {key: VideoPart(info.place(info.video_path or "", video_key=key, **values)) for key in info.videos}
        tasks = _words(entry.get("tasks"))
        yield EpisodeRow(index, entry["length"], tasks, info.place(info.data_path, **values), videos)


def _rows_v3(root: Path, info: Info) -> Iterator[EpisodeRow]:
    files = sorted(path.relative_to(root).as_posix() for path in (root / EPISODES_V3).rglob("*.parquet"))
    if not files:
        raise SourceError("there is no Parquet file in it", remedy=_REMEDY, file=EPISODES_V3)
    for file in files:
        table = _table(root, file, _columns_v3(info))
        for number in range(len(table["episode_index"])):
            row = {name: values[number] for name, values in table.items()}
            data = info.place(info.data_path, **_numbers(row, "data"))
            videos = {key: _video_v3(info, key, row) for key in info.videos}
            yield EpisodeRow(int(row["episode_index"]), int(row["length"]), _words(row["tasks"]), data, videos)


def _columns_v3(info: Info) -> list[str]:
    video = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    of_videos = [f"videos/{key}/{name}" for key in info.videos for name in video]
    return ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", *of_videos]


def _video_v3(info: Info, key: str, row: dict[str, Any]) -> VideoPart:
    path = info.place(info.video_path or "", video_key=key, **_numbers(row, f"videos/{key}"))
    return VideoPart(path, float(row[f"videos/{key}/from_timestamp"]), float(row[f"videos/{key}/to_timestamp"]))


def _numbers(row: dict[str, Any], prefix: str) -> dict[str, int]:
    return {name: int(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}


def _tasks_v2(root: Path) -> dict[int, str] | None:
    if not (root / TASKS).is_file():
        return None
    return {entry["task_index"]: entry["task"] for entry in _lines(root, TASKS, {"task_index": int, "task": str})}


def _tasks_v3(root: Path) -> dict[int, str] | None:
    """The words are the index of a pandas table, which Parquet calls "task" or, without a name, as below."""
    if not (root / TASKS_V3).is_file():
        return None
    with _told(TASKS_V3):
        words = next(
            (name for name in parquet.columns(root / TASKS_V3) if name in ("task", "__index_level_0__")), "task"
        )
    table = _table(root, TASKS_V3, ["task_index", words])
    return {int(index): str(text) for index, text in zip(table["task_index"], table[words], strict=True)}


def _table(root: Path, file: str, names: list[str]) -> dict[str, parquet.Column]:
    with _told(file):
        return parquet.read(root / file, names)


@contextmanager
def _told(file: str) -> Iterator[None]:
    """Tell a SourceError from within which file it is about."""
    try:
        yield
    except SourceError as error:
        raise error.within(file=file) from error


def _lines(root: Path, file: str, needed: dict[str, type]) -> Iterator[dict[str, Any]]:
    """The entries of a JSON-lines file, each with the `needed` values."""
    try:
        lines = (root / file).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"it cannot be read: {said}", remedy=_REMEDY, file=file) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise SourceError(f"line {number} is not JSON: {error}", remedy=_REMEDY, file=file) from error
        for name, kind in needed.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
                raise SourceError(f"line {number} has no {name} ({kind.__name__})", remedy=_REMEDY, file=file)
        yield entry


def _words(tasks: Any) -> tuple[str, ...]:
    if isinstance(tasks, str):
        return (tasks,)
    return tuple(str(task) for task in tasks) if tasks is not None else ()
