"""Noise, targets and the training loss.

In: a network, Conditions, the recorded actions and which of their steps are real. Out: one number to minimise. Draws
nothing that is not asked for: give `noise` and `timesteps`, or a generator.
"""

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rdt_data.errors import RdtError, unknown
from rdt_model import schedule
from rdt_model.conditions import Conditions
from rdt_model.layers import wide
from rdt_model.sampler import draw

if TYPE_CHECKING:
    from rdt_model.network import RDT

MODES: Final = ("masked", "rdt")
"""masked: the mean over real slots of real steps. rdt: the published plain mean over all numbers."""


def diffusion_loss(
    net: "RDT",
    cond: Conditions,
    actions: Tensor,
    valid: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    timesteps: Tensor | None = None,
    mode: str = "masked",
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error of what the network predicts, in float32, a scalar.

    actions: (B, H, A); valid: (B, H) bool, False for padded steps, None for all real. With k = `draws`, each
    observation is denoised from k pairs of noise (k B, H, A) or (k, B, H, A) and timestep (k B,) or (k, B), all from
    the one encoding in `cond`. What is not given is drawn from `generator`.

    "masked" never looks at what it masks: unused slots are 0 before noise is added, as when sampling, and a padded step
    repeats the nearest real one. Raises RdtError for an unknown mode or for shapes that do not fit.
    """
    if mode not in MODES:
        raise unknown("loss mode", mode, MODES)
    rows = cond.repeat(draws)
    _check(net, rows, actions, draws)
    weight = None
    if mode == "masked":
        weight = _weight(cond, actions, valid)  # (B, H, A) bool
        actions = torch.where(cond.rows(cond.action_mask) > 0, repeat_real_steps(actions, valid), 0)
        weight = weight.repeat(draws, 1, 1)  # (k B, H, A)
    actions = actions.to(net.device).repeat(draws, 1, 1)  # (k B, H, A)
    noise = draw(tuple(actions.shape), net.device, generator) if noise is None else noise.reshape(actions.shape)
    if timesteps is None:
        timesteps = draw_timesteps(len(rows), net, generator)
    timesteps = timesteps.reshape(len(rows))
    noisy = schedule.add_noise(net.config.noise, actions, noise, timesteps)  # (k B, H, A)
    target = noise if net.config.noise.prediction_type == "epsilon" else actions
    error = wide(net.denoise(noisy, timesteps, rows)) - wide(target)  # (k B, H, A)
    if weight is None:
        return error.square().mean()
    return torch.where(weight, error, 0).square().sum() / weight.sum().clamp(min=1)


def draw_timesteps(count: int, net: "RDT", generator: torch.Generator | None) -> Tensor:
    """Uniform training timesteps, (count,) int64."""
    where = net.device if generator is None else generator.device
    steps = net.config.noise.num_train_timesteps
    return torch.randint(steps, (count,), generator=generator, device=where).to(net.device)


def repeat_real_steps(actions: Tensor, valid: Tensor | None) -> Tensor:
    """(B, H, A), each padded step as the nearest real one before it, or the first real one; as windows are padded."""
    if valid is None:
        return actions
    steps = torch.arange(valid.shape[1], device=valid.device)
    first = valid.int().argmax(dim=1, keepdim=True)  # (B, 1)
    nearest = torch.where(valid.bool(), steps, -1).cummax(dim=1).values  # (B, H), -1 before the first
    nearest = torch.where(nearest < 0, first, nearest)
    return actions.gather(1, nearest[:, :, None].expand_as(actions))


def _weight(cond: Conditions, actions: Tensor, valid: Tensor | None) -> Tensor:
    slots = cond.rows(cond.action_mask) > 0  # (B, 1, A)
    if valid is None:
        return slots.expand_as(actions)
    return slots & valid.bool()[:, :, None]


def _check(net: "RDT", rows: Conditions, actions: Tensor, draws: int) -> None:
    expected = (len(rows) // draws, net.config.pred_horizon, net.config.action_dim)
    if tuple(actions.shape) != expected:
        raise RdtError(
            f"actions of shape {tuple(actions.shape)}; these conditions and this network need {expected}",
            remedy="give one chunk of pred_horizon actions per observation",
        )
