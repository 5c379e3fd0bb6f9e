"""RoboTurk on real robots: demonstrations of one HDF5 file, their cameras in the videos that it names."""

import json
from pathlib import Path

import av
import h5py
import numpy as np
import pytest

from converters import catalog
from converters.fields import read_fields
from converters.instruction import instruction_of
from converters.readers import reader
from converters.source import recognised
from rdt_data.errors import SourceError, SpecError

roboturk = reader("roboturk_real")
T = 4
FILES = {
    "roboturk_real_towercreation": "SawyerTowerCreation_aligned_dataset.hdf5",
    "roboturk_real_laundrylayout": "SawyerLaundryLayout_aligned_dataset.hdf5",
    "roboturk_real_objectsearch": "SawyerObjectSearch_aligned_dataset.hdf5",
}
TOWER = FILES["roboturk_real_towercreation"]
COLORS = {"top_rgb": (200, 40, 90), "front_rgb": (30, 160, 60), "top_depth": (120, 120, 120)}


def write_video(path: Path, frames: int, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), color, np.uint8), "rgb24")))
        file.mux(stream.encode())


def write_demo(file, path, steps=T, videos=tuple(COLORS), prefix=""):
    """One demonstration with numbers that name their place: row + column / 100; its videos beside the file."""
    demo = file.create_group(path)
    for key, width in {
        "robot_observation/eef_poses": 7,
        "robot_observation/joint_states_arm": 27,
        "robot_observation/joint_states_gripper": 3,
        "user_control/user_control": 22,
    }.items():
        demo[key] = (np.arange(steps)[:, None] + np.arange(width) / 100).astype(np.float32)
    for camera in videos:
        name = f"{prefix}{demo.name.rsplit('/', 1)[-1]}_{camera}.mp4"
        demo.attrs[f"{camera}_video_file"] = name
        write_video(Path(file.filename).parent / name, steps, COLORS[camera])
    return demo


@pytest.fixture
def demo(tmp_path):
    """A function: it writes a file with one demonstration, changed by `change(demo)`, and gives that."""
    opened = []

    def make(change=lambda demo: None, **content):
        with h5py.File(tmp_path / TOWER, "w") as file:
            change(write_demo(file, "data/user1/demo1", **content))
        (source,) = roboturk.files(tmp_path / TOWER, None, {})
        opened.append(roboturk.open_file(tmp_path / TOWER, source, {}))
        return opened[-1][0]

    yield make
    for file in opened:
        file.__exit__(None, None, None)


def test_the_golden_gives_what_the_published_pipeline_gave(shared):
    source = shared / "goldens" / "roboturk_real_towercreation"
    golden = np.load(source / "golden.npz", allow_pickle=False)
    name = recognised(source)
    assert name == "roboturk_real_towercreation"
    spec = catalog.get(name)
    assert spec.control_hz == golden["control_freq"]
    assert spec.cameras["exterior"].from_ == (str(golden["cam_exterior"]),)
    (root,) = roboturk.find(source)
    (file,) = roboturk.files(root, None, spec.options)
    with roboturk.open_file(root, file, spec.options) as demos:
        assert len(demos) == int(golden["n_episodes"])
        for i in range(len(demos)):
            raw = demos[i]
            assert raw.name == str(golden[f"ep{i}_file"]).replace(".hdf5", "")
            state, mask = read_fields(spec.state, raw, spec.control_hz)
            np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
            np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
            assert instruction_of(spec, raw)[0] == str(golden[f"ep{i}_instruction"])
            for key in raw.cameras():
                first, *others = raw.frames(key)
                assert len(others) == len(raw) - 1
                if f"ep{i}_rgb0_{key}" in golden:
                    np.testing.assert_allclose(first.mean(axis=(0, 1)), golden[f"ep{i}_rgb0_{key}"], atol=3)
        assert "ep1_rgb0_top_rgb_frame" in golden


@pytest.mark.parametrize("name", FILES)
def test_each_dataset_is_known_by_the_name_of_its_file(tmp_path, name):
    folder = tmp_path / "downloads" / "roboturk"
    folder.mkdir(parents=True)
    with h5py.File(folder / FILES[name], "w") as file:
        write_demo(file, "data/user1/demo1")
    assert recognised(tmp_path) == recognised(folder / FILES[name]) == name
    assert roboturk.find(tmp_path) == roboturk.find(folder / FILES[name]) == [folder / FILES[name]]


def test_three_datasets_in_one_folder_are_three_roots(tmp_path):
    for name in FILES.values():
        with h5py.File(tmp_path / name, "w") as file:
            write_demo(file, "data/user1/demo1", videos=())
    assert roboturk.find(tmp_path) == sorted(tmp_path / name for name in FILES.values())


def test_other_hdf5_files_are_not_taken_for_roboturk(tmp_path, aloha_source):
    aloha_source(tmp_path)
    (tmp_path / "SawyerNotes.hdf5").touch()
    assert roboturk.find(tmp_path) == roboturk.find(tmp_path / "none") == []
    assert roboturk.find(tmp_path / "SawyerNotes.hdf5") == []


@pytest.mark.parametrize(
    ("name", "published", "corrected"),
    [
        ("roboturk_real_towercreation", "Create tower.", "Create tower."),
        ("roboturk_real_laundrylayout", "Create tower.", "Layout laundry."),
        ("roboturk_real_objectsearch", "Create tower.", "Object search."),
    ],
)
def test_the_corrected_specs_tell_each_task_its_own_words(demo, name, published, corrected):
    spec, raw = catalog.get(name), demo()
    assert instruction_of(spec, raw)[0] == published
    assert instruction_of(spec.corrected(), raw)[0] == corrected


def test_demonstrations_come_user_by_user_in_natural_order_each_itself(tmp_path):
    with h5py.File(tmp_path / TOWER, "w") as file:
        for path, steps in {"data/user10/demo0": 3, "data/user2/demo10": 6, "data/user2/demo9": 5}.items():
            write_demo(file, path, steps, prefix=f"{path.split('/')[1]}/")
    (source,) = roboturk.files(tmp_path / TOWER, None, {})
    assert (source.path, source.episodes) == (TOWER, 3)
    assert source.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    with roboturk.open_file(tmp_path / TOWER, source, {}) as demos:
        stem = TOWER.removesuffix(".hdf5")
        assert [(raw.name, raw.number, len(raw)) for raw in (demos[i] for i in range(3))] == [
            (f"{stem}#data/user2/demo9", 0, 5),
            (f"{stem}#data/user2/demo10", 1, 6),
            (f"{stem}#data/user10/demo0", 2, 3),
        ]
        assert [len(list(demos[i].frames("top_rgb_frame"))) for i in range(3)] == [5, 6, 3]


def test_values_are_called_by_their_name_alone_and_cameras_after_their_attribute(demo):
    raw = demo()
    assert raw.keys() == [
        "eef_poses",
        "front_rgb_frame",
        "joint_states_arm",
        "joint_states_gripper",
        "top_depth_frame",
        "top_rgb_frame",
        "user_control",
    ]
    assert raw.array("user_control").shape == (T, 22)
    assert raw.scalar("attr:top_rgb_video_file") == raw.text("attr:top_rgb_video_file") == "demo1_top_rgb.mp4"
    assert raw.cameras() == ["front_rgb_frame", "top_depth_frame", "top_rgb_frame"]
    for camera, color in COLORS.items():
        for frame in raw.frames(f"{camera}_frame"):
            np.testing.assert_allclose(frame.mean(axis=(0, 1)), color, atol=4)


def test_a_demonstration_has_the_cameras_that_it_names(demo):
    raw = demo(videos=["top_rgb"])
    assert raw.cameras() == ["top_rgb_frame"]
    assert "front_rgb_frame" not in raw.keys()  # noqa: SIM118


def test_the_arm_is_every_third_number_from_the_fourth_on(demo):
    state, mask = read_fields(catalog.get("roboturk_real_towercreation").state, demo(), 10)
    np.testing.assert_allclose(state[0, :7], np.arange(3, 24, 3) / 100, atol=1e-6)
    np.testing.assert_allclose(state[1, 15:22], 1 + np.arange(4, 25, 3) / 100, atol=1e-6)
    assert state[2, 10] == 2
    assert np.flatnonzero(mask).tolist() == [*range(7), 10, *range(15, 22)]


def test_it_converts_to_a_store(tmp_path, demo, command):
    demo()
    done = command("convert", tmp_path / TOWER, tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out" / "zarr.json").read_text())["attributes"]["dataset"].startswith("roboturk")


# ------------------------------------------------------------------------------------------- what is wrong is told


def named(**attributes):
    return lambda demo: demo.attrs.update(attributes)


WRONG = {
    "a missing video": (named(top_rgb_video_file="gone.mp4"), "gone.mp4", "the video is not there"),
    "a video elsewhere": (named(top_rgb_video_file="../x.mp4"), TOWER, r"\.\./x\.mp4 lies outside of the source"),
    "an absolute path": (named(top_rgb_video_file="/x.mp4"), TOWER, "/x.mp4 lies outside of the source"),
    "no video": (named(top_rgb_video_file="demo1.txt"), "demo1.txt", "FFmpeg cannot read demo1.txt"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_camera_that_cannot_be_read_is_an_error(demo, tmp_path, name):
    (tmp_path / "demo1.txt").write_text("not a video")
    change, file, problem = WRONG[name]
    raw = demo(change)
    with pytest.raises(SourceError, match=problem) as caught:
        raw.frames("top_rgb_frame")
    assert (caught.value.file, caught.value.episode, caught.value.field) == (file, 0, "top_rgb_frame")
    assert caught.value.remedy


@pytest.mark.parametrize("frames", [T - 1, T + 2])
def test_a_video_that_is_not_as_long_as_its_demonstration_is_an_error(demo, tmp_path, frames):
    raw = demo()
    write_video(tmp_path / "demo1_top_rgb.mp4", frames, (0, 0, 0))
    with pytest.raises(SourceError, match=f"{frames} frames, but the episode has {T} steps .the rows in Sawyer"):
        raw.frames("top_rgb_frame")


def test_a_camera_without_its_attribute_is_an_error(demo):
    raw = demo(videos=())
    with pytest.raises(SourceError, match="no attribute top_rgb_video_file"):
        raw.frames("top_rgb_frame")
    with pytest.raises(SourceError, match="no such dataset"):
        raw.frames("left_frame")


def test_rows_that_do_not_agree_are_an_error(demo):
    def shorter(demo):
        del demo["robot_observation/joint_states_arm"]
        demo["robot_observation/joint_states_arm"] = np.zeros((T - 1, 27), np.float32)

    with pytest.raises(SourceError, match=f"it has {T - 1} rows, but the episode {T}") as caught:
        demo(shorter).array("joint_states_arm")
    assert caught.value.field == "robot_observation/joint_states_arm"


def test_a_file_without_demonstrations_or_damaged_is_told_when_it_is_opened(tmp_path):
    with h5py.File(tmp_path / TOWER, "w") as file:
        file.create_group("other")
    (source,) = roboturk.files(tmp_path / TOWER, None, {})
    with pytest.raises(SourceError, match="no group matches 'data/"):
        roboturk.open_file(tmp_path / TOWER, source, {})
    (tmp_path / TOWER).write_bytes(b"nothing")
    (source,) = roboturk.files(tmp_path / TOWER, None, {})
    with pytest.raises(SourceError, match="HDF5 cannot open it"):
        roboturk.open_file(tmp_path / TOWER, source, {})


def test_options_and_splits_are_refused(demo, tmp_path):
    demo()
    with pytest.raises(SpecError, match="no options, episodes is given"):
        roboturk.files(tmp_path / TOWER, None, {"episodes": "*"})
    assert roboturk.splits(tmp_path / TOWER) == []
