"""gym-aloha as an environment: a recorded demonstration, replayed, succeeds, and looks as it was recorded."""

import cv2
import h5py
import numpy as np
import pytest

from converters.robot import RobotSide
from converters.spec import SPECS, load_spec
from rdt_data.errors import RdtError
from rdt_model.evaluate import evaluate
from rdt_model.execution import receding
from rdt_model.gym_aloha_world import INSTRUCTIONS, GymAlohaWorld
from rdt_model.policy import Chunk

TRANSFER = "gym_aloha/AlohaTransferCube-v0"

START = 44305
"""A start whose cube lies where that of the first recording does, to half a pixel of 640."""

ROBOT = RobotSide(load_spec(SPECS / "aloha_sim.yaml"), "recorded")


@pytest.fixture(scope="module")
def world() -> GymAlohaWorld:
    pytest.importorskip("gym_aloha", reason="gym-aloha is the extra `sim`")
    try:
        made = GymAlohaWorld(TRANSFER, frame_size=(120, 160))
        made.frames()
    except RdtError as error:
        pytest.skip(f"nothing can be drawn here: {error.problem}")
    return made


@pytest.fixture(scope="module")
def recording(shared) -> dict[str, np.ndarray]:
    """The first recorded demonstration, of a scripted policy at 50 Hz."""
    with h5py.File(shared / "data/aloha_sim/transfer_cube/episode_0.hdf5") as file:
        arrays = {key: file[key][()] for key in ("action", "observations/qpos", "observations/qvel")}
        # OpenCV wrote them from RGB arrays, and reads them as such again.
        images = [cv2.imdecode(row, cv2.IMREAD_COLOR) for row in file["observations/images/top"][:]]
        return {**arrays, "frames": np.stack(images)}


class Replay:
    """A policy that does what was recorded, in unified layout."""

    history, image_size = 1, 32

    def __init__(self, actions):
        self.actions, self.seen = actions, []

    def chunks(self, observations, *, indices, steps=None):
        self.seen += observations
        unified = np.zeros((len(self.actions), 128), np.float32)
        mask = ROBOT.action_mask(observations[0].state_mask)
        for start, left in ((50, True), (0, False)):
            own = self.actions[:, :7] if left else self.actions[:, 7:]
            unified[:, start : start + 6], unified[:, start + 10] = own[:, :6], own[:, 6]
        return [Chunk(unified, mask) for _ in observations]


def test_a_recorded_demonstration_replayed_through_the_spec_succeeds(world, recording):
    replay = Replay(recording["action"])
    found = evaluate(replay, ROBOT, [world], [START], execution=receding(len(recording["action"])))
    assert found.overall.successes == 1
    assert found.episodes[0].instruction == INSTRUCTIONS[TRANSFER]
    assert found.episodes[0].steps < len(recording["action"]), "it ends when the task is done"
    seen = replay.seen[0]
    np.testing.assert_allclose(seen.state[[50, 60, 0, 10]], recording["observations/qpos"][0, [0, 6, 7, 13]], atol=1e-4)
    assert list(seen.images) == ["exterior"]


def test_a_robot_that_stays_where_it_is_fails(world):
    world.reset(0)
    still = Replay(np.tile(world.values()["observations/qpos"], (30, 1)))
    assert evaluate(still, ROBOT, [world], [0], execution=receding(30)).overall.successes == 0


def cube(image):
    """Row and column of the middle of what is red."""
    return np.argwhere((image[..., 0] > 120) & (image[..., 1] < 90)).mean(axis=0)


@pytest.mark.usefixtures("world")
def test_frames_look_as_recorded_but_for_shadows(recording):
    world = GymAlohaWorld(TRANSFER)
    world.reset(START)
    frame, first = world.frames()["exterior"], recording["frames"][0]
    assert frame.shape == first.shape
    np.testing.assert_allclose(cube(frame), cube(first), atol=1)
    shades = np.abs(frame.astype(int) - first).mean()
    world.reset(START + 1)
    assert np.abs(cube(world.frames()["exterior"]) - cube(first)).max() > 5, "another seed, another place"
    shaded = GymAlohaWorld(TRANSFER, shadows=True)
    shaded.reset(START)
    assert np.abs(shaded.frames()["exterior"].astype(int) - first).mean() < min(1.5, shades)


def test_an_action_lasts_as_long_as_the_policys_rate_says(world, recording):
    slow = GymAlohaWorld(TRANSFER, control_hz=25, instruction="Hand it over.")
    assert (slow.control_hz, slow.limit, slow.instruction) == (25, 150, "Hand it over.")
    for one in (slow, world):
        one.reset(0)
    for action in recording["action"][:10]:
        slow.step({"action": action})
        for _ in range(2):
            world.step({"action": action})
    np.testing.assert_array_equal(slow.values()["observations/qpos"], world.values()["observations/qpos"])
    with pytest.raises(RdtError, match="acts at 20 Hz, gym-aloha at 50"):
        GymAlohaWorld(TRANSFER, control_hz=20)


def test_what_it_does_not_take_is_refused(world):
    with pytest.raises(RdtError, match="no task of gym-aloha is called 'gym_aloha/AlohaTransfer'"):
        GymAlohaWorld("gym_aloha/AlohaTransfer")
    with pytest.raises(RdtError, match="takes 14 joint targets"):
        world.step({"action": np.full(14, np.nan, np.float32)})
    with pytest.raises(RdtError, match="takes 14 joint targets"):
        world.step({"observations/eef": np.zeros(7, np.float32)})
