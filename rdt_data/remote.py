"""The file systems behind URLs, made patient: requests are tried again, and told in words when they stay broken.

In: a path or URL (`s3://`, `gs://`, `memory://`, whatever fsspec knows). Out: a file system and the path in it; local
ones are fsspec's own, untouched. Of all others every request that fails for a reason that can pass (an error of the
server, a connection that is cut, no answer in time) is tried again, each time after twice the wait, TRIES times in
all; then it is a RemoteError that names URL and operation. Ranges longer than PIECE are read in pieces at once.

Endpoints, credentials and timeouts are the libraries' own business: the environment (`AWS_ENDPOINT_URL`,
`AWS_PROFILE`, `GOOGLE_APPLICATION_CREDENTIALS` …) or fsspec's configuration files.
"""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem

from rdt_data.errors import RdtError, RemoteError, StoreError

TRIES = 8
"""Of each request; RDT_DATA_TRIES in the environment says otherwise."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds before the second try and before any; all waits of one request are 6 to 13 s."""

TIMEOUT = 30.0
"""Seconds without a byte after which a request to S3 has failed; RDT_DATA_TIMEOUT says otherwise."""

AT_ONCE = 32
"""Requests of one process under way."""

PIECE = 8 << 20
"""Bytes of one range request; a single connection to an object store gives some 50 to 100 MB/s."""

_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
"""What is no failure of the store but its answer."""

_REFUSALS = (
    ("builtins", "PermissionError"),
    ("botocore.exceptions", "NoCredentialsError"),
    ("botocore.exceptions", "PartialCredentialsError"),
    ("google.auth.exceptions", "DefaultCredentialsError"),
)
_FAILURES = (
    ("builtins", "OSError"),
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("botocore.parsers", "ResponseParserError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "TransportError"),
)
"""What can pass. By the module that defines it, which is not loaded for its sake."""


def file_system(url: str, *, asynchronous: bool = False) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it. asynchronous: for zarr, which calls its coroutines.

    Raises StoreError for a protocol that is not known, or whose library is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url, **_options(url))
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"{url} cannot be opened: {error}",
            remedy="check the URL; s3:// needs `pip install 'rdt-data[s3]'`, gs:// 'rdt-data[gs]'",
        ) from None
    if is_local(fs):
        return fs, path
    if not fs.async_impl:
        fs = AsyncFileSystemWrapper(fs, asynchronous=False)
    fs.retries = 1  # s3fs would try by itself as well, and our tries would multiply with its own
    return Patient(fs, asynchronous=asynchronous), path


def is_local(fs: Any) -> bool:
    """Whether a file system is this machine's."""
    return isinstance(fs, LocalFileSystem)


def local_path(url: str | Path) -> Path | None:
    """The path of something on this machine, given as a path or as `file://`; None for other URLs."""
    if isinstance(url, Path) or "://" not in url:
        return Path(url)
    return Path(LocalFileSystem._strip_protocol(url)) if url.startswith(("file://", "local://")) else None


def _options(url: str) -> dict[str, Any]:
    """What a file system is made with: no stale listings; for S3 one try a request, and connections enough."""
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol in ("file", "local") or "::" in url:
        return {}
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        ours = {
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": AT_ONCE,
            "connect_timeout": _from_environment("RDT_DATA_TIMEOUT", TIMEOUT),
            "read_timeout": _from_environment("RDT_DATA_TIMEOUT", TIMEOUT),
        }
        # with more than one connection an object s3fs asks for the size of each that it reads whole
        options |= {"max_concurrency": 1, "config_kwargs": {**ours, **given}}
    return options


def _from_environment(name: str, default: float) -> float:
    text = os.environ.get(name, str(default))
    try:
        if (value := float(text)) >= 1:
            return value
    except ValueError:
        pass
    raise RdtError(f"{name} is {text!r}", remedy=f"set it to 1 or more, or not at all: it is {default:g} then")


def _kinds(table: Sequence[tuple[str, str]]) -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in table if module in sys.modules)


class Patient(AsyncFileSystem):  # type: ignore[misc]  # fsspec declares no types
    """A file system that tries again. Its requests run in fsspec's own loop, whichever loop or thread asks."""

    cachable = False

    def __init__(self, inner: Any, *, asynchronous: bool = False) -> None:
        super().__init__(asynchronous=asynchronous, loop=None if asynchronous else inner.loop, batch_size=AT_ONCE)
        self.inner, self.protocol = inner, inner.protocol
        self._strip_protocol = inner._strip_protocol
        self.tries = int(_from_environment("RDT_DATA_TRIES", TRIES))

    async def _tried(self, operation: str, path: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """The result of `call`, as soon as it has one."""
        if asyncio.get_running_loop() is not self.inner.loop:
            elsewhere = asyncio.run_coroutine_threadsafe(self._tried(operation, path, call), self.inner.loop)
            return await asyncio.wrap_future(elsewhere)
        last: BaseException | None = None
        for attempt in range(self.tries):
            if attempt:  # the half that is drawn keeps many workers from asking again in step
                wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
                await asyncio.sleep(wait * random.uniform(0.5, 1))
            try:
                return await call()
            except _ANSWERS as error:
                if operation != "write":
                    raise
                raise RemoteError(
                    f"{self._url(path)}: cannot write: {error}", remedy="check the URL; its bucket must be there"
                ) from error
            except _kinds(_REFUSALS) as error:
                raise RemoteError(
                    f"{self._url(path)}: cannot {operation}: {error}",
                    remedy="check the credentials of this process and what they allow",
                ) from error
            except _kinds(_FAILURES) as error:
                if "not satisfiable" in str(error):
                    raise  # zarr reads it as the end of the object
                last = error
        raise RemoteError(
            f"{self._url(path)}: cannot {operation}, tried {self.tries} times: {last or 'no answer'}",
            remedy="see that the store can be reached and answers, then run the same command again",
        ) from last

    def _url(self, path: str) -> str:
        return str(self.inner.unstrip_protocol(path))

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if start is None or end is None or start < 0 or end - start <= PIECE:
            return bytes(await self._tried("read", path, lambda: self.inner._cat_file(path, start=start, end=end)))
        cuts = [*range(start, end, PIECE), end]
        pieces = await self._cat_ranges([path] * (len(cuts) - 1), cuts[:-1], cuts[1:], on_error="raise")
        return b"".join(pieces)

    async def _info(self, path: str, **options: Any) -> Any:
        return await self._tried("look up", path, lambda: self.inner._info(path))

    async def _exists(self, path: str, **options: Any) -> bool:
        try:
            await self._info(path)
        except _ANSWERS:
            return False
        return True

    async def _ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        return await self._tried("list", path, lambda: self.inner._ls(path, detail=detail))

    async def _find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **options: Any) -> Any:
        kept = {"maxdepth": maxdepth, "withdirs": withdirs, "detail": options.get("detail", False)}
        return await self._tried("list", path, lambda: self.inner._find(path, **kept))

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        await self._tried("write", path, lambda: self.inner._pipe_file(path, value))

    async def _put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **options: Any) -> None:
        await self._tried("write", rpath, lambda: self.inner._put_file(lpath, rpath))

    async def _get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        await self._tried("read", rpath, lambda: self.inner._get_file(rpath, lpath))

    async def _cp_file(self, path1: str, path2: str, **options: Any) -> None:
        await self._tried(f"copy to {self._url(path2)}", path1, lambda: self.inner._cp_file(path1, path2))

    async def _rm_file(self, path: str, **options: Any) -> None:
        try:
            await self._tried("remove", path, lambda: self.inner._rm_file(path))
        except FileNotFoundError:
            """A try that was cut had removed it; what is not there is what was asked for."""

    async def _mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Object stores have no folders to make."""

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Object stores have no folders to make."""

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing is kept."""
        self.inner.invalidate_cache(path)
