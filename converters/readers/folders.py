"""Folders below a source, a few levels deep: finds a container without looking at every file of a large one.

In: a folder. Out: what is in it, in natural order, and the folders below it. One that cannot be listed is an error.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from converters.readers.hdf5_files import natural_key
from rdt_data.errors import SourceError


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` in natural order; none for what is no folder."""
    return [folder / name for name, is_folder in _listed(folder) if is_folder]


def files_in(folder: Path) -> list[Path]:
    """What else is in `folder`, in natural order; none for what is no folder."""
    return [folder / name for name, is_folder in _listed(folder) if not is_folder]


def folders_within(folder: Path, depth: int) -> Iterator[Path]:
    """`folder`, where it is one, and the folders up to `depth` levels below it, each before its own."""
    if folder.is_dir():
        yield folder
    for child in subfolders(folder) if depth else []:
        yield from folders_within(child, depth - 1)


def _listed(folder: Path) -> list[tuple[str, bool]]:
    """(name, whether it is a folder)."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be listed: {error.strerror}", remedy="check the permissions of the folder"
        ) from error
    return sorted(found, key=lambda entry: natural_key(entry[0]))
