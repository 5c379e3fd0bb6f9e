"""How good a network is on held-out episodes: its loss, and how far sampled actions are from the recorded ones.

In: batches of the validation side, drawn once and kept, clean (nothing masked, no noise on the state); their noise is a
function of the seed, so that two validations differ by the weights alone. Out: numbers by name:

    loss                                            as trained
    overall_avg_sample_mse, _l2err                  as published (`train/sample.py`): squared error in the units of
                                                    `layout`; error relative to the root mean square of each slot
    <store>_sample_mse, _l2err                      of each store
    <quantity>_<unit>                               mean error of joints (rad), positions (m), rotations (deg) …
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator

from rdt_data import Feed
from rdt_data.batch import Batch, Tokens
from rdt_data.errors import RdtError
from rdt_data.mixture_file import Mixture
from rdt_model.offline import ErrorSums
from rdt_model.ranks import gathered
from rdt_model.run_config import RunConfig
from rdt_model.run_data import StoreFacts
from rdt_model.training_batch import CLEAN, BatchMaker, TrainingBatch
from rdt_model.training_module import TrainingModule

_SMALL = 1e-3
"""Added to the root mean square, as published."""

_OPEN_GB = 1.0


def held_out(
    mixture: Mixture, config: RunConfig, image_size: int, cameras: tuple[str, ...], rank: int, ranks: int
) -> list[Batch]:
    """This rank's batches of the validation side, with windows from all over it.

    Raises StoreError when a store has no validation side.
    """
    with Feed(
        mixture,
        batch_size=config.batch_size,
        seed=config.seed,
        rank=rank,
        world_size=ranks,
        horizon=config.model.horizon,
        history=config.model.history,
        image_size=image_size,
        producers=0,
        shuffle_gb=_OPEN_GB,
        split="validation",
        cameras=cameras,
        run_steps=1,
    ) as feed:
        return [_kept(next(feed)) for _ in range(config.validation.batches)]


@dataclass(frozen=True, slots=True)
class Validation:
    """See the module. batches: what `held_out` gave; maker: how they become tensors."""

    batches: Sequence[Batch]
    maker: BatchMaker
    facts: Mapping[str, StoreFacts]
    config: RunConfig

    @torch.no_grad()
    def __call__(self, module: TrainingModule, accelerator: Accelerator) -> dict[str, float]:
        """The numbers, the same on every rank."""
        sums: dict[str, Any] = defaultdict(lambda: np.zeros(2))
        errors = ErrorSums(self.config.model.horizon)
        module.eval()
        try:
            for batch in self.batches:
                named, arrays = self._measure(module, batch, accelerator)
                for rank in gathered(accelerator, named):
                    for name, pair in rank.items():
                        sums[name] += pair
                for chunk in zip(*(accelerator.gather(array).cpu().numpy() for array in arrays), strict=True):
                    errors.add(*chunk)
        finally:
            module.train()
        found = {name: float(value / max(count, 1)) for name, (value, count) in sums.items()}
        return found | {
            f"{q.name}_{q.unit.replace('/', '_per_')}": q.mean for q in errors.quantities() if q.unit != "1"
        }

    def _measure(
        self, module: TrainingModule, batch: Batch, accelerator: Accelerator
    ) -> tuple[dict[str, tuple[float, float]], list[torch.Tensor]]:
        """Named sums with their counts; predicted and recorded actions (B, H, 128) and which numbers are real."""
        ready: TrainingBatch = self.maker(batch, CLEAN)
        with accelerator.autocast():
            loss = float(module(ready))
            sampled = module.sample(ready, self.config.validation.sample_steps)
        predicted = self.maker.undo(batch, sampled.float().cpu().numpy())  # (B, H, 128)
        real = batch.action_mask & batch.valid[:, :, None]
        named = {"loss": (loss * ready.numbers, float(ready.numbers)), **self._published(batch, predicted, real)}
        arrays = [torch.from_numpy(array).to(accelerator.device) for array in (predicted, batch.action, real)]
        return named, arrays

    def _published(
        self, batch: Batch, predicted: npt.NDArray[np.float32], real: npt.NDArray[np.bool_]
    ) -> dict[str, tuple[float, float]]:
        """Sums and counts: overall of numbers, per store of windows. Padded steps count as published: with the rest."""
        mask = np.broadcast_to(batch.state_mask, real.shape) & batch.action_mask
        error = np.abs(predicted.astype(np.float64) - batch.action)
        norm = np.stack([self.facts[str(name)].state.norm for name in batch.dataset])[:, None]  # (B, 1, 128)
        found: dict[str, Any] = {}
        for name, numbers in (("mse", error**2), ("l2err", error / (norm + _SMALL))):
            found[f"overall_avg_sample_{name}"] = (float(numbers[mask].sum()), int(mask.sum()))
            for row, store in enumerate(batch.dataset):
                mean = float(numbers[row][mask[row]].mean()) if mask[row].any() else 0.0
                before = found.get(f"{store}_sample_{name}", (0.0, 0))
                found[f"{store}_sample_{name}"] = (before[0] + mean, before[1] + 1)
        return found


def _kept(batch: Batch) -> Batch:
    """A copy that stays when the feed goes on."""
    if not isinstance(batch.language, Tokens):
        raise RdtError("the stores have no language embeddings", remedy="run `rdt-data embed-lang` on them")
    names = ("images", "image_mask", "state", "state_mask", "action", "action_mask", "valid")
    return replace(copy(batch), **{name: getattr(batch, name).copy() for name in names})
