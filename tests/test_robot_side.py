"""One step of a robot's own arrays -> unified state, and a chunk of unified actions -> its arrays, through its spec."""

import h5py
import numpy as np
import pytest

from converters.robot import RobotSide
from converters.spec import load_spec, parse_spec
from rdt_data.errors import SourceError, SpecError
from rdt_data.layout import resolve
from rdt_data.store import open_dataset

SPEC = """
title: A made-up arm
reader: hdf5
control_hz: 10
instruction: {text: Go.}
state:
  - {from: joints, unit: deg, cols: [0, 6], ops: [deg_to_rad], to: right_arm_joint_pos}
  - {from: tcp, cols: [0, 3], unit: mm, ops: [mm_to_m], to: right_eef_pos}
  - {from: tcp, cols: [3, 6], unit: rad, ops: [euler_xyz_to_ortho6d], to: right_eef_ortho6d}
  - {from: grip, unit: "1", to: right_gripper_open, optional: true}
"""
MOVING = SPEC + "  - {from: move, cols: [0, 2], unit: m/s, ops: [shift_previous], to: base_lin_vel}\n"


def side(text=SPEC, mode=None):
    return RobotSide.of(text, "arm", mode)


def values(**changes):
    rng = np.random.default_rng(0)
    tcp = np.concatenate([rng.uniform(-500, 500, 3), rng.uniform(-1, 1, 3)])
    return {"joints": rng.uniform(-90, 90, 6), "tcp": tcp, "grip": 0.25, **changes}


@pytest.mark.parametrize("dataset", ["demo_aloha"])
def test_a_step_is_read_as_a_conversion_reads_it(aloha_source, command, tmp_path, dataset):
    source = aloha_source(tmp_path, episodes=1)
    assert command("convert", source, tmp_path / "made.zarr").code == 0
    episode, robot = open_dataset(str(tmp_path / "made.zarr"))[0], RobotSide(load_spec(dataset))
    with h5py.File(source / "episode_0.hdf5") as file:
        for step in range(len(episode)):
            state, mask = robot.state({key: file[key][step] for key in robot.keys})
            assert state.dtype == np.float32
            np.testing.assert_array_equal(state, episode.state[step])
            np.testing.assert_array_equal(mask, episode.state_mask)


def test_units_and_representation_come_back_as_the_robots_own():
    robot, seen = side(), values()
    state, mask = robot.state(seen)
    assert state[resolve("right_eef_pos", None)[0]] == pytest.approx(seen["tcp"][0] / 1000)
    command = robot.command(np.tile(state, (3, 1)), robot.action_mask(mask))
    assert {key: array.shape for key, array in command.items()} == {"joints": (3, 6), "tcp": (3, 6), "grip": (3, 1)}
    for key, array in command.items():
        np.testing.assert_allclose(array, np.tile(seen[key], (3, 1)).reshape(array.shape), rtol=1e-5, atol=1e-5)


def test_an_optional_value_that_is_absent_is_masked_and_never_commanded():
    robot, seen = side(), values()
    del seen["grip"]
    state, mask = robot.state(seen)
    gripper = resolve("right_gripper_open", None)[0]
    assert not mask[gripper]
    assert mask.sum() == 6 + 3 + 6
    command = robot.command(state[None], mask)
    assert np.isnan(command["grip"]).all()
    assert np.isfinite(command["joints"]).all()


def test_a_value_of_the_step_before_needs_that_step():
    robot = side(MOVING)
    with pytest.raises(SourceError, match="shift_previous takes it from the step before") as caught:
        robot.state(values(move=[1.0, 2.0]))
    assert (caught.value.file, caught.value.field) == ("the observation", "move")
    assert "`previous`" in caught.value.remedy
    base = list(resolve("base_lin_vel", None))
    state, mask = robot.state(values(move=[1.0, 2.0]), previous=values(move=[3.0, 4.0]))
    assert state[base].tolist() == [3, 4]
    assert mask[base].all()
    assert robot.state(values(move=[1.0, 2.0]), first=True)[0][base].tolist() == [0, 0], "as a conversion has it"


def test_the_slots_of_actions_are_those_of_the_state_or_of_the_commands():
    recorded = SPEC + "recorded_action:\n  - {from: action, cols: [0, 6], unit: rad, to: right_arm_joint_pos}\n"
    robot = side(recorded, "recorded")
    _, mask = robot.state(values())
    assert np.flatnonzero(robot.action_mask(mask)).tolist() == [0, 1, 2, 3, 4, 5]
    assert list(robot.command(np.zeros((2, 128), np.float32))) == ["action"]
    np.testing.assert_array_equal(side(recorded, "next-state").action_mask(mask), mask)


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"joints": None}, "joints", "there is no such value"),
        ({"joints": [1.0, 2.0]}, "joints", "has 2 columns, columns 0:6 are asked for"),
        ({"tcp": [np.nan] * 6}, "tcp", "step 0, column 0 is nan"),
    ],
)
def test_what_is_missing_misshapen_or_not_finite_is_named(change, field, told):
    seen = {key: value for key, value in values(**change).items() if value is not None}
    with pytest.raises(SourceError, match=told) as caught:
        side().state(seen)
    assert caught.value.field == field


def test_a_spec_without_commands_or_without_a_way_back_is_refused():
    with pytest.raises(SpecError, match=r"arm\.yaml: has no `recorded_action`"):
        side(SPEC, "recorded")
    one_way = SPEC.replace("to: right_gripper_open", "ops: [{is_lt: 0.5}], to: right_gripper_open")
    with pytest.raises(SpecError, match="grip: is_lt cannot be undone"):
        RobotSide(parse_spec(one_way, "arm.yaml")).command(np.zeros((1, 128), np.float32))
