"""The network and the image encoder of a run, new or from pretrained weights, and which of their weights are trained.

In: a `RunConfig`, what is known of its stores, the cameras. Out: a `TrainingModule` on the CPU, the same on every rank;
its trained parameters by name; a list of every parameter and whether it is trained. Raises RdtError for weights that do
not fit what is asked. Knows nothing of optimisers and the loop.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from rdt_model.adapters import add_adapters
from rdt_model.config import ModelConfig, NoiseConfig, config_of_size
from rdt_model.encoders import load_image_encoder
from rdt_model.images import ImageEncoder
from rdt_model.network import RDT
from rdt_model.policy import choose_device
from rdt_model.policy_files import ENCODER, load_trained_encoder
from rdt_model.pretrained import load_pretrained, read_config
from rdt_model.run_config import KEYPOINTS, ModelPart, RunConfig
from rdt_model.training_module import TrainingModule


def build(
    config: RunConfig, cameras: tuple[str, ...], lang_token_dim: int, tell: Callable[[str], None]
) -> TrainingModule:
    """The module that `config` asks for. Weights that are new are drawn from its seed. tell: gets what was adapted."""
    torch.manual_seed(config.seed)
    part = config.model
    encoder = load_image_encoder(
        part.image_encoder,
        frozen=not (part.train_encoder or part.image_encoder == KEYPOINTS),
        keypoints=part.keypoints,
    )
    if part.init is None:
        net = RDT(_shape(part, encoder, cameras, lang_token_dim))
    else:
        net = _pretrained(part.init, part, encoder, cameras, tell)
        if (Path(part.init) / ENCODER).is_file():
            load_trained_encoder(part.init, encoder)
    if config.lora is not None:
        add_adapters(net, config.lora)
    net.model.gradient_checkpointing = config.gradient_checkpointing
    module = TrainingModule(net.train(), encoder.train(), config.loss)
    if config.compile:
        net.model.compile()
    return module


def accelerate(config: RunConfig) -> Accelerator:
    """Device, precision and ranks, as `accelerate launch`, torchrun or Ray Train has set them; threads of this process.

    Raises RdtError for a device that is not there.
    """
    device = choose_device(config.device)
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(config.threads or max(1, cores - config.feed.producers))
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported() if config.precision == "auto" else None
    mixed = "bf16" if bf16 or config.precision == "bf16" else "no"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that have a gradient, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def parameter_list(module: nn.Module) -> str:
    """Every parameter with its shape, and whether it is trained or frozen; the sums first."""
    rows, sums = [], {"trained": 0, "frozen": 0}
    for name, parameter in module.named_parameters():
        kind = "trained" if parameter.requires_grad else "frozen"
        sums[kind] += parameter.numel()
        rows.append(f"{kind:8} {name:70} {tuple(parameter.shape)}")
    return "\n".join([f"{sums['trained']:,} trained, {sums['frozen']:,} frozen", *rows])


def parameter_counts(module: nn.Module) -> list[str]:
    """A line for each of network and encoder: how many numbers are trained, how many frozen."""
    lines = []
    for name, child in module.named_children():
        trains, stays = (
            sum(p.numel() for p in child.parameters() if p.requires_grad is kind) for kind in (True, False)
        )
        lines.append(f"{name}: {trains:,} numbers trained, {stays:,} frozen")
    return lines


def _shape(part: ModelPart, encoder: ImageEncoder, cameras: tuple[str, ...], lang_token_dim: int) -> ModelConfig:
    own = {name: value for name in ("hidden_size", "depth", "num_heads") if (value := getattr(part, name)) is not None}
    return config_of_size(
        part.size,
        **own,
        **_image_tokens(part, encoder, cameras),
        pred_horizon=part.horizon,
        lang_token_dim=lang_token_dim,
        noise=NoiseConfig(prediction_type=part.prediction),
    )


def _image_tokens(part: ModelPart, encoder: ImageEncoder, cameras: tuple[str, ...]) -> dict[str, object]:
    return {
        "img_token_dim": encoder.token_dim,
        "img_cond_len": part.history * len(cameras) * encoder.tokens_per_image,
        "img_pos_embed_config": encoder.position_grid(part.history, len(cameras)),
    }


def _pretrained(
    init: str, part: ModelPart, encoder: ImageEncoder, cameras: tuple[str, ...], tell: Callable[[str], None]
) -> RDT:
    """Horizon and image tokens as asked, everything else as the weights have it."""
    described = read_config(init)
    changes = {**_image_tokens(part, encoder, cameras), "pred_horizon": part.horizon}
    if changes["img_cond_len"] == described.img_cond_len:
        del changes["img_pos_embed_config"]
    wanted = replace(described, **changes)  # type: ignore[arg-type]  # the fields of ModelConfig have several types
    return load_pretrained(init, config=wanted, adapt=True, dtype=torch.float32, tell=tell)
