"""Which texts the episodes of stores need, and which episodes have none.

In: finished stores. Out: for each, its texts, every phrasing once, and the ids of the episodes without an instruction,
with what was decided for them. The empty text is always among the texts. Knows nothing of encoders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rdt_data.errors import RdtError, StoreError
from rdt_data.language import wordings
from rdt_data.store import Dataset, open_dataset
from rdt_data.walk import walk

ERROR, EMPTY = "error", "empty"
"""What `missing` may be, besides a text."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one store, in the order in which its episodes need them; the last one is "" at the latest.

    episodes: how many there are; without: ids of those that have no instruction.
    """

    dataset: Dataset
    episodes: int
    texts: tuple[str, ...]
    without: tuple[str, ...]


def collect(stores: Sequence[str], missing: str) -> tuple[list[Words], str]:
    """The words of each store, and the text that stands for a missing instruction.

    missing: ERROR, EMPTY or that text. Raises StoreError for a store that is not finished or is given twice, RdtError
    where an instruction is missing and that is an error.
    """
    datasets = [_finished(store) for store in stores]
    for number, dataset in enumerate(datasets):
        if dataset.url in (other.url for other in datasets[:number]):
            raise StoreError(f"{dataset.url} is given twice", remedy="give each store once")
    stand_in = "" if missing in (ERROR, EMPTY) else missing
    found = [_words(dataset, stand_in) for dataset in datasets]
    if missing == ERROR and any(words.without for words in found):
        raise RdtError(
            "episodes without an instruction:\n" + "\n".join(_listed(words) for words in found if words.without),
            remedy='use --missing empty for the empty instruction, or --missing "TEXT" for a text of yours',
        )
    return found, stand_in


def _finished(store: str) -> Dataset:
    dataset = open_dataset(store)
    if not dataset.complete:
        raise StoreError(f"{store} is not finished", remedy="run its `rdt-data convert` command again first")
    return dataset


def _words(dataset: Dataset, stand_in: str) -> Words:
    texts: dict[str, None] = {}
    without = []
    for episode in walk(dataset):
        if not (found := wordings(episode)):
            without.append(episode.id)
            found = (stand_in,)
        texts.update(dict.fromkeys(found))
    return Words(dataset, len(dataset), tuple(dict.fromkeys([*texts, ""])), tuple(without))


def _listed(words: Words) -> str:
    more = f" and {len(words.without) - _SHOWN} more" if len(words.without) > _SHOWN else ""
    some = ", ".join(words.without[:_SHOWN])
    return f"  {words.dataset.url}: {len(words.without)} of {words.episodes}, {some}{more}"
