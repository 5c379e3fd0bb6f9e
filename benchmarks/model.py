"""What reusing conditions saves: sampling, control loops, noise draws in training, memory; all against recomputing.

    python benchmarks/model.py [--size 170m] [--threads 2] [--json]

Sampling takes batch 1, 20 language and 4374 image tokens, fp32 on the CPU, 5 steps, random weights. Baselines, run in
turn with what they are compared to (the fastest of `--repeats` counts):

* recompute: the same network and layers, its keys and values projected anew in each step.
* published: the same, with timm's norm and the heads' rows apart, as the published code leaves them.

`loop` is a control loop in which the newer frame of each camera becomes the older one; `one_camera` is that loop for
a robot with one of three cameras. `draws` is a step of training, forward and backward, batch 1. The memory of sampling
is what a process grows by while it builds the network, encodes and samples. On a GPU: bf16 chunks/s, ms by stage, and
the share of the card's bf16 peak (for the cards in PEAK).
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.layers.fast_norm import simple_norm
from torch.utils.flop_counter import FlopCounterMode

from rdt_model import RDT, ConditionCache, config_of_size, diffusion_loss, schedule
from rdt_model.conditions import Conditions
from rdt_model.transformer import IMAGES, LANGUAGE

STEPS = 5
FRAMES, CAMERAS, PATCHES = 2, 3, 729
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""bf16 FLOP/s without sparsity, by a part of the card's name (NVIDIA's data sheets)."""

Observation = dict[str, torch.Tensor]


def network(size: str) -> RDT:
    """Random weights, the output layer's too, which is zero in a new network."""
    torch.manual_seed(0)
    net = RDT(config_of_size(size)).eval()
    torch.nn.init.normal_(net.model.final_layer.ffn_final.fc2.weight, std=0.02)
    return net


def observation(net: RDT, batch: int = 1) -> Observation:
    config, made = net.config, torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=made)

    found = {
        "lang_tokens": normal(20, config.lang_token_dim),
        "lang_mask": torch.ones(batch, 20, dtype=torch.bool),
        "img_tokens": normal(config.img_cond_len, config.img_token_dim),
        "state": normal(1, config.action_dim),
        "action_mask": torch.ones(batch, 1, config.action_dim),
        "ctrl_hz": torch.full((batch,), 25.0),
    }
    return {name: tensor.to(net.device) for name, tensor in found.items()}


def noise_of(net: RDT) -> torch.Tensor:
    shape = (1, net.config.pred_horizon, net.config.action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def denoise_anew(net: RDT, seen: Observation, project: Callable[[int, torch.Tensor], Any]) -> torch.Tensor:
    """Sampling where each step projects keys and values from the adapted tokens."""
    lang, mask = net.adapt_language(seen["lang_tokens"], seen["lang_mask"])
    images = net.adapt_images(seen["img_tokens"])
    noisy, solver = noise_of(net), schedule.solver(net.config.noise, STEPS)
    for t in solver.timesteps:
        rest = seen["state"], seen["action_mask"], seen["ctrl_hz"]
        cond = net.join(project(LANGUAGE, lang), project(IMAGES, images), mask, *rest)
        noisy = solver.step(net.denoise(noisy, t, cond), t, noisy).prev_sample
    return noisy * cond.action_mask


def as_published(net: RDT) -> Callable[[int, torch.Tensor], list[tuple[torch.Tensor, torch.Tensor]]]:
    """Project keys and values as the published code does."""

    def project(condition: int, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = []
        for layer in net.model.cross_attentions(condition):
            batch, length, width = tokens.shape
            split = layer.kv(tokens).reshape(batch, length, 2, layer.heads, width // layer.heads)
            keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
            norm = layer.k_norm
            pairs.append((simple_norm(keys, norm.normalized_shape, norm.weight, norm.eps), values))
        return pairs

    return project


def control_loop(net: RDT, seen: Observation, cameras: int) -> Callable[[], torch.Tensor]:
    """A function that takes the next step of a loop: new frames of `cameras` cameras, the others absent."""
    cache = ConditionCache(net, FRAMES * CAMERAS)
    frames = seen["img_tokens"].unflatten(1, (FRAMES * CAMERAS, PATCHES))
    clock = itertools.count(1)

    def step() -> torch.Tensor:
        now = next(clock)
        keys = [
            (camera, now + frame) if camera < cameras else "absent"
            for frame, camera in itertools.product(range(FRAMES), range(CAMERAS))
        ]
        tokens = {key: frames[:, number] for number, key in enumerate(keys)}
        rest = {name: seen[name] for name in ("lang_tokens", "lang_mask", "state", "action_mask", "ctrl_hz")}
        return net.sample(cache.conditions(keys, tokens, language="words", **rest), STEPS, noise_of(net))

    step()  # the first call has nothing to reuse
    return step


def in_turn(repeats: int, **runs: Callable[[], Any]) -> dict[str, float]:
    """Name -> seconds of its fastest run; the runs alternate, so that a busy machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


@torch.inference_mode()
def sampling(net: RDT, repeats: int) -> dict[str, float]:
    seen = observation(net)
    recompute = denoise_anew(net, seen, net.project)
    reused = net.sample(net.encode_conditions(**seen), STEPS, noise_of(net))
    found = in_turn(
        repeats,
        published=lambda: denoise_anew(net, seen, as_published(net)),
        recompute=lambda: denoise_anew(net, seen, net.project),
        reuse=lambda: net.sample(net.encode_conditions(**seen), STEPS, noise_of(net)),
        loop=control_loop(net, seen, CAMERAS),
        one_camera=control_loop(net, seen, 1),
    )
    result = {f"{name}, s a chunk": value for name, value in found.items()}
    for base, name in itertools.product(("recompute", "published"), ("reuse", "loop", "one_camera")):
        result[f"{base} / {name}"] = found[base] / found[name]
    result["largest difference, recompute and reuse"] = (recompute - reused).abs().max().item()
    return result


def drawing(net: RDT, repeats: int) -> dict[str, float]:
    """A training step with 1 and with 8 draws."""
    seen, actions = observation(net), noise_of(net)
    valid = torch.ones(actions.shape[:2], dtype=torch.bool)

    def step(draws: int) -> None:
        diffusion_loss(net, net.encode_conditions(**seen), actions, valid, draws=draws).backward()
        net.zero_grad()

    found = in_turn(repeats, one=lambda: step(1), eight=lambda: step(8))
    return {
        "draws=1, s": found["one"],
        "draws=8, s": found["eight"],
        "draws=8 / draws=1": found["eight"] / found["one"],
    }


def memory(size: str) -> dict[str, float]:
    """Growth of a process of its own, in MB (10^6 bytes): Linux only."""

    def status(name: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024 / 1e6

    with torch.inference_mode():
        tiny = network("tiny")
        tiny.sample(tiny.encode_conditions(**observation(tiny)), STEPS)  # libraries and buffers are there from now on
        before = status("VmRSS")
        net = network(size)
        parameters = sum(p.nbytes for p in net.parameters()) / 1e6
        seen = observation(net)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what follows
        cond: Conditions = net.encode_conditions(**seen)
        net.sample(cond, STEPS)
        peak = status("VmHWM") - before
    cached = cond.nbytes / 1e6
    return {
        "parameters, MB": parameters,
        "conditions, MB": cached,
        "peak, MB": peak,
        "(peak - conditions) / parameters": (peak - cached) / parameters,
    }


@torch.inference_mode()
def on_gpu(size: str, repeats: int) -> dict[str, float]:
    """bf16, batch 1, by stage."""
    net = network(size).to("cuda", torch.bfloat16)
    seen, noise = observation(net), noise_of(net)

    def timed(run: Callable[[], Any]) -> float:
        run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    cond = net.encode_conditions(**seen)
    encode, denoise = timed(lambda: net.encode_conditions(**seen)), timed(lambda: net.sample(cond, STEPS, noise))
    with FlopCounterMode(display=False) as counter:
        net.sample(net.encode_conditions(**seen), STEPS, noise)
    result = {"encode, ms": 1e3 * encode, f"{STEPS} steps, ms": 1e3 * denoise, "chunks/s": 1 / (encode + denoise)}
    card = torch.cuda.get_device_name()
    peaks = [peak for name, peak in PEAK.items() if name in card]
    if peaks:
        result["share of bf16 peak"] = counter.get_total_flops() / (encode + denoise) / peaks[0]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="170m")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_only:
        print(json.dumps(memory(arguments.size)))
        return
    alone = [sys.executable, __file__, "--memory-only", "--size", arguments.size, "--threads", str(arguments.threads)]
    net = network(arguments.size)
    found = {
        f"sampling, {arguments.size}, {arguments.threads} threads": sampling(net, arguments.repeats),
        "training step": drawing(net, arguments.repeats),
        "memory of sampling": json.loads(subprocess.run(alone, check=True, capture_output=True, text=True).stdout),
    }
    if torch.cuda.is_available():
        found |= {f"GPU, {size}": on_gpu(size, 20) for size in ("170m", "1b")}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for title, figures in found.items():
        print(title)
        for name, value in figures.items():
            print(f"  {name:42} {value:12.3g}")


if __name__ == "__main__":
    main()
