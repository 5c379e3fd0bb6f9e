"""Weights on disk: every layout that is read, what is written, what is refused, and what can be resized."""

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from rdt_data.errors import RdtError
from rdt_model import RDT, NoiseConfig, config_of_size, load_pretrained, read_config
from rdt_model.config import image_tokens


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    sizes = {"depth": 2, "pred_horizon": 6, "lang_token_dim": 12, "img_token_dim": 8, "max_lang_cond_len": 8}
    net = RDT(config_of_size("tiny", **sizes, frames=2, cameras=3, patches=4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


def same(net, other):
    mine, others = net.state_dict(), other.state_dict()
    return list(mine) == list(others) and all(mine[name].equal(others[name]) for name in mine)


def write_config(net, folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**net.config.to_json(), **changes}))


def write_safetensors(net, folder):
    net.save_pretrained(folder)
    return folder


def write_torch(net, folder):
    write_config(net, folder, dtype="float32")
    torch.save(net.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_deepspeed_file(net, folder):
    """As accelerate leaves a DeepSpeed run: shapes, sizes and nothing else beside the weights."""
    inside = folder / "checkpoint-10" / "pytorch_model"
    write_config(net, inside.parent)
    state = {
        "module": net.state_dict(),
        "param_shapes": [{name: tensor.shape for name, tensor in net.state_dict().items()}],
        "buffer_names": [],
        "dp_world_size": 1,
        "ds_config": {"zero_optimization": {"stage": 2}},
        "ds_version": "0.14.2",
    }
    torch.save(state, inside.mkdir() or inside / "mp_rank_00_model_states.pt")
    return inside / "mp_rank_00_model_states.pt"


def write_deepspeed_directory(net, folder):
    return write_deepspeed_file(net, folder).parents[1]


def write_deepspeed_part(net, folder):
    return write_deepspeed_file(net, folder).parent


LAYOUTS = [write_safetensors, write_torch, write_deepspeed_file, write_deepspeed_directory, write_deepspeed_part]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_gives_the_same_network(net, tmp_path, write):
    source = write(net, tmp_path)
    told = []
    loaded = load_pretrained(source, tell=told.append)
    assert same(net, loaded)
    assert loaded.config == net.config == read_config(source)
    assert not told
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_what_is_saved_is_what_the_published_code_reads(net, tmp_path):
    net.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config) == {
        *("action_dim", "pred_horizon", "config", "lang_token_dim", "img_token_dim", "state_token_dim"),
        *("max_lang_cond_len", "img_cond_len", "lang_pos_embed_config", "img_pos_embed_config"),
    }
    assert set(config["config"]) == {"lang_adaptor", "img_adaptor", "state_adaptor", "rdt", "noise_scheduler"}
    assert config["config"]["rdt"] == {"hidden_size": 64, "depth": 2, "num_heads": 4}
    assert config["img_pos_embed_config"] == [["image", [2, 3, -4]]]
    assert {"model.blocks.0.cross_attn.kv.weight", "lang_adaptor.0.weight", "model.x_pos_embed"} <= set(
        load_file(tmp_path / "model.safetensors")
    )


def test_weights_without_a_configuration_tell_their_sizes(net, tmp_path):
    torch.save({"module": net.state_dict()}, tmp_path / "mp_rank_00_model_states.pt")
    told = []
    loaded = load_pretrained(tmp_path, tell=told.append)
    assert same(net, loaded)
    assert loaded.config == replace(net.config, lang_pos_embed_config=None, img_pos_embed_config=None)
    assert len(told) == 1
    assert "no config.json beside it" in told[0]


def test_weights_keep_their_dtype_unless_told(net, tmp_path):
    save_file({name: t.bfloat16() for name, t in net.state_dict().items()}, tmp_path / "model.safetensors")
    write_config(net, tmp_path)
    assert load_pretrained(tmp_path).dtype == torch.bfloat16
    assert load_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_every_weight_that_does_not_fit_is_listed(net, tmp_path):
    weights = net.state_dict()
    del weights["lang_adaptor.0.bias"], weights["model.blocks.1.norm1.weight"]
    weights["model.final_layer.ffn_final.fc2.bias"] = torch.zeros(5)
    weights["model.blocks.1.norm9.weight"] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors")
    write_config(net, tmp_path)
    for adapt in (False, True):
        with pytest.raises(RdtError) as caught:
            load_pretrained(tmp_path, adapt=adapt)
        assert caught.value.problem.splitlines() == [
            f"{tmp_path / 'model.safetensors'}: 4 weights do not fit the network:",
            "    missing: model.blocks.1.norm1.weight (64,)",
            "    missing: lang_adaptor.0.bias (64,)",
            "    unexpected: model.blocks.1.norm9.weight (3,)",
            "    shape: model.final_layer.ffn_final.fc2.bias is (5,), needed (128,)",
        ]
        assert "config.json these weights were saved with" in caught.value.remedy


def test_a_file_of_torch_that_could_run_code_is_refused(net, tmp_path):
    write_config(net, tmp_path)
    torch.save({**net.state_dict(), "extra": random.Random(0)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RdtError, match=r"pytorch_model.bin holds more than numbers: random.Random"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("pytorch_model.bin", b"nothing of the kind", "not a whole file of torch.save"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "not a whole safetensors file"),
        ("other.bin", b"", "no weights in it\n  fix: it needs one of model.safetensors, model.safetensors.index.json"),
    ],
)
def test_broken_files_are_named(net, tmp_path, name, content, told):
    write_config(net, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RdtError, match=told):
        load_pretrained(tmp_path)


def test_other_files_are_told_apart(net, tmp_path):
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(RdtError, match="holds no state_dict"):
        load_pretrained(tmp_path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RdtError, match=r"not the weights of an RDT, model\.x_pos_embed is not among them"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RdtError, match=r"config\.json is no JSON"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "a/b/c"])
def test_a_source_that_is_not_there_is_refused_without_asking_the_hub(source):
    with pytest.raises(RdtError, match="there is no such directory or file"):
        load_pretrained(source)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty hub cache, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("write", [write_safetensors, write_torch], ids=lambda write: write.__name__)
def test_a_hub_model_is_read_from_the_cache(net, offline, write):
    commit = "0123456789" * 4
    repository = offline / "models--somebody--rdt"
    write(net, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert same(net, load_pretrained("somebody/rdt"))
    assert same(net, load_pretrained("somebody/rdt", revision=commit))


def test_a_hub_model_that_cannot_be_had_is_named(offline):
    with pytest.raises(RdtError, match="somebody/else: not found on the hub or not reachable"):
        load_pretrained("somebody/else")
    with pytest.raises(RdtError, match=r"some\.\.body/else: not found on the hub"):
        load_pretrained("some..body/else")


def test_pushing_uploads_what_is_saved(net, monkeypatch):
    pushed = []

    def upload_folder(api, *, repo_id, folder_path):
        pushed.append((api.token, repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
        assert same(net, load_pretrained(folder_path))
        return SimpleNamespace(commit_url="https://hub/commit/1")

    made = lambda api, repo_id, **options: pushed.append((repo_id, options))  # noqa: E731
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", made)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    assert net.push_to_hub("me/rdt", private=True, token="t") == "https://hub/commit/1"
    assert pushed == [
        ("me/rdt", {"private": True, "exist_ok": True}),
        ("t", "me/rdt", ["config.json", "model.safetensors"]),
    ]


# adapt


def test_a_shorter_horizon_needs_adapt_and_keeps_the_nearest_actions(net, tmp_path):
    net.save_pretrained(tmp_path)
    config = replace(read_config(tmp_path), pred_horizon=4)
    with pytest.raises(RdtError, match=r"model.x_pos_embed is \(1, 9, 64\), needed \(1, 7, 64\)\n  fix: .*adapt=True"):
        load_pretrained(tmp_path, config=config)
    told = []
    loaded = load_pretrained(tmp_path, config=config, adapt=True, tell=told.append)
    assert told == ["model.x_pos_embed, the horizon: 9 -> 7, the first 7 kept"]
    assert loaded.model.x_pos_embed.equal(net.model.x_pos_embed[:, :7])


def test_a_longer_horizon_goes_on_with_the_initial_positions(net, tmp_path):
    net.save_pretrained(tmp_path)
    told = []
    config = replace(net.config, pred_horizon=8)
    loaded = load_pretrained(tmp_path, config=config, adapt=True, tell=told.append)
    assert told == ["model.x_pos_embed, the horizon: 9 -> 11, the first 9 kept, 2 new ones initialised"]
    assert loaded.model.x_pos_embed[:, :9].equal(net.model.x_pos_embed)
    assert loaded.model.x_pos_embed[:, 9:].equal(RDT(config).model.x_pos_embed[:, 9:])


def test_image_tokens_keep_the_newest_frames_of_the_first_cameras(net, tmp_path):
    net.save_pretrained(tmp_path)
    told = []
    config = replace(net.config, **image_tokens(1, 2, 4))
    loaded = load_pretrained(tmp_path, config=config, adapt=True, tell=told.append)
    assert "24 -> 8" in told[0]
    assert "(2, 3, 4) -> (1, 2, 4): the newest 1 frames of the first 2 cameras kept" in told[0]
    expected = net.model.img_cond_pos_embed.view(2, 3, 4, 64)[1:, :2].reshape(1, 8, 64)
    assert loaded.model.img_cond_pos_embed.equal(expected)


def test_more_cameras_of_more_patches_are_interpolated_and_initialised(net, tmp_path):
    source = RDT(net.config)
    source.load_state_dict(net.state_dict())
    source.model.img_cond_pos_embed.data.view(2, 3, 4, 64)[:] = torch.arange(6.0).view(2, 3, 1, 1)
    source.save_pretrained(tmp_path)
    told = []
    config = replace(net.config, **image_tokens(2, 4, 9))
    loaded = load_pretrained(tmp_path, config=config, adapt=True, tell=told.append)
    assert "patches interpolated, the others initialised" in told[0]
    found = loaded.model.img_cond_pos_embed.view(2, 4, 9, 64)
    torch.testing.assert_close(found[:, :3], torch.arange(6.0).view(2, 3, 1, 1).expand(2, 3, 9, 64))
    assert found[:, 3].equal(RDT(config).model.img_cond_pos_embed.view(2, 4, 9, 64)[:, 3])


def test_the_same_number_of_tokens_on_another_grid_moves_them(net, tmp_path):
    net.save_pretrained(tmp_path)
    told = []
    config = replace(net.config, **image_tokens(3, 2, 4))
    loaded = load_pretrained(tmp_path, config=config, adapt=True, tell=told.append)
    assert len(told) == 1
    expected = net.model.img_cond_pos_embed.view(2, 3, 4, 64)[:, :2]
    assert loaded.model.img_cond_pos_embed.view(3, 2, 4, 64)[1:].equal(expected)


def test_nothing_is_told_when_nothing_is_resized(net, tmp_path):
    net.save_pretrained(tmp_path)
    told = []
    config = replace(net.config, noise=NoiseConfig(num_inference_timesteps=7))
    assert same(net, load_pretrained(tmp_path, config=config, adapt=True, tell=told.append))
    assert not told


def test_what_cannot_be_resized_is_still_refused(net, tmp_path):
    net.save_pretrained(tmp_path)
    with pytest.raises(RdtError, match=r"lang_adaptor.0.weight is \(64, 12\), needed \(64, 16\)"):
        load_pretrained(tmp_path, config=replace(net.config, lang_token_dim=16), adapt=True, tell=lambda line: None)
