"""RoboSet: trials of HDF5 files, words from a side file or from the folder, folders of failures."""

import json

import h5py
import numpy as np
import pytest

from converters import catalog
from converters.fields import keep, read_fields
from converters.instruction import instruction_of
from converters.readers import reader
from converters.readers.roboset import task_folder_words
from converters.source import recognised
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.images import encode_jpeg

roboset = reader("roboset")
SPEC = catalog.get("roboset")
T, H, W = 5, 24, 32
CAMERAS = {"rgb_top": (200, 40, 90), "rgb_right": (30, 160, 60), "rgb_left": (10, 20, 220), "rgb_wrist": (90, 90, 90)}
FILE = "pick_up_toast/set_3/demo.h5"


def write_trial(file, name, steps=T, cameras=("rgb_left", "rgb_right", "rgb_top"), encoded=False):
    """A trial as RoboSet records it: float16 numbers, raw frames of one colour each."""
    data = file.create_group(f"{name}/data")
    rng = np.random.default_rng(steps)
    for key, width in {"ctrl_arm": 7, "ctrl_ee": 1, "qp_arm": 7, "qv_arm": 7}.items():
        data[key] = rng.normal(size=(steps, width)).astype(np.float16)
    data["qp_ee"] = np.linspace(0, 0.8, steps).astype(np.float16)
    data["time"] = np.arange(steps, dtype=np.float64)
    for camera in cameras:
        frames = np.full((steps, H, W, 3), CAMERAS[camera], np.uint8)
        if encoded:
            jpegs = data.create_dataset(camera, (steps,), h5py.vlen_dtype(np.uint8))
            for step, frame in enumerate(frames):
                jpegs[step] = np.frombuffer(encode_jpeg(frame, 90), np.uint8)
        else:
            data[camera] = frames
    file[f"{name}/config/solved"] = np.array([1.0])
    return data


def write(root, path=FILE, trials=("Trial0",), **content):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / path, "w") as file:
        for trial in trials:
            write_trial(file, trial, **content)


@pytest.fixture
def episodes(tmp_path):
    """A function: all episodes of `tmp_path` in order, their files open until the test ends."""
    opened = []

    def read(root=tmp_path, **options):
        files = [roboset.open_file(root, source, options) for source in roboset.files(root, None, options)]
        opened.extend(files)
        return [file[number] for file in files for number in range(len(file))]

    yield read
    for file in opened:
        file.__exit__(None, None, None)


def test_the_golden_gives_what_the_published_pipeline_gave(shared, episodes):
    source = shared / "goldens" / "roboset"
    if not source.exists():
        pytest.skip(f"no {source}")
    golden = np.load(source / "golden.npz", allow_pickle=False)
    assert recognised(source) == "roboset"
    (root,) = roboset.find(source)
    kept = [raw for raw in episodes(root) if keep(SPEC, raw) is None]
    assert len(kept) == int(golden["n_episodes"])
    for i, raw in enumerate(kept):
        state, mask = read_fields(SPEC.state, raw, SPEC.control_hz)
        np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
        for camera in raw.cameras():
            if f"ep{i}_rgb0_{camera}" in golden:
                color = next(raw.frames(camera)).mean(axis=(0, 1))
                np.testing.assert_allclose(color, golden[f"ep{i}_rgb0_{camera}"], atol=3)


def test_joints_and_gripper_come_out_of_half_precision_numbers(tmp_path, episodes):
    write(tmp_path)
    (raw,) = episodes()
    assert raw.array("qp_arm").dtype == np.float16
    state, mask = read_fields(SPEC.state, raw, SPEC.control_hz)
    np.testing.assert_array_equal(state[:, :7], raw.array("qp_arm").astype(np.float32))
    np.testing.assert_allclose(state[:, 10], np.linspace(0, 0.8, T), atol=1e-3)
    assert np.flatnonzero(mask).tolist() == [*range(7), 10]


def test_every_trial_is_an_episode_in_natural_order(tmp_path, episodes):
    write(tmp_path, "b/set_10/x.h5", ["Trial10", "Trial2"])
    write(tmp_path, "b/set_9/x.h5", ["Trial0"])
    (tmp_path / "b" / "notes.hdf5").touch()
    assert [(raw.name, raw.number) for raw in episodes()] == [
        ("b/set_9/x#Trial0", 0),
        ("b/set_10/x#Trial2", 0),
        ("b/set_10/x#Trial10", 1),
    ]
    assert [source.episodes for source in roboset.files(tmp_path, None, {})] == [1, 2]


@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "encoded"])
def test_cameras_are_raw_or_encoded_frames(tmp_path, episodes, encoded):
    write(tmp_path, cameras=CAMERAS, encoded=encoded)
    (raw,) = episodes()
    assert raw.cameras() == sorted(CAMERAS)
    frames = list(raw.frames("rgb_top"))
    assert len(frames) == T
    assert (frames[0].shape == (H, W, 3)) if not encoded else bytes(frames[0]).startswith(b"\xff\xd8")
    assert len(raw) == T


def test_values_are_called_by_their_name_alone(tmp_path, episodes):
    write(tmp_path, cameras=["rgb_top"])
    (raw,) = episodes()
    assert raw.keys() == [
        "config/solved", "ctrl_arm", "ctrl_ee", "is_failure", "qp_arm", "qp_ee", "qv_arm", "rgb_top", "task_folder", "time",
    ]  # fmt: skip
    assert raw.scalar("config/solved") == 1
    assert raw.scalar("task_folder") == "pick up toast"
    assert raw.text("instruction") is None


def test_the_corrected_spec_puts_only_the_wrist_camera_at_the_wrist():
    cameras = SPEC.corrected().cameras
    assert {slot: camera.from_ for slot, camera in cameras.items()} == {
        "exterior": ("rgb_top",),
        "right_wrist": ("rgb_wrist",),
    }
    published = {slot: camera.from_ for slot, camera in SPEC.cameras.items()}
    assert published == {"exterior": ("rgb_top",), "right_wrist": ("rgb_right",), "left_wrist": ("rgb_left",)}


# ------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/pick_up_toast/set_3/demo.h5", "pick up toast"),
        ("data/pick-up-toast_set_3/demo.h5", "pick up toast"),
        ("data/slide_open_drawer/scene_2/set_11/demo.h5", "slide open drawer"),
        ("data/baking_prep_scene_4/demo.h5", "baking prep scene 4"),
        ("data/drag_mug/20230401/demo.h5", "drag mug"),
        ("drag_mug/demo.h5", "drag mug"),
        ("12/set_3/demo.h5", None),
    ],
)
def test_without_a_side_file_the_folder_of_the_task_is_the_instruction(path, words):
    assert task_folder_words(path) == words


def test_the_folder_may_be_the_source_itself(tmp_path, episodes):
    write(tmp_path, "pick_up_toast/demo.h5")
    (raw,) = episodes(tmp_path / "pick_up_toast")
    assert instruction_of(SPEC, raw) == ("Pick up toast.", "pick up toast")


@pytest.mark.parametrize("name", ["instructions.yaml", "words/table.json"])
def test_the_side_file_says_the_words_the_longest_part_of_the_path_counts(tmp_path, episodes, name):
    table = {"pick": "pick something up", "pick_up_toast": "take the toast out of the toaster", "drag": "drag the mug"}
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps(table))  # JSON is YAML too
    write(tmp_path)
    write(tmp_path, "drag_mug/set_1/demo.h5")
    drag, toast = episodes(instructions=name)
    assert instruction_of(SPEC, toast) == ("Take the toast out of the toaster.", "take the toast out of the toaster")
    assert drag.text("instruction") == drag.scalar("instruction") == "drag the mug"
    assert "instruction" in drag.keys()  # noqa: SIM118


def test_without_its_side_file_the_spec_takes_the_folder(tmp_path, episodes):
    write(tmp_path)
    (raw,) = episodes(**SPEC.options)
    assert instruction_of(SPEC, raw)[0] == "Pick up toast."


def test_a_path_that_no_line_fits_is_an_error_not_a_guess(tmp_path, episodes):
    (tmp_path / "instructions.yaml").write_text("drag_mug: drag the mug\n")
    write(tmp_path)
    (raw,) = episodes(**SPEC.options)
    with pytest.raises(SourceError, match=f"no line of the side file .* is a part of .*{FILE}") as caught:
        instruction_of(SPEC, raw)
    assert (caught.value.field, caught.value.episode) == ("instruction", 0)
    assert "add a line" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[pick]", "it holds list"),
        ("", "it holds nothing"),
        ("pick: {a: b}", "'pick': {'a': 'b'} is not a part of a path and a text"),
        ("pick: ' '", "'pick': ' ' is not"),
        ("5: five", "5: 'five' is not"),
        ("pick: [", "it cannot be read"),
        ("pick: !!python/name:os.system x", "it cannot be read"),
    ],
)
def test_a_broken_side_file_is_an_error(tmp_path, episodes, text, problem):
    (tmp_path / "instructions.yaml").write_text(text)
    write(tmp_path)
    with pytest.raises(SourceError, match=problem) as caught:
        episodes(**SPEC.options)
    assert caught.value.file == "instructions.yaml"
    assert "pick_toast" in caught.value.remedy


# ------------------------------------------------------------------------------------------- left out, with a reason


@pytest.mark.parametrize(
    ("path", "failed"),
    [
        *((f"pick/set_{number}/demo.h5", 10 <= number <= 17) for number in (1, 9, 10, 13, 17, 18, 20)),
        ("pick_set_12/demo.h5", True),
        ("pick/set_1/demo_set_12.h5", False),
    ],
)
def test_trials_below_the_folders_of_failures_are_left_out_with_a_reason(tmp_path, episodes, path, failed):
    write(tmp_path, path)
    (raw,) = episodes()
    assert raw.scalar("is_failure") is failed
    assert keep(SPEC, raw) == ("its folder, set_10 to set_17, holds failures" if failed else None)


def test_a_folder_of_failures_is_one_also_as_the_source(tmp_path, episodes):
    write(tmp_path, "pick/set_12/demo.h5")
    assert episodes(tmp_path / "pick" / "set_12")[0].scalar("is_failure")


def test_it_converts_to_a_store_that_lists_what_is_left_out(tmp_path, command):
    write(tmp_path / "in")
    write(tmp_path / "in", "pick_up_toast/set_11/demo.h5")
    done = command("convert", tmp_path / "in", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    (part,) = (tmp_path / "out").glob("**/parts/0/zarr.json")
    left_out = json.loads(part.read_text())["attributes"]["filtered"]
    reason = "its folder, set_10 to set_17, holds failures"
    assert left_out == [{"episode": "pick_up_toast/set_11/demo#Trial0", "reason": reason}]


def test_a_trial_without_data_is_a_broken_episode_not_silence(tmp_path, episodes):
    write(tmp_path, trials=["Trial0", "Trial1"])
    with h5py.File(tmp_path / FILE, "a") as file:
        del file["Trial1/data"]
    whole, broken = episodes()
    assert len(whole) == T
    with pytest.raises(SourceError, match="the episode has no such value") as caught:
        read_fields(SPEC.state, broken, SPEC.control_hz)
    assert caught.value.field == "qp_arm"


def test_rows_that_do_not_agree_are_an_error(tmp_path, episodes):
    write(tmp_path)
    with h5py.File(tmp_path / FILE, "a") as file:
        del file["Trial0/data/qp_ee"]
        file["Trial0/data/qp_ee"] = np.zeros(T + 1, np.float16)
    (raw,) = episodes()
    with pytest.raises(SourceError, match=f"it has {T + 1} rows, but the episode {T}") as caught:
        raw.array("qp_ee")
    assert (caught.value.file, caught.value.episode, caught.value.field) == (FILE, 0, "data/qp_ee")


def test_a_damaged_file_is_told_when_it_is_opened(tmp_path, episodes):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    write(tmp_path)
    assert roboset.find(tmp_path) == [tmp_path]
    with pytest.raises(SourceError, match="HDF5 cannot open it") as caught:
        episodes()
    assert caught.value.file == "a.h5"


# ------------------------------------------------------------------------------------------- what is RoboSet


def test_roboset_is_known_by_its_layout(tmp_path):
    write(tmp_path)
    assert roboset.find(tmp_path) == [tmp_path]
    assert roboset.find(tmp_path / FILE) == [tmp_path / FILE]
    assert recognised(tmp_path) == recognised(tmp_path / FILE) == "roboset"
    assert roboset.splits(tmp_path) == []


def test_other_hdf5_files_are_not_taken_for_roboset(tmp_path, aloha_source):
    aloha_source(tmp_path / "aloha")
    with h5py.File(tmp_path / "trajectory.h5", "w") as file:
        file["traj_0/actions"] = np.zeros((3, 7))
        file["Trial"] = np.zeros(3)
    assert roboset.find(tmp_path) == roboset.find(tmp_path / "trajectory.h5") == []
    assert roboset.find(tmp_path / "none") == []


def test_options_and_splits_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(RdtError, match="no option of reader roboset is called 'instruction'") as caught:
        roboset.files(tmp_path, None, {"instruction": "a.yaml"})
    assert "instructions" in caught.value.remedy
    with pytest.raises(SpecError, match="option instructions: 3 is no file"):
        roboset.files(tmp_path, None, {"instructions": 3})
