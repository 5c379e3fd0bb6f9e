"""`rdt-data spec check FILE --source SOURCE`: slot by slot, what fits, what is wrong and what only looks so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.checks.check import check_spec
from converters.checks.robot import round_trip
from converters.readers import reader
from converters.spec import DatasetSpec, load_spec, parse_spec
from rdt_data.errors import RdtError
from rdt_data.images import encode_jpeg

STEPS, HZ = 80, 20
MY_ROBOT = Path(__file__).parents[1] / "docs" / "my_robot.yaml"
SPEC = """
title: An arm
reader: hdf5
control_hz: 20
cameras: {exterior: front}
instruction: {from: task}
state:
  - {from: joints, cols: [0, 6], unit: rad, to: right_arm_joint_pos}
  - {from: speeds, cols: [0, 6], unit: rad/s, to: right_arm_joint_vel}
  - {from: gripper, unit: 1, to: right_gripper_open}
  - {from: hand, cols: [0, 3], unit: m, to: right_eef_pos}
  - {from: hand, cols: [3, 7], unit: 1, ops: [quat_xyzw_to_ortho6d], to: right_eef_ortho6d}
recorded_action:
  - {from: action, cols: [0, 6], unit: rad, to: right_arm_joint_pos}
  - {from: action, cols: [6, 7], unit: 1, to: right_gripper_open}
"""


def episode() -> dict[str, Any]:
    """What SPEC describes, with nothing wrong."""
    t = np.arange(STEPS)[:, None] / HZ
    phase = np.arange(7)
    joints = np.sin(1.5 * t + phase[:6])
    gripper = np.clip(0.5 + np.cos(1.5 * t), 0, 1)
    turned = Rotation.from_rotvec(0.5 * np.sin(t + phase[:3])).as_quat()
    frame = np.full((24, 32, 3), 120, np.uint8)
    frame[8:16, 8:16] = (220, 30, 30)
    return {
        "joints": joints,
        "speeds": 1.5 * np.cos(1.5 * t + phase[:6]),
        "gripper": gripper,
        "hand": np.concatenate([0.3 * np.sin(t + phase[:3]), turned], axis=1),
        "action": np.concatenate([joints, gripper], axis=1),
        "front": np.tile(np.frombuffer(encode_jpeg(frame, 95), np.uint8), (STEPS, 1)),
        "task": "Pick up the red block",
    }


def written(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / "episode_0.hdf5", "w") as file:
        for key, value in values.items():
            file[key] = value
    return folder


def spec(*changes: tuple[str, str]) -> DatasetSpec:
    text = SPEC
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_spec(text, "lab.yaml")


def test_a_spec_that_fits_is_reported_slot_by_slot_without_a_finding(tmp_path):
    report = check_spec(spec(), written(tmp_path / "arm", episode()))
    assert [str(finding) for finding in report.findings] == []
    assert not report.wrong(strict=True)
    assert (report.episodes, report.steps) == (["episode_0"], STEPS)
    assert len(report.slots) == 6 + 6 + 1 + 3 + 6 + 7
    speed = next(row for row in report.slots if row.slot == "right_arm_joint_2_vel")
    assert (speed.field, speed.index, speed.source, speed.source_unit, speed.unit) == (
        "state[1]",
        17,
        "speeds[2]",
        "rad/s",
        "rad/s",
    )
    assert -1.5 <= speed.low < speed.high <= 1.5
    turned = next(row for row in report.slots if row.slot == "right_eef_angle_0")
    assert (turned.source, turned.ops) == ("hand[3:7]", "quat_xyzw_to_ortho6d")
    assert report.cameras == {"exterior": "front, 32x24, copied"}
    assert report.instructions == ["Pick up the red block."]
    assert report.round_trip.keys() == {*(f"state[{n}]" for n in range(5)), "recorded_action[0]", "recorded_action[1]"}
    assert max(report.round_trip.values()) <= 1e-5
    for line in ("speeds[2]", "[0, 1]", "recorded_action:", "to the robot and back: 7 fields"):
        assert line in str(report)


Change = Callable[[dict[str, Any]], dict[str, Any]]


def put(key: str, change: Callable[[Any], Any]) -> Change:
    return lambda values: values | {key: change(values[key])}


def still(columns: slice) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[:, columns] = 0.25
        return array

    return change


def swapped(_: Any) -> Any:
    frame = np.full((24, 32, 3), 120, np.uint8)
    frame[8:16, 8:16] = (30, 30, 220)
    return np.tile(np.frombuffer(encode_jpeg(frame, 95), np.uint8), (STEPS, 1))


def black(_: Any) -> Any:
    return np.tile(np.frombuffer(encode_jpeg(np.zeros((24, 32, 3), np.uint8), 95), np.uint8), (STEPS, 1))


MATRIX = (
    ("cols: [3, 7], unit: 1, ops: [quat_xyzw_to_ortho6d]", "cols: [0, 16], unit: m, ops: [mat4_colmajor_to_ortho6d]"),
    (
        "cols: [0, 3], unit: m, to: right_eef_pos",
        "cols: [0, 16], unit: m, ops: [mat4_colmajor_to_pos], to: right_eef_pos",
    ),
)


def rowmajor(_: Any) -> Any:
    matrix = np.tile(np.eye(4), (STEPS, 1, 1))
    matrix[:, :3, 3] = episode()["hand"][:, :3]
    matrix[:, :3, :3] = Rotation.from_quat(episode()["hand"][:, 3:]).as_matrix()
    return matrix.reshape(STEPS, 16)


SUSPICIOUS = {
    "degrees": (put("joints", np.rad2deg), (), "state[0]", "more than two turns", "deg_to_rad"),
    "radians read as degrees": (dict, (("cols: [0, 6], unit: rad, to: right_arm_joint_pos}\n  - {from: speeds", "cols: [0, 6], unit: deg, ops: [deg_to_rad], to: right_arm_joint_pos}\n  - {from: speeds"),), "state[0]", "no joint goes beyond 1 degrees", "unit: rad"),
    "millimetres": (put("hand", lambda a: a * ([1000.0] * 3 + [1] * 4)), (), "state[3]", "m away", "mm_to_m"),
    "gripper scale": (put("gripper", lambda a: 85 * a), (), "state[2]", "should be in [0, 1]", "div"),
    "gripper at rest": (put("gripper", lambda a: 0.1 * a), (), "state[2]", "never opens", "invert"),
    "gripper polarity": (put("action", lambda a: np.concatenate([a[:, :6], 1 - a[:, 6:]], 1)), (), "recorded_action[1]", "opens where state[2] closes", "invert"),
    "a constant joint": (put("joints", still(slice(3, 4))), (), "state[0]", "right_arm_joint_3_pos (always 0.25) never changed in 80 steps", "columns"),
    "no unit quaternion": (put("hand", lambda a: a * ([1.0] * 3 + [1.1] * 4)), (), "state[4]", "length is off 1 by up to 0.1", "four"),
    "quaternion order": (dict, (("quat_xyzw", "quat_wxyz"),), "state[4]", "looks like xyzw", "quat_xyzw_to_ortho6d"),
    "matrix order": (put("hand", rowmajor), MATRIX, "state[4]", "looks rowmajor: 0 0 0 1 is the last row", "mat4_rowmajor"),
    "rate": (dict, (("control_hz: 20", "control_hz: 50"),), "control_hz", "agree at 20 Hz", "control_hz: 20"),
    "velocity unit": (put("speeds", np.rad2deg), (), "state[1]", "the spec says 20 Hz", "deg/s"),
    "velocity of something else": (put("speeds", lambda a: a[:, ::-1].copy()), (), "state[1]", "are not the change of state[0]", "order"),
    "clock": (lambda v: v | {"timestamp": np.arange(STEPS) / 10}, (), "control_hz", "timestamp runs at 10 Hz", "control_hz: 10"),
    "channels": (put("front", swapped), (), "cameras.exterior", 'names "red", but there is no red', "channels: bgr"),
    "black": (put("front", black), (), "cameras.exterior", "black", "key of the camera"),
    "no words": (put("task", lambda _: " "), (("{from: task}", "{from: task, missing: empty}"),), "instruction", "has no words", "--instruction"),
}  # fmt: skip


@pytest.mark.parametrize("what", SUSPICIOUS)
def test_what_looks_wrong_is_a_warning_with_its_evidence_and_what_to_do(tmp_path, what):
    change, edits, where, said, remedy = SUSPICIOUS[what]
    report = check_spec(spec(*edits), written(tmp_path / "arm", change(episode())))
    found = [finding for finding in report.findings if finding.where == where]
    assert any(said in finding.problem and remedy in finding.remedy for finding in found), str(report)
    assert not report.wrong()
    assert report.wrong(strict=True)


WRONG = {
    "a key": (("from: gripper,", "from: griper,"), "griper", "no such value"),
    "too many columns": (("from: joints, cols: [0, 6]", "from: joints, cols: [2, 8]"), "joints", "columns 2:8 are asked for"),
    "a key of commands": (("from: action, cols: [6, 7]", "from: acton, cols: [6, 7]"), "acton", "no such value"),
    "a camera": (("exterior: front", "exterior: back"), "cameras.exterior", "has no back"),
    "words": (("from: task", "from: words"), "words", "there is no instruction"),
    "commands": (("from: action, cols: [6, 7]", "from: action, cols: [7, 8]"), "action", "has 7 columns"),
    "a rule that keeps nothing": (("state:", "keep_if: [{from: gripper, above: 2, reason: x}]\nstate:"), "keep_if", "keeps none of the 1 episodes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_an_error_that_names_the_value(tmp_path, what):
    edit, where, said = WRONG[what]
    report = check_spec(spec(edit), written(tmp_path / "arm", episode()))
    (found,) = [finding for finding in report.findings if finding.level == "error"]
    assert found.where == where
    assert said in found.problem
    assert found.remedy
    assert report.wrong()


def test_a_broken_episode_is_told_beside_those_that_fit(tmp_path):
    source = written(tmp_path / "arm", episode())
    broken = episode()
    broken["joints"][7, 2] = np.nan
    (source / "episode_0.hdf5").rename(source / "episode_1.hdf5")
    written(source, broken)
    report = check_spec(spec(), source)
    assert report.episodes == ["episode_1"]
    (found,) = report.findings
    assert (found.level, found.where) == ("error", "joints")
    assert "episode_0.hdf5: step 7, column 2 is nan" in found.problem


def test_a_source_that_is_not_there_is_an_error_of_its_own(tmp_path):
    with pytest.raises(RdtError, match="does not exist"):
        check_spec(spec(), tmp_path / "nowhere")


def test_an_op_without_an_inverse_is_listed_and_left_out_of_the_way_back(tmp_path):
    one_way = spec(("from: gripper, unit: 1,", "from: gripper, unit: 1, ops: [{is_ge: 0.5}],"))
    report = check_spec(one_way, written(tmp_path / "arm", episode()))
    assert report.irreversible == ["state[2] gripper: is_ge"]
    assert "state[2]" not in report.round_trip
    assert "cannot be turned back into robot commands: state[2] gripper: is_ge" in str(report)


def test_an_op_that_loses_something_is_found_by_the_way_back(tmp_path):
    half = spec(
        ("from: hand, cols: [3, 7], unit: 1, ops: [quat_xyzw_to_ortho6d]", "from: tilted, cols: [0, 6], unit: 1")
    )
    values = episode() | {"tilted": np.tile([1.0, 0, 0, 0, 1, 0], (STEPS, 1)) + 0.2 * episode()["joints"]}
    report = check_spec(half, written(tmp_path / "arm", values))
    assert any("not two directions of length 1" in finding.problem for finding in report.findings)


@pytest.mark.parametrize("name", ["demo_aloha", "demo_two_arm"])
def test_the_specs_of_the_demo_data_fit_it(tmp_path, name):
    from converters.demo_data import write_demo_data

    kind = {"demo_aloha": "aloha", "demo_two_arm": "rlds"}[name]
    roots = write_demo_data(tmp_path, episodes=2, formats=[kind]).roots
    report = check_spec(catalog.get(name), roots[kind])
    assert not report.wrong()
    assert len(report.round_trip) == 10


def test_steps_without_a_value_and_shifted_values_go_the_way_back_too(tmp_path):
    values = episode()
    values["gripper"][3:5] = np.nan
    source = written(tmp_path / "arm", values)
    lab = spec(
        ("from: gripper, unit: 1,", "from: gripper, unit: 1, gaps: true,"),
        ("unit: rad/s, to", "unit: rad/s, ops: [shift_previous], to"),
    )
    report = check_spec(lab, source)
    assert report.round_trip["state[2]"] == 0
    assert report.round_trip["state[1]"] == 0
    assert [finding.level for finding in report.findings if finding.level == "error"] == []


def test_the_example_robot_goes_the_way_back(tmp_path):
    lab = load_spec(MY_ROBOT)
    rng = np.random.default_rng(0)
    values = {f.from_: rng.normal(size=(5, 10))[:, : max(f.columns) + 1] for f in (*lab.state, *lab.recorded_action)}
    values |= {"observations/tcp": rng.normal(size=(5, 6)), "action": rng.normal(size=(5, 7))}
    source = written(tmp_path / "arm", values)
    read = reader("hdf5")
    with read.open_file(source, read.files(source, None, {})[0], {}) as file:
        assert max(round_trip(lab, file[0]).values()) <= 1e-5


def test_the_command_exits_as_the_report_says(tmp_path, command):
    source = written(tmp_path / "arm", episode())
    file = tmp_path / "lab.yaml"
    file.write_text(SPEC)
    done = command("spec", "check", file, "--source", source, "--strict")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"{file} is right for {source}\n")
    file.write_text(SPEC.replace("control_hz: 20", "control_hz: 50"))
    assert command("spec", "check", file, "--source", source).code == 0
    strict = command("spec", "check", file, "--source", source, "--strict", "--json")
    assert strict.code == 1
    assert strict.json["wrong"]
    assert [finding["where"] for finding in strict.json["findings"]] == ["control_hz"]
    file.write_text(SPEC.replace("from: gripper,", "from: griper,"))
    wrong = command("spec", "check", file, "--source", source)
    assert (wrong.code, wrong.out) == (1, "")
    assert "does not fit" in wrong.err
    assert "did you mean 'gripper'" in wrong.err
