"""RH20T: every camera of a scene an episode, values by the time of its frames, and what is left out with a reason."""

import json
from pathlib import Path

import av
import h5py
import numpy as np
import pytest

from converters import catalog
from converters.clock import ClockReader
from converters.convert import convert_episode
from converters.fields import keep, read_fields
from converters.instruction import instruction_of
from converters.plan import Request
from converters.readers import detect, reader
from converters.source import recognised
from rdt_data.errors import SourceError, SpecError

rh20t = reader("rh20t")
SPEC = catalog.get("rh20t")
SCENE = "task_0001_user_0001_scene_0001_cfg_0001"
TIMES = [1000, 1100, 1205, 1300]
JOINTS, GRIPPER, POSITION, QUATERNION = slice(0, 7), 10, slice(30, 33), slice(33, 39)


def write_video(path: Path, frames: int, color=(200, 40, 90)):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), (*color[:2], color[2] + 20 * number), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(stream.encode())


def save(path: Path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, value, allow_pickle=True)


def write_scene(folder: Path, cameras=("111",), joints=7, times=TIMES, frames=None, **files):
    """A scene as RH20T stores it; `files` replaces the content of files of `transformed`, None leaves one out."""
    motion = {
        "joint": {c: {t: np.arange(joints) + t / 1000 for t in times} for c in cameras},
        "gripper": {c: {t: {"gripper_command": np.zeros(3), "gripper_info": np.array([55.0, 0, 0])} for t in times} for c in cameras},
        "tcp_base": {c: [{"timestamp": t, "tcp": np.array([t / 1000, 0.2, 0.3, 1, 0, 0, 0])} for t in times] for c in cameras},
    }  # fmt: skip
    for name, value in (motion | files).items():
        if value is not None:
            save(folder / "transformed" / f"{name}.npy", value)
    for camera in cameras:
        save(folder / f"cam_{camera}" / "timestamps.npy", {"color": times, "depth": times})
        write_video(folder / f"cam_{camera}" / "color.mp4", len(times) if frames is None else frames)


@pytest.fixture
def scene(tmp_path):
    """A function: it writes one scene (see `write_scene`) and gives its first episode."""

    def make(**content):
        write_scene(tmp_path / "RH20T_cfg1" / SCENE, **content)
        return episodes(tmp_path)[0]

    return make


def episodes(root):
    found = []
    for source in rh20t.files(root, None, {}):
        with rh20t.open_file(root, source, {}) as file:
            found += [file[number] for number in range(len(file))]
    return found


def test_the_golden_gives_what_the_published_pipeline_gave(shared):
    source = shared / "goldens" / "rh20t"
    golden = np.load(source / "golden.npz", allow_pickle=False)
    assert recognised(source) == "rh20t"
    (root,) = rh20t.find(source)
    found = episodes(root)
    assert len(found) == int(golden["n_episodes"])
    assert SPEC.control_hz == golden["control_freq"]
    assert SPEC.cameras["exterior"].from_ == (str(golden["cam_exterior"]),)
    for i, raw in enumerate(found):
        assert raw.name == str(golden[f"ep{i}_file"]).removeprefix("raw_data/")
        state, mask = read_fields(SPEC.state, raw, SPEC.control_hz)
        np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(np.broadcast_to(mask, state.shape), golden[f"ep{i}_state_mask"] > 0)
        words = instruction_of(SPEC, raw)
        assert words == (str(golden[f"ep{i}_instruction"]), str(golden[f"ep{i}_instruction_raw"]))
        first, *others = raw.frames("image")
        np.testing.assert_allclose(first.mean(axis=(0, 1)), golden[f"ep{i}_rgb0_image"], atol=3)
        assert len(others) == len(raw) - 1


def test_every_camera_of_a_scene_is_an_episode_of_its_own(tmp_path):
    other = "task_0010_user_0001_scene_0001_cfg_0001"
    write_scene(tmp_path / "RH20T_cfg10" / SCENE)
    write_scene(tmp_path / "RH20T_cfg2" / other)
    write_scene(tmp_path / "RH20T_cfg2" / SCENE, cameras=("9", "111"))
    assert [raw.name for raw in episodes(tmp_path)] == [
        f"RH20T_cfg2/{SCENE}#9",
        f"RH20T_cfg2/{SCENE}#111",
        f"RH20T_cfg2/{other}#111",
        f"RH20T_cfg10/{SCENE}#111",
    ]
    scene = rh20t.files(tmp_path, None, {})[0]
    below = [path for path in (tmp_path / scene.path).rglob("*") if path.is_file()]
    assert (scene.episodes, scene.bytes) == (2, sum(path.stat().st_size for path in below))


def test_a_camera_has_its_own_times_and_values(tmp_path):
    joint = {"1": {10: np.zeros(7), 20: np.ones(7)}, "2": {15: np.full(7, 2), 25: np.full(7, 3), 35: np.full(7, 4)}}
    write_scene(tmp_path / "RH20T_cfg1" / SCENE, cameras=("1", "2"), joint=joint)
    for camera, times in (("1", [10, 20]), ("2", [15, 25, 35])):
        save(tmp_path / "RH20T_cfg1" / SCENE / f"cam_{camera}" / "timestamps.npy", {"color": times})
    first, second = episodes(tmp_path)
    assert first.array("joint")[:, 0].tolist() == [0, 1]
    assert second.array("joint")[:, 0].tolist() == [2, 3, 4]
    assert second.array("timestamp").tolist() == [15, 25, 35]
    assert (len(first), len(second)) == (2, 3)
    assert [ClockReader(SPEC)(one).measured_hz for one in (first, second)] == [100, 100]


def test_values_belong_to_the_time_they_name_whatever_their_order(scene):
    poses = [{"timestamp": t, "tcp": np.array([t, 0, 0, 1, 0, 0, 0.0])} for t in reversed(TIMES)]
    assert scene(tcp_base={"111": poses}).array("tcp_base")[:, 0].tolist() == TIMES


def test_a_time_without_gripper_or_pose_is_nan_and_masked_off_for_that_step(scene):
    gripper = {"111": {t: {"gripper_info": np.array([110.0, 0, 0])} for t in TIMES if t != 1100}}
    poses = {"111": [{"timestamp": t, "tcp": np.array([1, 2, 3, 1, 0, 0, 0.0])} for t in TIMES[1:]]}
    raw = scene(gripper=gripper, tcp_base=poses)
    assert np.isnan(raw.array("gripper_info")).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(raw.array("tcp_base")).all(axis=1).tolist() == [True, False, False, False]
    state, mask = read_fields(SPEC.state, raw, SPEC.control_hz)
    assert mask[:, GRIPPER].tolist() == [True, False, True, True]
    assert state[:, GRIPPER].tolist() == [1, 0, 1, 1]
    assert mask[:, POSITION].all(axis=1).tolist() == mask[:, QUATERNION].any(axis=1).tolist() == [False, True, True, True]  # fmt: skip
    assert mask[:, JOINTS].all()
    assert not state[~mask].any()


@pytest.mark.parametrize("joints", [6, 7])
def test_an_arm_of_six_joints_has_no_seventh(scene, joints):
    raw = scene(joints=joints)
    assert raw.array("joint").shape == (4, 7)
    assert np.isnan(raw.array("joint")[:, 6]).all() == (joints == 6)
    state, mask = read_fields(SPEC.state, raw, SPEC.control_hz)
    assert mask[JOINTS].sum() == joints
    np.testing.assert_allclose(state[:, 1], 1 + np.array(TIMES) / 1000, atol=1e-6)


@pytest.mark.parametrize(("file", "slots"), [("gripper", [GRIPPER]), ("tcp_base", [*range(30, 39)])])
def test_a_scene_without_gripper_or_pose_leaves_their_slots_out(scene, file, slots):
    without_file = scene(**{file: None})
    assert not any(key.startswith(file) for key in without_file.keys())  # noqa: SIM118
    _, mask = read_fields(SPEC.state, without_file, SPEC.control_hz)
    expected = SPEC.mask("state")
    expected[slots] = False
    np.testing.assert_array_equal(mask, expected)
    _, mask = read_fields(SPEC.state, scene(**{file: {"another camera": {}}}), SPEC.control_hz)
    np.testing.assert_array_equal(mask, expected)


def test_the_corrected_spec_reads_the_quaternion_as_rh20t_writes_it(scene):
    quarter_turn_about_z = np.array([0, 0, 0, np.sqrt(0.5), 0, 0, np.sqrt(0.5)])  # w first
    raw = scene(tcp_base={"111": [{"timestamp": t, "tcp": quarter_turn_about_z} for t in TIMES]})
    state, _ = read_fields(SPEC.corrected().state, raw, SPEC.control_hz)
    np.testing.assert_allclose(state[0, QUATERNION], [0, 1, 0, -1, 0, 0], atol=1e-6)
    published, _ = read_fields(SPEC.state, raw, SPEC.control_hz)
    np.testing.assert_allclose(published[0, QUATERNION], [1, 0, 0, 0, 0, 1], atol=1e-6)


def test_frames_are_the_pixels_of_the_video(scene):
    raw = scene()
    assert raw.cameras() == ["image"]
    frames = list(raw.frames("image"))
    assert [(frame.shape, frame.dtype) for frame in frames] == [((48, 64, 3), np.uint8)] * 4
    for step, frame in enumerate(frames):
        np.testing.assert_allclose(frame.mean(axis=(0, 1)), (200, 40, 90 + 20 * step), atol=4)
    with pytest.raises(SourceError, match="the only camera is image"):
        raw.frames("color")


# ------------------------------------------------------------------------------------------- left out, with a reason


def test_scenes_of_people_are_episodes_that_the_spec_leaves_out(tmp_path, command):
    write_scene(tmp_path / "in" / "RH20T_cfg1" / SCENE)
    write_scene(tmp_path / "in" / "RH20T_cfg1" / f"{SCENE}_human", joint=None, gripper=None, tcp_base=None)
    (tmp_path / "in" / "instruction.json").write_text(json.dumps({"task_0001": {"task_description_english": "Press"}}))
    robot, person = episodes(tmp_path / "in")
    assert (robot.scalar("is_human"), person.scalar("is_human")) == (False, True)
    assert keep(SPEC, robot) is None
    assert keep(SPEC, person) == "it shows a person, not a robot"
    done = command("convert", tmp_path / "in", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    (attributes,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("**/parts/0/zarr.json")]
    left_out = attributes["attributes"]["filtered"]
    assert left_out == [{"episode": f"RH20T_cfg1/{SCENE}_human#111", "reason": "it shows a person, not a robot"}]


def numbered(steps, width=7):
    return {"111": {t: np.zeros(width) for t in steps}}


BROKEN = {
    "a joint vector of five": (
        {"joint": numbered(TIMES[:2]) | {"111": numbered(TIMES)["111"] | {1205: np.zeros(5)}}},
        "transformed/joint.npy",
        r"step 2 \(time 1205\) has shape \(5,\), 6 or 7 values are known",
    ),
    "joints missing at a time": (
        {"joint": numbered(TIMES[:3])},
        "transformed/joint.npy",
        r"step 3 \(time 1300\) of 111 has no joint values",
    ),
    "joints of other cameras only": (
        {"joint": {"222": numbered(TIMES)["111"]}},
        "transformed/joint.npy",
        r"step 0 \(time 1000\) of 111 has no joint values",
    ),
    "a joint that is not a number": (
        {"joint": {"111": numbered(TIMES)["111"] | {1100: np.array([0, np.nan, 0, 0, 0, 0, 0])}}},
        "transformed/joint.npy",
        r"step 1 \(time 1100\), column 1 is nan",
    ),
    "text where joints belong": (
        {"joint": {"111": dict.fromkeys(TIMES, "home")}},
        "transformed/joint.npy",
        r"step 0 \(time 1000\): str is no vector",
    ),
    "a pose of six": (
        {"tcp_base": {"111": [{"timestamp": 1000, "tcp": np.zeros(6)}]}},
        "transformed/tcp_base.npy",
        r"step 0 \(time 1000\) has shape \(6,\), 7 values are known",
    ),
    "grippers of two kinds": (
        {"gripper": {"111": {1000: {"gripper_info": np.zeros(3)}, 1100: {"gripper_info": np.zeros(2)}}}},
        "transformed/gripper.npy",
        "gripper_info has 2 or 3 values in one episode",
    ),
    "a file of another layout": (
        {"tcp_base": [1, 2, 3]},
        "transformed/tcp_base.npy",
        "it holds ndarray where the times of a camera belong",
    ),
    "a camera of another layout": (
        {"gripper": {"111": [{"time": 1000}]}},
        "transformed/gripper.npy",
        "it holds list where the times of a camera belong",
    ),
    "one step": ({"times": [1000]}, "", "the episode has 1 steps, at least 2 are needed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_motion_is_an_error_that_names_file_and_step(scene, name):
    content, file, problem = BROKEN[name]
    raw = scene(**content)
    with pytest.raises(SourceError, match=problem) as caught:
        read_fields(SPEC.state, raw, SPEC.control_hz)
    assert caught.value.file == f"RH20T_cfg1/{SCENE}/{file}".rstrip("/")
    assert caught.value.episode == 0
    assert "--on-error quarantine" in caught.value.remedy


@pytest.mark.parametrize("frames", [3, 5])
def test_a_video_that_is_not_as_long_as_its_times_is_an_error(scene, frames):
    raw = scene(frames=frames)
    with pytest.raises(SourceError, match=f"{frames} frames, but the episode has 4 steps .timestamps.npy") as caught:
        raw.frames("image")
    assert caught.value.file == f"RH20T_cfg1/{SCENE}/cam_111/color.mp4"
    assert caught.value.field == "image"


def test_a_missing_or_damaged_video_is_an_error(scene, tmp_path):
    raw = scene()
    video = tmp_path / "RH20T_cfg1" / SCENE / "cam_111" / "color.mp4"
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(SourceError, match=r"color\.mp4") as caught:
        list(raw.frames("image"))
    assert caught.value.file.endswith("cam_111/color.mp4")
    video.unlink()
    with pytest.raises(SourceError, match="the video is not there"):
        raw.frames("image")


@pytest.mark.parametrize("stamps", [{"depth": TIMES}, {"color": "now"}, {"color": [0.1, 0.2]}, TIMES])
def test_times_that_are_not_there_are_an_error(scene, tmp_path, stamps):
    raw = scene()
    save(tmp_path / "RH20T_cfg1" / SCENE / "cam_111" / "timestamps.npy", stamps)
    with pytest.raises(SourceError, match='it has no list "color" of whole milliseconds') as caught:
        len(raw)
    assert caught.value.file == f"RH20T_cfg1/{SCENE}/cam_111/timestamps.npy"


def test_a_scene_without_cameras_is_a_broken_episode_not_silence(tmp_path):
    write_scene(tmp_path / "RH20T_cfg1" / SCENE)
    write_scene(tmp_path / "RH20T_cfg1" / "task_0002_user_0001_scene_0001_cfg_0001", cameras=())
    assert [source.episodes for source in rh20t.files(tmp_path, None, {})] == [1, 1]
    with pytest.raises(SourceError, match="the scene has no folder cam_"):
        episodes(tmp_path)


# ------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("folder", [".", "..", "../.."])
def test_the_words_are_in_the_nearest_instruction_json(tmp_path, folder):
    root = tmp_path / "rh20t" / "raw_data"
    write_scene(root / "RH20T_cfg1" / SCENE)
    words = {"task_0001_user_0001": {"task_description_english": "Press"}, "task_00": {"task_description_english": "-"}}
    (root / folder / "instruction.json").write_text(json.dumps(words | {"task_0002": {}}))
    (raw,) = episodes(root)
    assert raw.text("instruction") == raw.scalar("instruction") == "Press"
    assert instruction_of(SPEC, raw) == ("Press.", "Press")
    assert raw.text("another") is None


def test_a_task_without_words_is_an_error_of_the_spec(scene, tmp_path):
    raw = scene()
    with pytest.raises(SourceError, match="there is no instruction"):
        instruction_of(SPEC, raw)
    (tmp_path / "instruction.json").write_text('{"task_0002": {"task_description_english": "Press"}}')
    with pytest.raises(SourceError, match="there is no instruction"):
        convert_episode(Request.of(SPEC), episodes(tmp_path)[0])


@pytest.mark.parametrize("text", ["{", "[]", '{"task_0001": {}}', '{"task_0001": 3}'])
def test_a_broken_instruction_json_is_an_error(scene, tmp_path, text):
    raw = scene()
    (tmp_path / "instruction.json").write_text(text)
    with pytest.raises(SourceError, match=r"it cannot be read|does not give task_0001.* a text") as caught:
        raw.text("instruction")
    assert caught.value.file == str(tmp_path / "instruction.json")


# ------------------------------------------------------------------------------------------- what is RH20T


def test_the_root_is_the_folder_of_configurations_or_a_single_one(tmp_path):
    write_scene(tmp_path / "raw_data" / "RH20T_cfg1" / SCENE)
    write_scene(tmp_path / "raw_data" / "RH20T_cfg2" / SCENE)
    root = tmp_path / "raw_data"
    assert rh20t.find(tmp_path) == rh20t.find(root) == [root]
    assert rh20t.find(root / "RH20T_cfg1") == [root / "RH20T_cfg1"]
    assert detect(tmp_path) == [("rh20t", root)]
    assert [raw.name for raw in episodes(root / "RH20T_cfg1")] == [f"{SCENE}#111"]
    assert rh20t.names(root) == ["rh20t"]
    assert rh20t.splits(root) == []
    assert rh20t.find(tmp_path / "nothing") == []


def test_other_sources_are_not_taken_for_rh20t(tmp_path, aloha_source, rlds_source):
    aloha_source(tmp_path / "a")
    rlds_source(tmp_path / "b")
    (tmp_path / "task_1" / "frames").mkdir(parents=True)
    with h5py.File(tmp_path / "task_1" / "episode_0.hdf5", "w") as file:
        file["action"] = np.zeros((3, 2))
    assert rh20t.find(tmp_path) == []


def test_options_and_splits_are_refused(tmp_path):
    write_scene(tmp_path / "RH20T_cfg1" / SCENE)
    with pytest.raises(SpecError, match="no options, files is given"):
        rh20t.files(tmp_path, None, {"files": "*"})
    with pytest.raises(SpecError, match="no split 'train'"):
        rh20t.files(tmp_path, "train", {})


def test_values_that_are_not_there_are_errors(scene):
    raw = scene()
    for read in (raw.array, raw.scalar):
        with pytest.raises(SourceError, match="there is no such value") as caught:
            read("tcp")
        assert caught.value.field == "tcp"
        assert "tcp_base" in caught.value.remedy
    with pytest.raises(SourceError, match="not one value"):
        raw.scalar("joint")
    assert raw.scalar("timestamp") == 1000
