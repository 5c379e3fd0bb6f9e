"""The stores of a mixture as a feed reads them: which of their episodes, and where each store stands.

In: a mixture, the side of the split, the parts to look at. Out: for every store its URL, the episodes that are long
enough, their lengths, and a description that is kept in the state of a feed. A store that grows is read as it was when
it was opened; a resumed feed reads the parts it began with, and refuses a store that has lost or changed some.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdt_data.errors import StoreError
from rdt_data.index import Runs
from rdt_data.language import pointers
from rdt_data.mixture import Source
from rdt_data.mixture_file import Mixture
from rdt_data.split import Side, read_split
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode

Parts = list[list[Any]]
"""[id, episodes, steps] of each part of a store, in order."""


@dataclass(frozen=True)
class OpenMixture:
    """mixture: as given. stores: name -> opened. parts: name -> what was there. sources: what a `Plan` takes."""

    stores: Mapping[str, Dataset]
    parts: Mapping[str, Parts]
    sources: Mapping[str, Source]

    @property
    def cameras(self) -> tuple[str, ...]:
        """The camera slots that any store has frames of."""
        from rdt_data.layout import CAMERAS

        return tuple(slot for slot in CAMERAS if any(slot in store.cameras for store in self.stores.values()))

    @property
    def urls(self) -> dict[str, str]:
        return {name: store.url for name, store in self.stores.items()}

    @property
    def embedded(self) -> bool:
        """Whether the stores have language embeddings. Raises StoreError when only some have."""
        have = {name: bool(pointers(store)) for name, store in self.stores.items()}
        if len(set(have.values())) > 1:
            lacking = next(name for name, there in have.items() if not there)
            raise StoreError(
                f"{self.stores[lacking].url} has no language embeddings, other stores of the mixture have",
                remedy="run `rdt-data embed-lang` on it, or give language=False for the ids of instructions",
            )
        return all(have.values())


def open_mixture(
    mixture: Mixture, split: Side | None, run_steps: int, parts: Mapping[str, Parts] | None = None
) -> OpenMixture:
    """Open every store and read the lengths of its episodes. split: None takes both sides.

    parts: those to look at; None: all that are there. Raises StoreError where a store gives nothing.
    """
    stores, there, sources = {}, {}, {}
    for name, share in mixture.shares.items():
        url = mixture.url(name)
        # producers have another working directory
        store = stores[name] = open_dataset(url if "://" in url else str(Path(url).absolute()))
        store.tables_kept = 8
        there[name] = [list(row) for row in store.part_counts]
        if parts is not None:
            _require(store, there[name], parts[name])
            there[name] = parts[name]
        least, most = mixture.steps_of(name)
        sources[name] = _source(store, there[name], share, least, min(run_steps, most), split)
    return OpenMixture(stores, there, sources)


def _require(store: Dataset, there: Parts, wanted: Parts) -> None:
    if there[: len(wanted)] != wanted:
        raise StoreError(
            f"{store.url} is not what it was when this state was saved: {len(wanted)} parts then, {len(there)} now, "
            "and they do not begin alike",
            remedy="put the store back as it was, or begin a new feed without the state",
        )


def _source(store: Dataset, parts: Parts, share: float, least: int, longest: int, split: Side | None) -> Source:
    lengths, right_side = _lengths(store, parts), _on_side(store, parts, split)
    chosen = (lengths >= least) & right_side
    if not chosen.any():
        which = f" on the {split} side" if split else ""
        raise StoreError(
            f"{store.url}: none of {len(lengths)} episodes{which} has {least} steps",
            remedy="lower least_steps in the mixture, change the split, or take the store out",
        )
    return Source(share, np.flatnonzero(chosen), Runs(lengths[chosen], longest))


def _lengths(store: Dataset, parts: Parts) -> "np.ndarray[Any, np.dtype[np.int64]]":
    columns = [np.asarray(store.table(part).column("length"), np.int64) for part in range(len(parts))]
    return np.concatenate([np.zeros(0, np.int64), *columns])


def _on_side(store: Dataset, parts: Parts, split: Side | None) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    count = sum(int(episodes) for _, episodes, _ in parts)
    rule = read_split(store)
    if split is None or (split == "train" and rule is None):
        return np.ones(count, np.bool_)
    if rule is None:
        raise StoreError(f"{store.url} is not split: it has no validation side", remedy="run `rdt-data split` on it")
    tables = ((store.table(part), int(episodes)) for part, (_, episodes, _) in enumerate(parts))
    return np.array(
        [rule.side(StoredEpisode(table, row)) == split for table, count in tables for row in range(count)], np.bool_
    )
