"""The order in which a mixture is read: block number -> dataset, episode and run of steps.

In: the runs of every dataset, its share, a seed. Out: an endless or finite sequence of blocks that depends on these
alone, never on ranks, workers or restarts. Each dataset is walked epoch by epoch, every run exactly once in each, in
an order drawn from (seed, dataset, epoch); the dataset of a block is the one that is furthest behind its share, so
shares hold to within one run at any time. Where the walk stands is a few integers for each dataset. Pure: no Zarr.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from rdt_data.errors import RdtError
from rdt_data.index import IntArray, Runs


@dataclass(frozen=True, slots=True)
class Block:
    """A run of consecutive windows of one episode: what is read, decoded and kept at a time.

    number: in the sequence of all ranks together. episode: number in the store. start, stop: steps [start, stop).
    sample: the number of its first window; window i of it is sample + i, unique in the whole run.
    """

    number: int
    dataset: str
    episode: int
    start: int
    stop: int
    sample: int

    def __len__(self) -> int:
        return self.stop - self.start

    def as_json(self) -> list[Any]:
        """For `Block(*...)`."""
        return list(astuple(self))


@dataclass(frozen=True, slots=True)
class Source:
    """What a plan knows of a dataset. share: of the samples; episodes: (E,) the numbers of those that `runs` cuts."""

    share: float
    episodes: IntArray
    runs: Runs


def random_of(*key: object) -> np.random.Generator:
    """A generator that depends on the key alone (counter-based Philox, keyed by a digest of it)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@dataclass
class _Place:
    """Where a dataset's walk stands: runs drawn in this epoch, samples drawn in all."""

    epoch: int = 0
    drawn: int = 0
    samples: int = 0


class Plan:
    """An iterator of blocks. epochs: walks over each dataset, None: endless. shuffled: False reads all in order.

    With `epochs`, a dataset that was walked so often is left out of what follows.
    """

    def __init__(
        self, seed: int, sources: Mapping[str, Source], *, epochs: int | None = None, shuffled: bool = True
    ) -> None:
        if epochs is not None and epochs < 1:
            raise RdtError(f"epochs={epochs}", remedy="give 1 or more, or None for an endless feed")
        self.seed, self.sources, self.epochs, self.shuffled = seed, dict(sources), epochs, shuffled
        self.number = self.sample = 0
        self._places = {name: _Place() for name in self.sources}
        self._orders: dict[str, tuple[int, IntArray]] = {}
        longest = max((source.runs.longest for source in self.sources.values()), default=1)
        # Without these offsets every dataset, however rare, would come once before any came twice.
        self._offsets = {name: longest * random_of(seed, "offset", name).random() for name in self.sources}

    def __iter__(self) -> "Plan":
        return self

    def __next__(self) -> Block:
        name = self._next_dataset()
        source, place = self.sources[name], self._places[name]
        row, start, stop = source.runs.run(int(self._order(name, place.epoch)[place.drawn]))
        block = Block(self.number, name, int(source.episodes[row]), start, stop, self.sample)
        self.number += 1
        self.sample += len(block)
        place.samples += len(block)
        place.drawn += 1
        if place.drawn == len(source.runs):
            place.epoch, place.drawn = place.epoch + 1, 0
        return block

    @property
    def state(self) -> dict[str, Any]:
        """Where the walk stands, as JSON."""
        places = {name: [place.epoch, place.drawn, place.samples] for name, place in self._places.items()}
        return {"number": self.number, "sample": self.sample, "places": places}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.number, self.sample = state["number"], state["sample"]
        self._places = {name: _Place(*state["places"][name]) for name in self.sources}

    @property
    def mean_rows(self) -> float:
        """Windows of a block, on average over a long time."""
        blocks = sum(s.share * len(s.runs) / s.runs.windows for s in self.sources.values())
        return sum(s.share for s in self.sources.values()) / blocks

    def _next_dataset(self) -> str:
        left = [name for name, place in self._places.items() if self.epochs is None or place.epoch < self.epochs]
        if not left:
            raise StopIteration
        if not self.shuffled:
            return min(left, key=lambda name: self._places[name].epoch)
        return min(left, key=lambda name: (self._places[name].samples + self._offsets[name]) / self.sources[name].share)

    def _order(self, name: str, epoch: int) -> IntArray:
        if name not in self._orders or self._orders[name][0] != epoch:
            count = len(self.sources[name].runs)
            order = random_of(self.seed, "order", name, epoch).permutation(count) if self.shuffled else np.arange(count)
            self._orders[name] = epoch, order
        return self._orders[name][1]
