"""The 128-slot table: the published numbering, its names, and what `resolve`, `describe` and `place` promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_data.layout import DIM, GROUPS, SLOTS, describe, place, preferred_name, resolve, slot_name, unit

PUBLISHED = {
    "right_arm_joint_pos": (0, 10, "rad"),
    "right_gripper_joint_pos": (10, 15, "1"),
    "right_arm_joint_vel": (15, 25, "rad/s"),
    "right_gripper_vel": (25, 30, "1/s"),
    "right_eef_pos": (30, 33, "m"),
    "right_eef_ortho6d": (33, 39, "1"),
    "right_eef_lin_vel": (39, 42, "m/s"),
    "right_eef_ang_vel": (42, 45, "rad/s"),
    "left_arm_joint_pos": (50, 60, "rad"),
    "left_gripper_joint_pos": (60, 65, "1"),
    "left_arm_joint_vel": (65, 75, "rad/s"),
    "left_gripper_vel": (75, 80, "1/s"),
    "left_eef_pos": (80, 83, "m"),
    "left_eef_ortho6d": (83, 89, "1"),
    "left_eef_lin_vel": (89, 92, "m/s"),
    "left_eef_ang_vel": (92, 95, "rad/s"),
    "base_lin_vel": (100, 102, "m/s"),
    "base_ang_vel": (102, 103, "rad/s"),
}
RESERVED = {*range(45, 50), *range(95, 100), *range(103, 128)}


@pytest.mark.parametrize("group", PUBLISHED)
def test_groups_are_where_the_published_vector_has_them(group: str):
    first, stop, slot_unit = PUBLISHED[group]
    assert GROUPS[group] == tuple(range(first, stop))
    assert {unit(i) for i in GROUPS[group]} == {slot_unit}


def test_every_slot_is_in_one_published_group_or_reserved():
    covered = [i for first, stop, _ in PUBLISHED.values() for i in range(first, stop)]
    assert sorted([*covered, *RESERVED]) == list(range(DIM))
    assert {slot.index for slot in SLOTS if not slot.unit} == RESERVED
    assert [slot.index for slot in SLOTS] == list(range(DIM))


def test_no_name_means_two_slots():
    names = [name for slot in SLOTS for name in (slot.name, *slot.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & GROUPS.keys() - {"right_gripper_open", "left_gripper_open"}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("right_arm_joint_0_pos", 0),
        ("arm_joint_6_pos", 6),
        ("gripper_open", 10),
        ("right_gripper_open", 10),
        ("right_gripper_joint_0_pos", 10),
        ("gripper_joint_1_pos", 11),
        ("arm_joint_0_vel", 15),
        ("gripper_open_vel", 25),
        ("eef_pos_x", 30),
        ("eef_angle_5", 38),
        ("right_eef_vel_x", 39),
        ("eef_angular_vel_roll", 42),
        ("left_arm_joint_0_pos", 50),
        ("left_gripper_open", 60),
        ("left_eef_angular_vel_yaw", 94),
        ("base_vel_x", 100),
        ("base_vel_y", 101),
        ("base_angular_vel", 102),
    ],
)
def test_slots_answer_to_the_published_names(name: str, index: int):
    assert resolve(name, 1) == (index,)


def test_a_group_of_joints_may_be_given_fewer_values():
    assert resolve("right_arm_joint_pos", 6) == (0, 1, 2, 3, 4, 5)
    assert resolve("arm_joint_vel", 7) == tuple(range(15, 22))
    assert resolve("left_gripper_joint_pos", 2) == (60, 61)
    assert resolve(["base_vel_y", "right_gripper_open"], 2) == (101, 10)
    assert resolve("right_eef_rot6d", None) == GROUPS["right_eef_ortho6d"]


@pytest.mark.parametrize(
    ("to", "width", "said"),
    [
        ("right_eef_poz", 3, "did you mean 'right_eef_pos"),
        ("right_eef_ortho6d", 3, "right_eef_ortho6d takes 6 values, 3 are given"),
        ("right_eef_pos", 2, "takes 3 values"),
        ("right_arm_joint_pos", 11, "takes 1 to 10 values"),
        ("right_arm_joint_pos", 0, "takes 1 to 10 values"),
        ("reserved_45", 1, "no slot"),
        (["base_vel_x", "base_lin_vel"], 3, "base_lin_vel is 2 slots"),
        (["gripper_open", "right_gripper_joint_0_pos"], 2, "named twice"),
        (["base_vel_x"], 2, "[base_vel_x] takes 1 values"),
        ([], 0, "no slot is named"),
    ],
)
def test_a_wrong_target_is_an_error_that_says_what_is_allowed(to: str | list[str], width: int, said: str):
    with pytest.raises(RdtError) as caught:
        resolve(to, width)
    assert said in str(caught.value)


def test_describe_gives_short_ranges():
    mask = np.zeros(DIM, bool)
    mask[[*range(6), 8, 10, *range(30, 33), 101, 60, 61, 103]] = True
    assert describe(mask) == [
        "right_arm_joint_pos[0:6]",
        "right_arm_joint_8_pos",
        "right_gripper_open",
        "right_eef_pos",
        "left_gripper_joint_pos[0:2]",
        "base_vel_y",
        "reserved_103",
    ]
    assert describe(np.zeros(DIM, bool)) == []
    assert slot_name(10) == "right_gripper_joint_0_pos"
    assert preferred_name(10) == "right_gripper_open"


@settings(deadline=None)
@given(mask=st.lists(st.booleans(), min_size=DIM, max_size=DIM))
def test_describe_counts_every_slot_once(mask: list[bool]):
    count = 0
    for text in describe(mask):
        if "[" in text:
            first, stop = text.split("[")[1].rstrip("]").split(":")
            count += int(stop) - int(first)
        else:
            count += len(GROUPS.get(text, (0,)))
    assert count == sum(mask)


@settings(deadline=None)
@given(order=st.permutations(sorted(GROUPS)), count=st.integers(0, 5), steps=st.integers(0, 3))
def test_what_is_placed_is_found_again_and_the_rest_is_zero(order: list[str], count: int, steps: int):
    chosen = [GROUPS[name] for name in order if not name.endswith("gripper_open")][:count]
    parts = [(slots, np.full((steps, len(slots)), i + 1, np.float32)) for i, slots in enumerate(chosen)]
    vector, mask = place(parts, steps=steps)
    assert (vector.shape, vector.dtype, mask.sum()) == ((steps, DIM), np.float32, sum(map(len, chosen)))
    for slots, values in parts:
        np.testing.assert_array_equal(vector[:, list(slots)], values)
    assert not vector[:, ~mask].any()


def test_place_refuses_overlap_wrong_shapes_and_nothing():
    one = np.ones((2, 1), np.float32)
    with pytest.raises(RdtError, match="right_gripper_joint_0_pos is filled twice"):
        place([((10,), one), ((10,), one)])
    with pytest.raises(RdtError, match="one of its own slots is filled twice"):
        place([((3, 3), np.ones((2, 2), np.float32))])
    with pytest.raises(RdtError, match=r"shape \(2, 1\) are given for 2 slots over 2 steps"):
        place([((3, 4), one)])
    with pytest.raises(RdtError, match="nothing to place"):
        place([])
    with pytest.raises(RdtError, match="mask of shape"):
        describe(np.zeros(3, bool))
