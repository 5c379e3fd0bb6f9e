"""`rdt train`: from converted data to a policy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.shell import print_json
from cli.training_bar import TrainingBar

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
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a policy: a diffusion transformer on the samples of stores. Ctrl-C and SIGTERM save a checkpoint first."""
    flags = {
        "data": data, "mixture": mixture, "out": out, "model__size": size, "model__init": init, "steps": steps,
        "batch_size": batch_size, "draws": draws, "seed": seed, "device": device,
    }  # fmt: skip
    with TrainingBar(quiet=as_json) as bar:
        result = (
            _resumed(resume, config, changes or [], flags, bar) if resume else _begun(config, changes or [], flags, bar)
        )
    if as_json:
        print_json(result)
    else:
        _print(result)


def _begun(config: str | None, changes: list[str], flags: Mapping[str, Any], bar: TrainingBar) -> "TrainResult":
    from rdt_model import train as training
    from rdt_model.run_config import load_run

    run = load_run(config, changes, **flags)
    bar.begin(0, run.steps)
    return training.train(run, bar)


def _resumed(
    run: str, config: str | None, changes: list[str], flags: Mapping[str, Any], bar: TrainingBar
) -> "TrainResult":
    from rdt_data.errors import RdtError
    from rdt_model import train as training
    from rdt_model.run_config import changed

    if config is not None:
        raise RdtError(
            "--resume with --config", remedy="a run goes on with its own configuration; give key=value changes"
        )

    def change(saved: "RunConfig") -> "RunConfig":
        wanted = changed(saved, changes, **flags)
        bar.begin(0, wanted.steps)
        return wanted

    return training.resume(run, change, bar)


def _print(result: "TrainResult") -> None:
    how = f"stopped by {result.stopped} after" if result.stopped else "trained"
    typer.echo(f"{how} {result.steps} steps in {result.seconds:.0f} s, {result.wait_share:.1%} of it waiting for data")
    typer.echo(f"policy: {result.checkpoint}")
    if result.stopped:
        typer.echo(f"go on: rdt train --resume {result.out}")
