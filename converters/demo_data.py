"""Write demonstrations from the built-in simulation in genuine source formats, to try every command without a robot.

In: a directory, a number of episodes, a seed. Out: each episode in each format asked for, the same in all. The
same arguments give the same bytes, whatever the number of workers. A file appears whole or not at all. Knows nothing
of specs or the store.

`aloha`: DIR/demo_aloha/episode_<i>.hdf5, as ALOHA records with JPEG compression (here the JPEGs are true RGB):
    action, observations/qpos, observations/qvel      (T, 14) f32: left 6 joints, left gripper, then right
    observations/images/<cam_high|cam_right_wrist|cam_left_wrist>   (T, P) u8, JPEG bytes padded with zeros
    compress_len        (3, T) f32, the lengths without padding, rows in the order above, which is not HDF5's
    instruction         one string;  attributes sim, compress = True
`rlds`: DIR/rlds/demo_two_arm/1.0.0/, as tensorflow-datasets lays it out in TFRecord files, see `demo_rlds`.

Units are rad, rad/s and, for grippers, 0 closed … 1 open; `rdt_data.sim.CONTROL_HZ` steps a second.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from converters.demo_rlds import (
    IMAGE_SIZE,
    RLDS_NAME,
    RLDS_VERSION,
    Frames,
    Shard,
    plan_shards,
    rlds_features,
    rlds_info,
    rlds_record,
)
from converters.readers.tfrecord import example_proto, write_records
from rdt_data import sim
from rdt_data.errors import RdtError, unknown
from rdt_data.images import encode_jpeg
from rdt_data.jobs import Workers

ALOHA_CAMERAS: Final = {"exterior": "cam_high", "right_wrist": "cam_right_wrist", "left_wrist": "cam_left_wrist"}
FOLDERS: Final = {"aloha": "demo_aloha", "rlds": f"rlds/{RLDS_NAME}/{RLDS_VERSION}"}
FORMATS: Final = tuple(FOLDERS)


@dataclass(frozen=True, slots=True)
class DemoData:
    """What was written."""

    roots: dict[str, Path]  # by format: the directory to point a reader at
    episodes: int  # in each format
    steps: int  # in each format
    successes: int  # episodes in which the demonstrator did what the instruction says
    bytes: int  # of all files together


@dataclass(frozen=True, slots=True)
class _Job:
    """One episode for a worker to record."""

    seed: int
    number: int
    roots: Mapping[str, Path]  # by format


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a worker says of an episode it has written."""

    steps: int
    success: bool
    record_bytes: int  # of its RLDS record without the framing, 0 if none was asked for


def write_demo_data(
    directory: Path,
    *,
    episodes: int = 60,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DemoData:
    """Record `episodes` demonstrations and write each in every one of `formats`.

    workers: local processes (1: this one). Earlier demo data in `directory` is an error, or with `overwrite` is
    deleted first. `progress` is called with (episodes done, episodes in all) after each one. Raises RdtError, also
    when the disk does not take the files; those that are whole then stay.
    """
    _check(directory, episodes, seed, formats)
    roots = {name: directory / FOLDERS[name] for name in formats}
    if "rlds" in roots:
        example_proto()  # forked workers share what is loaded by now
    with _problems_told(directory), _nothing_half_written(roots), Workers(min(workers, episodes)) as pool:
        _make_room(roots, overwrite)
        shards = plan_shards(episodes) if "rlds" in roots else []
        made: dict[int, _Recorded] = {}
        jobs = [_Job(seed, number, roots) for number in range(episodes)]
        for number, recorded in pool.map(_record, jobs):
            if isinstance(recorded, OSError):
                raise recorded
            made[number] = recorded
            for shard in shards:
                if number in shard.episodes and made.keys() >= set(shard.episodes):
                    _join(roots["rlds"], shard)
            if progress is not None:
                progress(len(made), episodes)
        if "rlds" in roots:
            sizes = [sum(made[number].record_bytes for number in shard.episodes) for shard in shards]
            _write_tables(roots["rlds"], shards, sizes)
    size = sum(path.stat().st_size for name, root in roots.items() for path in _written(name, root))
    steps, successes = sum(one.steps for one in made.values()), sum(one.success for one in made.values())
    return DemoData(roots, episodes, steps, successes, size)


def _record(job: _Job) -> _Recorded | OSError:
    """Record an episode and write it: the ALOHA file, the TFRecord file of one record that `_join` takes."""
    demo = sim.record(job.seed, job.number, image_size=IMAGE_SIZE)
    frames = {camera: [encode_jpeg(seen.images[camera]) for seen in demo.observations] for camera in sim.CAMERAS}
    record = b""
    try:
        if "aloha" in job.roots:
            with _whole(job.roots["aloha"] / f"episode_{job.number}.hdf5") as partial:
                write_aloha(partial, demo, frames)
        if "rlds" in job.roots:
            record = rlds_record(demo, frames, f"{RLDS_NAME}/seed_{job.seed}/episode_{job.number}")
            write_records(_piece(job.roots["rlds"], job.number), [record])
    except OSError as error:
        return error
    return _Recorded(len(demo.actions), demo.success, len(record))


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


def _piece(root: Path, number: int) -> Path:
    """Where an episode's record waits until its shard is complete."""
    return root / f".episode_{number}.tfrecord.partial"


def _join(root: Path, shard: Shard) -> None:
    """Make a shard of its pieces: TFRecord files one after the other are a TFRecord file."""
    pieces = [_piece(root, number) for number in shard.episodes]
    with _whole(root / shard.file_name) as partial, partial.open("wb") as whole:
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, whole)
    for piece in pieces:
        piece.unlink()


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
def _problems_told(directory: Path) -> Iterator[None]:
    """Tell an OSError as what the user can mend. It ends workers at once, which an RdtError would not."""
    try:
        yield
    except OSError as error:
        problem = f"cannot write {error.filename or directory}: {error.strerror or error}"
        raise RdtError(problem, remedy="check permissions and free space, then run again with --overwrite") from error


@contextlib.contextmanager
def _nothing_half_written(roots: Mapping[str, Path]) -> Iterator[None]:
    """In the end delete what has no final name: pieces, and files of workers that were ended while they wrote."""
    try:
        yield
    finally:
        for root in roots.values():
            for path in root.glob(".*.partial"):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the name `path` when the block ends well, and else is deleted."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
