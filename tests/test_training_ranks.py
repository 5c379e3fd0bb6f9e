"""Several ranks on one machine (gloo): they are one run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rdt_model.run_config import changed, load_run
from rdt_model.train import resume
from rdt_model.training_log import read_metrics

SCRIPT = Path(__file__).with_name("training_rank.py")
RDT = Path(sys.executable).with_name("rdt")


def in_ranks(ranks: int, command: list[str]) -> None:
    """Run a command as torchrun does: one process per rank, told by variables who it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    env |= {"LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if ranks == 1:
        env = {key: value for key, value in env.items() if key not in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")}
    children = [
        subprocess.Popen(
            command,
            env=env if ranks == 1 else {**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert [child.returncode for child in children] == [0] * ranks, "\n".join(outputs)


def test_two_ranks_and_two_passes_equal_one_rank_with_the_doubled_batch(demo_store: Path, tmp_path: Path):
    found = {}
    for name, ranks, accumulate in (("one", 1, 1), ("ranks", 2, 1), ("passes", 1, 2), ("both", 2, 2)):
        file = tmp_path / f"{name}.safetensors"
        in_ranks(ranks, [sys.executable, str(SCRIPT), str(demo_store), str(file), str(accumulate)])
        found[name] = load_file(file)
    for name in ("ranks", "passes", "both"):
        for key, value in found["one"].items():
            torch.testing.assert_close(found[name][key], value, rtol=0, atol=1e-5, msg=f"{name}: {key}")
    assert len({float(loss) for loss in found["one"]["losses"]}) == 3


@pytest.mark.parametrize("later", [2, 1])
def test_a_run_of_two_ranks_goes_on_with_two_or_with_one(demo_store: Path, tmp_path: Path, later: int):
    file = tmp_path / "run.yaml"
    settings = [
        *("steps=2", "batch_size=4", "log_every=1", "tensorboard=false", "threads=1", "device=cpu"),
        *("model.size=tiny", "model.hidden_size=16", "model.depth=2", "model.horizon=4", "model.history=1"),
        "model.keypoints={image_size: 32, keypoints: 4, token_dim: 8, channels: [8, 8]}",
        *("validation.every=2", "validation.batches=1", "feed.producers=0", "feed.shuffle_gb=0.01"),
    ]
    out = tmp_path / "run"
    file.write_text(load_run(None, settings, data=[str(demo_store)], out=str(out)).to_yaml())
    in_ranks(2, [str(RDT), "train", "--config", str(file)])
    states = sorted(path.name for path in (out / "checkpoints/last/training").glob("feed-*"))
    assert states == ["feed-0-of-2.json", "feed-1-of-2.json"]
    if later == 2:
        in_ranks(2, [str(RDT), "train", "--resume", str(out), "steps=4"])
    else:
        resume(out, lambda saved: changed(saved, ["steps=4"]))
    lines = read_metrics(out)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert {line["step"] for line in lines if "validation/loss" in line} == {2, 4}


def test_the_same_command_trains_on_the_workers_of_a_ray_cluster(demo_store: Path, tmp_path: Path):
    settings = [
        *("steps=2", "batch_size=4", "log_every=1", "tensorboard=false", "threads=1", "device=cpu"),
        *("model.size=tiny", "model.hidden_size=16", "model.depth=2", "model.horizon=4", "model.history=1"),
        "model.keypoints={image_size: 32, keypoints: 4, token_dim: 8, channels: [8, 8]}",
        *("validation.every=0", "feed.producers=0", "feed.shuffle_gb=0.01"),
    ]
    out = tmp_path / "run"
    command = [str(RDT), "train", "--data", str(demo_store), "--out", str(out), "--ray", "local", "--workers", "2"]
    done = subprocess.run([*command, "--json", *settings], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert result["steps"] == 2
    assert (out / "checkpoints/last/training/feed-1-of-2.json").exists(), "two ranks trained"
    again = [str(RDT), "train", "--resume", str(out), "--ray", "local", "--workers", "2", "steps=3", "--json"]
    done = subprocess.run(again, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["step"] for line in read_metrics(out)] == [1, 2, 3]
