"""`rdt sample`: a policy's predicted chunks against recorded ones."""

from pathlib import Path
from typing import Annotated

import typer

from cli.progress import counting
from cli.shell import print_json


def sample(
    checkpoint: Annotated[
        str, typer.Option(help="A policy's directory, or a published checkpoint (directory, hub id).")
    ],
    data: Annotated[str, typer.Option(help="A store (path or URL) with the robot's episodes.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory for report.json, report.txt and plots.")],
    episodes: Annotated[
        str, typer.Option(help="How many, the first ones; or numbers and ids with commas: 4,7 or 4, for one.")
    ] = "5",
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of the noise that chunks are made from.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    image_encoder: Annotated[
        str | None, typer.Option(help="Hub id or directory of the SigLIP, in place of the checkpoint's.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Hub id or directory of a T5; without it, the store's embeddings are used.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare the action chunks a policy predicts with those that were recorded, per joint, in rad, m and degrees."""
    from rdt_model.sample_run import SampleOptions, sample_store

    options = SampleOptions(
        episodes=episodes, steps=steps, seed=seed, device=device, image_encoder=image_encoder, language=language
    )
    with counting("predicting", "chunks", quiet=as_json) as progress:
        report = sample_store(checkpoint, data, out, options, progress)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{report}\n\nwritten: {out}")
