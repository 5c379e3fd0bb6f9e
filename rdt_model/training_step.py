"""One step of the optimiser, and what stops a run: numbers that are not finite, a loss that runs away.

In: the batches of a step. Out: its loss and the norm of its gradient. The loss is the mean over all numbers of all
ranks and backward passes: two ranks give what one rank with the doubled batch gives. Knows nothing of files.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rdt_data.batch import Batch
from rdt_data.errors import RdtError
from rdt_model.run_config import OptimiserPart, RunConfig
from rdt_model.training_batch import TrainingBatch

DIVERGED: Final = 10.0
"""A run stops when its smoothed loss is this many times that of its first steps."""

_FIRST, _SMOOTH = 10, 0.98


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a batch are from, to name them when something is wrong with them."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, batch: Batch) -> "Rows":
        places = zip(batch.dataset, batch.episode, batch.step, batch.sample, strict=True)
        return cls(tuple(f"{name} episode {episode} step {step} (sample {at})" for name, episode, step, at in places))


@dataclass(frozen=True, slots=True)
class StepResult:
    """loss: of this rank's share, weighted by its numbers; numbers: how many. grad_norm: of all ranks, unclipped."""

    loss: Tensor
    numbers: int
    grad_norm: float


class Stepper:
    """See the module. module and optimiser are those that `accelerator.prepare` gave."""

    def __init__(self, accelerator: Accelerator, module: nn.Module, optimiser: Any, config: RunConfig) -> None:
        self.accelerator, self.module, self.optimiser, self.config = accelerator, module, optimiser, config

    def __call__(
        self, step: int, batches: Sequence[tuple[TrainingBatch, Rows]], meanwhile: Callable[[], None]
    ) -> StepResult:
        """step: counted from 0. meanwhile: work for this process while a GPU computes.

        Raises RdtError that names the samples when the loss or the gradient is not finite; nothing was changed then.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, step, self.config.steps)
        numbers = sum(batch.numbers for batch, _ in batches)
        total = torch.tensor(float(numbers), device=self.accelerator.device)
        share = self.accelerator.num_processes / max(float(self.accelerator.reduce(total, "sum")), 1.0)
        losses = []
        for number, (batch, _) in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                loss = self.module(batch)
                self.accelerator.backward(loss * (batch.numbers * share))
            losses.append(loss.detach() * batch.numbers)
        meanwhile()
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.optimiser.clip_norm)
        grad_norm = float(norm) if norm is not None else 0.0
        if not grad_norm < float("inf"):
            self._refuse(step, batches, f"the gradient's norm is {grad_norm}")
        self.optimiser.step()
        self.optimiser.zero_grad()
        return StepResult(torch.stack(losses).sum(), numbers, grad_norm)

    def _refuse(self, step: int, batches: Sequence[tuple[TrainingBatch, Rows]], what: str) -> None:
        """Find the rows whose own loss is not finite, else the largest, and stop."""
        found: list[tuple[float, str]] = []
        with torch.no_grad():
            for batch, rows in batches:
                for number, name in enumerate(rows.names):
                    found.append((float(self.accelerator.unwrap_model(self.module)(row(batch, number))), name))
        bad = [name for loss, name in found if not loss < float("inf")]
        worst = [f"{name}: loss {loss:.3g}" for loss, name in sorted(found, reverse=True)[:5]]
        raise RdtError(
            f"step {step + 1}: {what}; of its samples " + (f"not finite: {', '.join(bad[:5])}" if bad else str(worst)),
            remedy="look at these episodes (`rdt-data view`, `rdt-data lint`), or lower optimiser.learning_rate; "
            "--resume goes on from the last checkpoint",
        )


class Watch:
    """Stops a run whose loss runs away. Its state is two numbers."""

    def __init__(self, counters: Mapping[str, float] | None = None) -> None:
        self.first, self.smooth, self.seen = 0.0, 0.0, 0.0
        for name, value in (counters or {}).items():
            setattr(self, name, value)

    def counters(self) -> dict[str, float]:
        """What `Watch` begins with again."""
        return {"first": self.first, "smooth": self.smooth, "seen": self.seen}

    def __call__(self, step: int, loss: float, rows: Sequence[Rows]) -> None:
        """loss: of step number `step`, from 1. Raises RdtError when the run has diverged."""
        self.seen += 1
        if self.seen <= _FIRST:
            self.first += loss / _FIRST
            self.smooth = self.first if self.seen == _FIRST else 0.0
            return
        self.smooth = _SMOOTH * self.smooth + (1 - _SMOOTH) * loss
        if self.smooth > DIVERGED * self.first:
            names = [name for batch in rows for name in batch.names][:5]
            raise RdtError(
                f"step {step}: the loss has diverged: {self.smooth:.3g} over the last steps, {self.first:.3g} over "
                f"the first {_FIRST}; the last samples were {', '.join(names)}",
                remedy="lower optimiser.learning_rate, or look at these episodes; --resume goes on from a checkpoint",
            )


def learning_rate(config: OptimiserPart, step: int, steps: int) -> float:
    """Of a step, counted from 0: a linear warm-up, then constant, or half a cosine to 0 after the last step."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return config.learning_rate * warm
    done = max(step - config.warmup_steps, 0) / max(steps - config.warmup_steps, 1)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))


def row(batch: TrainingBatch, number: int) -> TrainingBatch:
    """A batch of one row."""
    at = slice(number, number + 1)
    by_draw = {name: getattr(batch, name)[:, at] for name in ("noise", "timesteps")}
    names = [one.name for one in fields(batch) if one.name not in (*by_draw, "numbers", "lang_tokens", "lang_mask")]
    return replace(batch, **{name: getattr(batch, name)[at] for name in names}, **by_draw)
