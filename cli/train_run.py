"""`rdt train`: from converted data to a policy."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.shell import print_json
from cli.training_bar import TrainingBar
from rdt_data.errors import RdtError

if TYPE_CHECKING:
    from rdt_model.run_config import RunConfig
    from rdt_model.training import TrainResult


def train(
    changes: Annotated[
        list[str] | None, typer.Argument(help="Any key of it: optimiser.learning_rate=3e-5.", metavar="KEY=VALUE…")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="A run's YAML, or the name of one that comes with rdt: demo.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="A store; again for more, with equal shares.")] = None,
    mixture: Annotated[str | None, typer.Option(help="A mixture file, in place of --data.")] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder.")] = None,
    size: Annotated[str | None, typer.Option(help="tiny, small, 170m or 1b.")] = None,
    init: Annotated[str | None, typer.Option(help="Weights to begin with: directory or hub id.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of each rank's batch.", min=1)] = None,
    draws: Annotated[int | None, typer.Option(help="(timestep, noise) pairs of each row.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn at random.", min=0)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with the run in this folder, or from this checkpoint of it.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help='Address of a Ray cluster to train on, or "local": a rank per GPU.')
    ] = None,
    gpus: Annotated[int, typer.Option(help="With --ray: how many GPUs.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="With --ray and no GPUs: how many processes.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a policy: a diffusion transformer on the samples of stores. Ctrl-C and SIGTERM save a checkpoint first."""
    flags = {
        "data": data, "mixture": mixture, "out": out, "model__size": size, "model__init": init, "steps": steps,
        "batch_size": batch_size, "draws": draws, "seed": seed, "device": device,
    }  # fmt: skip
    changes = changes or []
    if resume is not None and config is not None:
        raise RdtError(
            "--resume with --config", remedy="a run goes on with its own configuration; give key=value changes"
        )
    if ray is None and (gpus or workers):
        raise RdtError("--gpus or --workers without --ray", remedy="they are for --ray ADDRESS; else use torchrun")
    if ray is not None:
        _print(_on_cluster(ray, gpus, workers, resume, _run_of(resume, config, changes, flags)), as_json)
        return
    with TrainingBar(quiet=as_json) as bar:
        result = _resumed(resume, changes, flags, bar) if resume else _begun(config, changes, flags, bar)
    _print(asdict(result), as_json)


def _run_of(resume: str | None, config: str | None, changes: list[str], flags: Mapping[str, Any]) -> "RunConfig":
    """The configuration of a new run, or of one that goes on."""
    from rdt_model.checkpoint_folder import newest
    from rdt_model.run_config import changed, load_run
    from rdt_model.training_state import read_run

    if resume is None:
        return load_run(config, changes, **flags)
    return changed(read_run(newest(Path(resume))), changes, **flags)


def _on_cluster(ray: str, gpus: int, workers: int, resumed: str | None, run: "RunConfig") -> Mapping[str, Any]:
    from rdt_model.ray_launch import launch

    return launch(run, ray=ray, gpus=gpus, workers=workers, resumed=resumed)


def _begun(config: str | None, changes: list[str], flags: Mapping[str, Any], bar: TrainingBar) -> "TrainResult":
    from rdt_model import train as training
    from rdt_model.run_config import load_run

    run = load_run(config, changes, **flags)
    bar.begin(0, run.steps)
    return training.train(run, bar, bar.tell)


def _resumed(run: str, changes: list[str], flags: Mapping[str, Any], bar: TrainingBar) -> "TrainResult":
    from rdt_model import train as training
    from rdt_model.run_config import changed

    def change(saved: "RunConfig") -> "RunConfig":
        wanted = changed(saved, changes, **flags)
        bar.begin(0, wanted.steps)
        return wanted

    return training.resume(run, change, bar, bar.tell)


def _print(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    stopped = result["stopped"]
    how = f"stopped by {stopped} after" if stopped else "trained"
    typer.echo(
        f"{how} {result['steps']} steps in {result['seconds']:.0f} s, {result['wait_share']:.1%} of it waiting for data"
    )
    typer.echo(f"policy: {result['checkpoint']}")
    if stopped:
        typer.echo(f"go on: rdt train --resume {result['out']}")
