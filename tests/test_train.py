"""Runs of `rdt train` on demonstrations of the built-in world: what they leave, and that they go on exactly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_and_policy import run
from safetensors.numpy import load_file

from rdt_data.errors import RdtError
from rdt_model import checkpoint_folder
from rdt_model.policy import Policy
from rdt_model.run_config import RunConfig, changed, load_run
from rdt_model.train import resume, train
from rdt_model.training_log import read_metrics

SMALL = (
    *("steps=8", "batch_size=4", "draws=2", "log_every=1", "tensorboard=false", "threads=1", "device=cpu"),
    *("model.size=tiny", "model.hidden_size=16", "model.depth=2", "model.horizon=4", "model.history=2"),
    "model.keypoints={image_size: 32, keypoints: 4, token_dim: 8, channels: [8, 8]}",
    *("optimiser.learning_rate=1e-3", "optimiser.warmup_steps=2"),
    *("validation.every=0", "checkpoint.every=4", "feed.producers=0", "feed.shuffle_gb=0.01"),
)


@pytest.fixture(scope="module")
def small(demo_store: Path) -> Callable[..., RunConfig]:
    """A run of seconds: `small(out, *changes)`."""

    def configured(out: Path, *changes: str) -> RunConfig:
        return load_run(None, [*SMALL, *changes], data=[str(demo_store)], out=str(out))

    return configured


@pytest.fixture(scope="module")
def whole(small: Callable[..., RunConfig], tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(small(out))
    return out


def weights(out: Path, step: int) -> dict[str, Any]:
    """Every tensor a checkpoint holds."""
    folder = out / "checkpoints" / f"step-{step:08d}"
    return {
        f"{file.name}/{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def losses(out: Path) -> list[tuple[int, float, float]]:
    return [(line["step"], line["loss"], line["grad_norm"]) for line in read_metrics(out)]


def assert_same_run(one: Path, other: Path, step: int = 8) -> None:
    assert losses(one) == losses(other)
    ours, theirs = weights(one, step), weights(other, step)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)


def test_a_run_leaves_a_policy_its_configuration_its_metrics_and_a_list_of_its_parameters(whole: Path):
    assert [line["step"] for line in read_metrics(whole)] == list(range(1, 9))
    listed = (whole / "parameters.txt").read_text().splitlines()
    assert listed[0].endswith(" 0 frozen")
    assert all(line.startswith("trained ") for line in listed[1:])
    policy = Policy.load(whole / "checkpoints" / "last", device="cpu")
    assert policy.config.dataset == "demo_aloha"
    assert policy.config.action_normalisation is not None, "z-scores are the default of a run from scratch"
    assert policy.net.config.pred_horizon == 4
    about = changed(load_run(whole / "run.yaml"), [])
    assert about == load_run(whole / "checkpoints/last/run.yaml"), "saved with the run and with each checkpoint"


def test_a_run_tells_before_it_begins_what_is_trained_and_what_was_resized(whole: Path, small, tmp_path: Path):
    told: list[str] = []
    wider = ("steps=1", "model.horizon=6", f"model.init={whole / 'checkpoints/last'}", "normalisation=z-score")
    train(small(tmp_path / "run", *wider), tell=told.append)
    assert any("x_pos_embed" in line for line in told)
    for part in ("net", "encoder"):
        assert any(re.fullmatch(rf"{part}: [\d,]+ numbers trained, 0 frozen", line) for line in told)
    assert told[-1] == f"each parameter: {tmp_path / 'run/parameters.txt'}"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--resume", "RUN", "--config", "demo"], "--resume with --config"),
        (["--resume", "RUN", "--config", "demo", "--ray", "local"], "--resume with --config"),
        (["--gpus", "2"], "--gpus or --workers without --ray"),
        (["--resume", "NOTHING"], "holds no checkpoint"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(whole: Path, tmp_path: Path, flags: list[str], problem: str):
    places = {"RUN": str(whole), "NOTHING": str(tmp_path)}
    code, _, err = run("rdt", "train", *(places.get(flag, flag) for flag in flags))
    assert code == 1
    assert problem in err


def test_the_same_run_gives_the_same_bits(whole: Path, small, tmp_path: Path):
    train(small(tmp_path / "again"))
    assert_same_run(whole, tmp_path / "again")


def test_a_resumed_run_is_the_run_that_never_stopped(whole: Path, small, tmp_path: Path):
    out = tmp_path / "parts"
    train(small(out, "steps=8", "checkpoint.every=3", "checkpoint.keep=0"))
    for later in (6, 8):  # as if the run had been killed after its first checkpoint
        _drop(out, later)
    result = resume(out)
    assert result.steps == 8
    assert_same_run(whole, out)


def test_a_run_killed_at_any_time_goes_on_exactly(whole: Path, small, tmp_path: Path):
    out = tmp_path / "killed"
    file = tmp_path / "run.yaml"
    file.write_text(small(out, "checkpoint.every=2").to_yaml())
    command = [str(Path(sys.executable).with_name("rdt")), "train"]
    child = subprocess.Popen([*command, "--config", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(_steps(out)) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL, "the run ended by itself before the kill"
    done = subprocess.run([*command, "--resume", str(out), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["steps"] == 8
    assert_same_run(whole, out)
    assert not list((out / "checkpoints").glob(".*.partial")), "what the killed run had begun to write is gone"


def test_sigterm_saves_a_checkpoint_first(whole: Path, small, tmp_path: Path):
    out = tmp_path / "stopped"

    def stop_at_three(step: int, numbers: Any) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    result = train(small(out, "checkpoint.every=100"), stop_at_three)
    assert result.stopped == "SIGTERM"
    assert result.steps == 4
    assert Path(result.checkpoint).name == "step-00000004"
    resume(out)
    assert_same_run(whole, out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("batch_size=5", "batch_size: 4 -> 5"),
        ("optimiser.learning_rate=0.1", "optimiser.learning_rate: 0.001 -> 0.1"),
        ("seed=1", "seed: 0 -> 1"),
        ("feed.shuffle_gb=0.02", "feed.shuffle_gb: 0.01 -> 0.02"),
    ],
)
def test_a_resume_that_would_be_another_run_is_refused_with_the_difference(whole: Path, change: str, named: str):
    with pytest.raises(RdtError, match=f"another run: {named}"):
        resume(whole, lambda saved: changed(saved, [change]))


def test_an_earlier_checkpoint_is_not_gone_on_from_where_a_later_one_lies(whole: Path, tmp_path: Path):
    earlier = whole / "checkpoints/step-00000004"
    with pytest.raises(RdtError, match="holds step-00000008, which comes after step-00000004"):
        resume(earlier)
    assert resume(earlier, lambda saved: changed(saved, [f"out={tmp_path / 'branch'}"])).steps == 8
    assert weights(whole, 8).keys() == weights(tmp_path / "branch", 8).keys()


def test_a_resumed_run_may_go_further_where_the_learning_rate_is_constant(whole: Path, small, tmp_path: Path):
    train(small(tmp_path / "longer", "steps=4"))
    resume(tmp_path / "longer", lambda saved: changed(saved, ["steps=8"]))
    assert_same_run(whole, tmp_path / "longer")
    train(small(tmp_path / "cosine", "steps=4", "optimiser.schedule=cosine"))
    with pytest.raises(RdtError, match="steps: 4 -> 8"):
        resume(tmp_path / "cosine", lambda saved: changed(saved, ["steps=8"]))


def test_a_run_is_not_written_over(whole: Path, small):
    with pytest.raises(RdtError, match="holds the checkpoints of a run") as error:
        train(small(whole))
    assert "--resume" in error.value.remedy


def test_checkpoints_are_pruned_by_count_and_last_is_the_newest(whole: Path, small, tmp_path: Path):
    train(small(tmp_path / "run", "steps=5", "checkpoint.every=1", "checkpoint.keep=2"))
    assert _steps(tmp_path / "run") == [4, 5]
    assert (tmp_path / "run/checkpoints/last").resolve().name == "step-00000005"


@pytest.mark.parametrize("file", ["model.safetensors", "training/optimiser.safetensors", "training/state.json"])
def test_a_damaged_checkpoint_is_named_and_not_used(small, tmp_path: Path, file: str):
    train(small(tmp_path / "run", "steps=1"))
    path = tmp_path / "run/checkpoints/step-00000001" / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RdtError, match=rf"damaged: {file} \(changed\)"):
        resume(tmp_path / "run", lambda saved: changed(saved, ["steps=2"]))
    path.unlink()
    with pytest.raises(RdtError, match=rf"damaged: {file} \(missing\)"):
        resume(tmp_path / "run", lambda saved: changed(saved, ["steps=2"]))


def test_validation_is_logged_for_raw_weights_and_averages(small, tmp_path: Path):
    train(small(tmp_path / "run", "steps=2", "validation.every=2", "validation.batches=1"))
    found = read_metrics(tmp_path / "run")[-1]
    for kind in ("validation", "validation_ema"):
        assert found[f"{kind}/loss"] > 0
        assert found[f"{kind}/overall_avg_sample_mse"] == pytest.approx(found[f"{kind}/demo_sample_mse"], rel=1e-6)
        assert found[f"{kind}/right_arm_joint_1_pos_rad"] > 0
    assert found["validation/loss"] != found["validation_ema/loss"]


def test_gradient_checkpointing_changes_nothing_but_memory(whole: Path, small, tmp_path: Path):
    train(small(tmp_path / "run", "gradient_checkpointing=true"))
    pairs = zip(losses(whole), losses(tmp_path / "run"), strict=True)
    assert all(loss == pytest.approx(other, rel=1e-5) for (_, loss, _), (_, other, _) in pairs)


def test_a_run_begins_with_weights_of_another_horizon_and_other_cameras(whole: Path, small, tmp_path: Path):
    wider = ("steps=1", "model.horizon=6", "model.cameras=[exterior, right_wrist]")
    train(small(tmp_path / "run", *wider, f"model.init={whole / 'checkpoints/last'}", "normalisation=z-score"))
    policy = Policy.load(tmp_path / "run/checkpoints/last", device="cpu")
    assert policy.net.config.pred_horizon == 6
    assert policy.config.cameras == ("exterior", "right_wrist")


def test_adapters_are_trained_alone_and_are_merged_into_the_policy(whole: Path, small, tmp_path: Path):
    init = whole / "checkpoints/last"
    lora = ("lora={rank: 2, targets: [qkv, kv]}", "normalisation=z-score", f"model.init={init}")
    train(small(tmp_path / "run", *lora))
    listed = (tmp_path / "run/parameters.txt").read_text().splitlines()[1:]
    trained = {line.split()[1] for line in listed if line.startswith("trained")}
    assert trained
    assert all("lora_" in name or name.startswith("encoder.") for name in trained)
    before, after = (
        load_file(init / "model.safetensors"),
        load_file(tmp_path / "run/checkpoints/last/model.safetensors"),
    )
    assert before.keys() == after.keys(), "the policy's network has the names and shapes of any other"
    changed_ones = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed_ones == {name for name in before if name.endswith((".qkv.weight", ".kv.weight"))}
    Policy.load(tmp_path / "run/checkpoints/last", device="cpu")
    train(small(tmp_path / "parts", *lora, "steps=4"))
    resume(tmp_path / "parts", lambda saved: changed(saved, ["steps=8"]))
    assert_same_run(tmp_path / "run", tmp_path / "parts")


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(small, tmp_path: Path):
    with pytest.raises(RdtError, match=r"step \d+: the gradient's norm is (nan|inf).*demo episode \d+ step \d+"):
        train(small(tmp_path / "run", "optimiser.learning_rate=1e30", "optimiser.warmup_steps=0"))


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        ("optimiser.lr=1", "optimiser.lr: there is no such key", "learning_rate"),
        ("model.size=tinny", "no model size is called 'tinny'", "tiny"),
        ("steps", "'steps' is no change", "key=value"),
        ("lora={rank: 4}", "adapters without weights", "model.init"),
        ("mixture=m.yaml", "m.yaml: cannot be read", "check the path"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_explained(
    small, tmp_path: Path, change: str, problem: str, remedy: str
):
    with pytest.raises(RdtError, match=problem) as error:
        train(small(tmp_path / "run", change))
    assert remedy in error.value.remedy


def test_a_store_without_statistics_says_which_command_makes_them(frame_store, tmp_path: Path):
    store = frame_store(tmp_path / "a.zarr", [[40]])
    with pytest.raises(RdtError, match="has no statistics") as error:
        train(load_run(None, list(SMALL), data=[str(store)], out=str(tmp_path / "run")))
    assert "rdt-data stats" in error.value.remedy


def _steps(out: Path) -> list[int]:
    return [checkpoint_folder.step_of(folder) for folder in checkpoint_folder.checkpoints(out / "checkpoints")]


def _drop(out: Path, step: int) -> None:
    folder = out / "checkpoints" / f"step-{step:08d}"
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
