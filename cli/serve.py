"""`rdt serve`: a policy for robots, by websocket."""

from pathlib import Path
from typing import Annotated

import typer

from cli.shell import print_json


def serve(
    checkpoint: Annotated[str, typer.Option(help="A policy's directory.")],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that robots must bring.")] = None,
    robot_keys: Annotated[
        bool, typer.Option("--robot-keys", help="Take the robot's own arrays, as the policy's spec names them.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Hub id or directory of a T5; without it, prompts are embeddings.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; the network's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the noise that chunks are made from.")] = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile a denoising step; starts slowly.")] = False,
    rows: Annotated[int, typer.Option(min=1, help="Robots denoised together at most.")] = 16,
    deadline_ms: Annotated[float, typer.Option(min=0, help="How long a robot waits for others to join.")] = 5,
    robots: Annotated[int, typer.Option(min=1, help="Robots connected at once at most.")] = 16,
    message_mb: Annotated[float, typer.Option(min=0.1, help="Largest message, in MiB.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> None:
    """Serve a policy to robots; openpi-client drives it. Ends with Ctrl-C or SIGTERM, after answering.

    On the same port: /healthz, and /metrics for Prometheus.
    """
    from rdt_model.access import Access
    from rdt_model.served_policy import ServedPolicy
    from rdt_model.server import ServeOptions, serve_policy

    options = ServeOptions(
        host=host,
        port=port,
        steps=steps,
        rows=rows,
        deadline_s=deadline_ms / 1e3,
        bytes=int(message_mb * 2**20),
        robots=robots,
    )
    access = Access.of(host, token_file)
    policy = ServedPolicy.load(checkpoint, language=language, device=device, seed=seed, compile=compiled)
    side = None
    if robot_keys:
        from cli.robot_messages import sides

        side = sides(policy.config)

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address})
        else:
            typer.echo(f"{policy.config.dataset}, {policy.net.device}: {address} (Ctrl-C ends it)")

    serve_policy(policy, access, options, ready=ready, side=side)
