"""Noise -> actions: the denoising loop over conditions that were encoded once.

In: a network, Conditions, and noise or where to draw it from. Out: action chunks, masked. The solver's own arithmetic
stays in float32, whatever the network computes in. Knows nothing of observations.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model import schedule
from rdt_model.conditions import Conditions

if TYPE_CHECKING:
    from rdt_model.inpaint import Known
    from rdt_model.network import RDT


@torch.no_grad()
def sample(
    net: "RDT",
    cond: Conditions,
    steps: int | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    known: "Known | None" = None,
) -> Tensor:
    """One action chunk per row of `cond`, (k B, H, A) float32; slots outside the action mask are 0.

    steps: denoising steps, by default the configuration's. noise: (k B, H, A), the chunk at the noisiest timestep; by
    default drawn from `generator`, on the generator's device. known: what is in-painted, a plan per row. Raises
    RdtError for noise of another shape.
    """
    config = net.config
    shape = (len(cond), config.pred_horizon, config.action_dim)
    noise = draw(shape, net.device, generator) if noise is None else noise.to(net.device, torch.float32)
    noisy = noise
    if noisy.shape != shape:
        raise RdtError(f"noise of shape {tuple(noisy.shape)} for chunks of {shape}", remedy="give one chunk per row")
    solver = schedule.solver(config.noise, config.noise.num_inference_timesteps if steps is None else steps)
    for step, timestep in zip(solver.timesteps, solver.timesteps.to(net.device), strict=True):
        if known is not None:
            noisy = known.noised(noisy, noise, timestep, config.noise)  # (k B, H, A)
        output = net.denoise(noisy, timestep, cond).float()  # (k B, H, A)
        noisy = solver.step(output, step, noisy).prev_sample  # (k B, H, A)
    if known is not None:
        noisy = known.clean(noisy)
    return noisy * cond.rows(cond.action_mask)


def draw(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Standard normal float32 numbers; where the generator lives, so that a seed gives the same on every device."""
    where = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=where).to(device)
