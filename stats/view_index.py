"""All episodes of a store as short rows, and the search in them.

In: a store. Out: `Row`s in the order of the store; pages of those that fit a search. The per-episode arrays are read
once, when the index is first asked for: a million episodes take some hundred megabytes. Vectors and frames are not
known here.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from rdt_data.store import Dataset, open_dataset


@dataclass(frozen=True, slots=True)
class Row:
    """One episode. searched: all its words, case folded. steps: its length; seconds: at its control rate."""

    number: int
    id: str
    instruction: str
    steps: int
    seconds: float
    searched: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows that fit, and how many fit. total: of all pages."""

    total: int
    rows: Sequence[Row]


class Index:
    """The rows of a store; safe to ask from several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._once = threading.Lock()

    def page(self, query: str, offset: int, limit: int, within: Collection[int] | None = None) -> Page:
        """Rows with every word of `query` in their id, instruction or another phrasing; "#12" is episode 12.

        within: the numbers that come into question; None: all.
        """
        rows = self.rows
        words = query.casefold().split()
        if words or within is not None:
            rows = [row for row in rows if (within is None or row.number in within) and _fits(row, words)]
        return Page(len(rows), rows[offset : offset + limit])

    @property
    def rows(self) -> Sequence[Row]:
        """Every episode."""
        with self._once:  # several requests of one page must not each read it
            return self._rows

    @cached_property
    def _rows(self) -> Sequence[Row]:
        dataset, numbers = open_dataset(self._url), count()
        dataset.tables_kept = 1
        return [row for part in range(len(dataset.part_counts)) for row in _rows_of(dataset, part, numbers)]


def _fits(row: Row, words: Sequence[str]) -> bool:
    return all(word in row.searched or word == f"#{row.number}" for word in words)


def _rows_of(dataset: Dataset, part: int, numbers: "count[int]") -> list[Row]:
    table = dataset.table(part)
    ids, instructions, lengths, rates = (
        table.column(name).tolist() for name in ("id", "instruction", "length", "control_hz")
    )
    return [
        Row(
            number=next(numbers),
            id=name,
            instruction=text,
            steps=int(steps),
            seconds=steps / rate if rate > 0 else 0.0,
            searched="\n".join((name, text, *table.other_phrasings(row))).casefold(),
        )
        for row, (name, text, steps, rate) in enumerate(zip(ids, instructions, lengths, rates, strict=True))
    ]
