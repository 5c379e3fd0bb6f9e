"""Texts and values that lie beside an HDF5 file: in text files, JSON files, and the sidecar that ManiSkill writes.

    file:NAME        a text file in the folder of the HDF5 file, without white space around the text
    json:NAME#KEY    a value of a JSON file there; KEY is a slash path, "env_info/env_id"
    sidecar:KEY      the same, of the JSON file that is named like the HDF5 file: trajectory.json beside trajectory.h5

Where KEY leads through a list of objects that have an `episode_id`, it goes on in that of this episode: for the group
traj_7, "sidecar:episodes/success" is what the object with episode_id 7 says. A list at the end gives its first item,
None of none; KEY/1 is the second, None behind the last. A file that is not there gives None; one that is there and
lacks KEY is an error. Knows nothing of HDF5.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rdt_data.errors import SourceError, unknown

BESIDE = ("file:", "json:", "sidecar:")
"""How keys begin that name something beside the HDF5 file."""


class SideFiles:
    """The files beside one HDF5 file. A JSON file is parsed once: it may describe thousands of episodes."""

    def __init__(self, base: Path, path: str) -> None:
        """base: the folder of the source. path: the HDF5 file, relative to it."""
        self._base, self._path = base.absolute(), path
        self._parsed: dict[str, Any] = {}

    def value(self, key: str, group: str) -> Any:
        """The text, number or bool at `key` for the episode in `group` ("traj_7"); None when there is no such file."""
        kind, _, rest = key.partition(":")
        if kind == "file":
            return self._text(rest)
        own = PurePosixPath(self._path).with_suffix(".json").name
        name, _, path = (own, "", rest) if kind == "sidecar" else rest.partition("#")
        if not name or not path:
            raise SourceError("it names no file and key", remedy="write json:NAME#KEY, or sidecar:KEY")
        if name not in self._parsed:
            self._parsed[name] = self._json(name)
        return None if self._parsed[name] is None else _found(self._parsed[name], path, name, group)

    def _text(self, name: str) -> str | None:
        path = Path(os.path.normpath((self._base / self._path).parent / name))
        if not path.is_relative_to(self._base):
            raise SourceError(f"{name} lies outside of the source", remedy="keep the file in the folder of the data")
        if not path.is_file():
            return None
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {error.strerror}", remedy="make it readable") from error
        return decoded(content, f"the text of {name}").removeprefix("\ufeff").strip()

    def _json(self, name: str) -> Any:
        text = self._text(name)
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{name} is not JSON: {error}", remedy="repair the file, or take it away") from error


def decoded(value: bytes | str, what: str = "its text") -> str:
    """A text as HDF5 and files hold it. Raises SourceError when it is not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value.encode().decode()
    except UnicodeError as error:
        raise SourceError(f"{what} is not UTF-8: {value[:40]!r}", remedy="store it as UTF-8") from error


def _found(value: Any, path: str, name: str, group: str) -> Any:
    """The value at `path` below what the JSON file `name` holds."""
    for key in path.split("/"):
        if isinstance(value, list) and key.isdecimal():
            return value[int(key)] if int(key) < len(value) else None
        if isinstance(value, list):
            value = _of_episode(value, name, group)
        if not isinstance(value, dict):
            raise SourceError(f"{name} has {value!r:.40} where {path!r} leads through", remedy="shorten the key")
        if key not in value:
            hint = unknown("key", key, value).remedy if value else "there is none at all"
            raise SourceError(f"{name} has no {key!r} for {path!r}", remedy=hint)
        value = value[key]
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, list | dict):
        raise SourceError(
            f"{name} has {value!r:.40} at {path!r}, not one value",
            remedy="name a text, a number, or a list of them",
        )
    return value


def _of_episode(entries: list[Any], name: str, group: str) -> Mapping[str, Any]:
    """The object of a list that describes the episode in `group`."""
    digits = re.search(r"[0-9]+$", group)
    ids = (group, int(digits[0])) if digits else (group,)
    for entry in entries:
        if isinstance(entry, dict) and entry.get("episode_id") in ids:
            return entry
    raise SourceError(
        f"{name} lists {len(entries)} episodes, none has the episode_id of {group or 'this file'}",
        remedy=f"take the {name} that was written with this file",
    )
