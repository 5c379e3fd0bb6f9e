"""Weights in shards: an index beside several files, in a directory or on the hub; what is missing or wrong is named."""

import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from rdt_data.errors import RdtError
from rdt_model import RDT, config_of_size, load_pretrained

KINDS = {"model.safetensors": save_file, "pytorch_model.bin": torch.save}
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    sizes = {"depth": 2, "pred_horizon": 6, "lang_token_dim": 12, "img_token_dim": 8, "max_lang_cond_len": 8}
    return RDT(config_of_size("tiny", **sizes, frames=2, cameras=3, patches=4)).requires_grad_(False)


def write(net, folder, kind):
    """Three shards and an index, named as transformers names them; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(net.config.to_json()))
    stem, ending = kind.split(".")
    weights, places, paths = list(net.state_dict().items()), {}, []
    for number in range(3):
        part = dict(weights[number::3])
        paths.append(folder / f"{stem}-{number + 1:05d}-of-00003.{ending}")
        KINDS[kind](part, paths[-1])
        places |= dict.fromkeys(part, paths[-1].name)
    index = {"metadata": {"total_size": sum(tensor.nbytes for _, tensor in weights)}, "weight_map": places}
    (folder / f"{kind}.index.json").write_text(json.dumps(index))
    return paths


def same(net, other):
    mine, others = net.state_dict(), other.state_dict()
    return list(mine) == list(others) and all(mine[name].equal(others[name]) for name in mine)


@pytest.mark.parametrize("kind", KINDS)
def test_shards_give_the_same_network_by_their_directory_or_their_index(net, tmp_path, kind):
    write(net, tmp_path, kind)
    assert same(net, load_pretrained(tmp_path))
    assert same(net, load_pretrained(tmp_path / f"{kind}.index.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_shard_is_named(net, tmp_path, kind):
    first, second, third = write(net, tmp_path, kind)
    first.unlink()
    third.unlink()
    with pytest.raises(RdtError) as caught:
        load_pretrained(tmp_path)
    assert f"{kind}.index.json: 2 of 3 shards are not beside it: {first.name}, {third.name}" in caught.value.problem
    assert second.name not in caught.value.problem


def test_a_shard_without_a_weight_of_the_index_is_named(net, tmp_path):
    shard = write(net, tmp_path, "model.safetensors")[1]
    held = load_file(shard)
    lost = min(held)
    del held[lost]
    save_file(held, shard)
    with pytest.raises(RdtError, match=rf"{shard.name} lacks 1 weights that .*index.json names, {lost} first"):
        load_pretrained(tmp_path)


def test_a_weight_that_only_a_shard_knows_is_refused_as_in_one_file(net, tmp_path):
    shard = write(net, tmp_path, "model.safetensors")[0]
    save_file({**load_file(shard), "model.more": torch.zeros(2)}, shard)
    with pytest.raises(RdtError, match=r"unexpected: model\.more \(2,\)"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "has no weight_map"),
        ('{"weight_map": {"a": 3}}', "has no weight_map"),
        ('{"weight_map": {"a": "../elsewhere.safetensors"}}', "weight_map names '../elsewhere.safetensors'"),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', "weight_map names 'model.safetensors.index.json'"),
    ],
)
def test_an_index_that_is_none_is_refused(net, tmp_path, index, told):
    write(net, tmp_path, "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(RdtError, match=told):
        load_pretrained(tmp_path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The snapshot of somebody/rdt in a hub cache, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--somebody--rdt"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.mark.parametrize("kind", KINDS)
def test_shards_of_a_hub_model_are_read_and_a_missing_one_is_named(net, hub, kind):
    paths = write(net, hub, kind)
    assert same(net, load_pretrained("somebody/rdt"))
    paths[1].unlink()
    with pytest.raises(RdtError, match=f"somebody/rdt: {paths[1].name}, which {kind}.index.json names: not found"):
        load_pretrained("somebody/rdt")
