"""Broken sources and bad destinations: each is told by name, nothing is lost, nothing of others is touched."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from rdt_data.images import encode_jpeg
from rdt_data.store import open_dataset

Broken = tuple[int, int, str | None, str]
"""File, episode in it, field, and how the reason begins."""

WORDS, STATE, IMAGE = "language_instruction", "observation/state", "observation/image"
QPOS, HIGH, WRIST = "observations/qpos", "observations/images/cam_high", "observations/images/cam_right_wrist"


@dataclass(frozen=True)
class Case:
    """What is wrong with a source, by episode (RLDS features, HDF5 file) or by file, and what is to be told."""

    broken: tuple[Broken, ...]
    change: Mapping[int, Callable[[Any], None]] = field(default_factory=dict)
    damage: Mapping[int, Callable[[bytearray], None]] = field(default_factory=dict)


def floats(key: str, change: Callable[[list[float]], list[float]]) -> Callable[[Any], None]:
    """Change the numbers of an RLDS feature."""

    def apply(features: Any) -> None:
        values = features[f"steps/{key}"].float_list.value
        values[:] = change(list(values))

    return apply


def texts(key: str, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Any], None]:
    """Change the byte strings of an RLDS feature."""

    def apply(features: Any) -> None:
        values = features[f"steps/{key}"].bytes_list.value
        values[:] = change(list(values))

    return apply


def no_steps(features: Any) -> None:
    for key in features:
        if key.startswith("steps/"):
            for kind in ("bytes_list", "float_list", "int64_list"):
                getattr(features[key], kind).ClearField("value")


def rewrite(key: str, change: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    """Replace a dataset of an HDF5 file by what `change` makes of it; None leaves it out."""

    def apply(file: h5py.File) -> None:
        value = change(file[key][()])
        del file[key]
        if value is not None:
            file[key] = value

    return apply


def hdf5_without_steps(file: h5py.File) -> None:
    keys: list[str] = []
    file.visititems(lambda key, item: keys.append(key) if isinstance(item, h5py.Dataset) and item.shape else None)
    for key in keys:
        rewrite(key, lambda rows: rows[:0])(file)


def nan_at(step: int, column: int) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        flat = np.array(values, np.float32).reshape(-1, 14)
        flat[step, column] = np.nan
        return flat if isinstance(values, np.ndarray) else flat.ravel().tolist()

    return change


def cut_jpeg(row: int) -> Callable[[Any], Any]:
    """The JPEG of one step loses its second half; in ALOHA's layout zeros take its place."""

    def change(frames: Any) -> Any:
        if isinstance(frames, list):
            return [frame[: len(frame) // 2] if n == row else frame for n, frame in enumerate(frames)]
        frames[row, len(bytes(frames[row]).rstrip(b"\0")) // 2 :] = 0
        return frames

    return change


def larger(frames: Any) -> Any:
    """Frames of another size than the 32x24 of the others."""
    picture = encode_jpeg(np.zeros((48, 64, 3), np.uint8))
    return np.stack([np.frombuffer(picture, np.uint8)] * len(frames))


def keep_half(data: bytearray) -> None:
    del data[len(data) // 2 :]


def keep_three_quarters(data: bytearray) -> None:
    del data[3 * len(data) // 4 :]


def twice(data: bytearray) -> None:
    data += bytes(data)


def flip(at: int) -> Callable[[bytearray], None]:
    def apply(data: bytearray) -> None:
        data[at] ^= 1

    return apply


RLDS = {
    "a TFRecord file that is cut": Case(
        ((1, 1, None, "the file ends "),),
        damage={1: keep_three_quarters},
    ),
    "a TFRecord file whose first record is cut": Case(
        ((1, 0, None, "record 0: CRC of the length is wrong"), (1, 1, None, "record 1 cannot be reached: record 0")),
        damage={1: flip(0)},
    ),
    "a wrong CRC": Case(((2, 0, None, "record 0: CRC of the data is wrong: stored 0x"),), damage={2: flip(400)}),
    "a TFRecord file with more episodes than it should have": Case(
        ((1, 2, None, "the file holds 4 records, dataset_info.json promises 2 records"),),
        damage={1: twice},
    ),
    "a JPEG that is cut": Case(
        ((1, 0, IMAGE, "frame 3: JPEG of "),),
        change={2: texts(IMAGE, cut_jpeg(3))},
    ),
    "NaN in a state": Case(((1, 1, STATE, "step 2, column 3 is nan"),), change={3: floats(STATE, nan_at(2, 3))}),
    "an episode without steps": Case(((0, 0, None, "the episode has no steps"),), change={0: no_steps}),
    "an episode without words": Case(
        ((0, 1, WORDS, "the instruction is empty"),),
        change={1: texts(WORDS, lambda words: [b""] * len(words))},
    ),
    "a state of the wrong width": Case(
        ((2, 1, STATE, "it holds 65 numbers, which are not whole arrays of shape (14,)"),),
        change={5: floats(STATE, lambda values: values[:65])},
    ),
    "a frame too few": Case(
        ((0, 0, IMAGE, "it has 4 steps, but is_first has 5"),),
        change={0: texts(IMAGE, lambda frames: frames[:-1])},
    ),
    "two broken episodes": Case(
        ((0, 1, STATE, "step 0, column 0 is nan"), (2, 0, IMAGE, "frame 0: JPEG of ")),
        change={1: floats(STATE, nan_at(0, 0)), 4: texts(IMAGE, cut_jpeg(0))},
    ),
}

HDF5 = {
    "an HDF5 file that is cut": Case(((2, 0, None, "HDF5 cannot open it: "),), damage={2: keep_half}),
    "a padded JPEG that is cut": Case(
        ((1, 0, HIGH, "the end of frame 3 cannot be found"),), change={1: rewrite(HIGH, cut_jpeg(3))}
    ),
    "NaN in a state": Case(((0, 0, QPOS, "step 2, column 3 is nan"),), change={0: rewrite(QPOS, nan_at(2, 3))}),
    "an episode without steps": Case(((3, 0, None, "the episode has no steps"),), change={3: hdf5_without_steps}),
    "an episode without words": Case(
        ((1, 0, "instruction", "there is no instruction"),),
        change={1: rewrite("instruction", lambda words: None)},
    ),
    "a state of the wrong width": Case(
        ((2, 0, QPOS, "has 13 columns, columns 13:14 are asked for"),),
        change={2: rewrite(QPOS, lambda rows: rows[:, :13])},
    ),
    "a state of the wrong length": Case(
        ((2, 0, QPOS, "it has 5 rows, but the episode 6 (the rows of action)"),),
        change={2: rewrite(QPOS, lambda rows: rows[:5])},
    ),
    "a camera that one episode lacks": Case(
        ((1, 0, WRIST, "the right_wrist camera is missing; the episode holds action, "),),
        change={1: rewrite(WRIST, lambda frames: None)},
    ),
    "two image sizes": Case(
        (
            (1, 0, HIGH, "frame 0: 64x48 pixels (as it would be stored), but the first frame of this camera is 32x24"),
            (3, 0, HIGH, "frame 0: 64x48 pixels"),
        ),
        change={1: rewrite(HIGH, larger), 3: rewrite(HIGH, larger)},
    ),
}


@pytest.fixture
def make_source(rlds_source, aloha_source, tmp_path) -> Callable[[str, Case], tuple[Path, list[Path]]]:
    """Write the source of a case; returns its root and its files in order."""

    def make(reader: str, case: Case) -> tuple[Path, list[Path]]:
        write, pattern = {"rlds": (rlds_source, "*tfrecord*"), "hdf5": (aloha_source, "*.hdf5")}[reader]
        root = write(tmp_path / "source", change=case.change)
        files = sorted(root.glob(pattern))
        for number, damage in case.damage.items():
            data = bytearray(files[number].read_bytes())
            damage(data)
            files[number].write_bytes(data)
        return root, files

    return make


@pytest.mark.parametrize(
    ("reader", "name"), [*(("rlds", name) for name in RLDS), *(("hdf5", name) for name in HDF5)], ids=str
)
def test_a_broken_episode_stops_the_run_or_is_listed_and_left_out(make_source, command, tree, tmp_path, reader, name):
    case = (RLDS if reader == "rlds" else HDF5)[name]
    source, files = make_source(reader, case)
    told = [
        {"file": files[file].name, "episode": episode, "field": key, "reason": reason}
        for file, episode, key, reason in case.broken
    ]
    stopped, direct = tmp_path / "stopped.zarr", tmp_path / "direct.zarr"

    stop = command("convert", source, stopped)
    assert stop.code == 1
    where = f", field {told[0]['field']}" if told[0]["field"] else ""
    assert stop.err.startswith(f"error: {told[0]['file']}, episode {told[0]['episode']}{where}: {told[0]['reason']}")
    assert "\n  fix: " in stop.err
    assert not (stopped / ".partial").exists()

    first = command("convert", source, stopped, "--on-error", "quarantine", "--json")
    second = command("convert", source, direct, "--on-error", "quarantine")
    assert (first.code, second.code, second.err) == (3, 3, "")
    assert tree(stopped) == tree(direct)
    for entry, listed in zip(told, open_dataset(str(direct)).listed("quarantined"), strict=True):
        assert listed == {**entry, "reason": listed["reason"]}
        assert listed["reason"].startswith(entry["reason"])
        where = f", field {listed['field']}" if listed["field"] else ""
        line = f"  quarantined {listed['file']}, episode {listed['episode']}{where}: {listed['reason']}\n"
        assert line in second.out
    assert first.json["quarantined"] == open_dataset(str(direct)).listed("quarantined")
    left_out = {
        f"{file.name}#{n}" if reader == "rlds" else file.stem for file, n in ((files[b[0]], b[1]) for b in case.broken)
    }
    everything = {f"{file.name}#{n}" if reader == "rlds" else file.stem for file in files for n in (0, 1)}
    assert {episode.id for episode in open_dataset(str(direct))} == everything - left_out
    checked = command("verify", direct, "--source", source)
    assert checked.code == 0, checked.out


def test_a_source_in_which_every_episode_is_broken_makes_an_empty_store(make_source, command, tmp_path):
    source, _ = make_source("hdf5", Case((), damage=dict.fromkeys(range(4), keep_half)))
    dest = tmp_path / "made.zarr"
    assert command("convert", source, dest).code == 1
    assert command("convert", source, dest, "--on-error", "quarantine").code == 3
    assert len(open_dataset(str(dest))) == 0
    assert len(open_dataset(str(dest)).listed("quarantined")) == 4
    assert command("verify", dest, "--source", source).code == 0


def test_a_source_mended_after_a_stop_is_converted_to_the_end(make_source, rlds_source, command, tree, tmp_path):
    source, files = make_source("rlds", Case((), damage={1: keep_half}))
    dest, other = tmp_path / "made.zarr", tmp_path / "other.zarr"
    assert command("convert", source, dest).code == 1
    whole = rlds_source(tmp_path / "whole")
    shutil.copy(whole / files[1].name, files[1])
    done = command("convert", source, dest)
    assert (done.code, done.err) == (0, "")
    assert command("convert", source, other).code == 0
    assert tree(dest) == tree(other)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_source_that_changed_under_finished_parts_is_refused(rlds_source, command, tree, tmp_path, change):
    source, dest = rlds_source(tmp_path), tmp_path / "made.zarr"
    assert command("convert", source, dest).code == 0
    before = tree(dest)
    file = sorted(source.glob("*tfrecord*"))[1]
    size, then = file.stat().st_size, file.stat().st_mtime_ns
    if change == "size":
        file.write_bytes(file.read_bytes() + b"!")
    os.utime(file, ns=(then, then + 1))
    refused = command("convert", source, dest)
    assert refused.code == 1
    assert "the source of part 0 has changed since it was converted" in refused.err
    assert f"  then {file.name}, episodes 0:2, {size} bytes, of 20" in refused.err
    assert f"  now  {file.name}, episodes 0:2, {size + (change == 'size')} bytes, of 20" in refused.err
    assert refused.err.count(".tfrecord-") == 2, "only what differs"
    assert "or start again with --overwrite" in refused.err
    assert tree(dest) == before


def test_another_command_on_the_same_destination_is_refused_with_what_differs(rlds_source, command, tree, tmp_path):
    source, dest = rlds_source(tmp_path), tmp_path / "made.zarr"
    assert command("convert", source, dest).code == 0
    before = tree(dest)
    spec = tmp_path / "demo_two_arm.yaml"
    shutil.copy(Path(__file__).parents[1] / "converters/specs/demo_two_arm.yaml", spec)
    spec.write_text(spec.read_text().replace("control_hz: 10", "control_hz: 20"))
    for options, difference in {
        ("--codec", "png"): "request.codec: then 'keep', now 'png'",
        ("--image-size", "16"): "request.image_size: then None, now 16",
        ("--split", "all"): "request.split: then None, now 'all'",
        ("--episodes", "0:3"): "request.episodes: then None, now [0, 3]",
        ("--action", "recorded"): "request.action: then 'next-state', now 'recorded'",
        ("--instruction", "Push"): "request.instruction: then None, now 'Push'",
        ("--spec", str(spec)): "spec.control_hz: then 10, now 20",
    }.items():
        refused = command("convert", source, dest, *options)
        assert refused.code == 1
        assert f"{dest} was begun by a different command:\n" in refused.err
        assert f"  {difference}\n" in refused.err
        assert "or use --overwrite" in refused.err
        assert tree(dest) == before
    assert command("convert", source, dest, "--codec", "png", "--overwrite").code == 0
    assert open_dataset(str(dest)).camera_formats["exterior"].codec == "png"
    assert command("verify", dest, "--source", source).code == 0
    assert command("convert", source, dest, "--overwrite").code == 0
    assert tree(dest) == before


def test_a_finished_store_is_left_as_it_is(rlds_source, command, tmp_path):
    source, dest = rlds_source(tmp_path), tmp_path / "made.zarr"
    assert command("convert", source, dest).code == 0
    times = {path: path.stat().st_mtime_ns for path in dest.rglob("*") if path.is_file()}
    again = command("convert", source, dest)
    assert again.code == 0
    assert f"{dest} is finished already: nothing to do" in again.out
    assert {path: path.stat().st_mtime_ns for path in dest.rglob("*") if path.is_file()} == times


@pytest.mark.parametrize("lost", ["0", "0/images/exterior/c/0/0/0/0", "0/zarr.json"])
def test_a_part_that_a_finished_store_has_lost_is_made_again(rlds_source, command, tree, tmp_path, lost):
    source, dest = rlds_source(tmp_path), tmp_path / "made.zarr"
    assert command("convert", source, dest).code == 0
    before = tree(dest)
    path = dest / "parts" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = command("convert", source, dest, "--json")
    assert (again.code, again.json["already"]) == (0, 0)
    assert tree(dest) == before


def other_programs(folder: Path) -> dict[str, Path]:
    """Destinations that are not ours."""
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.txt").write_text("water the plants")
    (folder / "half").mkdir()
    (folder / "half" / "parts").mkdir()
    (folder / "half" / "parts" / "0").write_text("mine")
    (folder / "text.zarr").write_text("not a directory")
    zarr.create_group(folder / "v3.zarr", zarr_format=3, attributes={"made by": "another"})
    zarr.create_array(folder / "array.zarr", shape=(3,), dtype="u1")
    zarr.create_group(folder / "v2.zarr", zarr_format=2)
    (folder / "damaged.zarr").mkdir()
    (folder / "damaged.zarr" / "zarr.json").write_text('{"attributes": {"format": "rdt')
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_what_others_wrote_is_not_touched(rlds_source, command, tree, tmp_path, overwrite):
    source, folder = rlds_source(tmp_path / "source"), tmp_path / "others"
    folder.mkdir()
    others = other_programs(folder)
    before = tree(folder)
    for name, dest in others.items():
        refused = command("convert", source, dest, *overwrite)
        assert refused.code == 1
        assert str(dest) in refused.err
        assert "fix: " in refused.err, name
        assert tree(folder) == before


def test_a_destination_that_cannot_be_written_is_told(rlds_source, command, tmp_path):
    source = rlds_source(tmp_path / "source")
    (tmp_path / "file").write_text("")
    for dest in (tmp_path / "file" / "made.zarr", Path("/proc/made.zarr"), Path("/dev/null/made.zarr")):
        refused = command("convert", source, dest)
        assert refused.code == 1
        assert f"cannot write to {dest}: " in refused.err
        assert "check its path, permissions and free space" in refused.err


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of a given size; `grow` changes it, and more options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if place.is_mount() else ["-o", options]
        done = run("mount", "-t", "tmpfs", *again, "tmpfs", place)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        run("umount", place).check_returncode()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_and_the_run_continues_when_there_is_room(
    big_source, program, small_disk, tree, tmp_path, workers
):
    disk = small_disk("size=170m")
    convert = [program, "convert", big_source, disk / "made.zarr", "--workers", str(workers)]
    full = run(*convert)
    assert full.returncode == 1
    assert "No space left on device\n  fix: free space or mend the disk, then run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert not [path for path in tree(disk) if "partial" in path]
    assert (disk / "made.zarr" / "parts" / "0").exists()
    small_disk("size=500m")
    done = run(*convert, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["already"] > 0
    whole = run(program, "verify", disk / "made.zarr")
    assert whole.returncode == 0, whole.stdout


def test_a_disk_that_is_full_from_the_beginning_is_told(rlds_source, command, small_disk, tree, tmp_path):
    source = rlds_source(tmp_path / "source")
    for size in ("4k", "16k", "64k"):
        disk = small_disk(f"size={size}")
        refused = command("convert", source, disk / "made.zarr")
        assert refused.code == 1
        assert "No space left on device" in refused.err
        assert not [path for path in tree(disk) if "partial" in path]
    small_disk("size=8m")
    assert command("convert", source, disk / "made.zarr").code == 0
    assert command("verify", disk / "made.zarr", "--source", source).code == 0


def test_a_read_only_disk_is_told_and_left_as_it_is(rlds_source, command, small_disk, tree, tmp_path):
    source = rlds_source(tmp_path / "source")
    dest = small_disk("size=8m") / "made.zarr"
    assert command("convert", source, dest).code == 0
    before = tree(dest)
    small_disk("size=8m,ro")
    for more in ([], ["--overwrite"]):
        refused = command("convert", source, dest, *more)
        assert refused.code == 1
        assert f"cannot write to {dest}: Read-only file system" in refused.err
    assert tree(dest) == before
    assert command("verify", dest, "--source", source).code == 0
