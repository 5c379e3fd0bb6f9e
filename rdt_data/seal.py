"""The seal of a finished store: checksums of the metadata that no part answers for.

A part lists the CRC32C of all its files but its own zarr.json. The store's attributes, written last, hold the CRC32C
of those (`metadata`) and of themselves (`crc32c`), so that no byte of a finished store can change unnoticed.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import fsspec

from rdt_data.remote_files import read_many
from rdt_data.shards import crc32c

_PLAIN_GROUP = {"zarr_format": 3, "node_type": "group"}


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group, as zarr writes it."""
    return json.dumps({"attributes": dict(attributes), **_PLAIN_GROUP}, indent=2).encode()


def sealed(fs: fsspec.AbstractFileSystem, store: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a finished store, with the checksums of itself, of `parts` and of each part."""
    parts = range(len(attributes["parts"]))
    metadata = _checksums(fs, store, ["parts", *(f"parts/{part}" for part in parts)])
    whole = {**attributes, "metadata": metadata}
    return {**whole, "crc32c": _attributes_checksum(whole)}


def broken_seals(fs: fsspec.AbstractFileSystem, store: str, attributes: Mapping[str, Any]) -> list[str]:
    """What is damaged, missing or too much in the metadata of a finished store, one line each."""
    document = json.loads(fs.cat_file(f"{store}/zarr.json"))
    document.pop("attributes", None)
    if document != _PLAIN_GROUP or attributes.get("crc32c") != _attributes_checksum(attributes):
        return ["zarr.json is damaged (the CRC32C of its attributes differs)"]
    problems = []
    checksums = _checksums(fs, store, attributes["metadata"])
    for name, checksum in attributes["metadata"].items():
        found = checksums[name]
        if found is None:
            problems.append(f"{name} is missing" if fs.exists(f"{store}/parts") else "the folder parts is missing")
        elif found != checksum:
            problems.append(f"{name}/zarr.json is damaged (its CRC32C differs)")
    there = fs.ls(f"{store}/parts", detail=False) if fs.exists(f"{store}/parts") else []
    known = {*attributes["metadata"], "parts/zarr.json"}
    names = {f"parts/{entry.rstrip('/').rsplit('/', 1)[-1]}" for entry in there}
    return problems + [f"{name} does not belong to this store" for name in sorted(names - known)]


def _checksums(fs: fsspec.AbstractFileSystem, store: str, names: Iterable[str]) -> dict[str, int | None]:
    """The CRC32C of each group's zarr.json; None for those that have none."""
    groups = list(names)
    documents = read_many(fs, [f"{store}/{name}/zarr.json" for name in groups])
    found = zip(groups, documents, strict=True)
    return {name: None if document is None else crc32c(document) for name, document in found}


def _attributes_checksum(attributes: Mapping[str, Any]) -> int:
    """The CRC32C of attributes, however their JSON is laid out."""
    plain = {name: value for name, value in attributes.items() if name != "crc32c"}
    return crc32c(json.dumps(plain, sort_keys=True).encode())
