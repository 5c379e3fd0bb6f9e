"""Export a store to another format: the one entry for `rdt-data export`.

In: a finished store, a path that does not exist, a format. Out: that path, whole, or nothing. The formats are in
`lerobot` and `parquet` beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from converters.exports.lerobot import write_lerobot
from converters.exports.parquet import write_parquet
from converters.exports.survey import open_finished
from rdt_data.errors import RdtError
from rdt_data.staging import new_directory

Format = Literal["lerobot", "parquet"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote. black: cameras with how many episodes lack them and have black frames instead."""

    dest: str
    format: Format
    episodes: int
    steps: int
    files: int
    bytes: int
    black: dict[str, int] = field(default_factory=dict)


def export_store(
    store: str,
    dest: Path,
    format: Format,
    *,
    options: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Write `store` as `dest`. options: of `write_lerobot`. progress is told finished and all episodes.

    Raises RdtError when dest exists, the store is unfinished, or the format cannot hold what the store holds.
    """
    dataset = open_finished(store)
    if options and format != "lerobot":
        raise RdtError(
            f"{', '.join(sorted(options))} say nothing for {format}: it holds every real slot and no frames",
            remedy="leave them out, or use --format lerobot",
        )
    with new_directory(dest) as folder:
        if format == "lerobot":
            lacking = write_lerobot(dataset, folder, progress, **(options or {}))
        else:
            lacking = {}
            write_parquet(dataset, folder, progress)
    files = [path for path in dest.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    black = {slot: count for slot, count in lacking.items() if count}
    return ExportReport(str(dest), format, len(dataset), dataset.steps, len(files), size, black)
