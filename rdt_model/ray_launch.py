"""A run on the workers of a Ray cluster, by Ray Train: the same loop as in one process, a rank per GPU, no ssh.

In: a `RunConfig` (or the folder of a run to go on with), an address, how many workers. Out: the result of the first
rank. `out` and the stores must be where every node finds them: a shared file system, or URLs. Each rank reads its own
share of the samples with producers on its node. Ray Train is an extra: `rdt-data[cluster]`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rdt_data.errors import RdtError
from rdt_data.jobs import connect
from rdt_model.run_config import RunConfig, run_of


def launch(
    config: RunConfig, *, ray: str, gpus: int, workers: int = 0, resumed: str | None = None
) -> Mapping[str, Any]:
    """Train on `gpus` GPUs, or without any on `workers` processes. resumed: the folder of a run to go on with.

    Returns what `TrainResult` holds. Raises RdtError for a cluster that does not answer, and what a rank raised.
    """
    trainer = _trainer(config, gpus, workers, resumed)
    connect(ray)
    result = trainer.fit()
    if result.error is not None:
        raise RdtError(f"a worker failed: {result.error}", remedy="`--resume` goes on from the last checkpoint")
    path = Path(config.out) / _RESULT
    found: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return found


_RESULT = ".ray-result.json"


def _trainer(config: RunConfig, gpus: int, workers: int, resumed: str | None) -> Any:
    try:
        from ray.train import RunConfig as RayRun
        from ray.train import ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise RdtError(f"Ray Train cannot be used: {error}", remedy="pip install 'rdt-data[cluster]'") from None
    if not gpus and not workers:
        raise RdtError("no worker was asked for", remedy="give --gpus N, or --workers N for ranks without GPUs")
    about = {
        "config": json.loads(config.model_copy(update={"out": str(Path(config.out).absolute())}).model_dump_json()),
        "resumed": None if resumed is None else str(Path(resumed).absolute()),
    }
    return TorchTrainer(
        _rank,
        train_loop_config=about,
        # The cores are for the feeds' producers: ranks reserve next to none, else producers could never begin.
        scaling_config=ScalingConfig(
            num_workers=gpus or workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 0.01, **({"GPU": 1} if gpus else {})},
        ),
        run_config=RayRun(name="rdt", storage_path=str(Path(config.out).absolute() / "ray")),
    )


def _rank(about: Mapping[str, Any]) -> None:
    """What one worker does. Its log lines are those of the first rank."""
    from rdt_model.train import resume, train

    config = run_of(about["config"], "the run")
    run = about["resumed"]
    result = train(config, _say, print) if run is None else resume(run, lambda saved: config, _say, print)
    if int(os.environ.get("RANK", "0")) == 0:
        Path(config.out, _RESULT).write_text(json.dumps(asdict(result)))


def _say(step: int, numbers: Mapping[str, float]) -> None:
    print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()), flush=True)
