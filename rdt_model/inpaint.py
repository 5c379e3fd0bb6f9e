"""In-painting: a new chunk is drawn so that it goes on from actions that are already on their way.

In: per row the plan of the chunk before, as far as it overlaps the new one, and how much each of its steps binds. Out:
at every denoising step the noisy chunk with the plan, at the same noise, in its place (the replacement of RePaint,
Lugmayr et al. 2022, arXiv:2201.09865). A committed action binds wholly. The steps after it bind less and less, so that
the chunk turns smoothly from the old plan to what the network now sees (the soft mask of real-time chunking, Black et
al. 2025, arXiv:2506.07339, without its gradients).

Works in the network's normalised units; knows nothing of robots, latency and time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model import schedule
from rdt_model.config import NoiseConfig

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the chunk before meant for the first P steps of the new one.

    actions: (P, 128) float32. committed: K <= P, the first of them that will be executed whatever comes; the new chunk
    begins with exactly these.
    """

    actions: FloatArray
    committed: int

    def __post_init__(self) -> None:
        if not 0 <= self.committed <= len(self.actions):
            raise RdtError(
                f"{self.committed} committed actions of a plan of {len(self.actions)}",
                remedy="commit at least 0, and at most as many as the plan holds",
            )

    @property
    def weights(self) -> FloatArray:
        """How much each step binds, (P,): 1 where committed, then down in equal steps, above 0."""
        free = len(self.actions) - self.committed
        fading = 1 - np.arange(1, free + 1, dtype=np.float32) / np.float32(free + 1)
        return np.concatenate([np.ones(self.committed, np.float32), fading])


@dataclass(frozen=True, slots=True)
class Known:
    """The plans of B rows. actions: (B, H, A) float32, 0 where there is no plan; weights: (B, H, 1) in [0, 1]."""

    actions: Tensor
    weights: Tensor

    @classmethod
    def of(cls, plans: Sequence[Plan | None], shape: tuple[int, int, int], device: torch.device) -> "Known | None":
        """Plans in normalised units, one a row, as tensors of `shape` (B, H, A); None where no row has a plan.

        Raises RdtError for a plan that is longer than a chunk or of another width.
        """
        if not any(plans):
            return None
        actions, weights = torch.zeros(shape), torch.zeros(*shape[:2], 1)
        for row, plan in enumerate(plans):
            if plan is not None:
                _check(plan, shape)
                steps = len(plan.actions)
                actions[row, :steps] = torch.from_numpy(plan.actions)
                weights[row, :steps, 0] = torch.from_numpy(plan.weights)
        return cls(actions.to(device), weights.to(device))

    def noised(self, chunk: Tensor, noise: Tensor, timestep: Tensor, config: NoiseConfig) -> Tensor:
        """The noisy chunk of `timestep` () with the plans, as noisy with the same noise, in their place; (B, H, A)."""
        timesteps = timestep.expand(len(chunk))
        return self.blend(chunk, schedule.add_noise(config, self.actions, noise, timesteps))

    def clean(self, chunk: Tensor) -> Tensor:
        """The finished chunk with the plans in their place; (B, H, A)."""
        return self.blend(chunk, self.actions)

    def blend(self, chunk: Tensor, plan: Tensor) -> Tensor:
        """(B, H, A): the plan where weights are 1, the chunk where they are 0, between them in proportion."""
        return torch.lerp(chunk, plan, self.weights)


def _check(plan: Plan, shape: tuple[int, int, int]) -> None:
    steps, width = plan.actions.shape
    if steps > shape[1] or width != shape[2]:
        raise RdtError(
            f"a plan of shape {plan.actions.shape} for chunks of {shape[1:]}",
            remedy="give the actions of the last chunk that this one overlaps, in the layout of chunks",
        )
