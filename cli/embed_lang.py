"""`rdt-data embed-lang`: the T5 embeddings of all instructions of converted stores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.progress import counting
from cli.shell import INTERRUPTED, print_json

if TYPE_CHECKING:
    from stats.embed import EmbedReport, Options

_SHOWN = 5


def embed_lang(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Converted stores.")],
    model: Annotated[str, typer.Option(help="A T5 encoder: hub id or local directory.")] = "google/t5-v1_1-xxl",
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub model.")] = None,
    dtype: Annotated[str, typer.Option(help="bf16, fp32 or fp16: computed and stored.")] = "bf16",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    max_length: Annotated[int, typer.Option(help="Tokens a text is cut to.")] = 1024,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens of a batch; default 8192, on a CPU 2048.")] = None,
    quantize: Annotated[str | None, typer.Option(help="8bit or 4bit (needs bitsandbytes).")] = None,
    offload: Annotated[str | None, typer.Option(help="Folder for weights that fit no memory.")] = None,
    store: Annotated[str | None, typer.Option(help="A folder of embeddings that stores share.")] = None,
    missing: Annotated[str, typer.Option(help="Episodes without instruction: error, empty, or a text.")] = "error",
    verify: Annotated[bool, typer.Option("--verify", help="Read all that is there; replace what is damaged.")] = False,
    export: Annotated[str | None, typer.Option(help="pt: also write the published .pt files.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of --export; default: in each store.")] = None,
    ray: Annotated[str | None, typer.Option(help='Address of a Ray cluster, or "local".')] = None,
    gpus: Annotated[int, typer.Option(min=0, help="With --ray: GPUs, an encoder on each.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="With --ray: encoders, where there are no GPUs.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Embed every instruction and phrasing once, in batches; continues where an earlier run ended."""
    from stats.embed import Options
    from stats.embed_export import check_form, export_stores

    options = Options(
        *(model, revision, dtype, max_length, batch_tokens, device, quantize, offload),
        *(store, missing, verify, ray, gpus, workers),
    )
    check_form(export, out)
    report = _embed(stores, options, as_json)
    exported = export_stores(stores, report.encoder.key, out) if export else {}
    if as_json:
        print_json(report.as_json() | {"exported": exported})
    else:
        _print(report, exported)


def _embed(stores: list[str], options: "Options", as_json: bool) -> "EmbedReport":
    from stats.embed import embed

    try:
        with counting("embedding", "tokens", quiet=as_json) as progress:
            return embed(stores, options, progress)
    except KeyboardInterrupt:
        typer.echo("interrupted: finished batches stay; run the same command again to continue", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _print(report: "EmbedReport", exported: dict[str, int]) -> None:
    encoder = report.encoder
    how = f"{encoder.dtype}, {encoder.quantize}" if encoder.quantize else encoder.dtype
    typer.echo(
        f"{report.texts} texts, {encoder.model} ({how}): {report.already} there, {report.copied} copied, "
        f"{report.computed} computed in {report.seconds:.1f} s"
    )
    if report.batches:
        padding = 1 - report.tokens / report.padded_tokens
        typer.echo(f"  {report.batches} batches, {report.tokens:,} tokens, {padding:.1%} of the work was padding")
    for url, about in report.stores.items():
        typer.echo(f"  {url}: {about['episodes']} episodes, {about['texts']} texts, in {about['language']}")
        without = about["without_instruction"]
        if without:
            more = " …" if len(without) > _SHOWN else ""
            typer.echo(
                f"    {len(without)} without instruction, as {report.missing_as!r}: {', '.join(without[:_SHOWN])}{more}"
            )
    for text, tokens in list(report.truncated.items())[:_SHOWN]:
        typer.echo(f"  cut from {tokens} to {encoder.max_length} tokens: {text[:60]!r}")
    if len(report.truncated) > _SHOWN:
        typer.echo(f"  … {len(report.truncated)} texts were cut in all (--json lists them)")
    for shard, reason in report.damaged.items():
        typer.echo(f"  damaged, computed again: {shard}: {reason}")
    for folder, count in exported.items():
        typer.echo(f"  {count} .pt files in {folder}")
