"""The built-in simulation: kinematics, scenes, the demonstrator, what counts as success, what cameras show."""

import dataclasses
import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdt_data import sim, sim_arms
from rdt_data.errors import RdtError

seeds = st.integers(0, 2**64 - 1)
arms = st.sampled_from([0, 1])
places = st.tuples(st.floats(-0.26, 0.21), st.floats(-0.13, 0.2), st.floats(0.0, 0.18)).map(np.array)
reaches = st.tuples(arms, places).map(lambda r: (r[0], r[1] if r[0] == 0 else r[1] * [-1, 1, 1]))
"""An arm and a place for its tip, anywhere a demonstration can take it."""
any_joints = st.tuples(*(st.floats(low, high) for low, high in sim_arms.JOINT_LIMITS)).map(np.array)


def scripted(scene, qpos, rng):
    return sim.demonstrate(scene, qpos)


def idle(scene, qpos, rng):
    return qpos


def aimless(scene, qpos, rng):
    return rng.uniform(*sim_arms.JOINT_LIMITS.T)


def wandering(scene, qpos, rng):
    return qpos + rng.normal(0.0, 0.1, 14)


def attempt(seed, policy, noise=0.0):
    """Whether `policy(scene, qpos, rng) → action` succeeds in the episode of this seed."""
    env, rng = sim.TwoArmEnv(cameras=(), noise=noise), np.random.default_rng(seed)
    qpos = env.reset(seed).qpos
    for _ in range(sim.EPISODE_STEPS):
        qpos = env.step(policy(env.scene, qpos, rng)).qpos
    return env.success


def share_of(image, colour, tolerance=40):
    """The share of pixels within `tolerance` of a named colour in every channel."""
    return (np.abs(image.astype(int) - sim.COLOURS[colour]).max(axis=-1) <= tolerance).mean()


@given(reach=reaches)
def test_inverse_kinematics_puts_the_tip_where_it_was_asked_with_the_tool_vertical(reach):
    arm, tip = reach
    pose = sim_arms.forward_kinematics(arm, sim_arms.inverse_kinematics(arm, tip))
    np.testing.assert_allclose(pose.tip, tip, atol=1e-9)
    np.testing.assert_allclose(pose.hand, np.diag([-1.0, 1.0, -1.0]), atol=1e-9)


@given(reach=reaches)
def test_inverse_kinematics_gives_back_the_joints_it_once_gave(reach):
    arm, tip = reach
    joints = sim_arms.inverse_kinematics(arm, tip)
    again = sim_arms.inverse_kinematics(arm, sim_arms.forward_kinematics(arm, joints).tip)
    np.testing.assert_allclose(again, joints, atol=1e-6)


@given(reach=reaches)
def test_the_joint_limits_hold_over_the_whole_workspace(reach):
    arm, tip = reach
    joints = sim_arms.inverse_kinematics(arm, tip)
    low, high = np.array(sim_arms.ARM_LIMITS[:6]).T
    assert (low <= joints).all()
    assert (joints <= high).all()


@given(arm=arms, qpos=any_joints)
def test_links_keep_their_lengths_and_the_hand_is_a_rotation_for_any_joints(arm, qpos):
    pose = sim_arms.forward_kinematics(arm, qpos[:6])
    shoulder = [*sim_arms.BASES[arm], sim_arms.SHOULDER_HEIGHT]
    lengths = [math.dist(shoulder, pose.elbow), math.dist(pose.elbow, pose.wrist), math.dist(pose.wrist, pose.tip)]
    np.testing.assert_allclose(lengths, [sim_arms.UPPER_ARM, sim_arms.FOREARM, sim_arms.TOOL])
    np.testing.assert_allclose(pose.hand @ pose.hand.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(pose.hand) == pytest.approx(1.0)


def test_a_tip_out_of_reach_gives_an_arm_stretched_towards_it():
    joints = sim_arms.inverse_kinematics(0, np.array([5.0, sim_arms.BASES[0][1], 0.0]))
    assert joints[2] == 0.0
    assert joints[0] == 0.0


@given(seed=seeds)
def test_blocks_lie_in_the_area_apart_from_each_other_and_differ_in_colour(seed):
    scene = sim.draw_scene(np.random.default_rng(seed))
    assert (np.abs(scene.blocks) <= np.array(sim.AREA) / 2).all()
    assert min(math.dist(a, b) for a, b in itertools.combinations(scene.blocks, 2)) >= sim.BLOCK_SPACING
    assert len(set(scene.colours)) == sim.BLOCKS
    assert scene.instruction == f"Touch the {scene.colours[scene.target]} block with the {scene.arm} arm."


@settings(max_examples=10, deadline=None)
@given(seed=seeds, episode=st.integers(0, 2**64 - 1))
def test_an_episode_is_a_function_of_seed_and_number(seed, episode):
    first, again = (sim.record(seed, episode, image_size=(24, 32)) for _ in range(2))
    assert first.scene.instruction == again.scene.instruction
    np.testing.assert_array_equal(first.actions, again.actions)
    for a, b in zip(first.observations, again.observations, strict=True):
        np.testing.assert_array_equal(a.qpos, b.qpos)
        np.testing.assert_array_equal(np.stack(list(a.images.values())), np.stack(list(b.images.values())))


def test_episodes_of_one_seed_and_one_episode_of_two_seeds_differ():
    starts = [sim.record(seed, episode, cameras=()).scene.blocks for seed, episode in [(0, 0), (0, 1), (1, 0)]]
    assert all((a != b).all() for a, b in itertools.combinations(starts, 2))


def test_the_demonstrator_succeeds_with_execution_noise():
    assert np.mean([attempt(seed, scripted, noise=sim.NOISE) for seed in range(200)]) >= 0.98


@pytest.mark.parametrize("policy", [idle, aimless, wandering])
def test_a_policy_without_an_idea_seldom_succeeds(policy):
    assert np.mean([attempt(seed, policy) for seed in range(100)]) <= 0.1


@pytest.mark.parametrize("seed", range(5))
def test_the_wrong_arm_or_the_wrong_block_is_no_success(seed):
    def wrong_arm(scene, qpos, rng):
        return sim.demonstrate(dataclasses.replace(scene, arm={"left": "right", "right": "left"}[scene.arm]), qpos)

    def wrong_block(scene, qpos, rng):
        return sim.demonstrate(dataclasses.replace(scene, target=(scene.target + 1) % sim.BLOCKS), qpos)

    assert attempt(seed, scripted)
    assert not attempt(seed, wrong_arm)
    assert not attempt(seed, wrong_block)


def test_success_is_lost_when_another_block_is_touched_too():
    env = sim.TwoArmEnv(cameras=())
    qpos = env.reset(3).qpos
    other = dataclasses.replace(env.scene, target=(env.scene.target + 1) % sim.BLOCKS)
    history = []
    for step in range(2 * sim.EPISODE_STEPS):
        qpos = env.step(sim.demonstrate(env.scene if step < sim.EPISODE_STEPS else other, qpos)).qpos
        history.append(env.success)
    assert history[sim.EPISODE_STEPS - 1]
    assert not history[-1]


def test_a_tip_above_a_block_does_not_touch_it():
    scene = sim.draw_scene(np.random.default_rng(0))
    at = [sim.TOUCH_HEIGHT - 0.001, sim.TOUCH_HEIGHT + 0.001]
    home = np.append(sim_arms.inverse_kinematics(1, sim.HOME[1]), 1.0)
    for height, expected in zip(at, [{("left", 0)}, set()], strict=True):
        reach = np.append(sim_arms.inverse_kinematics(0, np.array([*scene.blocks[0], height])), 0.0)
        assert sim.touches(scene, np.concatenate([reach, home])) == expected


def test_recorded_actions_are_what_the_demonstrator_says_to_what_was_recorded():
    demo = sim.record(0, 0, cameras=())
    assert demo.actions.shape == (sim.EPISODE_STEPS, 14)
    for seen, action in zip(demo.observations, demo.actions, strict=True):
        np.testing.assert_allclose(action, sim.demonstrate(demo.scene, seen.qpos), atol=1e-6)


def test_execution_noise_moves_the_arms_but_stays_out_of_the_actions():
    demo = sim.record(0, 0, cameras=())
    off_by = np.array([seen.qpos for seen in demo.observations[1:]]) - demo.actions[:-1]
    assert 0.5 * sim.NOISE < off_by[:, :6].std() < 2 * sim.NOISE
    assert (demo.actions[:, [3, 10]] == 0).all()  # forearm roll


@settings(max_examples=25, deadline=None)
@given(targets=st.lists(any_joints.map(lambda q: 3 * q), min_size=1, max_size=5))
def test_joint_limits_and_speed_limits_hold_whatever_is_asked_for(targets):
    env = sim.TwoArmEnv(cameras=(), noise=sim.NOISE)
    before = env.reset(0).qpos
    for target in targets:
        seen = env.step(target)
        assert (sim_arms.JOINT_LIMITS[:, 0] - 1e-6 <= seen.qpos).all()
        assert (seen.qpos <= sim_arms.JOINT_LIMITS[:, 1] + 1e-6).all()
        assert np.abs(seen.qpos - before).max() <= sim.MOST_CHANGE + 1e-6
        np.testing.assert_allclose(seen.qvel, (seen.qpos - before) * sim.CONTROL_HZ, atol=1e-4)
        before = seen.qpos


@pytest.mark.parametrize("action", [np.zeros(7), np.full(14, np.nan)])
def test_an_action_that_cannot_be_executed_is_refused(action):
    with pytest.raises(RdtError, match="14 finite joint targets"):
        sim.TwoArmEnv(cameras=()).step(action)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (96, 128), (37, 200)])
def test_cameras_draw_at_any_size(size):
    images = sim.TwoArmEnv(image_size=size).reset(0).images
    assert list(images) == list(sim.CAMERAS)
    assert all(image.shape == (*size, 3) and image.dtype == np.uint8 for image in images.values())


def test_a_larger_image_shows_the_same_view():
    small, large = (sim.TwoArmEnv(image_size=size).reset(0).images for size in [(60, 80), (240, 320)])
    for camera in sim.CAMERAS:
        shrunk = cv2.resize(large[camera], (80, 60), interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - small[camera]).mean() < 2


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_the_exterior_camera_sees_every_block_in_its_place_at_the_start(seed):
    env = sim.TwoArmEnv(image_size=(120, 160), cameras=["exterior"])
    image = env.reset(seed).images["exterior"]
    tops = np.column_stack([env.scene.blocks, np.full(sim.BLOCKS, sim.BLOCK_EDGE)])
    right, down, forward = sim.EXTERIOR.see(tops).T
    columns, rows = (np.array([right, down]) / forward * sim.EXTERIOR.focal * 160 + [[80], [60]]).astype(int)
    for colour, row, column in zip(env.scene.colours, rows, columns, strict=True):
        np.testing.assert_allclose(image[row, column], sim.COLOURS[colour], atol=3)


@pytest.mark.parametrize("camera", sim.CAMERAS)
def test_images_differ_between_block_placements(camera):
    env = sim.TwoArmEnv(cameras=())
    qpos = env.reset(0).qpos
    moved = dataclasses.replace(env.scene, blocks=env.scene.blocks + np.array([0.0, 0.05]))
    before, after = (sim.draw_cameras(scene, qpos, (96, 128), [camera])[camera] for scene in (env.scene, moved))
    assert (before != after).any()


@pytest.mark.parametrize("seed", range(6))
def test_the_wrist_camera_of_the_named_arm_sees_the_named_block_when_it_touches_it(seed):
    demo = sim.record(seed, 0)
    image = demo.observations[-1].images[f"{demo.scene.arm}_wrist"]
    assert share_of(image, demo.scene.colours[demo.scene.target]) > 0.05


@settings(max_examples=50, deadline=None)
@given(qpos=any_joints, size=st.sampled_from([(24, 32), (480, 640)]))
def test_cameras_draw_arms_in_any_position(qpos, size):
    scene = sim.draw_scene(np.random.default_rng(0))
    images = sim.draw_cameras(scene, qpos, size, sim.CAMERAS)
    assert all(image.shape == (*size, 3) for image in images.values())


@settings(max_examples=20, deadline=None)
@given(seed=seeds, moments=st.lists(any_joints, min_size=2, max_size=4))
def test_worlds_drawn_together_are_what_they_are_one_by_one(seed, moments):
    scenes = [sim.draw_scene(np.random.default_rng([seed, n])) for n in range(len(moments))]
    together = sim.draw_many(scenes, moments, (48, 64), sim.CAMERAS)
    for n, (scene, qpos) in enumerate(zip(scenes, moments, strict=True)):
        for camera, image in sim.draw_cameras(scene, qpos, (48, 64), sim.CAMERAS).items():
            np.testing.assert_array_equal(together[camera][n], image)


@pytest.mark.parametrize("cameras", [(), ("exterior",), ("left_wrist", "exterior")])
def test_only_the_cameras_that_were_asked_for_are_drawn(cameras):
    scene, qpos = sim.draw_scene(np.random.default_rng(0)), np.zeros(14)
    assert tuple(sim.draw_cameras(scene, qpos, (24, 32), cameras)) == cameras
    assert all(
        tuple(seen.images) == cameras for seen in sim.record(0, 0, image_size=(24, 32), cameras=cameras).observations
    )


def test_a_demonstration_shows_what_the_environment_shows_at_each_step():
    demo = sim.record(4, 2)
    env = sim.TwoArmEnv(noise=sim.NOISE)
    seen = env.reset(4, 2)
    for observation in demo.observations:
        for camera in sim.CAMERAS:
            np.testing.assert_array_equal(observation.images[camera], seen.images[camera])
        seen = env.step(sim.demonstrate(env.scene, seen.qpos))
    assert env.success == demo.success


def test_pictures_are_independent_of_each_other():
    scene, qpos = sim.draw_scene(np.random.default_rng(0)), np.zeros(14)
    first, second = (sim.draw_cameras(scene, qpos, (24, 32), ["exterior"])["exterior"] for _ in range(2))
    first[:] = 0
    assert second.any()
    np.testing.assert_array_equal(sim.draw_cameras(scene, qpos, (24, 32), ["exterior"])["exterior"], second)
