"""Weights in 8 and 4 bits: how far they are from fp32, what they weigh, and that only they need the library."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from rdt_data.errors import RdtError
from rdt_model import RDT, ConditionCache, config_of_size
from rdt_model.encoders import load_image_encoder
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy import Observation, Policy
from rdt_model.policy_files import PolicyConfig, write_policy
from rdt_model.quantize import KINDS, quantize

WIDTH, DEPTH, PATCHES = 128, 4, 16
SIZES = KeypointConfig(image_size=16, keypoints=PATCHES, token_dim=32, channels=(8, 8))
ERROR = {"int8": 0.015, "int4": 0.25}
"""Of actions, relative to their root mean square in fp32. Measured: 0.008 and 0.196, at 170m 0.010 and 0.178."""
BYTES = {"int8": 0.26, "int4": 0.14}


def network():
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "depth": DEPTH, "num_heads": 4, "lang_token_dim": 32, "img_token_dim": 32}
    net = RDT(config_of_size("tiny", **sizes, frames=2, cameras=3, patches=PATCHES)).requires_grad_(False).eval()
    torch.nn.init.normal_(net.model.final_layer.ffn_final.fc2.weight, std=0.1)
    return net


def observation(net):
    made = torch.Generator().manual_seed(1)
    return {
        "lang_tokens": torch.randn(1, 5, 32, generator=made),
        "lang_mask": torch.ones(1, 5, dtype=torch.bool),
        "img_tokens": torch.randn(1, net.config.img_cond_len, 32, generator=made),
        "state": torch.randn(1, 128, generator=made),
        "action_mask": torch.ones(1, 128),
        "ctrl_hz": torch.tensor([25.0]),
    }


def noise(net):
    return torch.randn(1, net.config.pred_horizon, 128, generator=torch.Generator().manual_seed(2))


def block_bytes(net):
    layers = [module for block in net.model.blocks for module in block.modules() if isinstance(module, torch.nn.Linear)]
    return sum(layer.weight.nbytes for layer in layers)


def distance(found, expected):
    return ((found - expected).square().mean() / expected.square().mean()).sqrt().item()


@pytest.fixture(scope="module")
def whole():
    """A network in fp32, and a step and a chunk of it."""
    net, times = network(), torch.tensor([500])
    with torch.inference_mode():
        cond = net.encode_conditions(**observation(net))
        return net, net.denoise(noise(net), times, cond), net.sample(cond, 5, noise(net))


@pytest.fixture(scope="module", params=KINDS)
def small(request):
    """The kind, and the same network in it."""
    pytest.importorskip("bitsandbytes", reason="weights in fewer bits need it")
    net = network()
    quantize(net, request.param)
    return request.param, net


@torch.inference_mode()
def test_fewer_bits_are_near_to_all_of_them(whole, small):
    _, step, chunk = whole
    kind, net = small
    cond = net.encode_conditions(**observation(net))
    found = distance(net.denoise(noise(net), torch.tensor([500]), cond), step)
    assert 1e-4 < found < ERROR[kind]
    assert distance(net.sample(cond, 5, noise(net)), chunk) < ERROR[kind]


def test_fewer_bits_weigh_less_and_the_rest_is_untouched(whole, small):
    kind, net = small
    assert block_bytes(net) < BYTES[kind] * block_bytes(whole[0])
    assert net.dtype == torch.float32
    kept = {name: tensor for name, tensor in whole[0].state_dict().items() if ".blocks." not in name}
    mine = net.state_dict()
    assert all(mine[name].equal(tensor) for name, tensor in kept.items())


@torch.inference_mode()
def test_a_control_loop_in_fewer_bits_sees_what_a_single_call_sees(small):
    kind, net = small
    seen = observation(net)
    cache = ConditionCache(net, 6)
    images = dict(enumerate(seen["img_tokens"].split(PATCHES, dim=1)))
    rest = {name: tensor for name, tensor in seen.items() if name != "img_tokens"}
    cached = net.sample(cache.conditions(list(images), images, language="words", **rest), 5, noise(net))
    assert distance(cached, net.sample(net.encode_conditions(**seen), 5, noise(net))) < ERROR[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_is_loaded_in_fewer_bits(whole, tmp_path, kind):
    pytest.importorskip("bitsandbytes", reason="weights in fewer bits need it")
    slots = {"state_slots": None, "action_slots": None, "image_encoder": "keypoints", "keypoints": SIZES}
    torch.manual_seed(3)
    encoder = load_image_encoder("keypoints", keypoints=SIZES)
    write_policy(tmp_path, PolicyConfig(dataset="some", spec_text="", control_hz=25, **slots), whole[0], encoder)
    rng = np.random.default_rng(0)
    seen = Observation(
        rng.normal(size=128).astype(np.float32),
        np.ones(128, np.bool_),
        rng.normal(size=(5, 32)).astype(np.float32),
        {"exterior": [rng.integers(0, 256, (16, 16, 3), np.uint8)]},
    )
    plain, small = (Policy.load(tmp_path, device="cpu", quantize=bits)(seen).actions for bits in (None, kind))
    assert 1e-4 < distance(torch.from_numpy(small), torch.from_numpy(plain)) < ERROR[kind]


def test_another_kind_and_a_missing_library_are_told(monkeypatch):
    with pytest.raises(RdtError, match="no quantize is called 'int6'\n  fix: did you mean"):
        quantize(network(), "int6")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(RdtError, match=r"not installed\n  fix: pip install 'rdt-data\[quantize\]'"):
        quantize(network(), "int8")


def test_nothing_but_quantize_imports_the_library():
    code = "import sys, rdt_model.policy, rdt_model.sample_run; sys.exit('bitsandbytes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
