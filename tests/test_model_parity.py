"""The network gives what the published one gives: on the numbers of ../shared/parity, and on other shapes.

The other shapes are held against `published`, the network written down once more as plain arithmetic on its weights,
which is itself held against the published numbers.
"""

import json
import math
import warnings
from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors import safe_open
from torch.nn import functional

from rdt_model import RDT, ModelConfig, NoiseConfig, diffusion_loss
from rdt_model.config import image_tokens
from rdt_model.schedule import add_noise, solver

FRAMES, CAMERAS, PATCHES = 2, 3, 4


def published(weights, config, seen, noisy, timesteps):
    """RDT's forward as functions of a state dict: RMS-like norms by standard deviation, positions on every condition."""

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def mlp(x, name, activation=lambda x: functional.gelu(x, approximate="tanh")):
        x = linear(x, f"{name}.0")
        for layer in (2, 4):
            if f"{name}.{layer}.weight" in weights:
                x = linear(activation(x), f"{name}.{layer}")
        return x

    def norm(x, name):
        return x / torch.sqrt(x.var(-1, keepdim=True) + 1e-6) * weights[f"{name}.weight"]

    def heads(x):
        return x.unflatten(-1, (config.num_heads, -1)).transpose(1, 2)

    def attention(q, k, v, name, mask=None):
        q, k, v = norm(heads(q), f"{name}.q_norm"), norm(heads(k), f"{name}.k_norm"), heads(v)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        scores = scores if mask is None else scores.masked_fill(~mask[:, None, None], -math.inf)
        return linear((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), f"{name}.proj")

    def number(x, name):
        phases = x[:, None].float() * 10000.0 ** (-torch.arange(128) / 128)
        return mlp(torch.cat([phases.cos(), phases.sin()], -1), f"{name}.mlp", functional.silu)[:, None]

    vectors = torch.cat([seen["state"], noisy], 1)
    x = mlp(torch.cat([vectors, seen["action_mask"].expand_as(vectors)], -1), "state_adaptor")
    x = torch.cat([number(timesteps, "model.t_embedder"), number(seen["ctrl_hz"], "model.freq_embedder"), x], 1)
    x = x + weights["model.x_pos_embed"]
    lang = mlp(seen["lang_tokens"], "lang_adaptor")
    lang = lang + weights["model.lang_cond_pos_embed"][:, : lang.shape[1]]
    img = mlp(seen["img_tokens"], "img_adaptor") + weights["model.img_cond_pos_embed"]
    for block in range(config.depth):
        name, (tokens, mask) = f"model.blocks.{block}", ((lang, seen["lang_mask"]), (img, None))[block % 2]
        x = x + attention(*linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, -1), f"{name}.attn")
        q = linear(norm(x, f"{name}.norm2"), f"{name}.cross_attn.q")
        x = x + attention(q, *linear(tokens, f"{name}.cross_attn.kv").chunk(2, -1), f"{name}.cross_attn", mask)
        hidden = linear(norm(x, f"{name}.norm3"), f"{name}.ffn.fc1")
        x = x + linear(functional.gelu(hidden, approximate="tanh"), f"{name}.ffn.fc2")
    hidden = linear(norm(x, "model.final_layer.norm_final"), "model.final_layer.ffn_final.fc1")
    out = linear(functional.gelu(hidden, approximate="tanh"), "model.final_layer.ffn_final.fc2")
    return out[:, -config.pred_horizon :]


def published_sample(weights, config, seen, noise, steps):
    scheduler, noisy = solver_as_published(config, steps), noise
    for t in scheduler.timesteps:
        output = published(weights, config, seen, noisy, t.expand(len(noise)))
        noisy = scheduler.step(output, t, noisy).prev_sample
    return noisy * seen["action_mask"]


def solver_as_published(config, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers makes NumPy arrays of tensors in the old way
        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type=config.noise.prediction_type
        )
        scheduler.set_timesteps(steps)
    return scheduler


@pytest.fixture(scope="module")
def parity(shared):
    path = shared / "parity" / "rdt_tiny.safetensors"
    with safe_open(path, "pt") as file:
        told, tensors = json.loads(file.metadata()["config"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    groups = {}
    for name, tensor in tensors.items():
        group, rest = name.split(".", 1)
        groups.setdefault(group, {})[rest] = tensor
    config = ModelConfig(
        **{name: told[name] for name in ("hidden_size", "depth", "num_heads", "lang_token_dim", "img_token_dim")},
        pred_horizon=told["horizon"],
        max_lang_cond_len=told["max_lang_cond_len"],
        lang_pos_embed_config=(("lang", -told["max_lang_cond_len"]),),
        **image_tokens(told["img_history_size"], told["num_cameras"], told["patches_per_image"]),
        noise=NoiseConfig(prediction_type=told["prediction_type"]),
    )
    given = groups["input"]
    names = {"state_tokens": "state", "lang_attn_mask": "lang_mask", "ctrl_freqs": "ctrl_hz"}
    seen = {names.get(name, name): tensor for name, tensor in given.items()}
    extra = {name: seen.pop(name) for name in ("noise", "timesteps", "action_gt")}
    return config, groups["param"], seen, extra, groups["output"], groups["init"]


@pytest.fixture(scope="module")
def net(parity):
    config, weights, *_ = parity
    net = RDT(config)
    net.load_state_dict(weights)
    return net.requires_grad_(False)


def test_a_new_network_has_the_published_names_shapes_and_positions(parity):
    config, weights, *_, initial = parity
    net = RDT(config)
    assert {name: p.shape for name, p in net.state_dict().items()} == {name: p.shape for name, p in weights.items()}
    for name, table in initial.items():
        torch.testing.assert_close(getattr(net.model, name).detach(), table, atol=1e-6, rtol=0)


def test_one_forward_gives_the_published_actions(parity, net):
    _, _, seen, extra, output, _ = parity
    found = net.denoise(output["noisy_action"], extra["timesteps"], net.encode_conditions(**seen))
    torch.testing.assert_close(found, output["denoised"], atol=1e-5, rtol=0)


def test_noise_is_added_as_published(parity):
    config, _, _, extra, output, _ = parity
    found = add_noise(config.noise, extra["action_gt"], extra["noise"], extra["timesteps"])
    torch.testing.assert_close(found, output["noisy_action"], atol=1e-5, rtol=0)


def test_the_loss_is_the_published_one(parity, net):
    _, _, seen, extra, output, _ = parity
    given = {name: extra[name] for name in ("noise", "timesteps")}
    found = diffusion_loss(net, net.encode_conditions(**seen), extra["action_gt"], mode="rdt", **given)
    torch.testing.assert_close(found, output["loss"][0], atol=1e-5, rtol=0)


def test_sampling_gives_the_published_chunk_through_the_published_timesteps(parity, net):
    config, _, seen, extra, output, _ = parity
    assert solver(config.noise, 5).timesteps.tolist() == output["sample_timesteps"].tolist()
    found = net.sample(net.encode_conditions(**seen), steps=5, noise=extra["noise"])
    torch.testing.assert_close(found, output["sampled_action"], atol=1e-5, rtol=0)


def test_the_second_formulation_gives_the_published_numbers_too(parity):
    config, weights, seen, extra, output, _ = parity
    found = published(weights, config, seen, output["noisy_action"], extra["timesteps"])
    torch.testing.assert_close(found, output["denoised"], atol=1e-5, rtol=0)
    found = published_sample(weights, config, seen, extra["noise"], 5)
    torch.testing.assert_close(found, output["sampled_action"], atol=1e-5, rtol=0)


OTHERS = {
    "one frame, two cameras": (
        {**image_tokens(1, 2, 9), "lang_pos_embed_config": None},
        {"batch": 2, "language": 16, "steps": 5},
    ),
    "ten steps, noise predicted": (
        {**image_tokens(2, 1, 4), "noise": NoiseConfig(prediction_type="epsilon")},
        {"batch": 1, "language": 1, "steps": 10},
    ),
    "shallow, wide heads, linear adaptors": (
        {"depth": 3, "num_heads": 1, "lang_adaptor": "linear", "img_adaptor": "mlp3x_gelu", "pred_horizon": 5}
        | {"img_cond_len": 7, "img_pos_embed_config": None},
        {"batch": 3, "language": 4, "steps": 3},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_give_what_the_second_formulation_gives(name):
    changes, case = OTHERS[name]
    sizes = {"hidden_size": 32, "depth": 2, "num_heads": 4, "pred_horizon": 6, "lang_token_dim": 12, "img_token_dim": 8}
    default = {"max_lang_cond_len": 16, "lang_pos_embed_config": (("lang", -16),)}
    config = ModelConfig(**{**sizes, **default, **changes})
    torch.manual_seed(0)
    net = RDT(config)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    seen = observation(config, case["batch"], case["language"])
    weights = {key: tensor.detach() for key, tensor in net.state_dict().items()}
    noise = torch.randn(case["batch"], config.pred_horizon, config.action_dim)
    if config.lang_adaptor == "linear":
        weights |= {f"lang_adaptor.0.{part}": weights[f"lang_adaptor.{part}"] for part in ("weight", "bias")}
    found = net.sample(net.encode_conditions(**seen), steps=case["steps"], noise=noise)
    expected = published_sample(weights, config, seen, noise, case["steps"])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def observation(config, batch, language):
    mask = torch.arange(language)[None] < torch.arange(language, language - batch, -1)[:, None].clamp(min=1)
    return {
        "lang_tokens": torch.randn(batch, language, config.lang_token_dim),
        "lang_mask": mask,
        "img_tokens": torch.randn(batch, config.img_cond_len, config.img_token_dim),
        "state": torch.randn(batch, 1, config.action_dim),
        "action_mask": (torch.rand(batch, 1, config.action_dim) < 0.5).float(),
        "ctrl_hz": torch.linspace(0, 50, batch),
    }


def test_steps_and_prediction_come_from_the_configuration_when_not_given(parity, net):
    config, weights, seen, extra, *_ = parity
    other = RDT(replace(config, noise=NoiseConfig(num_inference_timesteps=3)))
    other.load_state_dict(weights)
    found = other.sample(other.encode_conditions(**seen), noise=extra["noise"])
    expected = net.sample(net.encode_conditions(**seen), steps=3, noise=extra["noise"])
    assert found.equal(expected)
