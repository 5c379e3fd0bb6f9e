"""The options that a reader needs for a source, where the source shows them.

In: a reader's name and a root. Out: options for a spec, {} where the reader's own defaults do. What an option means is
documented by its reader.
"""

import re
from contextlib import suppress
from pathlib import Path

from converters.raw import Reader
from rdt_data.errors import SourceError

_NUMBERED = re.compile(r"((?:[^/]+/)*?[A-Za-z][A-Za-z_]*?)\d+/")


def options_for(kind: str, read: Reader, root: Path) -> dict[str, str]:
    """hdf5: `episodes` where a file holds many; lerobot: `episodes: present` where listed files are absent."""
    if kind == "hdf5":
        return _groups(read, root)
    if kind == "lerobot" and any(file.bytes == 0 for file in read.files(root, None, {})):
        return {"episodes": "present"}
    return {}


def _groups(read: Reader, root: Path) -> dict[str, str]:
    """The glob of groups that are numbered and alike: "data/demo_*"."""
    for file in read.files(root, None, {})[:1]:
        with suppress(SourceError), read.open_file(root, file, {}) as opened:
            keys = opened[0].keys()
            groups = [match[1] for key in keys if (match := _NUMBERED.match(key))]
            if groups and len(set(groups)) == 1 and len(groups) > 0.8 * len(keys):
                return {"episodes": f"{groups[0]}*"}
    return {}
