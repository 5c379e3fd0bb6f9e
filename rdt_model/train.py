"""`rdt train`: from a configuration to a policy, resumable at every checkpoint, bit for bit on one machine's CPU.

In: a `RunConfig`, or the folder of a run to go on with. Out: the run's folder: checkpoints (each a policy), metrics,
the list of parameters. The order of things is in `Training.run`, and nowhere else. What is drawn at random follows
from the run's seed and the samples' numbers, so a resumed run is the run that was never stopped; one whose
configuration would make it another is refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rdt_data.errors import RdtError
from rdt_model import checkpoint_folder
from rdt_model.run_config import RunConfig, differences
from rdt_model.training import Training, TrainResult
from rdt_model.training_state import Restored, read, read_run

MAY_CHANGE: Final = (
    *("out", "log_every", "tensorboard", "wandb", "threads"),
    *("validation.", "checkpoint.", "feed.producers", "feed.remote_producers", "feed.ray"),
)
"""What a resumed run may do differently and stay the same run. Also `steps`, where the learning rate is constant."""

Report = Callable[[int, Mapping[str, float]], None]
"""Called with a step and its numbers, as they are logged."""

Tell = Callable[[str], None]
"""Called with lines about a run before it begins: what is trained, what is frozen, what of `model.init` was resized."""


def train(
    config: RunConfig, report: Report = lambda step, numbers: None, tell: Tell = lambda line: None
) -> TrainResult:
    """Begin a run. Raises RdtError when its folder holds one already, and for everything that cannot be meant."""
    if checkpoint_folder.checkpoints(Path(config.out) / "checkpoints"):
        raise RdtError(
            f"{config.out} holds the checkpoints of a run",
            remedy=f"go on with `rdt train --resume {config.out}`, or give another out",
        )
    return Training(config, None, report, tell).run()


def resume(
    run: str | Path,
    change: Callable[[RunConfig], RunConfig] = lambda config: config,
    report: Report = lambda step, numbers: None,
    tell: Tell = lambda line: None,
) -> TrainResult:
    """Go on from the newest checkpoint of a run, or from the one that is given.

    change: what may differ (`MAY_CHANGE`). Raises RdtError with every other difference, and for a damaged checkpoint.
    """
    folder = checkpoint_folder.newest(Path(run))
    saved = read_run(folder)
    config = change(saved)
    allowed = (*MAY_CHANGE, *(("steps",) if config.optimiser.schedule == "constant" else ()))
    refused = [line for line in differences(saved, config) if not line.startswith(allowed)]
    if refused:
        raise RdtError(
            f"{folder}: this would be another run: {'; '.join(refused)}",
            remedy="resume it as it was, or begin a new one with model.init set to this checkpoint",
        )
    if config.out == saved.out:  # a run's folder may have been moved
        config = config.model_copy(update={"out": str(folder.parents[1])})
    newer = [path for path in checkpoint_folder.checkpoints(Path(config.out) / "checkpoints") if path > folder]
    if newer and folder.parents[1] == Path(config.out):
        raise RdtError(
            f"{config.out} holds {newer[-1].name}, which comes after {folder.name}",
            remedy="go on with another --out, or remove the later checkpoints first",
        )
    restored: Restored = read(folder)
    return Training(config, restored, report, tell).run()
