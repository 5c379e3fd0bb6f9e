"""Which HDF5 files a source has and which groups of a file are episodes, in which order."""

import fnmatch
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.raw import Options
from rdt_data.errors import SourceError, SpecError, unknown

_OPTIONS = ("files", "episodes", "longer_by_one")
_SUFFIXES = (".hdf5", ".h5")


def holds_hdf5(source: Path) -> bool:
    """Whether `source` is an HDF5 file or has one at any depth."""
    if source.is_file():
        return source.suffix in _SUFFIXES
    return any(name.endswith(_SUFFIXES) for _, _, names in os.walk(source) for name in names)


def matching(root: Path, options: Options) -> list[str]:
    """The paths below `base_folder(root)` that the option `files` selects, in natural order."""
    if root.is_file():
        return [root.name]
    patterns = [options["files"]] if "files" in options else [f"*{suffix}" for suffix in _SUFFIXES]
    found = {path for pattern in patterns for path in root.rglob(pattern) if path.is_file()}
    if not found:
        raise SourceError(f"no file below {root} matches {' or '.join(patterns)}", remedy="correct the option `files`")
    return sorted((path.relative_to(root).as_posix() for path in found), key=natural_key)


def base_folder(root: Path) -> Path:
    """The folder that the paths of a source are relative to: a root may also be a single file."""
    return root.parent if root.is_file() else root


def check_options(options: Options) -> None:
    """Refuse options that this reader does not have, and globs that leave the root."""
    for name, value in options.items():
        if name not in _OPTIONS:
            raise unknown("option of reader hdf5", name, _OPTIONS)
        if not isinstance(value, str) or not value or value.startswith("/") or ".." in value.split("/"):
            raise SpecError(f"option {name}: {value!r} is not a relative glob", remedy='write one like "data/demo_*"')


def find_groups(file: Mapping[str, Any], pattern: str) -> list[str]:
    """The paths of the groups that match `pattern`, level by level, in natural order; none is an error."""
    found = [""]
    for level in pattern.split("/"):
        found = [
            f"{parent}/{name}"
            for parent in found
            for name in file[parent or "/"]
            if fnmatch.fnmatchcase(name, level) and isinstance(file.get(f"{parent}/{name}"), Mapping)
        ]
    if not found:
        raise SourceError(
            f"no group matches {pattern!r}; at the top there are {', '.join(file) or 'none'}",
            remedy="correct the option `episodes`, or narrow the option `files`",
        )
    return sorted((path.lstrip("/") for path in found), key=natural_key)


def natural_key(path: str) -> tuple[list[list[tuple[int, str]]], str]:
    """Sort key: numbers by value, folder by folder."""
    parts = [re.findall(r"\d+|\D+", part, re.ASCII) for part in path.split("/")]
    return [[(int(run), "") if run.isascii() and run.isdigit() else (-1, run) for run in part] for part in parts], path
