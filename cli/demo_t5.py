"""`rdt-data demo-t5`: a small T5 encoder with drawn weights, to try embed-lang without a download."""

from pathlib import Path
from typing import Annotated

import typer


def demo_t5(
    directory: Annotated[Path, typer.Argument(help="Directory to write; it must not exist.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write a T5 encoder of a few hundred kB that knows the words of the built-in world, and others as bytes.

    Its weights are drawn at random: its embeddings tell texts apart, and mean nothing.
    """
    from rdt_data.sim import WORDS
    from stats.seeded_t5 import write_seeded_t5

    write_seeded_t5(directory, seed, words=WORDS)
    typer.echo(f"{directory}: give it to `rdt-data embed-lang --model`")
