"""Go through all episodes of a store, from the first to the last, in memory that does not grow with the store.

A `Dataset` keeps the tables and indexes of every part it has read, which is right for reading here and there. In: a
dataset. Out: its episodes in order, each to be used before the next one is asked for.
"""

from collections.abc import Iterator

from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode


def walk(dataset: Dataset) -> Iterator[StoredEpisode]:
    """Every episode in order; what has been read of a part is forgotten after it."""
    counts = dataset.attributes["parts"] if dataset.complete else [(part.episodes, 0) for part in dataset.parts]
    first = 0
    for count, _ in counts:
        part = open_dataset(dataset.url)  # reads one small file; its tables go when it goes
        yield from (part[number] for number in range(first, first + count))
        first += count
