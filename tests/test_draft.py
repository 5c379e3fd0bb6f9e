"""`rdt-data spec new`: what a draft recognises, with which evidence, and what it asks instead of guessing."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.checks.check import check_spec
from converters.demo_data import write_demo_data
from converters.drafts import rotation as draft_rotation
from converters.drafts import signs as draft_signs
from converters.drafts.draft import Draft, draft_spec
from converters.drafts.questions import open_questions
from converters.drafts.runs import runs_of
from converters.drafts.sample import Values
from converters.drafts.words import camera_slot, kind_of, role_of, side_of, words
from converters.spec import DatasetSpec, parse_spec
from rdt_data.errors import SourceError, SpecError
from rdt_data.images import encode_jpeg

SHARED = Path(os.environ.get("RDT_SHARED") or Path(__file__).parents[2] / "shared")
STEPS, HZ = 60, 20


def shared(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"no {SHARED / path} (set RDT_SHARED)")
    return SHARED / path


def smooth(seed: int, width: int, size: float = 1.0) -> np.ndarray:
    """(STEPS, width) numbers within ±size that move like a robot."""
    rng, t = np.random.default_rng(seed), np.arange(STEPS)[:, None] / HZ
    a, b, c = rng.uniform(0.5, 1.5, (3, width))
    return size * (0.7 * np.sin(a * t + 6 * b) + 0.3 * np.sin(2 * c * t))


def opening(seed: int) -> np.ndarray:
    """(STEPS, 1) a gripper from 1 open to 0 closed and back."""
    t = np.linspace(0, 1, STEPS)[:, None]
    return np.clip(np.abs(2.4 * (t - 0.45 - 0.02 * seed)) * 1.3 - 0.2, 0, 1)


def turning(seed: int, around: float = 1.0) -> Rotation:
    """STEPS orientations that turn smoothly."""
    return Rotation.from_rotvec(smooth(seed, 3, around))


def write(folder: Path, episode: Callable[[int], dict[str, Any]], count: int = 3) -> Path:
    """HDF5 files, one an episode; "attr:" keys become attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            for key, value in episode(number).items():
                if key.startswith("attr:"):
                    file.attrs[key.removeprefix("attr:")] = value
                else:
                    file[key] = value
    return folder


def ur5e(number: int) -> dict[str, Any]:
    """An arm recorded in the units of its controller, at 20 Hz, its commands being displacements of the hand."""
    joints, hand, turned = smooth(number, 6, 120), smooth(number + 10, 3, 400), turning(number + 20)
    jpeg = np.frombuffer(encode_jpeg(np.full((24, 32, 3), 120, np.uint8), 90), np.uint8)
    angles = turned.as_euler("xyz")
    return {
        "observations/joint_deg": joints,
        "observations/joint_speed_deg": np.gradient(joints, axis=0) * HZ,
        "observations/gripper_mm": 85 * opening(number),
        "observations/tcp": np.concatenate([hand, turned.as_quat()], axis=1),
        "observations/images/front": np.tile(jpeg, (STEPS, 1)),
        "observations/images/wrist": np.tile(jpeg, (STEPS, 1)),
        "action": np.concatenate([np.diff(hand, axis=0, append=hand[-1:]), np.diff(angles, axis=0, append=angles[-1:])], 1),
        "attr:task": f"Sort part {number} into the tray",
    }  # fmt: skip


def answered(draft: Draft, *answers: tuple[str, str]) -> DatasetSpec:
    """The draft as a spec, with (old, new) put in for its questions."""
    text = draft.text
    for old, new in answers:
        assert old in text, old
        text = text.replace(old, new)
    assert open_questions(text, "draft.yaml") == []
    return parse_spec(text, "draft.yaml")


def described(spec: DatasetSpec, section: str) -> set[tuple[Any, ...]]:
    """The fields of a section, in no order; "all columns" written out."""
    return {
        (f.from_, tuple(f.columns), f.unit, tuple(map(str, f.ops)), f.indices) for f in getattr(spec, section) or ()
    }


def asked(draft: Draft) -> list[str]:
    return [question.path for question in draft.questions]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> dict[str, Path]:
    return write_demo_data(tmp_path_factory.mktemp("demo"), episodes=6).roots


OPEN_IS_HIGH = (
    ('ops: ["?"], to: left_gripper', "to: left_gripper"),
    ('ops: ["?"], to: right_gripper', "to: right_gripper"),
)


@pytest.mark.parametrize(
    ("kind", "name", "answers"), [("aloha", "demo_aloha", ()), ("rlds", "demo_two_arm", OPEN_IS_HIGH)]
)
def test_a_draft_of_the_demo_data_is_its_spec_but_for_what_nobody_can_see(demo, kind, name, answers):
    draft, spec = draft_spec(demo[kind]), catalog.get(name)
    drafted = answered(draft, *answers)
    assert set(asked(draft)) == {f"{s}[{n}].ops[0]" for s, n in (("state", 1), ("state", 3), ("recorded_action", 1), ("recorded_action", 3)) if answers}  # fmt: skip
    for section in ("state", "recorded_action"):
        assert described(drafted, section) == described(spec, section)
    assert (drafted.reader, drafted.control_hz, drafted.cameras) == (spec.reader, spec.control_hz, spec.cameras)
    assert drafted.instruction.from_ == spec.instruction.from_
    assert not check_spec(drafted, demo[kind]).wrong()


def test_which_half_is_the_left_arm_is_read_off_the_words_of_the_episodes(demo):
    assert "the left arm: in 5 of 5 episodes whose words name one arm, it is the one that moves" in plain(
        draft_spec(demo["rlds"])
    )


def plain(draft: Draft) -> str:
    """The text with wrapped comments put together again."""
    return re.sub(r"\n +#   ", " ", draft.text)


def test_a_draft_of_real_aloha_recordings_is_their_spec():
    draft, spec = draft_spec(shared("data/aloha_sim/transfer_cube")), catalog.get("aloha_sim")
    assert asked(draft) == ["control_hz"]  # velocities and positions of these recordings agree only roughly
    drafted = answered(draft, ('control_hz: "?"', "control_hz: 50"))
    for section in ("state", "recorded_action"):
        assert described(drafted, section) == described(spec, section)
    assert {slot: camera.channels for slot, camera in drafted.cameras.items()} == dict.fromkeys(spec.cameras, "bgr")
    assert drafted.cameras["exterior"].from_[0] in spec.cameras["exterior"].from_
    assert drafted.instruction.from_ == ("file:instruction.txt",)


def test_a_draft_of_real_bridge_data_is_its_spec_but_for_four_questions():
    draft, spec = draft_spec(shared("data/bridge_rlds")), catalog.get("bridge_dataset")
    assert asked(draft) == ["control_hz", "state[1].ops[0]", "state[2].ops[0]", "recorded_action[2].ops[0]"]
    drafted = answered(
        draft,
        ('control_hz: "?"', "control_hz: 5"),
        ('ops: ["?"], to: right_eef', "ops: [euler_xyz_to_ortho6d], to: right_eef"),
        ('ops: ["?"], to: right_gripper_open', "to: right_gripper_open"),
    )
    for section in ("state", "recorded_action"):
        assert described(drafted, section) == described(spec, section)
    assert (drafted.cameras, drafted.instruction.from_) == (spec.cameras, spec.instruction.from_)
    assert "usual for a pose, rare for joints" in plain(draft)


def test_names_of_columns_and_a_clock_draft_real_lerobot_data():
    draft = draft_spec(shared("data/lerobot_v21_unitree_g1"))
    drafted = answered(draft)
    assert (drafted.reader, drafted.control_hz, drafted.instruction.from_) == ("lerobot", 30, ("task",))
    joints = {
        ("observation.state", (0, 7), "left_arm_joint_pos"),
        ("observation.state", (7, 14), "right_arm_joint_pos"),
    }
    assert {(f.from_, f.cols, f.to) for f in drafted.state} == joints
    assert "kLeftHandPinky" in draft.text  # six joints of a hand fit no five slots: they are listed, not guessed


@pytest.mark.parametrize("name", ["aloha_static", "austin_sailor_dataset_converted_externally_to_rlds", "fmb", "bc_z"])
def test_a_draft_of_a_published_format_can_be_read_and_finds_its_fields(name: str):
    draft = draft_spec(shared(f"goldens/{name}"))
    assert open_questions(draft.text, "draft.yaml") == draft.questions
    found = set(re.findall(r"to: (\w+)", draft.text))
    assert {"fmb": {"right_arm_joint_pos", "right_eef_pos", "right_eef_ortho6d", "right_gripper_open"}}.get(name, {"right_eef_pos"} if name != "aloha_static" else {"left_gripper_open"}) <= found  # fmt: skip


def test_units_of_a_controller_are_recognised_and_the_draft_passes_its_check(tmp_path):
    source = write(tmp_path / "ur5e", ur5e)
    draft = draft_spec(source)
    drafted = answered(draft)
    assert described(drafted, "state") == described(parse_spec(UR5E, "x.yaml"), "state")
    assert described(drafted, "recorded_action") == described(parse_spec(UR5E, "x.yaml"), "recorded_action")
    assert drafted.control_hz == HZ
    assert {slot: camera.from_ for slot, camera in drafted.cameras.items()} == {
        "exterior": ("observations/images/front",),
        "right_wrist": ("observations/images/wrist",),
    }
    assert drafted.instruction.from_ == ("attr:task",)
    report = check_spec(drafted, source)
    assert [str(finding) for finding in report.findings] == []
    assert max(report.round_trip.values()) <= 1e-5


UR5E = """
title: x
reader: hdf5
control_hz: 20
instruction: {from: "attr:task"}
state:
  - {from: observations/joint_deg, cols: [0, 6], unit: deg, ops: [deg_to_rad], to: right_arm_joint_pos}
  - {from: observations/joint_speed_deg, cols: [0, 6], unit: deg/s, ops: [deg_to_rad], to: right_arm_joint_vel}
  - {from: observations/gripper_mm, unit: mm, ops: [{div: 85}], to: right_gripper_open}
  - {from: observations/tcp, cols: [0, 3], unit: mm, ops: [mm_to_m], to: right_eef_pos}
  - {from: observations/tcp, cols: [3, 7], unit: 1, ops: [quat_xyzw_to_ortho6d], to: right_eef_ortho6d}
recorded_action:
  - {from: action, cols: [0, 3], unit: mm, ops: [mm_to_m, times_control_hz], to: right_eef_lin_vel}
"""


def test_every_number_of_the_source_is_in_the_draft_with_width_range_and_type(tmp_path):
    source = write(tmp_path / "ur5e", lambda n: ur5e(n) | {"observations/odd": smooth(n, 5), "reward": np.zeros(STEPS)})
    text = draft_spec(source).text
    assert "# observations/joint_deg: float64, 6 columns in [" in text
    assert re.search(r"#   observations/odd: float64, 5 columns in \[-\d.*, \d.*\]", text)
    assert "reward" not in text


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
@pytest.mark.parametrize("body", [False, True])
def test_an_angular_velocity_tells_the_order_of_a_quaternion(tmp_path, order, body):
    def episode(n: int) -> dict[str, Any]:
        turned = turning(n, 2.0)
        later = turned[1:] * turned[:-1].inv() if not body else turned[:-1].inv() * turned[1:]
        speed = np.concatenate([later.as_rotvec(), np.zeros((1, 3))]) * HZ
        quat = np.roll(turned.as_quat(), 0 if order == "xyzw" else 1, axis=1)
        return {"ee_quat": quat, "ee_ang_vel": speed, "ee_pos": smooth(n, 3)}

    (line,) = [
        line for line in draft_spec(write(tmp_path / "arm", episode)).text.splitlines() if "from: ee_quat" in line
    ]
    assert f"ops: [quat_{order}_to_ortho6d]" in line


def as_order(turned: Rotation, order: str) -> np.ndarray:
    return np.roll(turned.as_quat(), 0 if order == "xyzw" else 1, axis=1)


def test_a_quaternion_whose_last_column_stays_large_is_xyzw_and_one_that_begins_large_is_a_question():
    small = turning(1, 0.4)
    sign = draft_rotation.quaternion([as_order(small, "xyzw")])
    assert sign.ops == ("quat_xyzw_to_ortho6d",)
    assert re.match(r"norm 1.000±0.000, w last stays > 0\.\d+: xyzw", sign.why)
    unsure = draft_rotation.quaternion([as_order(small, "wxyz")])
    assert (unsure.ops, unsure.question) == (("?",), "quat_xyzw_to_ortho6d or quat_wxyz_to_ortho6d")


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_sign_flips_of_a_quaternion_show_which_column_is_w(order):
    angle = np.linspace(0.5, 2 * np.pi - 0.5, 200)
    quat = np.stack([np.sin(angle / 2), *np.zeros((2, 200)), np.cos(angle / 2)], axis=1)
    tilted = (Rotation.from_quat(quat) * Rotation.from_euler("y", 0.3)).as_quat(canonical=True)
    sign = draft_rotation.quaternion([np.roll(tilted, 0 if order == "xyzw" else 1, axis=1)])
    assert sign.ops == (f"quat_{order}_to_ortho6d",)
    assert "sign flips" in sign.why


def test_numbers_of_another_length_are_no_quaternion():
    assert draft_rotation.quaternion([smooth(0, 4)]) is None


def test_wraps_and_length_tell_euler_angles_from_axis_angle():
    yaw = np.linspace(2.5, 4.0, 50)
    wrapped = np.stack([0.3 + 0 * yaw, 0 * yaw, (yaw + np.pi) % (2 * np.pi) - np.pi], axis=1)
    euler = draft_rotation.three_angles([wrapped])
    assert euler.ops == ("euler_xyz_to_ortho6d",)
    assert "1 wraps" in euler.why
    vectors = Rotation.from_euler("xyz", wrapped).as_rotvec()
    assert draft_rotation.three_angles([vectors]).ops == ("axis_angle_to_ortho6d",)
    assert draft_rotation.three_angles([wrapped[:10]]).ops == ("?",)
    degrees = draft_rotation.three_angles([np.rad2deg(wrapped)])
    assert (degrees.unit, degrees.ops) == ("deg", ("deg_to_rad", "euler_xyz_to_ortho6d"))


def test_matrices_tell_their_order_in_memory_and_six_numbers_that_they_are_an_ortho6d():
    matrix = np.tile(np.eye(4), (STEPS, 1, 1))
    matrix[:, :3, :3], matrix[:, :3, 3] = turning(3).as_matrix(), smooth(4, 3)
    assert draft_rotation.matrix4([matrix.reshape(STEPS, 16)])[0] == "rowmajor"
    assert draft_rotation.matrix4([matrix.swapaxes(1, 2).reshape(STEPS, 16)])[0] == "colmajor"
    assert draft_rotation.matrix4([np.tile(np.eye(4).reshape(16), (5, 1))])[0] == "?"
    assert draft_rotation.matrix4([smooth(0, 16)]) is None
    ortho6d = matrix[:, :3, :2].swapaxes(1, 2).reshape(STEPS, 6)
    assert draft_rotation.ortho6d([ortho6d]) is not None
    assert draft_rotation.ortho6d([smooth(0, 6)]) is None


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ([smooth(0, 7), opening(0), 0.04 * opening(1)], [("joints", 0, 7), ("gripper", 7, 8)]),
        ([smooth(0, 3, 0.5), turning(1).as_quat(), opening(0)], [("pos", 0, 3), ("rotation", 3, 7), ("gripper", 7, 8)]),
        ([smooth(0, 7), smooth(1, 3, 0.5), turning(1).as_quat()], [("joints", 0, 7), ("pos", 7, 10), ("rotation", 10, 14)]),
    ],
)  # fmt: skip
def test_columns_without_names_are_read_by_their_structure(columns, roles):
    array = np.concatenate(columns[: len(columns) if len(roles) != 2 else 2], axis=1)
    values = Values("observation/vector", "float64", array.shape[1:], [array])
    assert sorted(((r.role, r.start, r.stop) for r in found(values)), key=lambda r: r[1]) == roles


def found(values: Values) -> list[Any]:
    return runs_of(values, lambda *_: "", grippers_apart=False)


def test_six_columns_that_may_be_joints_or_a_pose_are_a_question():
    array = np.concatenate([smooth(0, 6, 0.8), opening(0)], axis=1)
    six, gripper = found(Values("observation/state", "float32", (7,), [array]))
    assert (six.role, six.sign.unit, gripper.role) == ("", "?", "gripper")
    assert "joints, or x, y, z and angles" in six.sign.why


@pytest.mark.parametrize(
    ("column", "polarity", "unit", "ops"),
    [
        (opening(0), "open", "1", ()),
        (opening(0), "closed", "1", ("invert",)),
        (opening(0), "", "1", ("?",)),
        (2 * (opening(0) > 0.5) - 1.0, "open", "1", ({"affine": [0.5, 0.5]},)),
        (2 * (opening(0) > 0.5) - 1.0, "closed", "1", ({"affine": [-0.5, 0.5]},)),
        (0.08 * opening(0), "", "m", ({"div": 0.08},)),
        (85 * opening(0), "", "mm", ({"div": 85.0},)),
        (100 * opening(0), "open", "1", ({"div": 100},)),
        (255 * opening(0), "closed", "1", ({"div": 255}, "invert")),
    ],
)
def test_a_gripper_is_scaled_by_what_its_range_and_name_say(column, polarity, unit, ops):
    column = column / column.max() * np.abs(column).max()
    sign = draft_signs.gripper(column[:, 0], named=True, polarity=polarity)
    assert (sign.unit, sign.ops) == (unit, ops)
    assert bool(sign.question) == (ops == ("?",))


@given(
    rate=st.sampled_from([5, 10, 15, 30, 50, 200]), unit=st.sampled_from([1.0, 1e3, 1e6, 1e9]), start=st.floats(0, 1e3)
)
def test_a_clock_gives_the_rate_in_whatever_unit_it_counts(rate, unit, start):
    measured, *_ = draft_signs.clock([(start + np.arange(40) / rate)[:, None] * unit])
    assert math.isclose(measured, rate, rel_tol=1e-6)


def test_a_clock_that_stands_still_or_runs_back_is_none():
    assert draft_signs.clock([np.array([[0.0], [1.0], [1.0]])]) is None
    assert draft_signs.clock([np.array([[2.0], [1.0], [3.0]])]) is None


@given(rate=st.sampled_from([5.0, 10.0, 50.0]), which=st.sampled_from(["before", "after", "between"]))
def test_velocities_give_the_rate_whichever_change_they_belong_to(rate, which):
    x = smooth(0, 6)
    moves = np.diff(x, axis=0) * rate
    zero = np.zeros((1, 6))
    velocity = {"after": [moves, zero], "before": [zero, moves], "between": [np.gradient(x, axis=0) * rate]}[which]
    measured, fit = draft_signs.derivative([x], [np.concatenate(velocity)])
    assert fit > 0.98
    assert draft_signs.usual(measured, 0.15) == rate


def test_an_unrelated_value_is_no_velocity():
    assert draft_signs.derivative([smooth(0, 6)], [smooth(5, 6)]) is None


@pytest.mark.parametrize(
    ("key", "kind", "role", "side"),
    [
        ("observations/qpos", "state", "joints", ""),
        ("observation/robot0_eef_quat", "state", "rotation", ""),
        ("obs/left_arm/joint_positions", "state", "joints", "left"),
        ("observation/gripper_closed", "state", "gripper", ""),
        ("observation.state", "state", "", ""),
        ("action/world_vector", "action", "", ""),
        ("action.right_gripper", "action", "gripper", "right"),
        ("observations/qvel", "state", "joint_vel", ""),
        ("ee_ang_vel", "state", "ang_vel", ""),
        ("timestamp", "clock", "", ""),
        ("reward", "ignored", "", ""),
        ("observation/wrist_depth", "ignored", "", ""),
        ("observation/rotation_delta_to_go", "ignored", "rotation", ""),
    ],
)
def test_names_say_what_values_are(key, kind, role, side):
    assert (kind_of(key), role_of(key), side_of(key)) == (kind, role, side)


def test_names_of_cameras_say_their_slot():
    assert words("observations/images/cam_rightWrist") == ("observations", "images", "cam", "right", "wrist")
    assert camera_slot("obs/cam_left_wrist", pair=True) == "left_wrist"
    assert camera_slot("obs/eye_in_hand", pair=False) == "right_wrist"
    assert camera_slot("obs/left_front", pair=False) == "exterior"


def test_many_episodes_in_one_file_need_an_option_and_get_it(tmp_path):
    with h5py.File(tmp_path / "all.hdf5", "w") as file:
        for n in range(3):
            file[f"data/demo_{n}/actions"] = smooth(n, 7)
            file[f"data/demo_{n}/obs/joint_pos"] = smooth(n, 7)
            file[f"data/demo_{n}"].attrs["num_samples"] = STEPS
    draft = draft_spec(tmp_path)
    assert 'options: {episodes: "data/demo_*"}' in draft.text
    assert "from 3 of 3 episodes" in draft.text
    assert "- {from: obs/joint_pos, cols: [0, 7], unit: rad, to: right_arm_joint_pos}" in draft.text


def test_a_broken_episode_is_named_and_another_one_is_read(tmp_path):
    source = write(tmp_path / "ur5e", ur5e, count=4)
    (source / "episode_0.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    draft = draft_spec(source, episodes=2)
    assert "from 2 of 4 episodes" in draft.text
    assert "# Not read: episode_0.hdf5" in draft.text


def test_steps_without_a_value_become_gaps(tmp_path):
    def episode(n: int) -> dict[str, Any]:
        values = ur5e(n)
        values["observations/gripper_mm"][5:9] = np.nan
        return values

    text = draft_spec(write(tmp_path / "arm", episode)).text
    assert "to: right_gripper_open, gaps: true}" in text


@pytest.mark.parametrize(
    ("words", "channels"),
    [
        ("Pick up the red block", "channels: bgr"),
        ("Pick up the block", 'channels: "?"'),
        ("Pick up the blue block", ""),
    ],
)
def test_exchanged_colours_are_a_guess_where_the_words_name_one_and_a_question_where_they_do_not(
    tmp_path, words, channels
):
    frame = np.full((24, 32, 3), 120, np.uint8)
    frame[8:16, 8:16] = (30, 30, 220)
    frames = np.tile(np.frombuffer(encode_jpeg(frame, 95), np.uint8), (STEPS, 1))
    text = draft_spec(write(tmp_path / "arm", lambda n: {"qpos": smooth(n, 7), "front": frames, "task": words})).text
    (line,) = [line for line in text.splitlines() if line.startswith("  exterior:")]
    assert channels in line
    assert ("channels" in line) == bool(channels)


def test_names_that_yaml_would_misread_are_quoted(tmp_path):
    keys = ["1.5", "yes", "joint: pos", 'the "qpos" #2', "naïve joint"]
    source = write(tmp_path / "arm", lambda n: {key: smooth(n, 6) for key in keys} | {"task: x": "Do it now"})
    text = draft_spec(source).text
    assert open_questions(text, "draft.yaml") is not None
    for key in keys:
        assert key in text


def test_what_cannot_be_drafted_says_so(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        draft_spec(tmp_path / "nowhere")
    (tmp_path / "note.txt").write_text("no data")
    with pytest.raises(SourceError, match="holds nothing that a reader knows") as caught:
        draft_spec(tmp_path)
    assert "--reader" in caught.value.remedy


def test_a_question_says_where_it_is_what_is_asked_and_what_may_be_answered(tmp_path, command):
    text = """title: x
reader: hdf5
control_hz: "?"
instruction: {from: task}
state:
  - {from: a, cols: [0, 6], unit: "?", to: "?"}  # ? degrees or radians; which arm
  - {from: b, cols: [0, 1], unit: 1, ops: ["?"], to: right_gripper_open}
"""
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    failed = command("spec", "check", file)
    assert (failed.code, failed.out) == (1, "")
    assert f"{file}: 4 questions are open" in failed.err
    for line in (
        "control_hz is '?': answer it in line 3: the steps a second, a number",
        "state[0].unit is '?': answer it in line 6: degrees or radians",
        "state[0].to is '?': answer it in line 6: which arm",
        "state[1].ops[0] is '?': answer it in line 7: an op of converters/ops.py",
    ):
        assert line in failed.err
    with pytest.raises(SpecError):
        open_questions("a: &x [1]\nb: *x", "alias.yaml")


def test_the_command_prints_the_draft_and_lists_its_questions_beside_it(tmp_path, command):
    source = write(tmp_path / "ur5e", ur5e)
    done = command("spec", "new", source)
    assert done.out == draft_spec(source).text
    assert done.err.count("open: ") == len(draft_spec(source).questions)
    as_json = command("spec", "new", source, "--json")
    assert (as_json.json["text"], as_json.err) == (done.out, "")
