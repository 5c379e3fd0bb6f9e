"""Chunks that go on from a plan: committed actions are kept to the bit, the rest turns smoothly, rows do not mix."""

import numpy as np
import pytest
import torch

from rdt_data.errors import RdtError
from rdt_data.layout import resolve
from rdt_model import RDT, config_of_size
from rdt_model.encoders import load_image_encoder
from rdt_model.inpaint import Plan
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy import Chunk, Observation
from rdt_model.policy_files import Normalisation, PolicyConfig
from rdt_model.served_policy import Asked, ServedPolicy, checked

SIZES = KeypointConfig(image_size=16, keypoints=4, token_dim=8, channels=(8, 8))
MASK = np.isin(np.arange(128), resolve("right_arm_joint_pos", None)[:6])
HORIZON = 8


def policy(prediction: str = "sample") -> ServedPolicy:
    torch.manual_seed(0)
    sizes = {"pred_horizon": HORIZON, "lang_token_dim": 12, "img_token_dim": 8, "max_lang_cond_len": 16}
    config = config_of_size("tiny", **sizes, frames=2, cameras=3, patches=4)
    net = RDT(type(config)(**{**vars_of(config), "noise": type(config.noise)(prediction_type=prediction)}))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    rng = np.random.default_rng(5)
    norm = Normalisation(mean=tuple(rng.normal(size=128)), std=tuple(rng.uniform(0.3, 3, 128)))
    about = PolicyConfig(
        dataset="made_up",
        spec_text="",
        control_hz=10.0,
        state_slots=None,
        action_slots=None,
        image_encoder="keypoints",
        keypoints=SIZES,
        state_normalisation=norm,
        action_normalisation=norm,
    )
    return ServedPolicy(
        net.requires_grad_(False), load_image_encoder("keypoints", keypoints=SIZES).requires_grad_(False), about
    )


def vars_of(config) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def seen(seed: int, words: int = 3) -> Observation:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (12, 20, 3), np.uint8)
    state = np.where(MASK, rng.normal(size=128), 0).astype(np.float32)
    return Observation(state, MASK, rng.normal(size=(words, 12)).astype(np.float32), {"exterior": [frame]})


def chunk(policy, observation, plan=None):
    return policy.act([policy.prepare(policy.new_loop(), observation, plan)])[0].actions


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
@pytest.mark.parametrize("committed", [1, 3, HORIZON])
def test_committed_actions_come_back_to_the_bit(prediction, committed):
    served = policy(prediction)
    old = chunk(served, seen(1))
    new = chunk(served, seen(2), Plan(old[:committed], committed))
    np.testing.assert_array_equal(new[:committed], old[:committed])
    assert not new[:, ~MASK].any()


def test_the_rest_of_a_chunk_depends_on_what_is_committed():
    served = policy()
    free, plan = chunk(served, seen(2)), chunk(served, seen(1))[:3]
    bound = chunk(served, seen(2), Plan(plan, 3))
    other = chunk(served, seen(2), Plan(np.where(MASK, plan + 1, 0).astype(np.float32), 3))
    assert np.abs(bound[3:] - free[3:]).max() > 1e-4, "the network saw the plan while it drew the rest"
    assert np.abs(bound[3:] - other[3:]).max() > 1e-4


def test_steps_after_the_committed_ones_lean_less_and_less_on_the_plan():
    served = policy()
    free = chunk(served, seen(2))
    plan = np.where(MASK, free + 2, 0).astype(np.float32)[:6]
    bound = chunk(served, seen(2), Plan(plan, 2))
    share = np.abs(bound - free)[:, MASK].mean(axis=1)[:6]
    assert np.all(np.diff(share[2:]) < 0), share
    np.testing.assert_allclose(Plan(plan, 2).weights, [1, 1, 0.8, 0.6, 0.4, 0.2], atol=1e-6)


def test_a_plan_of_one_row_leaves_the_others_alone_and_lengths_of_instructions_do_not_mix():
    served = policy()
    observations = [seen(number, words=2 + number) for number in range(4)]
    plans = [None, Plan(chunk(served, seen(9))[:4], 2), None, Plan(chunk(served, seen(8))[:1], 1)]
    together = served.act(
        [served.prepare(served.new_loop(), one, plan) for one, plan in zip(observations, plans, strict=True)]
    )
    for one, plan, found in zip(observations, plans, together, strict=True):
        np.testing.assert_allclose(found.actions, chunk(served, one, plan), atol=2e-5)


def test_a_loop_sees_the_noise_of_its_own_calls_whoever_else_calls():
    served = policy()
    alone = served.new_loop()
    expected = [served.act([served.prepare(alone, seen(n))])[0].actions for n in range(3)]
    one, other = served.new_loop(), served.new_loop()
    for number in range(3):
        both = [served.prepare(one, seen(number)), served.prepare(other, seen(50 + number))]
        np.testing.assert_allclose(served.act(both)[0].actions, expected[number], atol=2e-5)


def test_an_observation_that_is_refused_leaves_its_neighbours_alone():
    served = policy()
    wrong = Observation(np.zeros(7, np.float32), MASK, np.zeros((1, 12), np.float32))
    first, refused, last = served.answer([Asked(served.new_loop(), one) for one in (seen(1), wrong, seen(2, words=5))])
    assert isinstance(refused.outcome, RdtError)
    for found, expected in ((first, seen(1)), (last, seen(2, words=5))):
        np.testing.assert_allclose(found.outcome.actions, chunk(served, expected), atol=2e-5)
    assert min(first.encode_s, first.denoise_s) > 0
    assert isinstance(served.answer([Asked(served.new_loop(), wrong)])[0].outcome, RdtError)


def test_plans_that_do_not_fit_are_refused():
    served, loop = policy(), policy().new_loop()
    with pytest.raises(RdtError, match=r"5 committed actions of a plan of 4"):
        Plan(np.zeros((4, 128), np.float32), 5)
    for shape in ((HORIZON + 1, 128), (2, 14)):
        with pytest.raises(RdtError, match=r"(?s)a plan of shape .*at most 8 actions"):
            served.prepare(loop, seen(1), Plan(np.zeros(shape, np.float32), 1))
    with pytest.raises(RdtError, match=r"finite: False"):
        served.prepare(loop, seen(1), Plan(np.full((2, 128), np.nan, np.float32), 1))


def test_numbers_that_are_not_finite_never_reach_a_robot():
    served = policy()
    served.net.model.x_pos_embed.fill_(float("nan"))
    with pytest.raises(RdtError, match="not finite"):
        checked(Chunk(chunk(served, seen(1)), MASK))
