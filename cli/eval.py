"""`rdt eval`: let a policy act in an environment and count how often it succeeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.progress import counting
from cli.shell import as_text, print_json

if TYPE_CHECKING:
    from converters.robot import RobotSide
    from rdt_model.policy_files import PolicyConfig


def evaluate(
    checkpoint: Annotated[str, typer.Option(help="A policy's directory.")],
    env: Annotated[str, typer.Option(help="demo, gym_aloha/AlohaTransferCube-v0 or gym_aloha/AlohaInsertion-v0.")],
    episodes: Annotated[int, typer.Option(help="Starts, none of which is in any demonstration.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Number of the first start; the policy's noise follows it too.", min=0)] = 0,
    execute: Annotated[
        str, typer.Option(help="receding: do a chunk's first actions; ensemble: average the chunks that reach a step.")
    ] = "receding",
    every: Annotated[
        int | None,
        typer.Option(help="Steps from one chunk to the next; default: receding a whole chunk, ensemble 1.", min=1),
    ] = None,
    decay: Annotated[
        float, typer.Option(help="ensemble: m of the weights exp(-m i), the oldest chunk i = 0.", min=0)
    ] = 0.01,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the network's.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Steps of an episode; default: the environment's.", min=1)] = None,
    language: Annotated[
        str | None, typer.Option(help="Hub id or directory of a T5; default: the one the checkpoint names.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A store whose embeddings to use in place of a T5.")] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Also: the same network with fresh weights.")] = False,
    swapped: Annotated[
        bool, typer.Option("--swapped", help="Also: told, and judged by, another task. Is language used?")
    ] = False,
    blank: Annotated[bool, typer.Option("--blank", help="Also: shown no images. Are images used?")] = False,
    video: Annotated[Path | None, typer.Option(help="An MP4 file to write the first episodes to.")] = None,
    video_episodes: Annotated[int, typer.Option(help="Episodes in the video, side by side.", min=1)] = 4,
    parallel: Annotated[
        int | None, typer.Option(help="Environments side by side; default: 50, gym_aloha 5.", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    instruction: Annotated[str | None, typer.Option(help="gym_aloha: what the policy is told.")] = None,
    frame_size: Annotated[str | None, typer.Option(help="gym_aloha: HxW of recorded frames.")] = None,
    shadows: Annotated[
        bool, typer.Option("--shadows", help="gym_aloha: draw as MuJoCo does by default; several times slower.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write the result as JSON to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Let a policy act in an environment, and print how often it does what it is told, with a confidence interval."""
    from rdt_model.eval_options import EvalOptions, ensembles, size_of
    from rdt_model.eval_run import evaluate_checkpoint

    options = EvalOptions(
        env=env,
        episodes=episodes,
        seed=seed,
        parallel=parallel,
        ensemble=ensembles(execute),
        every=every,
        decay=decay,
        steps=steps,
        limit=limit,
        device=device,
        language=language,
        data=data,
        untrained=untrained,
        swapped=swapped,
        blank=blank,
        video=video,
        video_episodes=video_episodes,
        instruction=instruction,
        frame_size=None if frame_size is None else size_of(frame_size),
        shadows=shadows,
    )
    with counting("evaluating", "episodes", quiet=as_json) as progress:
        report = evaluate_checkpoint(checkpoint, options, _robot, progress)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_text(report) + "\n", encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        typer.echo(str(report) + (f"\n\nwritten: {video}" if video else ""))


def _robot(config: "PolicyConfig") -> "RobotSide":
    from converters.robot import RobotSide

    return RobotSide.of(config.spec_text, config.dataset, config.action, corrected=config.corrected)
