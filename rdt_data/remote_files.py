"""Many files of an object store at once: listed, read, put, copied, removed; each request as patient as in `remote`.

In: a file system of `remote.file_system` and paths in it. Order and results are those of one file after the other.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from rdt_data.remote import AT_ONCE, is_local

UPLOADS = 4
"""Files of one process on their way to an object store; each may be in memory, up to 100 MB of it."""


def names_in(fs: Any, path: str) -> list[str]:
    """The names in a folder, files and folders; none where there is no folder."""
    with suppress(FileNotFoundError):
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)]
    return []


def read_many(fs: Any, paths: Sequence[str]) -> list[bytes | None]:
    """Whole files, on object stores many at once; None for each that is not there."""
    found: list[bytes | None] = []
    for answer in fs.cat_ranges(list(paths), None, None, on_error="return"):
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError | NotADirectoryError):
            raise answer
        found.append(None if isinstance(answer, BaseException) else bytes(answer))
    return found


def put_folder(fs: Any, folder: Path, path: str, *, leave: str = "") -> None:
    """Put every file below a folder of this machine but `leave`, some at once. fs: not a local one."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / leave]
    pairs = [(str(file), f"{path}/{file.relative_to(folder).as_posix()}") for file in files]
    _at_once(fs, UPLOADS, [partial(fs._put_file, *pair) for pair in pairs])


def copy_files(source: Any, fs: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Copy files of `source` to other places in `fs`, some at once; objects of one store stay within it.

    fs: not a local one. What comes from another object store is on this machine's disk for a moment.
    """
    if is_local(source):
        _at_once(fs, UPLOADS, [partial(fs._put_file, *pair) for pair in pairs])
    elif source.protocol == fs.protocol:
        _at_once(fs, AT_ONCE, [partial(fs._cp_file, *pair) for pair in pairs])
    else:
        with tempfile.TemporaryDirectory(prefix="rdt-data-") as folder:
            for there, here in pairs:
                source.get_file(there, f"{folder}/file")
                fs.put_file(f"{folder}/file", here)


def remove_tree(fs: Any, path: str) -> None:
    """Remove an object and all below it. fs: not a local one."""
    _at_once(fs, AT_ONCE, [partial(fs._rm_file, name) for name in fs.find(path)])


def _at_once(fs: Any, most: int, calls: Sequence[Callable[[], Awaitable[Any]]]) -> None:
    """Run coroutines, at most so many at a time. All have ended when the first error is raised."""

    async def run() -> list[Any]:
        room = asyncio.Semaphore(most)

        async def one(call: Callable[[], Awaitable[Any]]) -> Any:
            async with room:
                return await call()

        return await asyncio.gather(*map(one, calls), return_exceptions=True)

    for outcome in sync(fs.loop, run):
        if isinstance(outcome, BaseException):
            raise outcome
