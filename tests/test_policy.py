"""A policy as observation -> chunk: equal to the network called by hand, blind to its cache, honest about its limits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rdt_data.errors import RdtError, SpecError
from rdt_data.layout import resolve
from rdt_model import RDT, config_of_size
from rdt_model.encoders import load_image_encoder
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy import Observation, Policy, choose_device
from rdt_model.policy_files import Normalisation, PolicyConfig, mask_of, read_policy, slots_of, write_policy

SIZES = KeypointConfig(image_size=16, keypoints=4, token_dim=8, channels=(8, 8))
ARM = resolve("right_arm_joint_pos", None)[:6]
MASK = np.isin(np.arange(128), ARM)


def config(**changes):
    about = {
        "dataset": "made_up",
        "spec_text": "title: Made up\n",
        "control_hz": 10.0,
        "state_slots": slots_of(MASK),
        "action_slots": slots_of(MASK),
        "image_encoder": "keypoints",
        "keypoints": SIZES,
    }
    return PolicyConfig(**{**about, **changes})


def network(**changes):
    sizes = {"pred_horizon": 6, "lang_token_dim": 12, "img_token_dim": 8, "max_lang_cond_len": 16}
    torch.manual_seed(0)
    net = RDT(config_of_size("tiny", **{**sizes, "frames": 2, "cameras": 3, "patches": 4, **changes}))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return load_image_encoder("keypoints", keypoints=SIZES).requires_grad_(False)


@pytest.fixture
def policy(net, encoder):
    return Policy(net, encoder, config())


def frame(seed, height=12, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def observation(seed=0, **changes):
    rng = np.random.default_rng(seed)
    seen = {
        "state": np.where(MASK, rng.normal(size=128), 0).astype(np.float32),
        "state_mask": MASK,
        "instruction": np.random.default_rng(99).normal(size=(3, 12)).astype(np.float32),
        "images": {"exterior": [frame(seed), frame(seed + 1)], "left_wrist": [frame(seed + 100)]},
    }
    return Observation(**{**seen, **changes})


def by_hand(net, encoder, seen, noise, steps=3):
    """The chunk straight from the network: frames stacked, missing ones masked, nothing kept."""
    frames = np.zeros((1, 2, 3, 12, 20, 3), np.uint8)
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    for camera, given in seen.images.items():
        column = ("exterior", "right_wrist", "left_wrist").index(camera)
        for time, one in zip(range(2 - len(given), 2), given, strict=True):
            frames[0, time, column], mask[0, time, column] = one, True
    tokens = encoder(torch.from_numpy(frames), mask)
    vectors = (torch.from_numpy(array)[None] for array in (seen.state, MASK.astype(np.float32)))
    words = torch.from_numpy(seen.instruction)[None]
    cond = net.encode_conditions(words, None, tokens, *vectors, torch.tensor([10.0]))
    return net.sample(cond, steps, noise=noise)[0].numpy()


def test_a_chunk_is_what_the_network_gives_by_hand(net, encoder, policy):
    for call in range(4):  # a control loop: the older frame is the newer one of the call before
        seen = observation(call)
        chunk = policy(seen, steps=3)
        expected = by_hand(net, encoder, seen, policy._noise(call))
        assert (chunk.actions.shape, chunk.actions.dtype) == ((6, 128), np.float32)
        np.testing.assert_allclose(chunk.actions, expected, atol=1e-5)
        np.testing.assert_array_equal(chunk.mask, MASK)
        assert chunk.actions[:, MASK].any()
        assert not chunk.actions[:, ~MASK].any()


def test_what_was_seen_a_call_ago_is_not_encoded_again(policy, monkeypatch):
    counts = []
    encode = policy.images.encode
    monkeypatch.setattr(policy.images, "encode", lambda images: counts.append(len(images)) or encode(images))
    for call in range(3):
        policy(observation(call, images={"exterior": [frame(call), frame(call + 1)]}))
    assert counts == [2, 1, 1, 1], "two frames and the background, then the new frame alone"
    policy(observation(2, images={"exterior": [frame(2), frame(3)]}))
    assert len(counts) == 4, "the same images again"


def test_noise_is_a_function_of_the_seed_and_the_call(net, encoder, policy):
    first, second = (policy(observation()).actions for _ in range(2))
    again = Policy(net, encoder, config())
    other = Policy(net, encoder, config(), seed=1)
    np.testing.assert_array_equal(again(observation()).actions, first)
    np.testing.assert_allclose(again(observation(), index=1).actions, second, atol=1e-6)
    assert not np.allclose(first, second)
    assert not np.allclose(other(observation()).actions, first)
    policy.clear()
    np.testing.assert_array_equal(policy(observation()).actions, first)


def test_slots_the_checkpoint_never_saw_are_refused_by_name(policy):
    strange = MASK.copy()
    strange[list(resolve("left_eef_pos", None))] = True
    with pytest.raises(RdtError, match=r"state has left_eef_pos, which .* trained on right_arm_joint_pos\[0:6\]"):
        policy(observation(state_mask=strange))
    with pytest.raises(RdtError, match="action has left_eef_pos"):
        policy(observation(action_mask=strange))
    fewer = MASK.copy()
    fewer[0] = False
    assert not policy(observation(state_mask=fewer)).actions[:, 0].any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": {"front": [frame(0)]}}, "no camera of this policy is called 'front'"),
        ({"images": {"exterior": [frame(0)] * 3}}, "exterior: 3 frames"),
        ({"images": {"exterior": [frame(0)[..., :2]]}}, r"exterior: a frame is uint8 \(12, 20, 2\)"),
        ({"images": {"exterior": [frame(0).astype(np.float32)]}}, "exterior: a frame is float32"),
        ({"state": np.zeros(14, np.float32)}, r"the state has shape \(14,\)"),
        ({"state": np.full(128, np.nan, np.float32)}, "128 NaN"),
        ({"state_mask": np.ones(128, np.float32)}, r"state_mask is float32 \(128,\)"),
        ({"instruction": "Pick it up."}, "'Pick it up.' is text, and this policy has no language encoder"),
    ],
)
def test_what_does_not_fit_is_refused(policy, change, told):
    with pytest.raises(RdtError, match=told):
        policy(observation(**change))


def test_values_of_slots_that_are_not_real_change_nothing(policy):
    seen = observation()
    dirty = replace(seen, state=np.where(MASK, seen.state, 7).astype(np.float32))
    np.testing.assert_array_equal(policy(seen, index=0).actions, policy(dirty, index=0).actions)


def test_z_scores_are_applied_to_the_state_and_undone_on_actions(net, encoder, policy):
    mean, std = np.linspace(-1, 1, 128), np.linspace(0.5, 2, 128)
    scores = Normalisation(mean=tuple(mean), std=tuple(std))
    scaled = Policy(net, encoder, config(state_normalisation=scores, action_normalisation=scores))
    seen = observation()
    physical = replace(seen, state=np.where(MASK, seen.state * std + mean, 0).astype(np.float32))
    expected = np.where(MASK, policy(seen).actions * std + mean, 0)
    np.testing.assert_allclose(scaled(physical).actions, expected, atol=1e-5)


def test_an_encoder_that_gives_other_tokens_is_refused(net, encoder):
    with pytest.raises(RdtError, match="1 frames of 3 cameras through keypoints are 12 tokens of width 8; the network"):
        Policy(net, encoder, config(history=1))


def test_bfloat16_stays_near_and_gives_float32(net, encoder, tmp_path):
    write_policy(tmp_path, config(), net, encoder)
    exact, rough = (Policy.load(tmp_path, device="cpu", dtype=dtype) for dtype in (None, torch.bfloat16))
    assert (exact.net.dtype, rough.net.dtype, rough.images.dtype) == (torch.float32, *[torch.bfloat16] * 2)
    one, other = (policy(observation()).actions for policy in (exact, rough))
    assert other.dtype == np.float32
    assert 0 < np.abs(one - other).max() < 0.1 * np.abs(one).max()


def test_text_is_encoded_once_by_the_language_encoder(seeded_t5, encoder, tmp_path):
    width = json.loads((seeded_t5 / "config.json").read_text())["d_model"]
    write_policy(tmp_path, config(), network(lang_token_dim=width, max_lang_cond_len=64), encoder)
    policy = Policy.load(tmp_path, language=str(seeded_t5), device="cpu")
    tokens, _ = policy.language(["pick it up"])
    said = policy(observation(instruction="pick it up"), index=0).actions
    policy.language.forward = None  # it is not called again
    np.testing.assert_array_equal(policy(observation(instruction="pick it up"), index=0).actions, said)
    stored = policy(observation(instruction=tokens[0].numpy()), index=0).actions
    np.testing.assert_allclose(stored, said, atol=1e-6)


def test_a_directory_gives_the_policy_back(net, encoder, policy, tmp_path):
    about = config(language_encoder="google/t5-v1_1-xxl", corrected=True, action="recorded")
    write_policy(tmp_path, about, net, encoder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "image_encoder.safetensors",
        "model.safetensors",
        "policy.json",
    ]
    assert read_policy(tmp_path) == about
    np.testing.assert_array_equal(mask_of(about.state_slots), MASK)
    loaded = Policy.load(tmp_path, device="cpu")
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(loaded.net.state_dict()[name], value, err_msg=name)
    # Not bit for bit: weights that lie elsewhere in memory are multiplied by other instructions.
    np.testing.assert_allclose(loaded(observation()).actions, policy(observation()).actions, atol=1e-6)


def test_a_policy_of_several_stores_is_read_for_the_one_that_is_asked_for(net, encoder, tmp_path):
    about = config()
    write_policy(tmp_path, about, net, encoder)
    other = about.model_copy(update={"dataset": "other", "control_hz": 3.0})
    (tmp_path / "policy.theirs.json").write_text(other.model_dump_json())
    assert read_policy(tmp_path) == about
    assert read_policy(tmp_path, "other") == other
    assert read_policy(tmp_path, "unknown") == about


def test_a_checkpoint_without_policy_json_needs_a_config(net, tmp_path):
    net.save_pretrained(tmp_path)
    assert read_policy(tmp_path) is None
    with pytest.raises(RdtError, match=r"has no policy\.json"):
        Policy.load(tmp_path, device="cpu")
    with pytest.raises(RdtError, match=r"image_encoder\.safetensors: not there"):
        Policy.load(tmp_path, config=config(), device="cpu")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"control_hz": -1}, "control_hz: "),
        ({"control": 1}, "control: there is no such key"),
        ({"cameras": ["exterior", "front"]}, r"cameras\[1\]: no camera slot is called 'front'"),
        ({"state_slots": ["right_arm_joint_99_pos"]}, "state_slots: no slot or group of slots is called"),
        ({"keypoints": None}, "keypoints: sizes of the keypoints encoder"),
        ({"format": 2}, "format: "),
        ({"state_normalisation": {"mean": [0], "std": [1]}}, r"state_normalisation\.mean: "),
    ],
)
def test_mistakes_in_policy_json_name_file_and_key(tmp_path, change, told):
    data = {**json.loads(config().model_dump_json()), **change}
    (tmp_path / "policy.json").write_text(json.dumps(data))
    with pytest.raises(SpecError, match=rf"policy\.json: {told}"):
        read_policy(tmp_path)


def test_an_encoder_of_another_shape_in_the_directory_is_refused(net, tmp_path):
    torch.manual_seed(1)
    other = load_image_encoder("keypoints", keypoints=replace(SIZES, channels=(16, 8)))
    write_policy(tmp_path, config(), net, other)
    with pytest.raises(RdtError, match=r"image_encoder\.safetensors: 5 weights do not fit .*trunk\.0\.bias"):
        Policy.load(tmp_path, device="cpu")


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(RdtError, match="no device is called 'gpu'"):
        choose_device("gpu")
