"""The writing side of a store on an object store, where nothing can be renamed and nothing locked.

A part is there when its `zarr.json` is: workers make parts on their own disk, put every other file first and that one
last. What a killed run left has none, and the next run removes it before it begins. Which run may write is said by
`.partial/run.json`: the run that began last. A worker reads it before it puts a part, so that one that outlived its
run, or a second run, ends there with an error.
"""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rdt_data.changes import refuse_changed_source, refuse_other_command
from rdt_data.errors import RemoteError, StoreError
from rdt_data.remote import file_system
from rdt_data.remote_files import names_in, put_folder, read_many, remove_tree
from rdt_data.seal import group_document, sealed
from rdt_data.store import CONTENT, FORMAT, VERSION, read_attributes

_LAST = "zarr.json"
_SCRATCH = ".partial"


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """Where the workers of one run make parts and put them. dest: URL of the store; run: which run."""

    dest: str
    run: str

    @contextmanager
    def room(self, part: int) -> Iterator[Path]:
        """A path of this machine to write a part at, in the folder for temporary files; removed afterwards.

        Raises StoreError when the disk does not take it.
        """
        scratch = self.scratch
        temporary = scratch / f"{part}-{uuid.uuid4().hex}"
        try:
            for left in scratch.parent.glob(f"{scratch.name.rpartition('-')[0]}-*"):
                if left != scratch:  # of a run that has ended, or that this one has taken over
                    shutil.rmtree(left, ignore_errors=True)
            scratch.mkdir(mode=0o700, exist_ok=True)
            yield temporary
        except OSError as error:
            raise StoreError(
                f"cannot write {error.filename or scratch}: {error.strerror}",
                remedy="parts are made on this machine's disk first: free space, or let TMPDIR name a larger folder",
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # another worker of the run is using it
                scratch.rmdir()

    def commit(self, finished: Path, part: int) -> None:
        """Put a finished part; it is there when this returns, and not at all before its last file is put.

        Raises StoreError when another run has taken the store over.
        """
        fs, path = file_system(self.dest)
        self.refuse_lost(fs, path)
        put_folder(fs, finished, f"{path}/parts/{part}", leave=_LAST)
        self.refuse_lost(fs, path)
        fs.put_file(str(finished / _LAST), f"{path}/parts/{part}/{_LAST}")

    def claim(self, fs: Any, path: str) -> None:
        """Make this the run that may write."""
        fs.pipe_file(f"{path}/{_SCRATCH}/run.json", json.dumps({"run": self.run}).encode())

    def holds(self, fs: Any, path: str) -> bool:
        """Whether this is the run that may write."""
        (document,) = read_many(fs, [f"{path}/{_SCRATCH}/run.json"])
        return document is not None and json.loads(document) == {"run": self.run}

    def refuse_lost(self, fs: Any, path: str) -> None:
        if not self.holds(fs, path):
            raise StoreError(
                f"another run has taken over {self.dest}",
                remedy="wait for it, or stop it and run this again: finished parts stay",
            )

    @property
    def scratch(self) -> Path:
        """The folder of this run for what is not yet put, on whichever machine asks."""
        name = hashlib.sha256(self.dest.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"rdt-data-{name}-{self.run}"


class RemoteLedger:
    """A destination that the newest run writes: a context manager, with what `ledger.Ledger` has."""

    def __init__(
        self, dest: str, header: Mapping[str, Any], plan: Sequence[Mapping[str, Any]], *, overwrite: bool = False
    ) -> None:
        """Begin `dest`, or continue it; raises as `ledger.Ledger` does, but for a run that is still going."""
        self.dest = dest.rstrip("/")
        self.plan = [dict(entry) for entry in plan]
        self._fs, self._path = file_system(self.dest)
        self._refuse_foreign()
        self.place = RemotePlace(self.dest, uuid.uuid4().hex)
        self._finished = False
        self.place.claim(self._fs, self._path)
        try:
            if overwrite or self._stored() is None:
                self._remove_store()
            self.done = self._continue(header)
        except BaseException as error:  # an interruption too must leave nothing temporary; raised again
            self.__exit__(type(error), error, None)
            raise

    def finish(self, totals: Mapping[str, Any]) -> None:
        """Say in the store that every part is there; a store that says so is left as it is. totals: as for `Ledger`."""
        self.place.refuse_lost(self._fs, self._path)
        stored = read_attributes(self._fs, self._path)
        finished = sealed(self._fs, self._path, {**stored, "complete": True, **totals})
        if lost := [name for name, checksum in finished["metadata"].items() if checksum is None]:
            raise StoreError(f"{self.dest}: {lost[0]} has gone", remedy="run the same command again: it is made anew")
        if finished != stored:
            self._put("", finished)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, RemoteError):  # it would not answer now, either: the next run removes what is left
            self._leave()

    def _leave(self) -> None:
        """Remove everything temporary, also a store that could not be begun; what another run holds is left alone."""
        shutil.rmtree(self.place.scratch, ignore_errors=True)
        if not self.place.holds(self._fs, self._path):
            return
        if self._stored() is None:
            self._remove_store()
        elif not self._finished:
            for part, document in self._parts().items():
                if document is None:
                    remove_tree(self._fs, f"{self._path}/parts/{part}")
        remove_tree(self._fs, f"{self._path}/{_SCRATCH}")

    def _refuse_foreign(self) -> None:
        """Only an empty prefix or a store of ours may be written."""
        names = set(names_in(self._fs, self._path))
        if _LAST in names:
            ours = read_attributes(self._fs, self._path).get("format") == FORMAT
        else:  # a run that was killed before it had begun a store, or while it replaced one
            left = {_SCRATCH, *CONTENT} if _SCRATCH in names else set()
            ours = names <= left or not self._fs.find(self._path)
        if not ours:
            raise StoreError(
                f"{self.dest} exists and is not a store of this program (it holds {', '.join(sorted(names)[:3])})",
                remedy="give the URL of a new folder; --overwrite does not remove what others wrote",
            )

    def _continue(self, header: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Write or compare the header; returns the attributes of the parts that are done."""
        header = {"format": FORMAT, "version": VERSION, **header}
        stored = self._stored()
        if stored is None:
            self._put("parts/", {"plan": self.plan})
            self._put("", {**header, "complete": False})  # last: now it is one
            return {}
        refuse_other_command(self.dest, header, stored)
        done = self._finished_parts()
        if stored["complete"] and len(done) < len(self.plan):
            self._put("", {**stored, "complete": False})
        return done

    def _finished_parts(self) -> dict[int, dict[str, Any]]:
        """Parts that are there, after making sure that their sources have not changed; half of one is removed."""
        stored = read_attributes(self._fs, f"{self._path}/parts")["plan"]
        found = self._parts()
        for part, document in found.items():
            then, now = (plan[part] if part < len(plan) else None for plan in (stored, self.plan))
            if document is not None:
                refuse_changed_source(self.dest, part, now, then)
            else:
                remove_tree(self._fs, f"{self._path}/parts/{part}")
        if stored != self.plan:
            self._put("parts/", {"plan": self.plan})
        return {part: json.loads(document)["attributes"] for part, document in found.items() if document is not None}

    def _parts(self) -> dict[int, bytes | None]:
        """Every part of which anything is there, with its last file."""
        numbers = sorted(int(name) for name in names_in(self._fs, f"{self._path}/parts") if name.isdecimal())
        documents = read_many(self._fs, [f"{self._path}/parts/{number}/{_LAST}" for number in numbers])
        return dict(zip(numbers, documents, strict=True))

    def _stored(self) -> dict[str, Any] | None:
        """The attributes of the store; None when there is none yet."""
        return read_attributes(self._fs, self._path) if self._fs.exists(f"{self._path}/{_LAST}") else None

    def _put(self, group: str, attributes: Mapping[str, Any]) -> None:
        self._fs.pipe_file(f"{self._path}/{group}{_LAST}", group_document(attributes))

    def _remove_store(self) -> None:
        for name in CONTENT:  # zarr.json first: half a store is none
            remove_tree(self._fs, f"{self._path}/{name}")
