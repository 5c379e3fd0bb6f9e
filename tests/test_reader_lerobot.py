"""LeRobot datasets: v2.1 and v3.0 as their writers lay them out, and each way in which one may contradict itself."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from converters.plan import Request, make_plan
from converters.readers import detect, lerobot
from converters.spec import load_spec
from rdt_data.errors import RdtError, SourceError
from rdt_data.images import encode_jpeg, encode_png
from rdt_data.store import open_dataset

LENGTHS = (5, 8, 6, 7)
RATE = 10
TOP, WRIST = "observation.images.top", "observation.images.wrist"
TASKS = ("Pick up the cube", "Open the drawer")
STATE_NAMES = ["shoulder", "elbow", "gripper"]
SPEC = {
    "title": "Little arm",
    "reader": "lerobot",
    "control_hz": RATE,
    "cameras": {"exterior": TOP, "right_wrist": {"from": WRIST, "optional": True}},
    "instruction": {"from": ["task"], "clean": "none"},
    "state": [
        {"from": "observation.state", "cols": [0, 2], "unit": "rad", "to": "right_arm_joint_pos"},
        {"from": "observation.state", "cols": [2, 3], "unit": "1", "to": "right_gripper_open"},
    ],
}


def colour(episode, step):
    return 40 + 40 * episode, 30 + 20 * step, 90


def pixels(episode, step, size=(48, 64)):
    return np.full((*size, 3), colour(episode, step), np.uint8)


def state(episode):
    return np.random.default_rng(episode).normal(size=(LENGTHS[episode], 3)).astype(np.float32)


def jpeg(episode, step):
    return encode_jpeg(pixels(episode, step, (24, 32)), 90)


def write_video(path, frames, encoder="libx264", rate=RATE):
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=rate, options={"g": "2", "crf": "18"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())


def rows(episodes):
    """The Parquet columns of these episodes, one after the other."""
    steps = [(episode, step) for episode in episodes for step in range(LENGTHS[episode])]
    first = {episode: sum(LENGTHS[:episode]) for episode in episodes}
    vectors = pa.list_(pa.float32(), 3)
    return {
        "observation.state": pa.array([state(e)[s].tolist() for e, s in steps], vectors),
        "action": pa.array([(state(e)[s] + 1).tolist() for e, s in steps], vectors),
        WRIST: pa.array(
            [{"bytes": jpeg(e, s), "path": None} for e, s in steps],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "note": pa.array([f"note {e}" for e, _ in steps]),
        "timestamp": pa.array([s / RATE for _, s in steps], pa.float32()),
        "frame_index": pa.array([s for _, s in steps]),
        "episode_index": pa.array([e for e, _ in steps]),
        "index": pa.array([first[e] + s for e, s in steps]),
        "task_index": pa.array([e % 2 for e, _ in steps]),
    }


def info(version, codec="h264"):
    def plain(dtype, shape, names=None):
        return {"dtype": dtype, "shape": shape, "names": names}

    about = {"video.height": 48, "video.width": 64, "video.codec": codec, "video.fps": RATE, "has_audio": False}
    return {
        "codebase_version": version,
        "robot_type": "little_arm",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 2,
        "fps": RATE,
        "splits": {"train": "0:3", "val": "3:4"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if version == "v3.0"
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if version == "v3.0"
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "observation.state": plain("float32", [3], [STATE_NAMES]),
            "action": plain("float32", [3], {"motors": STATE_NAMES}),
            TOP: {**plain("video", [48, 64, 3], ["height", "width", "channels"]), "info": about},
            WRIST: plain("image", [24, 32, 3], ["height", "width", "channels"]),
            "note": plain("string", [1]),
            "timestamp": plain("float32", [1]),
            **{name: plain("int64", [1]) for name in ("frame_index", "episode_index", "index", "task_index")},
        },
    }


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def write_v21(root, encoder="libx264", codec="h264"):
    """One Parquet file and one video an episode, two episodes a chunk."""
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v2.1", codec)))
    write_lines(root / "meta/tasks.jsonl", [{"task_index": n, "task": task} for n, task in enumerate(TASKS)])
    write_lines(
        root / "meta/episodes.jsonl",
        [{"episode_index": e, "tasks": [TASKS[e % 2]], "length": length} for e, length in enumerate(LENGTHS)],
    )
    for e, length in enumerate(LENGTHS):
        path = root / data_of(e)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows([e])), path)
        write_video(root / video_of(e), (pixels(e, s) for s in range(length)), encoder)
    return root


def write_v30(root):
    """Episodes 0 to 2 in one Parquet file, 3 in another; 0 and 1 in one video, 2 and 3 in another."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v3.0")))
    names = pa.array(TASKS)
    pq.write_table(pa.table({"task_index": [0, 1], "__index_level_0__": names}), root / "meta/tasks.parquet")
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(rows([0, 1, 2])), root / "data/chunk-000/file-000.parquet", row_group_size=4)
    pq.write_table(pa.table(rows([3])), root / "data/chunk-000/file-001.parquet")
    for file, episodes in enumerate(((0, 1), (2, 3))):
        frames = (pixels(e, s) for e in episodes for s in range(LENGTHS[e]))
        write_video(root / f"videos/{TOP}/chunk-000/file-{file:03d}.mp4", frames)
    starts = np.array([0, LENGTHS[0], 0, LENGTHS[2]]) / RATE
    ends = np.cumsum(LENGTHS)
    table = {
        "episode_index": range(4),
        "tasks": [[TASKS[e % 2]] for e in range(4)],
        "length": LENGTHS,
        "data/chunk_index": [0, 0, 0, 0],
        "data/file_index": [0, 0, 0, 1],
        "dataset_from_index": ends - LENGTHS,
        "dataset_to_index": ends,
        f"videos/{TOP}/chunk_index": [0, 0, 0, 0],
        f"videos/{TOP}/file_index": [0, 0, 1, 1],
        f"videos/{TOP}/from_timestamp": starts,
        f"videos/{TOP}/to_timestamp": starts + np.array(LENGTHS) / RATE,
    }
    pq.write_table(pa.table({name: list(values) for name, values in table.items()}), root / EPISODES_V3)
    return root


EPISODES_V3 = "meta/episodes/chunk-000/file-000.parquet"


def data_of(episode):
    return f"data/chunk-{episode // 2:03d}/episode_{episode:06d}.parquet"


def video_of(episode):
    return f"videos/chunk-{episode // 2:03d}/{TOP}/episode_{episode:06d}.mp4"


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot")
    return {"v2.1": write_v21(folder / "owner/two"), "v3.0": write_v30(folder / "owner/three")}


@pytest.fixture(params=["v2.1", "v3.0"])
def dataset(datasets, request) -> Path:
    return datasets[request.param]


@pytest.fixture
def v21(datasets, tmp_path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(datasets["v2.1"], tmp_path / "copy"))


@pytest.fixture
def v30(datasets, tmp_path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(datasets["v3.0"], tmp_path / "copy of many"))


def episodes(root, split="all", **options):
    """Every episode of a dataset, opened, in order."""
    for file in lerobot.files(root, split, options):
        with lerobot.open_file(root, file, options) as opened:
            yield from (opened[number] for number in range(len(opened)))


def change_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_feature(root, key, **changes):
    path = root / "meta/info.json"
    raw = json.loads(path.read_text())
    raw["features"][key] |= changes
    path.write_text(json.dumps(raw))


def change_table(path, **changes):
    """Replace columns of a Parquet file."""
    table = pq.read_table(path)
    pq.write_table(pa.table({**{name: table[name] for name in table.column_names}, **changes}), path)


def read_all(root, **options):
    """Everything there is in the first episode, frames too."""
    first = next(episodes(root, **options))
    for key in sorted(first.keys()):
        if key in first.cameras():
            list(first.frames(key))
        else:
            first.scalar(key) if key in ("task", "robot_type", "note") else first.array(key)


def fails(root, **options):
    with pytest.raises(SourceError) as caught:
        read_all(root, **options)
    return caught.value


# What a whole dataset says


def test_a_dataset_is_found_by_its_info_and_not_below_itself(dataset):
    assert lerobot.find(dataset) == [dataset]
    assert lerobot.find(dataset.parent.parent) == [dataset.parent / "three", dataset.parent / "two"]
    assert detect(dataset) == [("lerobot", dataset)]
    assert lerobot.names(dataset)[:2] == [dataset.name, "owner"]


def test_other_folders_with_an_info_json_are_none(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text('{"version": "v2.1"}')
    assert lerobot.find(tmp_path) == []
    assert lerobot.find(tmp_path / "meta/info.json") == []


def test_every_step_of_every_episode_is_as_it_was_written(dataset):
    for number, episode in enumerate(episodes(dataset)):
        assert (len(episode), episode.name) == (LENGTHS[number], f"episode_{number:06d}")
        np.testing.assert_array_equal(episode.array("observation.state"), state(number))
        np.testing.assert_array_equal(episode.array("action"), state(number) + 1)
        np.testing.assert_array_equal(episode.array("frame_index"), np.arange(LENGTHS[number]))
        assert episode.scalar("episode_index") == number
        assert (episode.text("task"), episode.text("robot_type")) == (TASKS[number % 2], "little_arm")
        assert episode.text("note") == episode.scalar("note") == f"note {number}"
        assert episode.text("words") is None
    assert number == len(LENGTHS) - 1


def test_keys_are_the_features_and_the_words(dataset):
    episode = next(episodes(dataset))
    assert episode.cameras() == [TOP, WRIST]
    assert set(episode.keys()) == {*info("v2.1")["features"], "task", "robot_type"}
    assert lerobot.feature_names(dataset) == {"observation.state": STATE_NAMES, "action": STATE_NAMES}


def test_videos_come_out_as_pixels_and_images_as_their_bytes(dataset):
    for number, episode in enumerate(episodes(dataset)):
        frames = list(episode.frames(TOP))
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * LENGTHS[number]
        for step, frame in enumerate(frames):
            np.testing.assert_allclose(frame.reshape(-1, 3).mean(axis=0), colour(number, step), atol=5)
        assert list(episode.frames(WRIST)) == [jpeg(number, step) for step in range(LENGTHS[number])]


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this PyAV cannot write AV1")
def test_av1_is_read(tmp_path):
    for number, episode in enumerate(episodes(write_v21(tmp_path / "av1", "libsvtav1", "av1"))):
        for step, frame in enumerate(episode.frames(TOP)):
            np.testing.assert_allclose(frame.reshape(-1, 3).mean(axis=0), colour(number, step), atol=6)


def test_png_bytes_are_copied_too(v21):
    frames = [encode_png(pixels(0, step, (24, 32))) for step in range(LENGTHS[0])]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    change_table(v21 / data_of(0), **{WRIST: pa.array([{"bytes": frame, "path": "x.png"} for frame in frames], kind)})
    assert list(next(episodes(v21)).frames(WRIST)) == frames


def test_splits_are_the_ranges_of_the_info(dataset):
    assert lerobot.splits(dataset) == ["train", "val"]
    names = {split: [episode.name[-1] for episode in episodes(dataset, split)] for split in (None, "val", "train+val")}
    assert names == {None: ["0", "1", "2"], "val": ["3"], "train+val": ["0", "1", "2", "3"]}
    with pytest.raises(RdtError, match=r"no split of meta/info\.json is called 'vals'") as caught:
        lerobot.files(dataset, "vals", {})
    assert "did you mean 'val'?" in caught.value.remedy


def test_a_split_may_cut_a_file_of_many_episodes(v30):
    change_info(v30, splits={"train": "0:1", "val": "1:4"})
    assert [file.path for file in lerobot.files(v30, "val", {})] == [
        "data/chunk-000/file-000.parquet#1:3",
        "data/chunk-000/file-001.parquet",
    ]
    assert [episode.scalar("episode_index") for episode in episodes(v30, "val")] == [1, 2, 3]
    assert [episode.scalar("episode_index") for episode in episodes(v30, "train")] == [0]


def test_a_source_file_counts_its_videos(v21):
    before = lerobot.files(v21, "all", {})
    assert [file.episodes for file in before] == [1, 1, 1, 1]
    assert before[0].bytes == (v21 / data_of(0)).stat().st_size + (v21 / video_of(0)).stat().st_size
    write_video(v21 / video_of(0), [np.zeros((48, 64, 3), np.uint8)] * 3)
    after = lerobot.files(v21, "all", {})
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_v2_0_is_read_as_v2_1(v21):
    raw = json.loads((v21 / "meta/info.json").read_text())
    raw["features"][TOP]["video_info"] = raw["features"][TOP].pop("info")
    change_info(v21, codebase_version="v2.0", features=raw["features"])
    assert len(list(next(episodes(v21)).frames(TOP))) == LENGTHS[0]


def test_shapes_with_the_channels_first_are_sizes_too(v21):
    change_feature(v21, TOP, shape=[3, 48, 64])
    read_all(v21)


def test_a_dataset_converts_and_equals_its_source(dataset, tmp_path, command):
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(SPEC))
    store = tmp_path / "out.zarr"
    assert command("convert", dataset, store, "--spec", tmp_path / "arm.yaml", "--split", "all").code == 0
    assert command("verify", store, "--source", dataset).code == 0
    converted = list(open_dataset(str(store)))
    assert [len(episode) for episode in converted] == list(LENGTHS)
    assert [episode.instruction for episode in converted] == [TASKS[number % 2] for number in range(4)]
    np.testing.assert_array_equal(converted[3].state[:, [0, 1, 10]], state(3))
    assert converted[1].images("right_wrist").encoded(2) == jpeg(1, 2)
    np.testing.assert_allclose(converted[2].images("exterior")[4][24, 32], colour(2, 4), atol=8)


def test_the_words_of_the_episode_stand_in_for_a_lost_tasks_file(v21, v30):
    (v21 / "meta/tasks.jsonl").unlink()
    (v30 / "meta/tasks.parquet").unlink()
    for root in (v21, v30):
        assert [episode.text("task") for episode in episodes(root)] == [TASKS[0], TASKS[1], TASKS[0], TASKS[1]]


def test_the_tasks_of_v3_may_be_a_column_with_a_name(v30):
    pq.write_table(pa.table({"task": ["first", "second"], "task_index": [1, 0]}), v30 / "meta/tasks.parquet")
    assert [episode.text("task") for episode in episodes(v30)] == ["second", "first", "second", "first"]


# What contradicts itself


def test_a_folder_called_otherwise_than_the_info_says_is_named(v21):
    (v21 / "videos").rename(v21 / "video")
    error = fails(v21)
    assert (error.file, error.field) == ("meta/info.json", "video_path")
    assert "says videos/chunk-" in error.problem
    assert "the folder is called video/" in error.problem
    assert error.remedy == "rename video/ to videos/, or correct video_path in meta/info.json"


def test_a_folder_further_down_is_named_too(v21):
    folder = v21 / "videos/chunk-000"
    (folder / TOP).rename(folder / "observation.image.top")
    error = fails(v21)
    assert (error.file, error.episode, error.field) == (video_of(0), 0, TOP)
    assert "(beside it lies observation.image.top/)" in error.problem


def test_a_codec_other_than_stated_is_told(v21):
    change_info(v21, features=info("v2.1", "av1")["features"])
    error = fails(v21)
    assert (error.file, error.field) == (video_of(0), TOP)
    assert error.problem == "meta/info.json says the codec is av1, the file is h264"
    assert '"video.codec"' in error.remedy


@pytest.mark.parametrize("name", ["libx264", "avc1", None])
def test_an_encoder_of_the_codec_or_no_word_is_no_contradiction(v21, name):
    change_info(v21, features=info("v2.1", name)["features"])
    read_all(v21)


@pytest.mark.parametrize("lost", [data_of, video_of])
def test_an_episode_whose_file_is_absent_is_a_broken_episode(v21, lost):
    (v21 / lost(1)).unlink()
    files = lerobot.files(v21, "all", {})
    assert [file.episodes for file in files] == [1, 1, 1, 1]
    read_all(v21)
    with pytest.raises(SourceError) as caught, lerobot.open_file(v21, files[1], {}) as opened:
        list(opened[0].frames(TOP))
    assert (caught.value.file, caught.value.episode) == (lost(1), 1)
    assert "is not there" in caught.value.problem
    assert "episodes: present" in caught.value.remedy
    left = [episode.name[-1] for episode in episodes(v21, episodes="present")]
    assert left == ["0", "2", "3"]


def test_absent_files_stop_a_conversion_or_are_listed_or_left_out_on_purpose(v21, tmp_path, command):
    for episode in (0, 2):
        (v21 / data_of(episode)).unlink()
        (v21 / video_of(episode)).unlink()
    spec, store = tmp_path / "arm.yaml", tmp_path / "out.zarr"
    spec.write_text(yaml.safe_dump(SPEC))
    told = command("convert", v21, store, "--spec", spec, "--split", "all")
    assert told.code == 1
    assert data_of(0) in told.err
    told = command("convert", v21, store, "--spec", spec, "--split", "all", "--on-error", "quarantine", "--json")
    assert told.json["episodes"] == 2
    assert [(entry["file"], entry["episode"]) for entry in told.json["quarantined"]] == [
        (data_of(0), 0),
        (data_of(2), 2),
    ]
    assert command("verify", store, "--source", v21).code == 0
    spec.write_text(yaml.safe_dump({**SPEC, "options": {"episodes": "present"}}))
    told = command("convert", v21, tmp_path / "two.zarr", "--spec", spec, "--split", "all", "--json")
    assert (told.code, told.json["episodes"], told.json["quarantined"]) == (0, 2, [])


def test_in_v3_the_episodes_of_an_absent_file_are_broken_and_the_others_are_not(v30):
    (v30 / "data/chunk-000/file-000.parquet").unlink()
    first, second = lerobot.files(v30, "all", {})
    assert (first.episodes, second.episodes) == (3, 1)
    with lerobot.open_file(v30, first, {}) as opened:
        for number in range(3):
            with pytest.raises(SourceError) as caught:
                opened[number]
            assert (caught.value.file, caught.value.episode) == ("data/chunk-000/file-000.parquet", number)
    assert [episode.name[-1] for episode in episodes(v30, episodes="present")] == ["3"]


def test_in_v3_the_episodes_of_an_absent_video_are_broken_and_the_others_are_not(v30):
    lost = f"videos/{TOP}/chunk-000/file-001.mp4"
    (v30 / lost).unlink()
    whole = list(episodes(v30))
    for episode in whole[:2]:
        assert len(list(episode.frames(TOP))) == len(episode)
    for episode in whole[2:]:
        with pytest.raises(SourceError, match="is not there") as caught:
            episode.frames(TOP)
        assert caught.value.file == lost
    assert [episode.name[-1] for episode in episodes(v30, episodes="present")] == ["0", "1"]


def test_timestamps_off_by_more_than_half_a_frame_are_told(v21):
    seconds = np.arange(LENGTHS[0], dtype=np.float32) / RATE
    seconds[3] += 0.4 / RATE
    change_table(v21 / data_of(0), timestamp=pa.array(seconds))
    read_all(v21)
    seconds[3] += 0.2 / RATE
    change_table(v21 / data_of(0), timestamp=pa.array(seconds))
    error = fails(v21)
    assert (error.file, error.episode, error.field) == (data_of(0), 0, "timestamp")
    assert error.problem.startswith("row 3 says 0.3600 s, but frame 3 at 10 Hz is at 0.3000 s")


def test_timestamps_of_another_rate_than_the_info_says_are_told(v21):
    change_info(v21, fps=12)
    error = fails(v21)
    assert error.field == "timestamp"
    assert "fps in meta/info.json (12)" in error.remedy


def test_frames_lost_among_the_rows_are_told(v21):
    change_table(v21 / data_of(0), frame_index=pa.array([0, 1, 3, 4, 5]))
    error = fails(v21)
    assert (error.file, error.field) == (data_of(0), "frame_index")
    assert error.problem.startswith("row 2 says frame 3")


def test_a_video_of_another_rate_is_told(v21):
    write_video(v21 / video_of(0), (pixels(0, step) for step in range(LENGTHS[0])), rate=25)
    error = fails(v21)
    assert (error.file, error.field) == (video_of(0), TOP)
    assert error.problem.startswith("frame 4 is shown at 0.1600 s, its row says 0.4000 s")


@pytest.mark.parametrize("frames", [4, 6])
def test_a_video_of_more_or_fewer_frames_than_rows_is_told(v21, frames):
    write_video(v21 / video_of(0), (pixels(0, step) for step in range(frames)))
    error = fails(v21)
    assert (error.file, error.episode, error.field) == (video_of(0), 0, TOP)
    assert error.problem == f"the video has {frames} frames, the episode 5 rows"


def test_in_v3_a_part_of_a_video_with_fewer_frames_than_rows_is_told(v30):
    path = v30 / EPISODES_V3
    ends = pq.read_table(path)[f"videos/{TOP}/to_timestamp"].to_numpy().copy()
    ends[0] -= 1 / RATE
    change_table(path, **{f"videos/{TOP}/to_timestamp": pa.array(ends)})
    error = fails(v30)
    assert (error.file, error.episode) == (f"videos/{TOP}/chunk-000/file-000.mp4", 0)
    assert error.problem == "the video has 4 frames from 0.000 s to 0.400 s, the episode 5 rows"


def test_in_v3_a_part_of_a_video_that_begins_elsewhere_is_told(v30):
    path = v30 / EPISODES_V3
    change_table(path, **{f"videos/{TOP}/from_timestamp": pa.array([0.07, 0.5, 0.0, 0.6])})
    error = fails(v30)
    assert "the video has 4 frames from 0.070 s" in error.problem


def test_a_size_other_than_stated_is_told(v21):
    change_feature(v21, TOP, shape=[240, 320, 3])
    assert fails(v21).problem == "meta/info.json says 320x240 pixels, the video is 64x48"


def test_a_width_other_than_stated_is_told(v21):
    change_feature(v21, "action", shape=[4])
    error = fails(v21)
    assert (error.file, error.episode, error.field) == (data_of(0), 0, "action")
    assert error.problem == f"meta/info.json says shape (4,), {data_of(0)} holds (3,) a step"


def test_a_feature_that_the_file_lacks_is_told(v21):
    table = pq.read_table(v21 / data_of(0))
    pq.write_table(table.drop_columns(["action"]), v21 / data_of(0))
    error = fails(v21)
    assert (error.file, error.field) == (data_of(0), "action")
    assert "no column of episode_000000.parquet is called 'action'" in error.problem


@pytest.mark.parametrize("version", ["v1.6", "v3.1", "2.1", None])
def test_another_version_is_refused_with_those_that_are_read(v21, version):
    change_info(v21, codebase_version=version)
    error = fails(v21)
    assert (error.file, error.field) == ("meta/info.json", "codebase_version")
    assert f"{version!r} is not read here; v2.0, v2.1, v3.0 are" in error.problem
    assert "lerobot" in error.remedy


def test_without_tasks_and_without_words_of_the_episode_the_missing_file_is_named(v21):
    (v21 / "meta/tasks.jsonl").unlink()
    entries = [{"episode_index": e, "tasks": list(TASKS), "length": length} for e, length in enumerate(LENGTHS)]
    write_lines(v21 / "meta/episodes.jsonl", entries)
    error = fails(v21)
    assert "meta/tasks.jsonl is not there, and meta/episodes.jsonl gives the episode 2 tasks" in error.problem
    assert "instruction" in error.remedy


def test_a_task_that_the_list_lacks_is_told(v21):
    write_lines(v21 / "meta/tasks.jsonl", [{"task_index": 1, "task": "x"}])
    error = fails(v21)
    assert "meta/tasks.jsonl does not list task_index 0" in error.problem
    assert error.field == "task"


@pytest.mark.parametrize("which", ["v21", "v30"])
def test_another_number_of_rows_than_listed_is_told(which, request):
    root = request.getfixturevalue(which)
    if which == "v21":
        write_lines(
            root / "meta/episodes.jsonl",
            [{"episode_index": e, "tasks": [], "length": n + (e == 0)} for e, n in enumerate(LENGTHS)],
        )
    else:
        change_table(root / EPISODES_V3, length=pa.array([6, 8, 6, 7]))
    error = fails(root)
    assert (error.episode, error.field) == (0, "episode_index")
    assert "says 6 steps, 5 rows have its episode_index" in error.problem


def test_rows_of_an_episode_that_is_not_listed_are_told(v30):
    change_table(v30 / "data/chunk-000/file-001.parquet", episode_index=pa.array([3] * 6 + [9]))
    with pytest.raises(SourceError, match="it has rows of episode 9, which meta/episodes does not list in") as caught:
        list(episodes(v30, "val"))
    assert (caught.value.file, caught.value.episode) == ("data/chunk-000/file-001.parquet", 3)


def test_metadata_that_disagrees_on_the_number_of_episodes_is_told(v21):
    change_info(v21, total_episodes=5)
    assert fails(v21).problem == "it says 5 episodes, meta/episodes.jsonl lists 4"


def test_episodes_outside_of_every_split_are_not_left_out_in_silence(v21):
    change_info(v21, splits={"train": "0:3"})
    with pytest.raises(SourceError, match="no split holds episode 3") as caught:
        lerobot.files(v21, None, {})
    assert "--split" in caught.value.remedy
    assert len(lerobot.files(v21, "all", {})) == 4
    assert len(lerobot.files(v21, "train", {})) == 3


def test_a_file_that_is_damaged_breaks_its_episodes_only(v21):
    (v21 / data_of(0)).write_bytes(b"not Parquet")
    (v21 / video_of(1)).write_bytes(b"not a video")
    files = lerobot.files(v21, "all", {})
    with pytest.raises(SourceError, match="Parquet cannot read") as caught:
        lerobot.open_file(v21, files[0], {})[0]
    assert (caught.value.file, caught.value.episode) == (data_of(0), 0)
    with pytest.raises(SourceError, match="FFmpeg cannot read") as caught:
        lerobot.open_file(v21, files[1], {})[0].frames(TOP)
    assert (caught.value.file, caught.value.episode, caught.value.field) == (video_of(1), 1, TOP)
    assert len(list(lerobot.open_file(v21, files[2], {})[0].frames(TOP))) == LENGTHS[2]


def test_images_outside_of_the_parquet_file_are_told(v21):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    lost = [{"bytes": jpeg(0, 0), "path": None}, *[{"bytes": None, "path": "x.png"}] * 4]
    change_table(v21 / data_of(0), **{WRIST: pa.array(lost, kind)})
    error = fails(v21)
    assert (error.file, error.field) == (data_of(0), WRIST)
    assert error.problem == "frame 1 is not in the Parquet file"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"codebase_version": "v2.1",', "it is not JSON"),
        ('{"codebase_version": "v2.1", "features": []}', r"it is \[\]"),
        ('{"codebase_version": "v2.1", "features": {"x": {}}, "fps": 3}', "it has no dtype"),
        ('{"codebase_version": "v2.1", "features": {}, "fps": 0}', "it is 0, not a rate"),
        ('{"codebase_version": "v2.1", "features": {}, "fps": 3}', "it is missing"),
        (json.dumps({**info("v2.1"), "splits": {"train": "all"}}), "it is 'all', not a range"),
        (json.dumps({**info("v2.1"), "data_path": "../{episode_index}"}), "leads out of the dataset"),
        (json.dumps({**info("v2.1"), "data_path": "data/{episode}"}), "cannot be filled in"),
    ],
)
def test_an_info_that_does_not_fit_is_named(v21, text, problem):
    (v21 / "meta/info.json").write_text(text)
    with pytest.raises(SourceError, match=problem) as caught:
        lerobot.files(v21, "all", {})
    assert caught.value.file == "meta/info.json"


def test_a_line_that_does_not_fit_is_named(v21):
    path = v21 / "meta/episodes.jsonl"
    path.write_text(path.read_text() + '{"episode_index": 4}\n')
    with pytest.raises(SourceError, match="line 5 has no length") as caught:
        lerobot.files(v21, "all", {})
    assert caught.value.file == "meta/episodes.jsonl"


def test_keys_and_options_that_do_not_exist_have_a_near_miss(dataset):
    episode = next(episodes(dataset))
    for read in (episode.array, episode.frames):
        with pytest.raises(SourceError, match="there is no such feature") as caught:
            read("observation.images.tops")
        assert TOP in caught.value.remedy
    for key, problem in {TOP: "it is video, not numbers", "note": "it is text", "task": "it is text"}.items():
        with pytest.raises(SourceError, match=problem):
            episode.array(key)
    with pytest.raises(SourceError, match="it is float32, not a camera"):
        episode.frames("action")
    with pytest.raises(RdtError, match="no option of reader lerobot is called 'episode'") as caught:
        lerobot.files(dataset, None, {"episode": "present"})
    assert "did you mean 'episodes'?" in caught.value.remedy
    with pytest.raises(RdtError, match="option episodes: 'some'"):
        lerobot.files(dataset, None, {"episodes": "some"})


# The real one


def test_the_real_g1_recording_converts_with_its_spec(shared):
    root = shared / "data/lerobot_v21_unitree_g1"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    spec = load_spec(Path(lerobot.__file__).parents[1] / "specs/unitree_g1_inspire.yaml")
    plan = make_plan(root, Request.of(spec, action="recorded"))
    assert (plan.episodes, plan.cameras["exterior"].width) == (3, 640)
    assert len(lerobot.files(root, None, {})) == 100
    for episode, steps in zip(episodes(root, None, **spec.options), (278, 221, 277), strict=True):
        assert (len(episode), episode.text("task")) == (steps, "Pick up the yellow bottle on the table.")
        names = lerobot.feature_names(root)["observation.state"]
        thumb = episode.array("observation.state")[:, names.index("kRightHandThumbBend")]
        assert thumb[steps * 2 // 3] < thumb.max() - 0.1  # it holds the bottle: 0 is closed
