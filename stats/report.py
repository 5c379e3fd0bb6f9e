"""A page that shows a person what is in datasets: one HTML file that needs no network and runs where it is opened.

In: stores of this machine. Out: the file, whole or not at all. The same stores and options give the same bytes: no
clock is read, and what is sampled is a function of (seed, episode number). Statistics are measured once and kept in the
stores (`stats.measure`); vectors and words are checked by `stats.lint`, with the frames of a few episodes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec

from rdt_data.errors import RdtError
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from stats.lint import lint
from stats.measure import measure_stores
from stats.report_data import About, gather
from stats.report_page import page

Progress = Callable[[int, int], None]
"""Called with (done, total) in per cent."""

_MEASURED, _CHECKED = 60, 30
"""What the stages take of a hundred, roughly; the rest is reading and drawing."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. bytes: the size of the page."""

    path: Path
    bytes: int
    stores: tuple[str, ...]
    episodes: int
    findings: int


def write_report(
    urls: Sequence[str],
    out: Path,
    *,
    title: str | None = None,
    episodes: int = 4,
    frames: int = 8,
    images: int = 6,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Written:
    """Write a report of one store, or of several side by side.

    episodes: how many of each store are drawn; frames: of each camera of each; images: episodes a camera whose frames
    lint looks at. Raises RdtError for numbers below 0 and stores given twice, StoreError for a store that is absent or
    unfinished.
    """
    if not urls:
        raise RdtError("no store is given", remedy="give at least one")
    if min(episodes, images, seed) < 0 or frames < 1:
        raise RdtError(
            f"episodes {episodes}, frames {frames}, images {images}, seed {seed}",
            remedy="give numbers from 0 on, and at least 1 frame",
        )
    _refuse_place(out)
    stores = [open_dataset(url) for url in urls]
    labels = _labels(stores)
    measured = measure_stores(urls, workers=workers, progress=_share(progress, 0, _MEASURED))
    found: list[About] = []
    for number, (store, label, stats) in enumerate(zip(stores, labels, measured, strict=True)):
        each = _CHECKED // len(stores)
        checked = lint(
            store.url,
            images=images,
            seed=seed,
            workers=workers,
            progress=_share(progress, _MEASURED + number * each, each),
        )
        found.append(gather(f"d{number + 1}", label, store, stats, checked, episodes, frames, seed))
    data = page(found, title).encode("utf-8", "replace")
    replace_file(fsspec.filesystem("file"), str(out.absolute()), data)
    progress(100, 100)
    findings = sum(len(about.lint.findings) for about in found)
    return Written(out, len(data), tuple(urls), sum(len(store) for store in stores), findings)


def _labels(stores: Sequence[Dataset]) -> list[str]:
    """The name of each dataset; with its folder where two have one name."""
    paths = Counter(store.path for store in stores)
    if twice := [path for path, count in paths.items() if count > 1]:
        raise RdtError(f"{twice[0]} is given twice", remedy="give each store once")
    names = Counter(store.name for store in stores)
    folders = Counter(Path(store.path).name for store in stores)
    return [store.name if names[store.name] == 1 else f"{store.name} ({_folder(store, folders)})" for store in stores]


def _folder(store: Dataset, folders: Counter[str]) -> str:
    name = Path(store.path).name
    return name if folders[name] == 1 else store.path


def _share(progress: Progress, start: int, size: int) -> Progress:
    """The progress of a stage that takes `size` of a hundred."""
    return lambda done, total: progress(start + (size * done // total if total else size), 100)


def _refuse_place(out: Path) -> None:
    """Before anything is measured."""
    if not out.parent.is_dir():
        raise RdtError(f"{out.parent} is not a folder", remedy=f"make it, or give another path than {out}")
    if out.is_dir():
        raise RdtError(f"{out} is a folder", remedy=f"give the path of a file, for example {out / 'report.html'}")
