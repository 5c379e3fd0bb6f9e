"""What a training run shows while it runs: a bar on a terminal, a line now and then elsewhere, nothing for `--json`."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import typer

_EVERY_S = 10.0
"""Seconds between two lines where there is no terminal."""


class TrainingBar:
    """Callable as `train.Report`; a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._steps = 0
        self._bar: tuple[Any, Any] | None = None
        self._said = 0.0

    def begin(self, done: int, steps: int) -> None:
        """How many steps there are in all."""
        self._steps = steps
        if self.quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), auto_refresh=False)
        self._bar = bar, bar.add_task("", total=steps, completed=done)
        bar.start()

    def tell(self, line: str) -> None:
        """A line about the run."""
        if self._bar is not None:
            self._bar[0].console.print(line, highlight=False)
        elif not self.quiet:
            typer.echo(line)

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        if self.quiet:
            return
        line = told(numbers)
        validated = "validation/loss" in numbers
        if self._bar is not None:
            bar, task = self._bar
            if validated:
                bar.console.print(f"step {step}: {line}")
            bar.update(task, completed=step, refresh=True, **({} if validated else {"description": line}))
        elif validated or step == self._steps or time.monotonic() - self._said > _EVERY_S:
            typer.echo(f"step {step} of {self._steps}: {line}")
            self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()


def told(numbers: Mapping[str, float]) -> str:
    """The numbers of a step, or of a validation, in a few words."""
    if "validation/loss" in numbers:
        kinds = (("held-out", "validation/"), ("EMA", "validation_ema/"))
        parts = [
            f"{kind} loss {numbers[f'{prefix}loss']:.4f}, sampled mse {numbers[f'{prefix}overall_avg_sample_mse']:.4f}"
            for kind, prefix in kinds
        ]
        return "; ".join(parts)
    words = [
        f"loss {numbers['loss']:.4f}",
        f"{numbers['samples_per_s']:.0f} samples/s",
        f"waits for data {numbers['wait_share']:.1%}",
    ]
    if "gpu_use" in numbers:
        words.append(f"GPU {numbers['gpu_use']:.0%}")
    if "gpu_memory_gb" in numbers:
        words.append(f"{numbers['gpu_memory_gb']:.1f} GB")
    return ", ".join(words)
