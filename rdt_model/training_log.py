"""The numbers of a run, kept: metrics.jsonl always, TensorBoard and wandb by choice.

In: a step and its numbers. Out: one line of JSON, one point per curve. A resumed run first drops the lines after the
step it goes on from, so that the file tells one history. Knows nothing of what the numbers mean.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rdt_data.errors import RdtError

METRICS: Final = "metrics.jsonl"


class RunLog:
    """A context manager. step: the one that a run goes on from, 0 for a new one. wandb: name of a project."""

    def __init__(
        self, out: Path, step: int, *, tensorboard: bool, wandb: str | None, config: Mapping[str, Any]
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / METRICS
        _cut(self.path, step)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(out / "tensorboard", step) if tensorboard else None
        self._wandb = _wandb(wandb, out, config) if wandb else None

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keep the numbers of a step (those after so many steps)."""
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if self._board is not None:
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(numbers), step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, those of killed writers left out."""
    found = []
    for line in (out / METRICS).read_text(encoding="utf-8").splitlines():
        try:
            found.append(dict(json.loads(line)))
        except ValueError:  # a run was killed while it wrote its last line
            continue
    return found


def _cut(path: Path, step: int) -> None:
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in read_metrics(path.parent) if line["step"] <= step]
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text("".join(kept), encoding="utf-8")
        os.replace(unfinished, path)


def _board(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
    return writer


def _wandb(project: str, out: Path, config: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError:
        raise RdtError("wandb is not installed", remedy="pip install wandb, or leave `wandb` out") from None
    return wandb.init(project=project, dir=str(out), config=dict(config), resume="allow")
