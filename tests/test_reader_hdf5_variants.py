"""HDF5 by other recorders: words in side files, robomimic's splits, ManiSkill's observations of one step more."""

import json
import re

import h5py
import numpy as np
import pytest

from converters import catalog
from converters.fields import read_fields
from converters.instruction import instruction_of
from converters.readers import reader
from converters.verify import verify_store
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.store import open_dataset

hdf5 = reader("hdf5")
MASKS = {"valid": ["demo_2"], "train": ["demo_10", "demo_0"], "20_percent": ["demo_10"], "100_percent": ["demo_0", "demo_2", "demo_10"]}  # fmt: skip
DEMOS = {"episodes": "data/demo_*"}
TRAJECTORIES = {"files": "*.h5", "episodes": "traj_*", "longer_by_one": "obs/*"}


@pytest.fixture
def opened():
    """A function: all episodes of a source, its files open."""
    files = []

    def read(root, options, split=None):
        files.extend(hdf5.open_file(root, source, options) for source in hdf5.files(root, split, options))
        return [file[i] for file in files for i in range(len(file))]

    yield read
    for file in files:
        file.__exit__(None, None, None)


# ------------------------------------------------------------------------------------ side files


WORDS = {
    "instruction": "Pour the wäter.",
    "simplified_instruction": ["Pour.", "Pour it."],
    "count": 3,
    "seen": [True, False],
    "nothing": None,
    "empty": [],
    "deep": {"er": {"text": "found"}, "list": [{"text": "no episode"}]},
    "broken": "\ud800",
}


@pytest.fixture
def recording(tmp_path, opened):
    """An episode at task/episode_0.hdf5 with words.json, episode_0.json and broken files beside it."""
    folder = tmp_path / "source" / "task"
    folder.mkdir(parents=True)
    with h5py.File(folder / "episode_0.hdf5", "w") as file:
        file["action"] = np.zeros((3, 7))
    for name in ("words.json", "episode_0.json"):
        (folder / name).write_text("\ufeff" + json.dumps(WORDS | {"from": name}), "utf-8")
    (folder / "list.json").write_text('["only"]')
    (folder / "cut.json").write_text('{"instruction": "Po')
    (folder / "latin.json").write_bytes(b'{"instruction": "caf\xe9"}')
    (folder / "deep.json").write_text("[" * 100_000)
    (tmp_path / "secret.json").write_text('{"instruction": "secret"}')
    (episode,) = opened(tmp_path / "source", {})
    return episode


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("json:words.json#instruction", "Pour the wäter."),
        ("json:words.json#simplified_instruction", "Pour."),
        ("json:words.json#deep/er/text", "found"),
        ("json:words.json#from", "words.json"),
        ("json:../task/words.json#from", "words.json"),
        ("sidecar:from", "episode_0.json"),
        ("json:words.json#nothing", None),
        ("json:other.json#instruction", None),
        ("json:other/words.json#instruction", None),
    ],
)
def test_words_come_out_of_a_json_file_beside_the_recording(recording, key, text):
    assert recording.text(key) == text


def test_numbers_and_truths_come_out_of_it_too(recording):
    assert recording.scalar("json:words.json#count") == 3
    assert recording.scalar("json:words.json#seen") is True
    assert recording.scalar("sidecar:instruction") == "Pour the wäter."
    with pytest.raises(SourceError, match="there is no such value") as caught:
        recording.scalar("json:other.json#count")
    assert caught.value.remedy == "put the file beside the recording"


@pytest.mark.parametrize(
    ("key", "problem", "remedy"),
    [
        ("json:words.json#instructions", "words.json has no 'instructions' for 'instructions'", "did you mean 'instruction'?"),
        ("json:words.json#deep/er/word", "words.json has no 'word' for 'deep/er/word'", "choose one of text"),
        ("json:words.json#instruction/text", "words.json has 'Pour the wäter.' where 'instruction/text' leads through", "shorten the key"),
        ("json:words.json#deep", "words.json has {'er': {'text': 'found'}", "name a text, a number, or a list of them"),
        ("json:words.json#deep/list/text", "words.json lists 1 episodes, none has the episode_id of this file", "take the words.json that was written"),
        ("json:words.json#count", "it holds int64, not text", "name a string"),
        ("json:words.json#broken", "its text is not UTF-8", "store it as UTF-8"),
        ("json:list.json#text", "list.json lists 1 episodes", "list.json"),
        ("json:cut.json#instruction", "cut.json is not JSON: Unterminated string starting at: line 1 column 17", "repair the file"),
        ("json:latin.json#instruction", "the text of latin.json is not UTF-8", "store it as UTF-8"),
        ("json:deep.json#instruction", "deep.json is not JSON", "repair the file"),
        ("json:words.json", "it names no file and key", "write json:NAME#KEY"),
        ("json:#instruction", "it names no file and key", "write json:NAME#KEY"),
        ("sidecar:", "it names no file and key", "sidecar:KEY"),
        ("json:../../secret.json#instruction", "../../secret.json lies outside of the source", "keep the file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_side_file_is_named_with_file_and_key(recording, key, problem, remedy):
    for _ in range(2):  # what a file once held is remembered, what was wrong with it is told again
        with pytest.raises(SourceError, match=re.escape(problem)) as caught:
            recording.text(key)
        assert remedy in caught.value.remedy
        assert (caught.value.file, caught.value.episode, caught.value.field) == ("task/episode_0.hdf5", 0, key)


# ------------------------------------------------------------------------------------ robomimic


def demo(file, number, *, images=True):
    """A demonstration of one Panda, `number` + 1 steps of it, as robomimic writes it."""
    steps, group = number + 1, file.create_group(f"data/demo_{number}")
    group.attrs["num_samples"], group.attrs["model_file"] = steps, "<mujoco/>"
    group["actions"], group["dones"] = np.full((steps, 7), 0.1), np.zeros(steps, np.int64)
    group["states"] = np.zeros((steps, 32))
    for prefix in ("obs", "next_obs"):
        group[f"{prefix}/robot0_joint_pos"] = np.full((steps, 7), 0.1 * number)
        group[f"{prefix}/robot0_joint_vel"] = np.full((steps, 7), 0.2)
        group[f"{prefix}/robot0_eef_pos"] = np.full((steps, 3), 0.3)
        group[f"{prefix}/robot0_eef_quat"] = np.tile([1.0, 0, 0, 0], (steps, 1))  # half a turn around x
        group[f"{prefix}/robot0_gripper_qpos"] = np.tile([0.04, -0.01], (steps, 1))
        group[f"{prefix}/robot0_gripper_qvel"] = np.tile([-0.04, 0.04], (steps, 1))
        if images:
            for camera in ("agentview_image", "robot0_eye_in_hand_image"):
                group[f"{prefix}/{camera}"] = np.full((steps, 8, 8, 3), 10 * number, np.uint8)


@pytest.fixture
def lift(tmp_path):
    """robomimic/lift/ph/image.hdf5: demos 0, 2 and 10 and four lists of them."""
    path = tmp_path / "robomimic" / "lift" / "ph" / "image.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for number in (0, 10, 2):
            demo(file, number)
        for name, demos in MASKS.items():
            file[f"mask/{name}"] = np.array(demos, "S" if name == "train" else h5py.string_dtype())
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1})
        file["data"].attrs["total"] = 15
    return path


def test_lists_of_demos_are_splits(lift):
    assert hdf5.splits(lift) == hdf5.splits(lift.parents[2]) == ["train", "valid", "20_percent", "100_percent"]


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        (None, [0, 2, 10]),
        ("all", [0, 2, 10]),
        ("train", [0, 10]),
        ("valid", [2]),
        ("train+valid", [0, 2, 10]),
        ("20_percent+train", [0, 10]),  # no demo twice
    ],
)
def test_a_split_is_read_in_natural_order_under_the_demos_own_names(lift, opened, split, numbers):
    (source,) = hdf5.files(lift.parent, split, DEMOS)
    named = "image.hdf5" if split in (None, "all") else f"image.hdf5#mask/{split}"
    assert (source.path, source.episodes) == (named, len(numbers))
    episodes = opened(lift.parent, DEMOS, split)
    assert [episode.name for episode in episodes] == [f"image#data/demo_{number}" for number in numbers]
    assert [len(episode) for episode in episodes] == [number + 1 for number in numbers]
    assert [episode.number for episode in episodes] == [*range(len(numbers))]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(lift):
    with pytest.raises(RdtError, match=r"no split of image\.hdf5 is called 'vaild'") as caught:
        hdf5.files(lift, "vaild", DEMOS)
    assert "did you mean 'valid'" in caught.value.remedy
    with pytest.raises(RdtError, match=r"no split of image\.hdf5 is called 'test'") as caught:
        hdf5.files(lift, "train+test", DEMOS)
    assert "100_percent, 20_percent, all, train, valid" in caught.value.remedy
    with pytest.raises(SpecError, match="no split 'train'"):
        hdf5.files(lift, "train", {})


def test_a_file_without_lists_has_no_splits(tmp_path):
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        demo(file, 1)
        file["mask"] = np.ones(3)  # not a group of lists
    assert hdf5.splits(tmp_path) == []
    with pytest.raises(RdtError, match=r"no split of low_dim\.hdf5 is called 'train'") as caught:
        hdf5.files(tmp_path, "train", DEMOS)
    assert caught.value.remedy == "choose one of all"


def test_splits_are_those_of_the_first_file_that_opens(lift):
    (lift.parent / "a.hdf5").write_text("not HDF5")
    assert hdf5.splits(lift.parent)[0] == "train"
    lift.unlink()
    assert hdf5.splits(lift.parent) == []
    (source,) = hdf5.files(lift.parent, "train", DEMOS)
    assert source.episodes == 1
    with pytest.raises(SourceError, match="signature not found") as caught:
        hdf5.open_file(lift.parent, source, DEMOS)
    assert caught.value.file == "a.hdf5#mask/train"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (np.array([b"demo_2", b"demo_7", b"demo_11"]), "it names demo_7, which is not there (2 of 3 are not)"),
        (np.array([2, 10]), "it holds 2, not names"),
        (np.array([b"demo_\xff"]), "its text is not UTF-8"),
    ],
)
def test_a_list_that_does_not_fit_is_told_when_the_split_is_opened(lift, names, problem):
    with h5py.File(lift, "r+") as file:
        file["mask/odd"] = names
    (source,) = hdf5.files(lift, "odd", DEMOS)
    with pytest.raises(SourceError, match=re.escape(problem)) as caught:
        hdf5.open_file(lift, source, DEMOS)
    assert caught.value.file == "image.hdf5#mask/odd"
    hdf5.open_file(lift, hdf5.files(lift, "train", DEMOS)[0], DEMOS).__exit__(None, None, None)


def test_a_file_may_be_called_like_a_split(tmp_path, opened):
    (tmp_path / "a#mask").mkdir()
    with h5py.File(tmp_path / "a#mask" / "b.hdf5", "w") as file:
        demo(file, 1)
    assert [episode.name for episode in opened(tmp_path, DEMOS)] == ["a#mask/b#data/demo_1"]


def test_the_spec_of_robomimic_says_where_everything_belongs(lift, opened):
    spec = catalog.get("robomimic_hdf5")
    raw = opened(lift, spec.options)[1]
    state, mask = read_fields(spec.state, raw, spec.control_hz)
    assert state[0, :7].tolist() == pytest.approx([0.2] * 7)
    assert state[0, 10:12].tolist() == pytest.approx([1, 0.25])  # 4 cm is open, each finger its own way
    assert state[0, 25:27].tolist() == pytest.approx([-1, -1])  # both close
    assert state[0, 30:39].tolist() == pytest.approx([0.3, 0.3, 0.3, 1, 0, 0, 0, -1, 0], abs=1e-6)
    assert np.flatnonzero(mask).tolist() == [*range(7), 10, 11, *range(15, 22), 25, 26, *range(30, 39)]
    assert instruction_of(spec, raw) == ("", "")
    assert instruction_of(spec, raw, default="lift the cube")[0] == "Lift the cube."
    assert spec.recorded_action is None


def test_a_split_of_robomimic_converts_and_verifies_through_the_commands(lift, tmp_path, command):
    dest = tmp_path / "out.zarr"
    arguments = (lift.parents[2], dest, "--split", "train", "--instruction", "lift the cube")
    done = command("convert", *arguments, "--json")
    assert (done.code, done.json["episodes"], done.json["steps"]) == (0, 2, 12)
    dataset = open_dataset(str(dest))
    assert [episode.id for episode in dataset] == ["lift/ph/image#data/demo_0", "lift/ph/image#data/demo_10"]
    assert [episode.instruction for episode in dataset] == ["Lift the cube."] * 2
    assert dataset[1].images("right_wrist")[3].mean() == pytest.approx(100, abs=2)
    assert verify_store(str(dest), lift.parents[2]).problems == []
    assert "is finished already" in command("convert", *arguments).out
    assert "train, valid, 20_percent, 100_percent" in command("inspect", lift.parents[2]).out


# ------------------------------------------------------------------------------------ ManiSkill


def trajectory(file, name, steps, *, camera="sensor_data", rows=1):
    """A trajectory of ManiSkill: observations of `rows` steps more than there are actions."""
    group = file.create_group(name)
    group["actions"] = np.full((steps, 8), 0.1, np.float32)
    for key in ("terminated", "truncated", "success"):
        group[key] = np.arange(steps) == steps - 1
    seen = steps + rows
    row = np.arange(seen, dtype=np.float32)[:, None]
    group["obs/agent/qpos"] = np.hstack([np.tile(row, 7), np.tile([[0.04, 0.01]], (seen, 1))]).astype(np.float32)
    group["obs/agent/qvel"] = np.tile(np.float32([1] * 7 + [0.04, -0.02]), (seen, 1))
    group["obs/extra/tcp_pose"] = np.tile(np.float32([0.1, 0.2, 0.3, 0, 1, 0, 0]), (seen, 1))  # w x y z: about x
    group["env_states/articulations/panda"] = np.zeros((steps + 1, 31), np.float32)
    pixels = np.tile(np.arange(seen, dtype=np.uint8)[:, None, None, None] * 20, (1, 8, 8, 3))
    group.create_dataset(f"obs/{camera}/base_camera/rgb", data=pixels, compression="gzip")
    group[f"obs/{camera}/base_camera/depth"] = np.zeros((seen, 8, 8, 1), np.uint16)
    return group


@pytest.fixture
def cube(tmp_path):
    """maniskill/PickCube-v1/trajectory.rgb.h5: trajectories 0, 2 and 10, the last one a failure, and its sidecar."""
    path = tmp_path / "maniskill" / "PickCube-v1" / "trajectory.rgb.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for number in (0, 10, 2):
            trajectory(file, f"traj_{number}", number + 3)
    episodes = [
        {"episode_id": number, "episode_seed": 7, "control_mode": "pd_joint_pos", "elapsed_steps": number + 3, "success": number != 10}
        for number in (10, 0, 2)
    ]  # fmt: skip
    about = {
        "env_info": {"env_id": "PickCube-v1", "env_kwargs": {"control_mode": "pd_joint_pos"}},
        "episodes": episodes,
    }
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_the_observation_after_the_last_action_is_dropped(cube, opened):
    episodes = opened(cube, TRAJECTORIES)
    assert [episode.name for episode in episodes] == [f"trajectory.rgb#traj_{number}" for number in (0, 2, 10)]
    assert [len(episode) for episode in episodes] == [3, 5, 13]
    for episode in episodes:
        steps = [*range(len(episode))]
        assert episode.array("obs/agent/qpos")[:, 0].tolist() == steps
        assert len(episode.array("actions")) == len(episode.array("success")) == len(steps)
        assert episode.cameras() == ["obs/sensor_data/base_camera/rgb"]
        frames = list(episode.frames("obs/sensor_data/base_camera/rgb"))
        assert [frame[0, 0, 0] for frame in frames] == [20 * step for step in steps]


def test_it_is_dropped_of_encoded_frames_too(tmp_path, opened):
    jpegs = [b"\xff\xd8" + bytes([65 + i]) * 9 + b"\xff\xd9" for i in range(4)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("traj_0")
        group["actions"] = np.zeros((3, 8))
        group["obs/fixed"] = np.array(jpegs)
        rows = np.array([[*jpeg] for jpeg in jpegs], np.uint8)
        group.create_dataset("obs/chunked", data=rows, chunks=(1, rows.shape[1]))
        group.create_dataset("obs/unwritten", (4, 20), np.uint8, chunks=(1, 20))[:3, : rows.shape[1]] = rows[:3]
    (episode,) = opened(tmp_path, TRAJECTORIES)
    for key in ("obs/fixed", "obs/chunked", "obs/unwritten"):
        assert [bytes(frame) for frame in episode.frames(key)] == jpegs[:3]


def test_only_what_is_said_to_be_longer_may_be_and_only_by_one_row(cube, opened):
    with h5py.File(cube, "r+") as file:
        file["traj_0/obs/extra/goal"], file["traj_0/obs/extra/short"] = np.zeros((5, 3)), np.zeros((2, 3))
        file["traj_0/obs/extra/equal"] = np.zeros((3, 3))
    episode = opened(cube, TRAJECTORIES)[0]
    assert len(episode.array("obs/extra/equal")) == 3
    for key, rows in (("obs/extra/goal", 5), ("obs/extra/short", 2)):
        said = f"it has {rows} rows, but the episode 3 (the rows of actions, and one more may follow)"
        with pytest.raises(SourceError, match=re.escape(said)) as caught:
            episode.array(key)
        assert (caught.value.episode, caught.value.field) == (0, key)
        assert "longer_by_one" not in caught.value.remedy
    said = "it has 4 rows, but the episode 3 (the rows of actions)"
    with pytest.raises(SourceError, match=re.escape(said)) as caught:
        episode.array("env_states/articulations/panda")
    assert 'options: {longer_by_one: "env_states/articulations/panda"}' in caught.value.remedy


def test_without_the_option_no_row_is_dropped(cube, opened):
    episode = opened(cube, {"episodes": "traj_*"})[0]
    with pytest.raises(SourceError, match="it has 4 rows, but the episode 3"):
        episode.array("obs/agent/qpos")
    with pytest.raises(SourceError, match="it has 4 rows, but the episode 3"):
        episode.frames("obs/sensor_data/base_camera/rgb")


def test_what_may_be_longer_does_not_say_how_long_the_episode_is(cube, opened):
    """Actions of several robots are a group: the many observations must not outvote what has a row per action."""
    with h5py.File(cube, "r+") as file:
        actions = file["traj_0/actions"][()]
        del file["traj_0/actions"]
        file["traj_0/actions/panda-0"] = actions
    assert len(opened(cube, TRAJECTORIES)[0]) == 3


def test_the_sidecar_tells_of_the_file_and_of_each_episode(cube, opened):
    episodes = opened(cube, TRAJECTORIES)
    assert {episode.text("sidecar:env_info/env_id") for episode in episodes} == {"PickCube-v1"}
    assert [episode.scalar("sidecar:episodes/elapsed_steps") for episode in episodes] == [3, 5, 13]
    assert [episode.scalar("sidecar:episodes/success") for episode in episodes] == [True, True, False]


def test_a_sidecar_without_the_episode_is_named(cube, opened):
    about = json.loads(cube.with_suffix(".json").read_text())
    about["episodes"] = [{"episode_id": "traj_0", "success": True}, 7]
    cube.with_suffix(".json").write_text(json.dumps(about))
    first, second, _ = opened(cube, TRAJECTORIES)
    assert first.scalar("sidecar:episodes/success") is True  # some recorders write the whole name
    with pytest.raises(SourceError, match="lists 2 episodes, none has the episode_id of traj_2") as caught:
        second.scalar("sidecar:episodes/success")
    assert (caught.value.file, caught.value.episode) == ("trajectory.rgb.h5", 1)


@pytest.mark.parametrize("camera", ["sensor_data", "image"], ids=["ManiSkill 3", "ManiSkill 2"])
def test_the_spec_of_maniskill_says_where_everything_belongs(cube, opened, camera):
    with h5py.File(cube, "w") as file:
        trajectory(file, "traj_0", 4, camera=camera)
    spec = catalog.get("maniskill_h5")
    (raw,) = opened(cube, spec.options)
    state, mask = read_fields(spec.state, raw, spec.control_hz)
    assert state[:, 6].tolist() == [0, 1, 2, 3]
    assert state[0, 10:12].tolist() == pytest.approx([1, 0.25])
    assert state[0, 15:22].tolist() == [1] * 7
    assert state[0, 25:27].tolist() == pytest.approx([1, -0.5])
    assert state[0, 30:39].tolist() == pytest.approx([0.1, 0.2, 0.3, 1, 0, 0, 0, -1, 0], abs=1e-6)
    assert np.flatnonzero(mask).tolist() == [*range(7), 10, 11, *range(15, 22), 25, 26, *range(30, 39)]
    assert instruction_of(spec, raw) == ("PickCube.", "PickCube-v1")
    assert set(spec.cameras["exterior"].from_) & set(raw.keys())
    cube.with_suffix(".json").unlink()
    assert instruction_of(spec, raw)[1] == "PickCube-v1"  # read already
    (again,) = opened(cube.parent, spec.options)[1:]
    assert instruction_of(spec, again) == ("", "")


def test_trajectories_convert_and_verify_through_the_commands(cube, tmp_path, command):
    dest = tmp_path / "out.zarr"
    done = command("convert", cube.parents[1], dest, "--json")
    assert (done.code, done.json["episodes"], done.json["steps"]) == (0, 3, 21)
    stored = open_dataset(str(dest))[1]
    assert (stored.id, stored.instruction, len(stored)) == ("PickCube-v1/trajectory.rgb#traj_2", "PickCube.", 5)
    assert stored.action[-1, 0] == 4  # the last state again, not that of the row that was dropped
    assert [round(float(stored.images("exterior")[step].mean()) / 20) for step in range(5)] == [0, 1, 2, 3, 4]
    assert verify_store(str(dest), cube.parents[1]).problems == []


def test_failures_can_be_left_out_by_what_the_sidecar_says(cube, tmp_path, command):
    spec = tmp_path / "mine.yaml"
    keep = '\nkeep_if: [{from: "sidecar:episodes/success", equals: true, reason: the task failed}]\n'
    spec.write_text(catalog.get("maniskill_h5").text + keep)
    done = command("convert", cube, tmp_path / "out.zarr", "--spec", spec, "--json")
    assert (done.code, done.json["episodes"]) == (0, 2)
    assert done.json["filtered"] == [{"episode": "trajectory.rgb#traj_10", "reason": "the task failed"}]
