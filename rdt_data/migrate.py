"""Bring a store of an older format version up to date, in place: a table of steps, one for each old version.

A step may only write what programs of the old version do not look at; what makes it count is the attributes it
returns, which replace the store's own by one rename. Killed at any moment, a store is of the old version or of the new
one and readable as that; run again, the rest is done. A store of today's version is left as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from rdt_data.errors import StoreError
from rdt_data.remote import file_system
from rdt_data.seal import broken_seals, group_document, sealed
from rdt_data.staging import replace_file
from rdt_data.store import FORMAT, VERSION, read_attributes

Step = Callable[[fsspec.AbstractFileSystem, str, dict[str, Any]], dict[str, Any]]
"""(file system, path of the store, its attributes) -> its attributes in the next version, not yet sealed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What leads from a version to the next, in words and as a function."""

    does: str
    step: Step


def _masks_may_differ(fs: fsspec.AbstractFileSystem, path: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """1 -> 2: a part may hold the masks of its steps; parts without them mean in 2 what they meant in 1."""
    return attributes


MIGRATIONS: Mapping[int, Migration] = {
    1: Migration("parts stay as they are; the store says that its parts may hold masks of steps", _masks_may_differ),
}
"""From each version that ever was to the next one."""


@dataclass(frozen=True, slots=True)
class MigrateReport:
    """What was done, or with `dry_run` would be: one line for each step; none when the store is up to date."""

    store: str
    from_version: int
    to_version: int
    steps: tuple[str, ...]
    dry_run: bool


def migrate_store(store: str, *, dry_run: bool = False) -> MigrateReport:
    """Change a store to today's version. Raises StoreError when it is none of ours, is newer, or is damaged."""
    fs, path = file_system(store.rstrip("/"))
    attributes = read_attributes(fs, path)
    first = _version(store, attributes)
    steps = []
    for version in range(first, VERSION):
        migration = MIGRATIONS[version]
        steps.append(f"{version} -> {version + 1}: {migration.does}")
        _refuse_damaged(fs, path, attributes)
        if not dry_run:
            attributes = {**migration.step(fs, path, attributes), "version": version + 1}
            if attributes["complete"]:
                attributes = sealed(fs, path, attributes)
            replace_file(fs, f"{path}/zarr.json", group_document(attributes))
    return MigrateReport(store, first, VERSION, tuple(steps), dry_run)


def _version(store: str, attributes: Mapping[str, Any]) -> int:
    version = attributes.get("version")
    if attributes.get("format") != FORMAT or type(version) is not int or version < 1:
        raise StoreError(f"{store} is the Zarr store of another program", remedy="give a store of `rdt-data convert`")
    if version > VERSION:
        raise StoreError(
            f"{store} has format version {version}, this program knows {VERSION}", remedy="install a newer rdt-data"
        )
    return version


def _refuse_damaged(fs: fsspec.AbstractFileSystem, path: str, attributes: Mapping[str, Any]) -> None:
    """A new seal would hide damage that the old one shows."""
    if attributes["complete"] and (broken := broken_seals(fs, path, attributes)):
        raise StoreError(f"{path} is damaged: {broken[0]}", remedy="convert this dataset again")
