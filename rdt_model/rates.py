"""How fast a run is and what it waits for: counted between two lines of its log.

In: results of steps, and when the loop waits for data. Out: numbers: loss, gradient norm, samples and draws a second,
the share of the time that the loop waited for data, and of the GPU its memory and use. Time of validations is left out.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator

from rdt_data import Feed
from rdt_model.training_step import StepResult


class Rates:
    """samples: of a step, on all ranks; draws: of each sample."""

    def __init__(self, samples: int, draws: int) -> None:
        self.samples, self.draws = samples, draws
        self.seconds = self._waited_in_all = 0.0
        self._results: list[StepResult] = []
        self._waited, self._since = 0.0, time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the loop waits for data."""
        began = time.perf_counter()
        yield
        waited = time.perf_counter() - began
        if not self._results and not self.seconds:  # producers begin: not what a warm run waits
            self._since += waited
            return
        self._waited += waited

    def add(self, result: StepResult) -> None:
        """A step was done."""
        self._results.append(result)

    def went_on(self) -> None:
        """A turn of the loop is over; right after a line of the log, what came between was no training."""
        if not self._results:
            self._since = time.perf_counter()

    @property
    def wait_share(self) -> float:
        """Of the whole run so far, without its first batch."""
        return self._waited_in_all / self.seconds if self.seconds else 0.0

    def numbers(self, accelerator: Accelerator, feed: Feed) -> dict[str, float]:
        """Of the steps since the last call; every rank takes part."""
        seconds = time.perf_counter() - self._since
        steps = len(self._results)
        sums = torch.stack([torch.stack([one.loss, one.loss.new_tensor(float(one.numbers))]) for one in self._results])
        loss, count = accelerator.reduce(sums.sum(0), "sum").tolist()
        numbers = {
            "loss": loss / max(count, 1.0),
            "grad_norm": sum(one.grad_norm for one in self._results) / steps,
            "steps_per_s": steps / seconds,
            "samples_per_s": steps * self.samples / seconds,
            "draws_per_s": steps * self.samples * self.draws / seconds,
            "wait_share": self._waited / seconds,
            "replaced_producers": float(feed.stats.replaced_producers),
            **_gpu(accelerator.device),
        }
        self.seconds += seconds
        self._waited_in_all += self._waited
        self._results, self._waited, self._since = [], 0.0, time.perf_counter()
        return numbers


def _gpu(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    found = {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    try:
        found["gpu_use"] = torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError):  # nvidia-ml-py is not installed, or there is no driver to ask
        return found
    return found
