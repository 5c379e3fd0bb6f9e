"""The states of a feed as files: each rank saves its own, any number of ranks takes all of them up.

In: a folder that belongs to one checkpoint, and what `Feed.state_dict` gave. Out: `feed-RANK-of-RANKS.json` in it,
which appears whole or not at all; and the states of all ranks again. What they mean is in `feed_state`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

from rdt_data.errors import RdtError
from rdt_data.staging import replace_file

_NAME = re.compile(r"feed-(\d+)-of-(\d+)\.json")


def write_state(folder: str | Path, state: Mapping[str, Any]) -> Path:
    """Save the state of one rank; returns its file. Raises StoreError when the disk does not take it."""
    file = Path(folder) / f"feed-{state['rank']}-of-{state['world_size']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(fsspec.filesystem("file"), str(file), json.dumps(state).encode())
    return file


def read_states(folder: str | Path) -> list[dict[str, Any]]:
    """The states of all ranks, for `Feed.load_state_dict`. Raises RdtError when any is lacking or damaged."""
    found = {file: _NAME.fullmatch(file.name) for file in sorted(Path(folder).glob("feed-*-of-*.json"))}
    ranks = {(int(match[2]), int(match[1])): file for file, match in found.items() if match}
    sizes = sorted({world_size for world_size, _ in ranks})
    if not sizes:
        raise RdtError(f"{folder} holds no state of a feed", remedy="give the folder that write_state was given")
    if len(sizes) > 1:
        raise RdtError(
            f"{folder} holds states of runs with {' and '.join(map(str, sizes))} ranks",
            remedy="save each checkpoint into a folder of its own; remove the files of the older run from this one",
        )
    lacking = [f"feed-{rank}-of-{sizes[0]}.json" for rank in range(sizes[0]) if (sizes[0], rank) not in ranks]
    if lacking:
        raise RdtError(
            f"{folder} lacks {', '.join(lacking)}",
            remedy="copy the files of all ranks into it, or go on from an earlier checkpoint",
        )
    return [_read(ranks[sizes[0], rank]) for rank in range(sizes[0])]


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RdtError(f"{file} cannot be read: {error}", remedy="go on from an earlier checkpoint") from error
