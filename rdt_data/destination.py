"""Where a store is written: a folder of this machine, or an object store. What both offer, and which one it is.

In: a path or URL. Out: a ledger, to be entered, which knows what is done; its `place` goes to workers, which make parts
in a `room` of it and `commit` them.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from rdt_data.ledger import Ledger, Plan
from rdt_data.remote import local_path
from rdt_data.remote_ledger import RemoteLedger


class Place(Protocol):
    """What a worker needs to know of a destination; it pickles."""

    def room(self, part: int) -> AbstractContextManager[Path]:
        """A path at which to write part number `part`; what is there when the block ends is removed."""

    def commit(self, finished: Path, part: int) -> None:
        """Make a finished part visible, whole or not at all."""


def begin(dest: str | Path, header: Mapping[str, Any], plan: Plan, *, overwrite: bool = False) -> Ledger | RemoteLedger:
    """Begin a store, or continue it when it was begun with the same header; see `Ledger` for what is refused."""
    folder = local_path(dest)
    if folder is not None:
        return Ledger(folder, header, plan, overwrite=overwrite)
    return RemoteLedger(str(dest), header, plan, overwrite=overwrite)
