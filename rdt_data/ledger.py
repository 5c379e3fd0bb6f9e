"""The writing side of a store on disk: begin or continue it, commit parts, know what is done.

There is no separate journal: a part that is visible is done, and what was quarantined in it is in its attributes.
Half-written parts live in `.partial/<run>/` inside the store and become visible by one rename. A run that was
killed leaves its folder behind; the next run first renames that folder, so that a worker which outlived its run
finds nothing left to commit, and then removes it.
"""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fsspec
import zarr

from rdt_data.changes import refuse_changed_source, refuse_other_command
from rdt_data.errors import StoreError
from rdt_data.seal import sealed
from rdt_data.store import CONTENT, FORMAT, VERSION, read_attributes

Plan = Sequence[Mapping[str, Any]]
"""For each part, in order: what it is made from. Equal entries mean equal parts.

`sources` is a list of [file, first episode, one past the last, bytes of the file, its mtime in ns].
"""

_LOCAL = fsspec.filesystem("file")


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Where the workers of one run make parts and commit them. dest: the store; run: the folder of the run."""

    dest: Path
    run: Path

    @contextmanager
    def room(self, part: int) -> Iterator[Path]:
        """A path to write a part at, beside its place; removed afterwards. Raises StoreError for the disk."""
        temporary = self.run / f"{part}-{uuid.uuid4().hex}"
        try:
            with disk_problems_told(self.dest):
                yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def commit(self, finished: Path, part: int) -> None:
        """Make a finished part visible."""
        commit(finished, self.dest, part)


class Ledger:
    """A destination that this process alone writes: a context manager holding its lock."""

    def __init__(self, dest: Path, header: Mapping[str, Any], plan: Plan, *, overwrite: bool = False) -> None:
        """Begin `dest`, or continue it when it was begun with the same header.

        Raises StoreError when dest belongs to another program, to a different command, to a run that is still
        going, or when a source it has finished parts of has changed.
        """
        self.dest = dest
        self.plan = [dict(entry) for entry in plan]
        _refuse_foreign(dest)
        self._lock = _lock(dest)
        try:
            with disk_problems_told(dest):
                self._clean()
                if overwrite or not (dest / "zarr.json").exists():
                    _remove_store(dest)
                self.run = self._scratch / uuid.uuid4().hex
                self.run.mkdir()
                self.done = self._continue(header)
        except BaseException:  # an interruption too must give the lock back; raised again
            self._leave()
            raise

    @property
    def _scratch(self) -> Path:
        return self.dest / ".partial"

    @property
    def place(self) -> LocalPlace:
        """What workers are given; they may have another working directory."""
        return LocalPlace(self.dest.absolute(), self.run.absolute())

    def path(self, part: int) -> Path:
        """Where a worker may write part number `part` before it is committed."""
        return self.run / str(part)

    def finish(self, totals: Mapping[str, Any]) -> None:
        """Say in the store that every part is there; a store that says so is left as it is.

        totals: more attributes; `parts` is [episodes, steps] of each part.
        """
        with disk_problems_told(self.dest):
            root = zarr.open_group(self.dest, mode="r+")
            stored = root.attrs.asdict()
            finished = sealed(_LOCAL, str(self.dest), {**stored, "complete": True, **totals})
            if finished != stored:
                root.update_attributes(finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Remove everything temporary, also a store that could not be begun, and give the lock back."""
        try:
            if self._scratch.is_dir():  # unless somebody removed the whole destination
                self._clean()
            if not (self.dest / "zarr.json").exists():
                _remove_store(self.dest)
            shutil.rmtree(self._scratch, ignore_errors=True)
        finally:
            os.close(self._lock)

    def _bury(self, folder: Path) -> None:
        """Remove a folder that a worker may still be writing: rename first, so that it cannot be committed."""
        grave = self._scratch / f"dead-{uuid.uuid4().hex}"
        folder.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    def _clean(self) -> None:
        """Remove what this run and runs that were killed left behind."""
        for entry in self._scratch.iterdir():
            if entry.is_dir():
                self._bury(entry)
        for folder in (self.dest, self.dest / "parts"):
            for leftover in folder.glob("zarr.*.partial"):  # zarr's own temporary name
                leftover.unlink()

    def _continue(self, header: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Write or compare the header; returns the attributes of the parts that are done."""
        header = {"format": FORMAT, "version": VERSION, **header}
        if not (self.dest / "zarr.json").exists():
            zarr.create_group(self.dest / "parts", zarr_format=3, attributes={"plan": self.plan})
            zarr.create_group(self.dest, zarr_format=3, attributes={**header, "complete": False})  # last: now it is one
            return {}
        stored = read_attributes(_LOCAL, str(self.dest))
        refuse_other_command(self.dest, header, stored)
        return self._finished_parts()

    def _finished_parts(self) -> dict[int, dict[str, Any]]:
        """Parts on disk, after making sure that they are whole and that their sources have not changed."""
        stored = read_attributes(_LOCAL, str(self.dest / "parts"))["plan"]
        done: dict[int, dict[str, Any]] = {}
        for entry in (self.dest / "parts").iterdir():
            if not entry.name.isdecimal():
                continue
            part = int(entry.name)
            then, now = (plan[part] if part < len(plan) else None for plan in (stored, self.plan))
            refuse_changed_source(self.dest, part, now, then)
            attributes = whole_part(entry)
            if attributes is None:  # a power failure can lose the end of a file whose rename survived
                self._bury(entry)
            else:
                done[part] = attributes
        root = zarr.open_group(self.dest, mode="r+")
        if root.attrs["complete"] and len(done) < len(self.plan):
            root.update_attributes({"complete": False})
        if stored != self.plan:
            zarr.open_group(self.dest / "parts", mode="r+").update_attributes({"plan": self.plan})
        return done


def commit(temporary: Path, dest: Path, part: int) -> None:
    """Make a finished part visible, by one rename.

    When the part is there already (its worker died after committing and the part was made again), the two are
    equal and the new one is dropped.
    """
    try:
        temporary.rename(dest / "parts" / str(part))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(temporary)


def whole_part(part: Path) -> dict[str, Any] | None:
    """The attributes of a part whose files all have the size that its attributes state; else None."""
    try:
        attributes = read_attributes(_LOCAL, str(part))
    except StoreError:
        return None
    files: dict[str, list[int]] = attributes.get("files", {})
    sizes_fit = all((part / p).is_file() and (part / p).stat().st_size == size for p, (size, _) in files.items())
    return attributes if files and sizes_fit else None


@contextmanager
def disk_problems_told(dest: Path) -> Iterator[None]:
    """Tell an OSError of whoever writes `dest` as what the user can mend: a full disk, a quota, a lost mount."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {error.filename or dest}: {error.strerror}",
            remedy="free space or mend the disk, then run the same command again: finished parts stay",
        ) from error


def _refuse_foreign(dest: Path) -> None:
    """Only a new path, an empty directory or a store of ours may be written."""
    if dest.is_file():
        raise StoreError(f"{dest} is a file", remedy="give the path of a new directory, for example data.zarr")
    if not dest.exists():
        return
    names = {entry.name for entry in dest.iterdir()} - {".partial"}
    if "zarr.json" in names:
        ours = read_attributes(_LOCAL, str(dest)).get("format") == FORMAT
    else:  # a run that was killed before it had begun a store, or while it replaced one
        left = CONTENT if (dest / ".partial" / "lock").exists() else ()
        ours = all(name in left or (name.startswith("zarr.") and name.endswith(".partial")) for name in names)
    if not ours:
        raise StoreError(
            f"{dest} exists and is not a store of this program (it holds {', '.join(sorted(names)[:3])})",
            remedy="give the path of a new directory; --overwrite does not remove what others wrote",
        )


def _lock(dest: Path) -> int:
    """Take the lock of a destination; the system gives it back however this process ends.

    The lock is a file that its holder removes at the end, with its folder; who meets that tries again.
    """
    lock = _open_lock(dest)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno != errno.EWOULDBLOCK:
            raise
        raise StoreError(
            f"another `rdt-data convert` is writing {dest}", remedy="wait for it, or stop it and run this again"
        ) from None
    if os.fstat(lock).st_nlink == 0:
        os.close(lock)
        return _lock(dest)
    return lock


def _open_lock(dest: Path, tries: int = 100) -> int:
    try:
        (dest / ".partial").mkdir(parents=True, exist_ok=True)
        return os.open(dest / ".partial" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if tries and isinstance(error, FileNotFoundError | FileExistsError):
            return _open_lock(dest, tries - 1)
        raise StoreError(
            f"cannot write to {dest}: {error.strerror}", remedy="check its path, permissions and free space"
        ) from None


def _remove_store(dest: Path) -> None:
    for name in CONTENT:  # zarr.json first: half a store is none
        path = dest / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
