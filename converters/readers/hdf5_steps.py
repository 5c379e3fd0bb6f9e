"""How many steps an HDF5 episode has, and whether a dataset has one row for each of them.

In: h5py's datasets, known by their interface only. Out: a `Steps`. The number is what `num_samples` says (robomimic
writes it), else the length of `action` or `actions`, else the first dimension that most numeric datasets share.

A simulator also sees what comes after the last action, so that its observations are one row longer than its actions.
Nothing was commanded there: the last row is no step. A spec says so with the option `longer_by_one`, and only what
that names may be longer.
"""

import fnmatch
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdt_data.errors import SourceError

_LENGTH_KEYS = ("action", "actions")
_NOT_STEPS = "compress_len"  # ALOHA's table of JPEG lengths, one row a camera


@dataclass(frozen=True, slots=True)
class Steps:
    """The number of steps, what says so, and the glob of keys that may have one row more, which is dropped."""

    count: int
    told_by: str
    longer_by_one: str | None = None

    def check(self, key: str, dataset: Any) -> None:
        """Raise SourceError unless the first `count` rows of the dataset at `key` are the steps."""
        if not dataset.shape:
            raise SourceError("it is a single value, not one row a step", remedy="use it as a scalar or as text")
        rows, longer = dataset.shape[0], _matches(key, self.longer_by_one)
        if rows == self.count or (longer and rows == self.count + 1):
            return
        also = ", and one more may follow" if longer else ""
        hint = f', or name it in options: {{longer_by_one: "{key}"}} if its last row follows the last action'
        raise SourceError(
            f"it has {rows} rows, but the episode {self.count} ({self.told_by}{also})",
            remedy="leave this key out, or this episode if its recording is incomplete"
            + (hint if rows == self.count + 1 else ""),
        )


def count_steps(datasets: Mapping[str, Any], num_samples: int | None, longer_by_one: str | None) -> Steps:
    """The steps of an episode with these datasets. Raises SourceError when nothing tells their number."""
    if num_samples is not None:
        return Steps(num_samples, "the attribute num_samples", longer_by_one)
    rows = {
        key: dataset.shape[0]
        for key, dataset in datasets.items()
        if dataset.shape and dataset.dtype.kind in "biuf" and key != _NOT_STEPS and not _matches(key, longer_by_one)
    }
    for key in _LENGTH_KEYS:
        if key in rows:
            return Steps(rows[key], f"the rows of {key}", longer_by_one)
    if not rows:
        raise SourceError("no dataset holds numbers, one row a step", remedy="check that this file is an episode")
    count, _ = Counter(rows.values()).most_common(1)[0]
    return Steps(count, "the rows of most datasets", longer_by_one)


def _matches(key: str, pattern: str | None) -> bool:
    return pattern is not None and fnmatch.fnmatchcase(key, pattern)
