"""Demo data: what is written in each format reads back as what the simulation recorded."""

import json
import struct
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from converters import demo_data, demo_rlds
from converters.demo_data import write_demo_data
from converters.demo_rlds import plan_shards
from converters.readers.tfrecord import example_proto, masked_crc32c
from rdt_data import sim
from rdt_data.errors import RdtError

EPISODES = 7


@dataclass(frozen=True)
class Written:
    data: demo_data.DemoData
    demos: list[sim.Demonstration]
    progress: list[tuple[int, int]]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    progress = []
    data = write_demo_data(
        tmp_path_factory.mktemp("demo"), episodes=EPISODES, seed=5, progress=lambda *at: progress.append(at)
    )
    demos = [sim.record(5, number, image_size=demo_rlds.IMAGE_SIZE) for number in range(EPISODES)]
    return Written(data, demos, progress)


def records(path):
    """The records of a TFRecord file, every checksum compared."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        length, check = struct.unpack_from("<QI", data, at)
        body = data[at + 12 : at + 12 + length]
        assert check == masked_crc32c(data[at : at + 8])
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked_crc32c(body),)
        found.append(body)
        at += length + 16
    return found


def examples(root):
    """The feature lists of every episode, in the order of the splits and shards."""
    message, found = example_proto().Example, []
    for shard in plan_shards(EPISODES):
        bodies = records(root / shard.file_name)
        assert len(bodies) == len(shard.episodes)
        found += [message.FromString(body).features.feature for body in bodies]
    return found


def stacked(demo, name):
    return np.stack([getattr(seen, name) for seen in demo.observations])


def assert_same_picture(jpeg, image):
    """A JPEG shows this image, with red and blue in their places."""
    decoded = simplejpeg.decode_jpeg(bytes(jpeg))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 3


def test_the_report_counts_what_was_written(written):
    data = written.data
    assert (data.episodes, data.steps) == (EPISODES, EPISODES * sim.EPISODE_STEPS)
    assert data.successes == sum(demo.success for demo in written.demos)
    files = [path for root in data.roots.values() for path in root.iterdir()]
    assert data.bytes == sum(path.stat().st_size for path in files)
    assert written.progress == [(n + 1, EPISODES) for n in range(EPISODES)]


def test_only_finished_files_are_left(written):
    assert sorted(path.name for path in written.data.roots["aloha"].iterdir()) == [
        f"episode_{n}.hdf5" for n in range(EPISODES)
    ]
    expected = {"features.json", "dataset_info.json", *(shard.file_name for shard in plan_shards(EPISODES))}
    assert {path.name for path in written.data.roots["rlds"].iterdir()} == expected


@pytest.mark.parametrize("number", range(EPISODES))
def test_an_aloha_file_reads_back(written, number):
    demo = written.demos[number]
    with h5py.File(written.data.roots["aloha"] / f"episode_{number}.hdf5") as file:
        assert file.attrs["sim"]
        assert file.attrs["compress"]
        np.testing.assert_array_equal(file["action"][:], demo.actions)
        np.testing.assert_array_equal(file["observations/qpos"][:], stacked(demo, "qpos"))
        np.testing.assert_array_equal(file["observations/qvel"][:], stacked(demo, "qvel"))
        assert file["instruction"].asstr()[()] == demo.scene.instruction
        lengths = file["compress_len"][:].astype(int)
        for row, (camera, name) in enumerate(demo_data.ALOHA_CAMERAS.items()):
            frames = file[f"observations/images/{name}"][:]
            assert frames.dtype == np.uint8
            assert frames.shape == (sim.EPISODE_STEPS, lengths[row].max())
            for step in (0, 20, 39):
                assert not frames[step, lengths[row, step] :].any()
                assert_same_picture(frames[step, : lengths[row, step]], demo.observations[step].images[camera])


def test_rlds_records_read_back(written):
    for number, (demo, lists) in enumerate(zip(written.demos, examples(written.data.roots["rlds"]), strict=True)):
        floats = {key: np.array(lists[f"steps/{key}"].float_list.value, np.float32) for key in ("action", "reward")}
        np.testing.assert_array_equal(floats["action"], demo.actions.ravel())
        assert floats["reward"].tolist() == [0.0] * (sim.EPISODE_STEPS - 1) + [float(demo.success)]
        for key, name in (("state", "qpos"), ("velocity", "qvel")):
            value = np.array(lists[f"steps/observation/{key}"].float_list.value, np.float32)
            np.testing.assert_array_equal(value, stacked(demo, name).ravel())
        flags = {key: list(lists[f"steps/{key}"].int64_list.value) for key in ("is_first", "is_last", "is_terminal")}
        ends = [0] * (sim.EPISODE_STEPS - 1)
        assert flags == {"is_first": [1, *ends], "is_last": [*ends, 1], "is_terminal": [*ends, 1]}
        text = lists["steps/language_instruction"].bytes_list.value
        assert list(text) == [demo.scene.instruction.encode()] * sim.EPISODE_STEPS
        assert list(lists["episode_metadata/file_path"].bytes_list.value) == [
            f"demo_two_arm/seed_5/episode_{number}".encode()
        ]
        for camera, name in demo_rlds.RLDS_CAMERAS.items():
            jpegs = lists[f"steps/observation/{name}"].bytes_list.value
            assert_same_picture(jpegs[17], demo.observations[17].images[camera])


def test_every_feature_has_as_many_values_as_its_table_says(written):
    for lists in examples(written.data.roots["rlds"]):
        assert set(lists) == set(demo_rlds.RLDS_FEATURES)
        for key, feature in demo_rlds.RLDS_FEATURES.items():
            name = {"float32": "float_list", "bool": "int64_list"}.get(feature.kind, "bytes_list")
            per_step = 1 if feature.kind == "jpeg" else int(np.prod(feature.shape, dtype=int))
            steps = sim.EPISODE_STEPS if key.startswith("steps/") else 1
            assert len(getattr(lists[key], name).value) == steps * per_step


def test_the_rlds_tables_describe_the_files(written):
    root = written.data.roots["rlds"]
    info = json.loads((root / "dataset_info.json").read_text())
    assert (info["name"], info["version"], info["fileFormat"]) == ("demo_two_arm", "1.0.0", "tfrecord")
    assert [(split["name"], len(split["shardLengths"])) for split in info["splits"]] == [("train", 4), ("val", 1)]
    for split in info["splits"]:
        count = len(split["shardLengths"])
        names = [f"demo_two_arm-{split['name']}.tfrecord-{n:05d}-of-{count:05d}" for n in range(count)]
        found = [records(root / name) for name in names]
        assert [str(len(bodies)) for bodies in found] == split["shardLengths"]
        assert str(sum(len(body) for bodies in found for body in bodies)) == split["numBytes"]


def test_features_json_says_kind_and_shape_where_tensorflow_datasets_looks(written):
    table = json.loads((written.data.roots["rlds"] / "features.json").read_text())
    top = table["featuresDict"]["features"]
    assert top["steps"]["sequence"]["length"] == "-1"
    step = top["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    seen = step["observation"]["featuresDict"]["features"]
    assert step["action"]["tensor"] == {"shape": {"dimensions": ["14"]}, "dtype": "float32", "encoding": "none"}
    assert step["is_first"]["tensor"] == {"shape": {}, "dtype": "bool", "encoding": "none"}
    assert step["language_instruction"]["text"] == {}
    assert seen["image"]["image"]["shape"]["dimensions"] == ["120", "160", "3"]
    assert set(top["episode_metadata"]["featuresDict"]["features"]) == {"file_path", "success"}


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(written, tmp_path):
    data = write_demo_data(tmp_path / "again", episodes=EPISODES, seed=5)
    for name, root in written.data.roots.items():
        for path in root.iterdir():
            assert (data.roots[name] / path.name).read_bytes() == path.read_bytes()
    other = write_demo_data(tmp_path / "other", episodes=1, seed=6, formats=["aloha"])
    one = [root / "episode_0.hdf5" for root in (data.roots["aloha"], other.roots["aloha"])]
    assert one[0].read_bytes() != one[1].read_bytes()


def test_one_format_alone_writes_nothing_else(tmp_path):
    data = write_demo_data(tmp_path, episodes=1, formats=["rlds"])
    assert list(data.roots) == ["rlds"]
    assert [path.name for path in tmp_path.iterdir()] == ["rlds"]
    assert not list(tmp_path.rglob("*-val.*"))


def test_earlier_demo_data_is_refused_and_with_overwrite_replaced_whole(tmp_path):
    write_demo_data(tmp_path, episodes=2, seed=1)
    with pytest.raises(RdtError, match=r"episode_0\.hdf5 and 5 more files"):
        write_demo_data(tmp_path, episodes=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 6
    data = write_demo_data(tmp_path, episodes=1, seed=2, overwrite=True)
    assert {path.name for path in data.roots["aloha"].iterdir()} == {"episode_0.hdf5"}
    assert {path.name for path in data.roots["rlds"].iterdir()} == {
        "features.json",
        "dataset_info.json",
        "demo_two_arm-train.tfrecord-00000-of-00001",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["alhoa"]}, "did you mean 'aloha'"),
        ({"formats": []}, "choose from aloha, rlds"),
        ({"episodes": 0}, "at least 1 episode"),
        ({"seed": -1}, "0 <= seed"),
        ({"workers": 0}, "--workers 1 or more"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path, arguments, message):
    with pytest.raises(RdtError, match=message):
        write_demo_data(tmp_path / "demo", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(RdtError, match="is not a directory"):
        write_demo_data(tmp_path / "demo")


@given(episodes=st.integers(1, 3000))
def test_shards_hold_every_episode_once_in_order_and_none_too_many(episodes):
    shards = plan_shards(episodes)
    assert [number for shard in shards for number in shard.episodes] == list(range(episodes))
    assert all(0 < len(shard.episodes) <= demo_rlds.SHARD_EPISODES for shard in shards)
    assert {shard.split for shard in shards} == ({"train", "val"} if episodes > 1 else {"train"})
    for split in ("train", "val"):
        mine = [shard for shard in shards if shard.split == split]
        assert [(shard.index, shard.count) for shard in mine] == [(n, len(mine)) for n in range(len(mine))]
