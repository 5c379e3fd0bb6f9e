"""The network's promises beyond its numbers: sizes, conditions that are computed once, padding, dtypes, compilation."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from rdt_data.errors import RdtError
from rdt_model import RDT, SIZES, ConditionCache, ModelConfig, NoiseConfig, config_of_size
from rdt_model.positions import condition_positions, grid_sincos, sequence_positions, sincos

PATCHES = 4


def small_config(**changes):
    sizes = {"pred_horizon": 6, "lang_token_dim": 12, "img_token_dim": 8, "max_lang_cond_len": 16}
    return config_of_size("tiny", **{**sizes, "frames": 2, "cameras": 3, "patches": PATCHES, **changes})


def filled(config, seed=0):
    """A network none of whose weights is zero or constant."""
    torch.manual_seed(seed)
    net = RDT(config)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def net():
    return filled(small_config())


def observation(config, batch=2, language=5):
    torch.manual_seed(1)
    return {
        "lang_tokens": torch.randn(batch, language, config.lang_token_dim),
        "lang_mask": torch.arange(language)[None] < torch.tensor([[3], [5]])[:batch],
        "img_tokens": torch.randn(batch, config.img_cond_len, config.img_token_dim),
        "state": torch.randn(batch, 1, config.action_dim),
        "action_mask": (torch.rand(batch, 1, config.action_dim) < 0.5).float(),
        "ctrl_hz": torch.linspace(10, 50, batch),
    }


def noise_for(config, rows, seed=2):
    return torch.randn(rows, config.pred_horizon, config.action_dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.94), ("small", 39.3), ("170m", 166.2), ("1b", 1227)])
def test_sizes_have_their_number_of_parameters(size, millions):
    assert size in SIZES
    with torch.device("meta"):
        net = RDT(config_of_size(size))
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_a_new_network_predicts_zero():
    config = small_config()
    net = RDT(config)
    found = net.denoise(noise_for(config, 2), torch.tensor([3, 700]), net.encode_conditions(**observation(config)))
    assert found.eq(0).all()


def test_importing_the_package_imports_no_torch():
    code = "import sys, rdt_model; assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_pretraned'"):
        __import__("rdt_model").load_pretraned  # noqa: B018


# conditions


def test_padding_tokens_change_nothing(net):
    seen = observation(net.config)
    changed = {**seen, "lang_tokens": torch.where(seen["lang_mask"][..., None], seen["lang_tokens"], 1e3)}
    first, second = (net.sample(net.encode_conditions(**s), noise=noise_for(net.config, 2)) for s in (seen, changed))
    torch.testing.assert_close(first, second)
    cut = {name: tensor[:1] for name, tensor in seen.items()}
    cut |= {"lang_tokens": cut["lang_tokens"][:, :3], "lang_mask": None}
    alone = net.sample(net.encode_conditions(**cut), noise=noise_for(net.config, 2)[:1])
    torch.testing.assert_close(alone, first[:1], atol=1e-5, rtol=1e-5)


def test_vectors_may_come_without_the_token_axis_and_masks_as_bool(net):
    seen = observation(net.config)
    flat = {**seen, "state": seen["state"][:, 0], "action_mask": seen["action_mask"][:, 0].bool()}
    first, second = (net.encode_conditions(**s) for s in (seen, flat))
    assert all(a.equal(b) for a, b in zip(first.tensors(), second.tensors(), strict=True))


def test_repeated_conditions_are_the_batch_several_times_over_and_nothing_is_copied(net):
    seen, noise = observation(net.config), noise_for(net.config, 6)
    cond = net.encode_conditions(**seen)
    tripled = net.encode_conditions(**{name: t.repeat(3, *[1] * (t.dim() - 1)) for name, t in seen.items()})
    times = torch.tensor([1, 200, 400, 600, 800, 999])
    torch.testing.assert_close(net.denoise(noise, times, cond.repeat(3)), net.denoise(noise, times, tripled))
    torch.testing.assert_close(net.sample(cond.repeat(3), 2, noise), net.sample(tripled, 2, noise))
    assert len(cond.repeat(3)) == 6
    assert cond.repeat(3).nbytes == cond.nbytes
    assert cond.repeat(3).keys_values[1][0] is cond.keys_values[1][0]


def test_conditions_move_between_devices_and_dtypes(net):
    cond = net.encode_conditions(**observation(net.config)).repeat(2)
    moved = cond.to("meta", torch.bfloat16)
    assert moved.draws == 2
    assert {t.device.type for t in moved.tensors()} == {"meta"}
    assert {t.dtype for t in moved.tensors()} == {torch.bfloat16, torch.bool}
    assert {t.dtype for t in cond.to(torch.float64).tensors()} == {torch.float64, torch.bool}


def test_keys_and_values_are_projected_once_for_all_steps(net):
    calls = []
    hooks = [layer.kv.register_forward_hook(lambda *_: calls.append(1)) for layer in net.model.cross_attentions(0)]
    net.sample(net.encode_conditions(**observation(net.config)), steps=5)
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(hooks) == 2


def test_slots_that_a_robot_lacks_are_zero_in_a_chunk(net):
    seen = observation(net.config)
    chunk = net.sample(net.encode_conditions(**seen))
    assert chunk.shape == (2, 6, 128)
    assert chunk[seen["action_mask"].expand_as(chunk) == 0].eq(0).all()
    assert chunk[seen["action_mask"].expand_as(chunk) == 1].ne(0).all()


def test_a_generator_decides_the_chunk(net):
    cond = net.encode_conditions(**observation(net.config))
    first, second, other = (net.sample(cond, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert first.equal(second)
    assert not first.equal(other)


def test_bfloat16_gives_nearly_the_same_and_stays_bfloat16(net):
    seen = observation(net.config)
    half = RDT(net.config)
    half.load_state_dict(net.state_dict())
    half = half.to(torch.bfloat16)
    cond = half.encode_conditions(**seen)
    assert {t.dtype for t in cond.tensors()} == {torch.bfloat16, torch.bool}
    noise, times = noise_for(net.config, 2), torch.tensor([900, 10])
    found = half.denoise(noise, times, cond)
    assert found.dtype == torch.bfloat16
    expected = net.denoise(noise, times, net.encode_conditions(**seen))
    assert (found.float() - expected).norm() < 0.05 * expected.norm()
    sampled = half.sample(cond, noise=noise)
    assert sampled.dtype == torch.float32


def test_denoise_compiles_as_one_graph(net):
    cond, noise = net.encode_conditions(**observation(net.config)), noise_for(net.config, 4)
    compiled = torch.compile(net.denoise, fullgraph=True, backend="eager")
    times = torch.tensor([999, 1, 30, 4])
    torch.testing.assert_close(compiled(noise, times, cond.repeat(2)), net.denoise(noise, times, cond.repeat(2)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"img_tokens": torch.zeros(2, 20, 8)}, "20 image tokens, and the network takes 24"),
        (
            {"img_tokens": torch.zeros(2, 24, 9)},
            r"img_tokens of shape \(2, 24, 9\); the network takes \(batch, tokens, 8\)",
        ),
        ({"lang_tokens": torch.zeros(2, 17, 12), "lang_mask": None}, "17 tokens, and the network takes at most 16"),
        ({"lang_tokens": torch.zeros(2, 12)}, r"lang_tokens of shape \(2, 12\)"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(net, changes, told):
    with pytest.raises(RdtError, match=told):
        net.encode_conditions(**{**observation(net.config), **changes})


def test_noise_of_another_shape_is_refused(net):
    cond = net.encode_conditions(**observation(net.config))
    with pytest.raises(RdtError, match=r"noise of shape \(1, 6, 128\) for chunks of \(2, 6, 128\)"):
        net.sample(cond, noise=noise_for(net.config, 1))


# a control loop


def images_of(config, count, seed=3):
    torch.manual_seed(seed)
    return torch.randn(count, 1, PATCHES, config.img_token_dim)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_cached_loop_gives_what_encoding_anew_gives(net, batch):
    cache, seen = ConditionCache(net, 6), observation(net.config, batch)
    rest = {name: seen[name] for name in ("state", "action_mask", "ctrl_hz")}
    language = {name: seen[name] for name in ("lang_tokens", "lang_mask")}
    images, noise = images_of(net.config, 20), noise_for(net.config, batch)
    for call in range(4):
        keys = ["absent", 2 * call, 2 * call + 1, "absent", 2 * call + 2, 2 * call + 3]
        tokens = {key: images[19 if key == "absent" else key] for key in cache.missing(keys)}
        assert list(tokens) == (["absent", 0, 1, 2, 3] if call == 0 else [2 * call + 2, 2 * call + 3])
        given = {} if cache.knows_language("pick") else language
        assert bool(given) == (call == 0)
        cond = cache.conditions(keys, tokens, language="pick", **given, **rest)
        whole = torch.cat([images[19 if key == "absent" else key] for key in keys], dim=1).expand(batch, -1, -1)
        expected = net.encode_conditions(**{**seen, "img_tokens": whole})
        for a, b in zip(cond.tensors(), expected.tensors(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(net.sample(cond, noise=noise), net.sample(expected, noise=noise))


def test_a_cache_touches_only_what_changed(net):
    cache, seen = ConditionCache(net, 6), observation(net.config, 1)
    calls = []
    hook = net.img_adaptor.register_forward_hook(lambda *_: calls.append(1))
    rest = {name: seen[name] for name in seen if name != "img_tokens"}
    images = dict(enumerate(images_of(net.config, 6)))
    cache.conditions(range(6), images, language="a", **rest)
    keys = cache._known[0][0]
    with torch.inference_mode():
        keys.fill_(7.0)
    cache.conditions([0, 1, 2, 3, 4, 4], {}, language="a", **rest)
    hook.remove()
    assert len(calls) == 6
    assert keys[:, :, : 5 * PATCHES].eq(7.0).all()
    assert keys[:, :, 5 * PATCHES :].ne(7.0).all()
    assert cache.missing([0, 5]) == [5]
    assert cache.nbytes > 0


def test_a_cleared_cache_knows_new_weights(net):
    net = filled(net.config, seed=4)
    cache, seen = ConditionCache(net, 6), observation(net.config, 1)
    rest = {name: seen[name] for name in seen if name != "img_tokens"}
    images = dict(enumerate(seen["img_tokens"].unflatten(1, (6, PATCHES)).unbind(1)))
    cache.conditions(range(6), images, language="a", **rest)
    for parameter in net.parameters():
        parameter.mul_(1.5)
    cache.clear()
    found = cache.conditions(range(6), images, language="a", **rest)
    for a, b in zip(found.tensors(), net.encode_conditions(**seen).tensors(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_cache_says_what_it_lacks(net):
    seen = observation(net.config, 1)
    rest = {name: seen[name] for name in ("state", "action_mask", "ctrl_hz")}
    cache = ConditionCache(net, 6)
    with pytest.raises(RdtError, match="a new instruction without its tokens"):
        cache.conditions(range(6), {}, language="a", **rest)
    rest |= {"lang_tokens": seen["lang_tokens"], "lang_mask": seen["lang_mask"]}
    with pytest.raises(RdtError, match=r"6 images for 6 slots, tokens lacking for \['4', '5'\]"):
        cache.conditions(range(6), dict(enumerate(images_of(net.config, 4))), language="a", **rest)
    with pytest.raises(RdtError, match="24 image tokens do not make 5 images"):
        ConditionCache(net, 5)


# configurations and positions


def test_a_configuration_survives_its_json():
    config = small_config(noise=NoiseConfig(prediction_type="epsilon"), lang_pos_embed_config=None)
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_heads": 3}, "hidden_size 64 with num_heads 3"),
        ({"img_adaptor": "mlp"}, "img_adaptor is 'mlp'"),
        ({"img_cond_len": 23}, r"img_pos_embed_config .* places 24 tokens, and there are 23"),
        ({"state_token_dim": 64}, "state_token_dim 64 is not action_dim 128"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(changes, told):
    with pytest.raises(RdtError, match=told):
        replace(small_config(), **changes)


def test_near_misses_are_told():
    with pytest.raises(RdtError, match="did you mean '170m'"):
        config_of_size("170")
    with pytest.raises(RdtError, match="did you mean 'epsilon'"):
        NoiseConfig(prediction_type="epsilom")


def test_a_configuration_without_its_keys_lists_them():
    data = small_config().to_json()
    del data["pred_horizon"], data["config"]["rdt"]["depth"]
    data["config"]["img_adaptor"] = 3
    with pytest.raises(
        RdtError, match=r"a.json: pred_horizon, config.img_adaptor, config.rdt.depth missing or of another"
    ):
        ModelConfig.from_json(data, "a.json")


def test_positions_tell_every_place_apart():
    assert sincos(4, 2).tolist() == [[0, 0, 1, 1], pytest.approx([0.841471, 0.0099998, 0.540302, 0.99995], abs=1e-6)]
    sequence = sequence_positions(16, 5)
    assert len({row.tobytes() for row in sequence}) == len(sequence) == 8
    grid = grid_sincos(24, (2, 3, -4)).reshape(2, 3, 4, 24)
    assert (grid == grid[:, :, :1]).all()
    assert len({row.tobytes() for row in grid[:, :, 0].reshape(6, 24)}) == 6
    assert grid_sincos(24, (1, 1, -4)).tolist() == [[0.0] * 24] * 4
    assert (condition_positions(8, 3, (("lang", -3),)) == sincos(8, 1).astype("f4")).all()
