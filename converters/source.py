"""What a source is, before anything is known about it: its containers, roots and names."""

from collections.abc import Iterator
from pathlib import Path

from converters.readers import READERS, reader


def named_by(source: Path) -> Iterator[str]:
    """The names a catalog may know this source by, most certain first; readers load as the names are asked for."""
    for kind in READERS:
        for root in reader(kind).find(source):
            yield from reader(kind).names(root)
