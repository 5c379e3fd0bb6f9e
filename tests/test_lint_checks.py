"""Lint, check by check: the laws each rests on, and the near misses that must stay silent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from converters import catalog
from rdt_data.layout import DIM, GROUPS, unit
from stats import lint_duplicates, lint_motion, lint_rotation, lint_velocity
from stats.lint_check import Hit
from stats.lint_frames import Clip, colour_shares
from stats.lint_gripper import gripper_declared, gripper_polarity
from stats.lint_images import EXCHANGE, camera_exchanged
from stats.lint_rotation_order import READINGS
from stats.lint_rows import Rows, Vectors
from stats.lint_table import CHECKS

HZ = 10.0
JOINT, JOINT_VEL = GROUPS["right_arm_joint_pos"][0], GROUPS["right_arm_joint_vel"][0]
GRIPPER = GROUPS["right_gripper_open"][0]


def rows_of(
    episodes: Sequence[dict[int, Any]],
    actions: Sequence[dict[int, Any]] | None = None,
    words: Sequence[str] = (),
    by_step: np.ndarray | None = None,
) -> Rows:
    """Episodes given as slot -> values of every step."""
    lengths = [len(next(iter(episode.values()))) for episode in episodes]
    starts = np.cumsum([0, *lengths])[:-1].astype(np.intp)

    def vectors(name: str, given: Sequence[dict[int, Any]]) -> Vectors:
        values, mask = np.zeros((sum(lengths), DIM), np.float32), np.zeros((len(given), DIM), np.bool_)
        for number, (episode, start, length) in enumerate(zip(given, starts, lengths, strict=True)):
            for slot, column in episode.items():
                values[start : start + length, slot], mask[number, slot] = column, True
        return Vectors(name, values, mask, starts, by_step if name == "state" else None)

    count = len(episodes)
    return Rows(
        numbers=range(count),
        ids=[f"e{number}" for number in range(count)],
        control_hz=np.full(count, HZ),
        instructions=words or ["Pick up the cup."] * count,
        state=vectors("state", episodes),
        action=vectors("action", actions or episodes),
        next_state=actions is None,
    )


def found(name: str, rows: Rows) -> list[Hit]:
    return list(CHECKS[name].find(rows))


def wave(steps: int = 60, seed: int = 0, scale: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * np.sin(rng.uniform(0.8, 1.6) * np.arange(steps) / HZ + rng.uniform(0, 6))


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_columns_steps_and_ranges_are_those_of_each_episode_alone(lengths, seed):
    rng = np.random.default_rng(seed)
    slots = sorted(rng.choice(DIM, 5, replace=False).tolist())
    episodes = [{slot: rng.normal(size=length) for slot in slots} for length in lengths]
    state = rows_of(episodes).state
    assert state.slots == tuple(slots)
    for number, (episode, start) in enumerate(zip(episodes, state.starts, strict=True)):
        stop = start + lengths[number]
        for at, slot in enumerate(slots):
            column = episode[slot].astype(np.float32)
            np.testing.assert_array_equal(state.columns[at, start:stop], column)
            np.testing.assert_array_equal(state.steps[at, start:stop], np.append(np.diff(column), 0))
            assert (state.low[at, number], state.high[at, number]) == (column.min(), column.max())


def test_a_slot_that_is_real_in_some_steps_only_neither_jumps_nor_may_hold_values_elsewhere():
    steps = 60
    real = np.zeros((steps, DIM), np.bool_)
    real[:, JOINT], real[20:, JOINT + 1] = True, True
    late = np.where(np.arange(steps) >= 20, wave(steps, 1) + 2, 0)
    rows = rows_of([{JOINT: wave(steps), JOINT + 1: late}], by_step=real)
    assert found("jump", rows) == []
    assert found("unreal_not_zero", rows) == []
    late[3:5] = 0.7
    hit, *_ = found("unreal_not_zero", rows_of([{JOINT: wave(steps), JOINT + 1: late}], by_step=real))
    assert (hit.step, hit.slot, hit.count) == (3, "right_arm_joint_1_pos", 2)


def test_negative_zero_is_zero():
    assert found("unreal_not_zero", rows_of([{JOINT: wave()}, {JOINT: wave(), JOINT + 1: np.full(60, -0.0)}])) == []


@given(seed=st.integers(0, 2**32 - 1), turned=st.floats(0, np.pi))
def test_the_change_of_a_matrix_bounds_the_angle_from_both_sides(seed, turned):
    rng = np.random.default_rng(seed)
    before = Rotation.random(random_state=seed)
    axis = rng.normal(size=3)
    after = Rotation.from_rotvec(turned * axis / np.linalg.norm(axis)) * before
    p, q = (r.as_matrix()[:, :2].T.reshape(6, 1).astype(np.float32) for r in (before, after))
    squared = float(((p - q) ** 2).sum())
    assert 2 - 2 * np.cos(turned) <= squared + 1e-4
    assert squared <= 2 * turned**2 + 1e-4
    np.testing.assert_allclose(lint_rotation.angles(p, q), turned, atol=2e-3)


MISREAD = {
    "as stored": lambda r: r,
    "quaternions w, x, y, z that were read as x, y, z, w": lambda r: Rotation.from_quat(r.as_quat()[:, [3, 0, 1, 2]]),
    "quaternions x, y, z, w that were read as w, x, y, z": lambda r: Rotation.from_quat(r.as_quat()[:, [1, 2, 3, 0]]),
    "matrices that were read transposed": lambda r: r.inv(),
    "Euler angles about x, y, z that turn with the hand": lambda r: Rotation.from_euler("xyz", r.as_euler("XYZ")),
    "Euler angles given as z, y, x": lambda r: Rotation.from_euler("xyz", r.as_euler("xyz")[:, ::-1]),
}


@pytest.mark.parametrize("reading", READINGS)
def test_each_reading_undoes_its_mistake(reading):
    right = Rotation.from_euler("xyz", np.random.default_rng(0).uniform(-1.4, 1.4, (50, 3)))
    stored = MISREAD[reading](right).as_matrix()
    np.testing.assert_allclose(READINGS[reading](stored), right.as_matrix(), atol=1e-9)


def closing(steps: int, at: int) -> np.ndarray:
    return np.where(np.arange(steps) < at, 0.95, 0.05)


@pytest.mark.parametrize("delay", range(5))
def test_a_gripper_that_follows_late_is_right_and_one_that_does_the_opposite_is_not(delay):
    state = [{GRIPPER: closing(60, 20 + delay)}, {GRIPPER: closing(40, 15 + delay)}]
    command = [{GRIPPER: closing(60, 20)}, {GRIPPER: closing(40, 15)}]
    assert list(gripper_polarity(rows_of(state, command))) == []
    opposite = [command[0], {GRIPPER: 1 - command[1][GRIPPER]}]
    (hit,) = gripper_polarity(rows_of(state, opposite))
    assert (hit.episode, hit.slot) == (1, "right_gripper_open")
    assert hit.value < -0.5


def test_a_gripper_that_hardly_moves_says_nothing():
    state, command = [{GRIPPER: 0.9 + 0.1 * wave(60)}], [{GRIPPER: 0.9 - 0.1 * wave(60)}]
    assert list(gripper_polarity(rows_of(state, command))) == []


class WithSpec:
    """Stands for a store: it has a spec."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec


@pytest.mark.parametrize(
    ("source", "ops", "wrong"),
    [
        ("observation/gripper_closed", [], True),
        ("observation/gripper_closed", ["invert"], False),
        ("observation/gripper_closed", ["invert", {"scale": 2}], False),
        ("observation/gripper_closed", ["invert", "invert"], True),
        ("action/gripper_closedness_action", [{"affine": [-0.5, 0.5]}], False),
        ("action/gripper_closedness_action", [{"affine": [0.5, 0.5]}], True),
        ("action/open_gripper", [], False),
        ("action/open_gripper", ["invert"], True),
        ("action/open_gripper", [{"is_lt": 0.5}], True),
        ("observation/gripper", ["invert"], False),
        ("closed_loop/gripper", [], False),
    ],
)
def test_the_name_of_the_source_decides_which_way_the_gripper_goes(source, ops, wrong):
    field = {"from": source, "ops": ops, "to": "right_gripper_open"}
    assert bool(list(gripper_declared(WithSpec({"state": [field]})))) == wrong  # type: ignore[arg-type]


@pytest.mark.parametrize("name", catalog.names())
def test_no_shipped_spec_contradicts_the_names_of_its_sources(name):
    assert list(gripper_declared(WithSpec(catalog.get(name).to_dict()))) == []  # type: ignore[arg-type]


def moving(factor: float, joints: int = 3) -> dict[int, np.ndarray]:
    """Joints with velocities `factor` times too large."""
    episode = {}
    for joint in range(joints):
        episode[JOINT + joint] = wave(seed=joint)
        episode[JOINT_VEL + joint] = factor * np.gradient(wave(seed=joint)) * HZ
    return episode


@pytest.mark.parametrize(("factor", "rate"), [(0.25, 2.5), (0.5, 5), (2, 20), (57.296, None)])
def test_velocities_tell_the_rate_and_the_unit(factor, rate):
    hits = found("velocity_rate", rows_of([moving(1), moving(factor)]))
    (hit,) = hits
    assert (hit.episode, hit.slot) == (1, "right_arm_joint_vel")
    if rate is None:
        assert "velocities look like degrees" in str(hit.value)
    else:
        assert float(str(hit.value).split("about ")[1].removesuffix(" Hz")) == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("factor", [0.8, 1, 1.3])
def test_velocities_that_differ_a_little_say_nothing(factor):
    assert found("velocity_rate", rows_of([moving(factor)])) == []


def test_one_joint_in_another_unit_is_named():
    episode = moving(1)
    episode[JOINT_VEL + 2] *= 57.296
    (hit,) = found("velocity_rate", rows_of([episode]))
    assert hit.slot == "right_arm_joint_2_vel"
    assert "velocities look like degrees" in str(hit.value)


def test_velocities_that_are_noise_say_nothing():
    episode = moving(1)
    for joint in range(3):
        episode[JOINT_VEL + joint] = np.random.default_rng(joint).normal(size=60)
    rows = rows_of([episode])
    assert found("velocity_rate", rows) == found("velocity_sign", rows) == []
    assert list(lint_velocity.PAIRS) == [
        f"{side}_{name}" for side in ("right", "left") for name in ("arm_joint_vel", "gripper_vel", "eef_lin_vel")
    ]


def test_a_spike_is_found_in_a_short_recording_and_a_fast_gripper_is_no_spike():
    position = wave(40)
    position[20] += 1.5
    (hit,) = found("jump", rows_of([{JOINT: position, GRIPPER: closing(40, 10)}]))
    assert (hit.step, hit.slot, hit.count) == (19, "right_arm_joint_0_pos", 2)


@pytest.mark.parametrize(("still", "steps"), [(15, 0), (25, 25)])
def test_idling_counts_from_two_seconds_on(still, steps):
    position = np.concatenate([np.full(still, wave()[0]), wave(), np.full(still, wave()[-1])])
    noise = np.random.default_rng(0).uniform(-0.004, 0.004, len(position))
    rows = rows_of([{JOINT: position + noise}])
    head, tail = found("idle_head", rows), found("idle_tail", rows)
    assert len(head) == len(tail) == (1 if steps else 0)
    for hit in (*head, *tail):
        assert hit.count == pytest.approx(steps, abs=2)
        assert hit.step == (0 if hit in head else len(position) - hit.count)


def test_an_episode_in_which_nothing_moves_says_so_and_one_in_which_the_base_moves_does_not():
    still = {JOINT: np.full(40, 0.3)}
    driving = {**still, GROUPS["base_lin_vel"][0]: np.full(40, 0.4)}
    (hit,) = found("idle_head", rows_of([driving, still]))
    assert hit.episode == 1
    assert "the whole episode" in str(hit.value)


TEXTS = {
    "Pick up the red block.": None,
    "Turn the dial to 3 (of 5), then press [stop].": None,
    "Limpia todo.": None,
    "Hand over the $5 bill.": None,
    "Pick up $object.": "instruction_template",
    "TODO": "instruction_template",
    "Move <object> to the left.": "instruction_template",
    "Pick %s.": "instruction_template",
    "Lorem ipsum dolor sit amet.": "instruction_template",
    "put the {colour} cup on the table": "instruction_template",
    "Is 3 < 5 > 2?": None,
    "a.b/c_d/lang_embed_1.pt.": "instruction_path",
    "/data/episode_3/instruction": "instruction_path",
    "episode_3.hdf5": "instruction_path",
    "Open the file report.txt.": None,
    "C:\\data\\words": "instruction_path",
    "Pick up and/or place the cup.": None,
    "": "instruction_missing",
    "   ": "instruction_missing",
    "None.": "instruction_empty_word",
    "nan": "instruction_empty_word",
    "12": "instruction_empty_word",
    "Test the switch.": None,
    "拿起杯子": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_is_what_it_is(text):
    rows = rows_of([{JOINT: wave()}], words=[text])
    names = [name for name in CHECKS if name.startswith("instruction") and CHECKS[name].gather is None]
    assert [name for name in names if found(name, rows)] == ([TEXTS[text]] if TEXTS[text] else [])


def test_hashing_finds_nearly_all_of_many_pairs_and_only_those():
    rng = np.random.default_rng(0)
    first = rng.normal(0, 30, (400, 35)).astype(np.float32)  # in tolerances
    second = first + rng.uniform(-1, 1, first.shape).astype(np.float32)
    pairs = lint_duplicates._candidates(np.concatenate([first, second]))
    assert pairs <= {(number, number + 400) for number in range(400)}
    assert len(pairs) >= 392


def test_a_copy_at_another_rate_has_the_same_poses():
    columns = np.stack([wave(81), wave(81, 1)]).astype(np.float32)
    slow = columns[:, ::2]
    poses = [
        lint_duplicates._resampled(c, [0, 1], np.array([0]), np.array([c.shape[1] - 1]), 9) for c in (columns, slow)
    ]
    np.testing.assert_allclose(*poses, atol=1e-3)


def clip(pixels: np.ndarray, number: int = 0, camera: str = "exterior", words: str = "Pick it up.") -> Clip:
    brightness = np.array([[pixels.mean(), pixels.std()]], np.float32)
    return Clip(number, camera, words, HZ, (0,), brightness, colour_shares([pixels]), (0, 0), None)


def scene(seed: int, block: tuple[int, int, int] = (40, 160, 70)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = np.full((48, 64, 3), (190, 140, 80), np.uint8)
    pixels[:16] = (110, 60, 20)
    pixels[20:34, 10 + seed : 30 + seed] = block
    return np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)


def test_exchanging_twice_changes_nothing():
    np.testing.assert_array_equal(EXCHANGE[EXCHANGE], np.arange(64))
    swapped = colour_shares([scene(0)[..., ::-1]])
    np.testing.assert_array_equal(colour_shares([scene(0)])[EXCHANGE], swapped)


def test_a_camera_is_compared_with_the_others_in_the_scene():
    right = [clip(scene(n), n, camera) for n in range(4) for camera in ("exterior", "left_wrist")]
    wrong = [clip(scene(n)[..., ::-1], n, "right_wrist") for n in range(4)]
    (hit,) = camera_exchanged([*right, *wrong])
    assert (hit.camera, hit.episode) == ("right_wrist", None)
    assert "exterior and left_wrist" in str(hit.value)
    assert list(camera_exchanged(right)) == []


def test_of_two_cameras_that_disagree_one_is_named_with_the_other():
    clips = [clip(scene(n), n) for n in range(4)] + [clip(scene(n)[..., ::-1], n, "right_wrist") for n in range(4)]
    (hit,) = camera_exchanged(clips)
    assert hit.camera == "right_wrist"
    assert "exterior" in str(hit.value)


@pytest.mark.parametrize(("colour", "word"), [((200, 30, 30), "red"), ((30, 30, 200), "blue")])
def test_words_tell_when_all_is_exchanged(colour, word):
    grey = [np.full((48, 64, 3), 120, np.uint8) for _ in range(3)]
    for number, pixels in enumerate(grey):
        pixels[10:20, 10 + number : 20] = colour
    right = [clip(pixels, n, words=f"Push the {word} block.") for n, pixels in enumerate(grey)]
    wrong = [clip(pixels[..., ::-1], n, words=f"Push the {word} block.") for n, pixels in enumerate(grey)]
    assert list(camera_exchanged(right)) == []
    (hit,) = camera_exchanged(wrong)
    assert "name red or blue" in str(hit.value)
    assert list(camera_exchanged(wrong[:2])) == []  # two episodes are chance
    assert list(camera_exchanged([*wrong, *right])) == []  # not in all of them


def test_different_scenes_are_not_exchanged_scenes():
    cold = [clip(np.clip(scene(n).astype(int) @ np.diag([0.3, 0.9, 2.5]), 0, 255).astype(np.uint8), n) for n in (4, 5)]
    assert list(camera_exchanged([*(clip(scene(n), n) for n in range(4)), *cold])) == []


def test_tolerances_name_every_unit_that_moves():
    assert {unit(slot) for slot in lint_motion.MOVING} <= lint_duplicates.TOLERANCE.keys()
    assert {unit(slot) for slot in (*lint_motion.MOVING, *lint_motion.BASE)} <= lint_motion.STILL.keys()
