"""The moving average of the trained weights, by diffusers. It is what a checkpoint's policy acts with.

decay(step) = min(most, 1 - (1 + step)^-power), as published (`models/ema_model.py` with inv_gamma 1).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from rdt_model.run_config import EmaPart


class MovingAverage:
    """Of the named parameters, which it does not own."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: EmaPart) -> None:
        self.names = tuple(parameters)
        self._live: Sequence[nn.Parameter] = list(parameters.values())
        self._ema = EMAModel(
            self._live, decay=config.most, use_ema_warmup=True, inv_gamma=1.0, power=config.power, foreach=True
        )

    def step(self) -> None:
        """Take in the parameters as they are after a step of the optimiser."""
        self._ema.step(self._live)

    def averages(self) -> dict[str, Tensor]:
        """Name -> average."""
        return dict(zip(self.names, self._ema.shadow_params, strict=True))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the parameters are the averages."""
        self._ema.store(self._live)
        self._ema.copy_to(self._live)
        try:
            yield
        finally:
            self._ema.restore(self._live)

    @torch.no_grad()
    def load(self, averages: Mapping[str, Tensor], steps: int) -> None:
        """Go on from averages after so many steps."""
        for name, shadow in zip(self.names, self._ema.shadow_params, strict=True):
            shadow.copy_(averages[name])
        self._ema.optimization_step = steps
