"""Closed-loop evaluation: the demonstrator succeeds, chance does not, and what is counted does not depend on batching."""

from functools import partial

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from converters.demo_data import IMAGE_SIZE, write_demo_data
from converters.robot import RobotSide
from converters.spec import SPECS, load_spec
from rdt_data import sim
from rdt_data.errors import RdtError
from rdt_data.images import decode_jpeg, encode_jpeg
from rdt_data.layout import resolve
from rdt_data.letterbox import write_letterboxed
from rdt_model import RDT, config_of_size
from rdt_model.batched import BatchedPolicy, untrained
from rdt_model.demo_world import UNSEEN, DemoWorld
from rdt_model.encoders import load_image_encoder
from rdt_model.evaluate import as_stored, evaluate
from rdt_model.execution import ensembling, receding
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy import Chunk, Observation, Policy
from rdt_model.policy_files import Normalisation, PolicyConfig, slots_of
from rdt_model.success import EpisodeResult, Evaluation, wilson
from rdt_model.worlds import Restricted

SIZES = KeypointConfig(image_size=32, keypoints=4, token_dim=8, channels=(8, 8))
HORIZON = 16
SPEC = load_spec(SPECS / "demo_aloha.yaml")
MASK = SPEC.mask("state")
WIDTH = 12


def words(text):
    """An embedding that belongs to a text; longer ones for longer texts."""
    return np.random.default_rng(len(text)).normal(size=(len(text) // 8, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def policy() -> BatchedPolicy:
    torch.manual_seed(0)
    sizes = {"pred_horizon": HORIZON, "lang_token_dim": WIDTH, "img_token_dim": 8, "max_lang_cond_len": 16}
    net = RDT(config_of_size("tiny", **sizes, depth=2, frames=2, cameras=2, patches=4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    scores = Normalisation(mean=tuple(np.linspace(-0.2, 0.2, 128)), std=tuple(np.linspace(0.5, 1, 128)))
    config = PolicyConfig(
        dataset=SPEC.name,
        spec_text=SPEC.text,
        control_hz=10,
        state_slots=slots_of(MASK),
        action_slots=slots_of(MASK),
        cameras=("exterior", "left_wrist"),
        image_encoder="keypoints",
        keypoints=SIZES,
        state_normalisation=scores,
        action_normalisation=scores,
    )
    return BatchedPolicy(net.requires_grad_(False), load_image_encoder("keypoints", keypoints=SIZES), config)


JOINTS = [
    slot
    for side in ("left", "right")
    for slot in (*resolve(f"{side}_arm_joint_pos", 6), *resolve(f"{side}_gripper_open", 1))
]


def unified(targets):
    """Joint targets in ALOHA's order, (T, 14), as a chunk."""
    actions = np.zeros((len(targets), 128), np.float32)
    actions[:, JOINTS] = targets
    return Chunk(actions, MASK)


class Expert:
    """Knows the worlds it acts in: the demonstrator's actions, planned ahead."""

    history, image_size = 1, 16

    def __init__(self, worlds, horizon=HORIZON):
        self.worlds, self.horizon, self.told = worlds, horizon, []

    def chunks(self, observations, *, indices, steps=None):
        self.told += [seen.instruction for seen in observations]
        return [self.plan(world) for world in self.worlds[: len(observations)]]

    def plan(self, world):
        targets = [world.values()["observations/qpos"].astype(float)]
        for _ in range(self.horizon):
            targets.append(sim.demonstrate(self.scene(world), targets[-1]))
        return unified(targets[1:])

    def scene(self, world):
        return world.scene


class Chance(Expert):
    """Joint targets drawn at random within the joints' limits."""

    def plan(self, world):
        rng = np.random.default_rng(self.worlds.index(world))
        return unified(np.tile(rng.uniform(*sim.JOINT_LIMITS.T), (self.horizon, 1)))


def driven(kind, episodes, execution, *, swapped=False, **options):
    worlds = [DemoWorld(cameras=("exterior",), swapped=swapped) for _ in range(episodes)]
    actor = kind(worlds)
    return actor, evaluate(actor, RobotSide(SPEC), worlds, range(episodes), execution=execution, **options)


@pytest.mark.parametrize("execution", [receding(HORIZON), receding(HORIZON, 5), ensembling(HORIZON, every=4)], ids=str)
def test_the_demonstrator_succeeds_however_its_chunks_are_executed(execution):
    actor, found = driven(Expert, 12, execution)
    assert found.overall.successes == 12
    assert {episode.steps for episode in found.episodes} == {sim.EPISODE_STEPS}
    assert set(actor.told) == set(found.by_instruction)
    assert sum(rate.episodes for rate in found.by_instruction.values()) == 12


def test_chance_does_not():
    _, found = driven(Chance, 30, receding(HORIZON))
    assert found.overall.rate <= 0.1


def test_starts_are_those_of_their_seeds_and_of_no_demonstration():
    world, again = DemoWorld(), DemoWorld()
    world.reset(7)
    world.step({"action": sim.demonstrate(world.scene, world.values()["observations/qpos"])})
    world.reset(7)
    again.reset(7)
    np.testing.assert_array_equal(world.frames()["left_wrist"], again.frames()["left_wrist"])
    np.testing.assert_array_equal(world.values()["observations/qpos"], again.values()["observations/qpos"])
    for seed in range(5):
        recorded = sim.TwoArmEnv(cameras=())
        recorded.reset(seed, 7)
        assert not np.allclose(world.scene.blocks, recorded.scene.blocks)


def test_frames_are_those_of_the_demonstrations(tmp_path):
    """The same start in the recorder: JPEGs as they are stored, and what the policy is shown."""
    demo = sim.record(UNSEEN, 3, image_size=IMAGE_SIZE)
    world = DemoWorld()
    world.reset(3)
    for camera, frame in world.frames().items():
        recorded = demo.observations[0].images[camera]
        assert frame.shape == recorded.shape == (*IMAGE_SIZE, 3)
        assert np.mean(frame != recorded) < 1e-3, "joints in float32 may move an edge by a fraction of a pixel"
    write_demo_data(tmp_path, episodes=1, seed=UNSEEN + 5, formats=("aloha",))
    with h5py.File(tmp_path / "demo_aloha" / "episode_0.hdf5") as file:
        stored = file["observations/images/cam_high"][0].tobytes()
    frame = sim.record(UNSEEN + 5, 0, image_size=IMAGE_SIZE).observations[0].images["exterior"]
    square = np.empty((64, 64, 3), np.uint8)
    write_letterboxed(stored.rstrip(b"\0"), IMAGE_SIZE, square)
    np.testing.assert_array_equal(as_stored(frame, 64), square)
    assert not np.array_equal(decode_jpeg(encode_jpeg(frame)), frame), "JPEG leaves its traces, which training sees"


def test_swapped_tells_another_task_of_the_same_table_and_judges_by_it():
    plain, swapped = DemoWorld(), DemoWorld(swapped=True)
    for seed in range(20):
        plain.reset(seed)
        swapped.reset(seed)
        np.testing.assert_array_equal(plain.scene.blocks, swapped.scene.blocks)
        assert plain.instruction != swapped.instruction
    _, found = driven(Expert, 10, receding(HORIZON), swapped=True)
    assert found.overall.successes == 10, "it does what it is told"
    originals = [DemoWorld() for _ in range(10)]
    for seed, world in enumerate(originals):
        world.reset(seed)

    class Deaf(Expert):
        """Does the task that the start was drawn for."""

        def scene(self, world):
            return originals[self.worlds.index(world)].scene

    _, deaf = driven(Deaf, 10, receding(HORIZON), swapped=True)
    assert deaf.overall.successes == 0


def test_blank_shows_no_images_and_nothing_else_changes():
    seen = []

    class Looks(Expert):
        def chunks(self, observations, **options):
            seen.append(observations)
            return super().chunks(observations, **options)

    for blank in (False, True):
        driven(Looks, 2, receding(HORIZON), blank=blank)
    calls = len(seen) // 2
    for shown, hidden in zip(seen[:calls], seen[calls:], strict=True):
        for one, other in zip(shown, hidden, strict=True):
            assert [frame.shape for frame in one.images["exterior"]] == [(16, 16, 3)]
            assert not other.images
            np.testing.assert_array_equal(one.state, other.state)
            assert one.instruction == other.instruction


def test_a_policy_is_shown_the_newest_frames_and_none_before_the_first():
    seen = []

    class Looks(Expert):
        history, image_size = 2, 64

        def chunks(self, observations, **options):
            world = self.worlds[0]
            seen.append((list(observations[0].images["exterior"]), as_stored(world.frames()["exterior"], 64)))
            return super().chunks(observations, **options)

    driven(Looks, 1, receding(HORIZON, 6))
    assert [len(frames) for frames, _ in seen] == [1, 2, 2, 2, 2, 2, 2]
    for frames, now in seen:
        np.testing.assert_array_equal(frames[-1], now)
    assert not np.array_equal(*seen[1][0])


def observation(seed):
    rng = np.random.default_rng(seed)
    image = partial(rng.integers, 0, 256, dtype=np.uint8)
    both = {"exterior": [image(size=(32, 32, 3)) for _ in range(1 + seed % 2)], "left_wrist": [image(size=(20, 32, 3))]}
    return Observation(
        np.where(MASK, rng.normal(size=128), 0).astype(np.float32),
        MASK,
        words("x" * (16 + 16 * (seed % 3))),
        both if seed % 4 else {},
    )


def test_a_batch_gives_each_the_chunk_it_gets_alone(policy):
    alone = Policy(policy.net, policy.images, policy.config)
    seen = [observation(seed) for seed in range(7)]
    for call in range(2):  # the second time, image tokens of the first are known
        indices = [1000 * call + row for row in range(7)]
        together = policy.chunks(seen, indices=indices, steps=4)
        for index, one, chunk in zip(indices, seen, together, strict=True):
            expected = alone(one, index=index, steps=4)
            np.testing.assert_allclose(chunk.actions, expected.actions, atol=1e-5)
            np.testing.assert_array_equal(chunk.mask, expected.mask)
    assert not np.allclose(together[1].actions, together[2].actions, atol=1e-3)


def test_frames_that_were_shown_a_call_ago_are_not_encoded_again(policy, monkeypatch):
    policy.clear()
    counts, encode = [], policy.images.encode
    monkeypatch.setattr(policy.images, "encode", lambda images: counts.append(len(images)) or encode(images))
    seen = [observation(seed) for seed in (1, 1, 2)]
    policy.chunks(seen, indices=[0, 1, 2])
    assert sum(counts) == 6, "three frames, two others (of another shape each) and the background"
    policy.chunks(seen, indices=[0, 1, 2])
    assert sum(counts) == 6
    policy.clear()
    policy.chunks(seen, indices=[0, 1, 2])
    assert sum(counts) == 12


def test_what_does_not_fit_one_row_is_refused(policy):
    with pytest.raises(RdtError, match="2 observations with 1 indices"):
        policy.chunks([observation(1), observation(2)], indices=[0])
    with pytest.raises(RdtError, match="is text, and this policy has no language encoder"):
        policy.chunks([Observation(np.zeros(128, np.float32), MASK, "Go.")], indices=[0])


def act(policy, seeds, side_by_side, noise=0):
    policy.clear()
    policy.seed = noise
    worlds = [DemoWorld(cameras=policy.config.cameras) for _ in range(side_by_side)]
    ends = []
    evaluate(
        policy,
        RobotSide(SPEC),
        worlds,
        seeds,
        execution=receding(HORIZON),
        words=words,
        steps=2,
        watch=lambda shown, over: ends.extend(w.values()["observations/qpos"] for w in shown) if over else None,
    )
    return np.array(ends)


def test_seeds_decide_an_episode_whatever_runs_beside_it(policy):
    three = act(policy, [4, 5, 6], 3)
    np.testing.assert_array_equal(act(policy, [4, 5, 6], 3), three)
    np.testing.assert_allclose(act(policy, [6], 1)[0], three[2], atol=1e-3)
    assert not np.allclose(act(policy, [6], 1, noise=1)[0], three[2], atol=1e-2)


def test_few_worlds_do_for_many_seeds_and_progress_goes_to_the_end():
    told = []
    worlds = [DemoWorld(cameras=()) for _ in range(2)]
    report = partial(evaluate, Expert(worlds), RobotSide(SPEC), worlds, execution=receding(HORIZON))
    found = report([3, 1, 8], progress=lambda done, total: told.append((done, total)))
    assert [episode.seed for episode in found.episodes] == [3, 1, 8]
    assert told == sorted(told)
    assert told[-1] == (3, 3)
    with pytest.raises(RdtError, match="0 episodes in 2 environments"):
        report([])


def test_untrained_is_another_network_of_the_same_shape(policy):
    fresh = untrained(policy, 3)
    seen = [observation(1)]
    assert fresh.net.config == policy.net.config
    assert not np.allclose(fresh.chunks(seen, indices=[0])[0].actions, policy.chunks(seen, indices=[0])[0].actions)
    weights = dict(policy.images.named_parameters())
    assert not torch.equal(dict(fresh.images.named_parameters())["maps.weight"], weights["maps.weight"])
    same = untrained(policy, 3)
    np.testing.assert_array_equal(
        *[one.chunks(seen, indices=[0])[0].actions for one in (fresh, same)], "its weights are a function of the seed"
    )


def test_a_command_that_is_not_this_robots_is_refused():
    with pytest.raises(RdtError, match="takes joint targets, and the command has wheel"):
        DemoWorld().step({"wheel": np.zeros(2, np.float32)})


def test_slots_that_training_has_not_seen_are_not_shown():
    fewer = MASK.copy()
    fewer[15:25] = False
    robot = Restricted(RobotSide(SPEC), fewer, None)
    state, mask = robot.state(DemoWorld().values(), previous=None, first=True)
    np.testing.assert_array_equal(mask, fewer)
    assert not state[15:25].any()
    np.testing.assert_array_equal(robot.action_mask(mask), fewer)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 1), (1, 1), (0, 50), (40, 50), (50, 50), (7, 13), (95, 100)])
def test_the_interval_is_wilsons(successes, episodes):
    expected = binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
    assert wilson(successes, episodes) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_rates_are_counted_by_instruction():
    results = [EpisodeResult(n, "Go." if n < 3 else "Stop.", n != 0, 5) for n in range(5)]
    found = Evaluation.of(results)
    assert (found.overall.successes, found.overall.episodes, found.overall.rate) == (4, 5, 0.8)
    assert {text: rate.rate for text, rate in found.by_instruction.items()} == {"Go.": 2 / 3, "Stop.": 1.0}
    with pytest.raises(RdtError, match="no episode to judge by"):
        Evaluation.of([])
