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
    every: Annotated[
        int | None, typer.Option(help="Predict a chunk every so many steps; default: as many as it has.", min=1)
    ] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of the noise that chunks are made from.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help="fp32 or bf16: what networks compute in; default: bf16 on a GPU, else fp32.")
    ] = None,
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile a denoising step first: minutes, then faster (needs a C compiler)."),
    ] = False,
    quantize: Annotated[
        str | None, typer.Option(help="int8 or int4: the network's weights in fewer bits (needs bitsandbytes).")
    ] = None,
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
        episodes=episodes,
        every=every,
        steps=steps,
        seed=seed,
        device=device,
        dtype=dtype,
        compile=compile,
        quantize=quantize,
        image_encoder=image_encoder,
        language=language,
    )
    with counting("predicting", "chunks", quiet=as_json) as progress:
        report = sample_store(checkpoint, data, out, options, progress)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{report}\n\nwritten: {out}")
