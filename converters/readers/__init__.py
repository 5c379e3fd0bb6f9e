"""Readers, one module per container format; each has the functions of `converters.raw.Reader`.

A reader is imported when it is asked for, so that h5py, protobuf and the like load only where they are used.
"""

import importlib
from pathlib import Path
from typing import cast

from converters.raw import Reader
from rdt_data.errors import unknown

READERS: dict[str, str] = {
    "rlds": "converters.readers.rlds",
    "lerobot": "converters.readers.lerobot",
    "rh20t": "converters.readers.rh20t",
    "roboturk_real": "converters.readers.roboturk_real",
    "roboset": "converters.readers.roboset",
    "calvin": "converters.readers.calvin",
    "bridge_raw": "converters.readers.bridge_raw",
    "replay_zarr": "converters.readers.replay_zarr",
    "hdf5": "converters.readers.hdf5",
}
"""Name in a spec's `reader:` → module."""


def reader(name: str) -> Reader:
    """The reader called `name`."""
    if name not in READERS:
        raise unknown("reader", name, READERS)
    return cast(Reader, importlib.import_module(READERS[name]))


def detect(source: Path) -> list[tuple[str, Path]]:
    """The (reader name, root) of every container at or below `source`, in the order of READERS."""
    return [(name, root) for name in READERS for root in reader(name).find(source)]
