"""What a source is, before anything is known about it: its containers, its names, and the spec that fits."""

from collections.abc import Iterator
from pathlib import Path

from converters import catalog
from converters.readers import READERS, reader


def named_by(source: Path) -> Iterator[tuple[str, str]]:
    """(reader, name) by which a catalog may know this source, most certain first; readers load as they are needed."""
    for kind in READERS:
        for root in reader(kind).find(source):
            yield from ((kind, name) for name in reader(kind).names(root))


def recognised(source: Path) -> str | None:
    """The spec that this source names itself by, for the container that it is; None when none is known."""
    for kind, name in named_by(source):
        found = catalog.find([name])
        if found is not None and catalog.get(found).reader == kind:
            return found
    return None


def names_of(source: Path) -> str:
    """All its names, for messages."""
    return ", ".join(dict.fromkeys(name for _, name in named_by(source))) or "no name"
