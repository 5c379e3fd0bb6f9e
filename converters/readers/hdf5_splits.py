"""robomimic's splits: the lists of demo names in the group `mask` of an HDF5 file, mask/train and mask/valid.

A source file of a split goes by its path with the split, "low_dim.hdf5#mask/train", so that plans, parts and errors say
which episodes they mean; a demo keeps its own name in every split. Several splits are joined by "+", without repeats.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.hdf5_files import natural_key
from converters.readers.hdf5_text import decoded
from rdt_data.errors import SourceError, unknown

_MARK = "#mask/"
_FIRST = ("train", "valid")


def with_split(path: str, split: str | None) -> str:
    """The name of a source file of which a split is read."""
    return path if split is None else f"{path}{_MARK}{split}"


def without_split(base: Path, name: str) -> tuple[str, str | None]:
    """`with_split` undone: the path below `base`, and the split."""
    path, mark, split = name.rpartition(_MARK)
    return (path, split) if mark and not (base / name).is_file() else (name, None)


def split_names(file: Mapping[str, Any]) -> list[str]:
    """The splits of an open file: train and valid first, then the others in natural order."""
    names = sorted(file["mask"], key=natural_key) if isinstance(file.get("mask"), Mapping) else []
    return [*(name for name in _FIRST if name in names), *(name for name in names if name not in _FIRST)]


def of_split(file: Mapping[str, Any], path: str, groups: Iterable[str], split: str) -> list[str]:
    """Those of the episode groups ("data/demo_3") that the split names, in their order.

    Raises RdtError for a split that the file does not have, SourceError for a demo that it does not have.
    """
    groups = list(groups)
    have = {group.rsplit("/", 1)[-1] for group in groups}
    wanted: set[str] = set()
    for part in split.split("+"):
        if part not in (known := split_names(file)):
            raise unknown(f"split of {path}", part, [*known, "all"])
        demos = [_name(demo, part) for demo in np.ravel(file["mask"][part][()]).tolist()]
        if absent := sorted(set(demos) - have, key=natural_key):
            raise SourceError(
                f"it names {absent[0]}, which is not there ({len(absent)} of {len(demos)} are not)",
                remedy="write the split again, or convert another one",
                field=f"mask/{part}",
            )
        wanted.update(demos)
    return [group for group in groups if group.rsplit("/", 1)[-1] in wanted]


def _name(demo: Any, part: str) -> str:
    if not isinstance(demo, bytes | str):
        raise SourceError(f"it holds {demo!r}, not names", remedy="a split lists names: demo_0", field=f"mask/{part}")
    return decoded(demo)
