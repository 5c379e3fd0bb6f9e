"""Training and validation episodes: which side an episode is on is a function of its source, a fraction and a seed.

So a side never changes when other episodes are added, taken away, merged in or stored in another order, and equal
recordings are on the same side of every store. The store keeps the rule alone (`splits.json`, written whole or not at
all); what it comes to is counted when it is asked. There is no stratification: with many episodes the hash spreads
every instruction alike, with few it may not, and the counts show it.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from rdt_data.errors import RdtError, RemoteError, StoreError
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode
from rdt_data.walk import walk

Side = Literal["train", "validation"]
FILE = "splits.json"
_HASHED = "source"


def side_of(source: str, fraction: float, seed: int) -> Side:
    """The side of the episode recorded as `source`; about `fraction` of all sources are in validation.

    A larger fraction moves episodes from training to validation, never the other way.
    """
    digest = hashlib.blake2b(f"{seed}/{source}".encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") < fraction * 2**64 else "train"


@dataclass(frozen=True, slots=True)
class Split:
    """The rule. validation: fraction of the episodes, 0 to 1; seed: any whole number."""

    validation: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.validation <= 1:
            raise RdtError(f"a validation share of {self.validation:g}", remedy="give a fraction from 0 to 1, say 0.05")

    def side(self, episode: StoredEpisode) -> Side:
        """Where an episode belongs. `source`, not `id`: merging may rename an episode, not where it came from."""
        return side_of(episode.source, self.validation, self.seed)


@dataclass(slots=True)
class SplitReport:
    """What a rule comes to in a store: per side its episodes, its steps, and the episodes of each instruction."""

    store: str
    validation: float
    seed: int
    episodes: dict[Side, int] = field(default_factory=lambda: {"train": 0, "validation": 0})
    steps: dict[Side, int] = field(default_factory=lambda: {"train": 0, "validation": 0})
    instructions: dict[str, dict[Side, int]] = field(default_factory=dict)


def split_store(store: str, split: Split) -> SplitReport:
    """Write the rule into the store, in place of one that is there, and count what it comes to."""
    dataset = open_dataset(store)
    report = count_split(dataset, split)
    rule = {"validation": split.validation, "seed": split.seed, "hashed": _HASHED}
    replace_file(dataset.fs, f"{dataset.path}/{FILE}", (json.dumps(rule, indent=1) + "\n").encode())
    return report


def count_split(dataset: Dataset, split: Split) -> SplitReport:
    """Episodes, steps and instructions of both sides."""
    report = SplitReport(dataset.url, split.validation, split.seed)
    of_instruction: Counter[tuple[str, Side]] = Counter()
    for episode in walk(dataset):
        side = split.side(episode)
        report.episodes[side] += 1
        report.steps[side] += len(episode)
        of_instruction[episode.instruction, side] += 1
    for text in sorted({text for text, _ in of_instruction}):
        report.instructions[text] = {
            "train": of_instruction[text, "train"],
            "validation": of_instruction[text, "validation"],
        }
    return report


def read_split(dataset: Dataset) -> Split | None:
    """The rule of a store, None when it has none. Raises StoreError when its file is damaged."""
    path = f"{dataset.path}/{FILE}"
    try:
        rule = json.loads(dataset.fs.cat_file(path))
        if rule["hashed"] != _HASHED:
            raise ValueError(f"it hashes {rule['hashed']!r}, this program {_HASHED!r}")
        return Split(float(rule["validation"]), int(rule["seed"]))
    except FileNotFoundError:
        return None
    except RemoteError:
        raise
    except (ValueError, KeyError, TypeError, RdtError) as error:
        raise StoreError(
            f"{path} does not say how to split: {error}", remedy="run `rdt-data split` again, or remove the file"
        ) from error
