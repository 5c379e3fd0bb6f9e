"""The noise schedules of diffusers, made from a `NoiseConfig`. The only owner of diffusers.

In: a NoiseConfig. Out: the forward process (DDPM, Ho et al. 2020, arXiv:2006.11239), and a solver of the reverse one
(DPM-Solver++ multistep, Lu et al. 2022, arXiv:2211.01095). Knows nothing of networks.
"""

import copy
import warnings
from functools import lru_cache
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from rdt_model.config import NoiseConfig


def add_noise(config: NoiseConfig, actions: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Actions as they are at each row's timestep. actions, noise: (B, H, A); timesteps: (B,) int."""
    noisy: Tensor = _forward(config).add_noise(actions, noise, timesteps)
    return noisy


def solver(config: NoiseConfig, steps: int) -> Any:
    """A fresh solver with `steps` timesteps, noisiest first; `.timesteps`, `.step(output, t, noisy).prev_sample`."""
    return copy.deepcopy(_reverse(config, steps))  # a solver remembers its last outputs


@lru_cache
def _forward(config: NoiseConfig) -> Any:
    with torch.device("cpu"):
        return DDPMScheduler(**_shared(config), clip_sample=config.clip_sample)


@lru_cache
def _reverse(config: NoiseConfig, steps: int) -> Any:
    with torch.device("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # diffusers makes NumPy arrays of tensors in the old way
        made = DPMSolverMultistepScheduler(**_shared(config))
        made.set_timesteps(steps)
        return made


def _shared(config: NoiseConfig) -> dict[str, Any]:
    return {
        "num_train_timesteps": config.num_train_timesteps,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction_type,
    }
