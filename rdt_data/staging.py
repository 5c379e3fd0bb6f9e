"""Something new on disk that appears whole or not at all: a directory, or one file.

In: the path it shall have. Out: a hidden directory beside it to fill (`.NAME.partial`), which gets its name by one
rename at the end. Whoever fails or is interrupted leaves nothing; what a killed process left is removed by the next
that writes the same path. What is written is not known here.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from rdt_data.errors import StoreError


@contextmanager
def new_directory(dest: Path) -> Iterator[Path]:
    """A directory to fill; it becomes `dest` when the block ends, and is removed when the block fails.

    Raises StoreError when dest exists, when another process is writing it, or when the disk does not take it.
    """
    _refuse_existing(dest)
    try:
        folder, lock = _claim(dest)
        try:
            yield folder
            _refuse_existing(dest)
            folder.rename(dest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # after the rename there is none
            os.close(lock)
    except OSError as error:
        raise StoreError(
            f"cannot write {error.filename or dest}: {error.strerror or error}",
            remedy="check the path, permissions and free space, then run the same command again",
        ) from error


def replace_file(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file or replace it: whoever reads it meanwhile finds the old bytes or the new ones, never a mixture.

    A local file is renamed into place; object stores put whole objects.
    """
    if "file" not in fs.protocol:
        fs.pipe_file(path, data)
        return
    temporary = Path(f"{path}.{uuid.uuid4().hex}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}", remedy="check its permissions and the free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(dest: Path) -> None:
    if dest.exists():
        raise StoreError(
            f"{dest} exists already", remedy="give the path of a new directory; nothing is ever overwritten here"
        )


def _claim(dest: Path) -> tuple[Path, int]:
    """The empty directory beside `dest` and the lock on it, which the system gives back however this process ends."""
    folder = dest.absolute().with_name(f".{dest.absolute().name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(
            f"another process is writing {dest}", remedy="wait for it, or stop it and run this again"
        ) from None
    if not folder.exists() or folder.stat().st_ino != os.fstat(lock).st_ino:
        os.close(lock)  # whoever held it has finished in between
        _refuse_existing(dest)
        return _claim(dest)
    for entry in folder.iterdir():  # a killed process left it
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return folder, lock
