"""`rdt-data convert`: a raw source into a store."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.shell import INTERRUPTED, QUARANTINED, human_bytes, print_json

if TYPE_CHECKING:
    from converters.plan import Plan, Request
    from converters.run import ConvertReport
    from converters.spec import DatasetSpec


def convert(
    source: Annotated[Path, typer.Argument(help="Directory (or file) of the raw dataset.")],
    dest: Annotated[str, typer.Argument(help="The store to write, DEST.zarr (path or URL).")],
    dataset: Annotated[str | None, typer.Option(help="Name of its spec; found in the source where it can be.")] = None,
    spec: Annotated[Path | None, typer.Option(help="Your own spec, a YAML file.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, all, or train+val (RLDS; default: train).")] = None,
    episodes: Annotated[str | None, typer.Option(help="Episodes A:B of the source, B excluded.")] = None,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    ray: Annotated[str | None, typer.Option(help='Address of a Ray cluster, or "local".')] = None,
    image_size: Annotated[int | None, typer.Option(help="Shrink frames so that the longer side has PX pixels.")] = None,
    codec: Annotated[str, typer.Option(help="keep (copy what is encoded), jpeg:Q, or png.")] = "keep",
    action: Annotated[
        Literal["next-state", "recorded"] | None, typer.Option(help="What the actions are; default: as the spec says.")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="Text for episodes that have none.")] = None,
    corrected: Annotated[bool, typer.Option("--corrected", help="Apply the corrections the spec lists.")] = False,
    on_error: Annotated[
        Literal["stop", "quarantine"], typer.Option(help="A broken episode ends the run, or is listed and left out.")
    ] = "stop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert a raw dataset into a store. Run it again to continue.

    Exits 0 when every episode is there, 3 when broken ones were quarantined, 1 on an error.
    """
    from converters.plan import Request

    chosen = choose_spec(source, dataset, spec)
    request = Request.of(
        chosen,
        split=split,
        episodes=_range(episodes),
        image_size=_positive(image_size),
        codec=codec,
        action=action,
        corrected=corrected,
        instruction=instruction,
    )
    if dry_run:
        _dry_run(source, request, as_json)
        return
    report = _convert(source, dest, request, workers, ray, on_error, overwrite, as_json)
    if as_json:
        print_json(report)
    else:
        _summary(report)
    if report.quarantined:
        raise typer.Exit(QUARANTINED)


def choose_spec(source: Path, dataset: str | None, spec: Path | None) -> "DatasetSpec":
    """The spec asked for, or the one the source names itself by. Raises RdtError when neither helps."""
    from converters import catalog
    from converters.source import names_of, recognised
    from converters.spec import load_spec
    from rdt_data.errors import RdtError

    if spec is not None and dataset is not None:
        raise RdtError("--dataset and --spec are both given", remedy="give one of them")
    if spec is not None:
        return load_spec(spec)
    if dataset is not None:
        return catalog.get(dataset)
    found = recognised(source)
    if found is None:
        raise RdtError(
            f"no spec is known for {source} (it goes by: {names_of(source)})",
            remedy="give --dataset NAME (`rdt-data spec list` prints them) or --spec FILE.yaml",
        )
    return catalog.get(found)


def _range(text: str | None) -> tuple[int, int] | None:
    from rdt_data.errors import RdtError

    if text is None:
        return None
    start, colon, stop = text.partition(":")
    if not colon or not (start or "0").isdecimal() or not (stop or "0").isdecimal():
        raise RdtError(f"--episodes {text}", remedy="write A:B, for example 0:100, or 100: for the rest")
    low, high = int(start or 0), int(stop) if stop else 2**62
    if low >= high:
        raise RdtError(f"--episodes {text} is empty", remedy="B is one past the last episode: 0:1 is the first")
    return low, high


def _positive(image_size: int | None) -> int | None:
    from rdt_data.errors import RdtError

    if image_size is not None and image_size < 8:
        raise RdtError(f"--image-size {image_size}", remedy="give the longer side in pixels, at least 8")
    return image_size


def _convert(
    source: Path,
    dest: str,
    request: "Request",
    workers: int,
    ray: str | None,
    on_error: Literal["stop", "quarantine"],
    overwrite: bool,
    as_json: bool,
) -> "ConvertReport":
    from cli.progress import PartProgress
    from converters.run import convert_dataset

    progress = PartProgress(quiet=as_json)
    # zarr writes in a thread of its own; what an interruption leaves half-written there is removed, and told below
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return convert_dataset(
            source,
            dest,
            request,
            workers=workers,
            ray=ray,
            on_error=on_error,
            overwrite=overwrite,
            progress=progress,
        )
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {progress.finished}; run the same command again to continue", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        progress.stop()


def _dry_run(source: Path, request: "Request", as_json: bool) -> None:
    from converters.estimate import estimate
    from converters.plan import make_plan

    plan: Plan = make_plan(source, request)
    outlook = estimate(plan)
    if as_json:
        print_json(outlook)
        return
    about = "" if outlook.exact else "about "
    typer.echo(f"{request.dataset} from {plan.root}, {request.spec.control_hz:g} Hz, reader {request.spec.reader}")
    typer.echo(f"  {outlook.parts} parts, {about}{outlook.episodes} episodes, {about}{outlook.steps} steps")
    if outlook.filtered or outlook.broken:
        typer.echo(
            f"  left out: {about}{outlook.filtered} by the spec's rules, {about}{outlook.broken} that are broken"
        )
    typer.echo(f"  {human_bytes(outlook.bytes)} of source, {about}{human_bytes(outlook.store_bytes)} to write")
    for slot, camera in outlook.cameras.items():
        typer.echo(f"  {slot}: {camera}")
    typer.echo(f"  state fills  {', '.join(outlook.state_slots)}")
    typer.echo(f"  action fills {', '.join(outlook.action_slots)} ({request.action})")
    if outlook.problem:
        typer.echo(f"  a first episode cannot be converted: {outlook.problem}")


def _summary(report: "ConvertReport") -> None:
    if report.already == report.parts:
        typer.echo(f"{report.dest} is finished already: nothing to do")
    typer.echo(
        f"{report.dest}: {report.episodes} episodes, {report.steps} steps, {human_bytes(report.bytes)} "
        f"in {report.parts} parts ({report.already} were there before)"
    )
    for entry in report.filtered[:10]:
        typer.echo(f"  filtered {entry['episode']}: {entry['reason']}")
    if len(report.filtered) > 10:
        typer.echo(f"  … {len(report.filtered)} filtered by the spec's rules in all")
    for entry in report.quarantined:
        field = f", field {entry['field']}" if entry["field"] else ""
        typer.echo(f"  quarantined {entry['file']}, episode {entry['episode']}{field}: {entry['reason']}")
