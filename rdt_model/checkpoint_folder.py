"""Checkpoints as folders: each appears whole, says what it holds, and is checked before it is used.

    OUT/checkpoints/step-00001000/     whatever was put into it, and
        manifest.json                  every file with its size and SHA-256
    OUT/checkpoints/last               a link to the newest

In: a step and a function that fills a folder. Out: folders; the newest; a damaged file is named. Knows nothing of what
is in them.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rdt_data.errors import RdtError
from rdt_data.staging import new_directory

MANIFEST: Final = "manifest.json"
LAST: Final = "last"
_NAME: Final = re.compile(r"step-(\d+)")


def write_checkpoint(root: Path, step: int, fill: Callable[[Path], None], *, keep: int) -> Path:
    """Fill a new folder; it gets its name when all is written. Then drop all but the newest `keep` (0: none)."""
    root.mkdir(parents=True, exist_ok=True)
    dest = root / f"step-{step:08d}"
    with new_directory(dest) as folder:
        fill(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = {path.relative_to(folder).as_posix(): _entry(path) for path in files}
        (folder / MANIFEST).write_text(json.dumps({"step": step, "files": entries}, indent=1) + "\n")
    _link(root, dest.name)
    for old in checkpoints(root)[:-keep] if keep else []:
        shutil.rmtree(old)
    return dest


def checkpoints(root: Path) -> list[Path]:
    """The whole checkpoints of a run, older first."""
    found = [path for path in root.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(folder.name.removeprefix("step-"))


def newest(run: Path) -> Path:
    """Of a run's folder its newest checkpoint; a checkpoint stands for itself. Raises RdtError when there is none."""
    run = run.resolve()
    if (run / MANIFEST).is_file():
        return run
    found = checkpoints(run / "checkpoints")
    if not found:
        raise RdtError(f"{run} holds no checkpoint", remedy="give the OUT of a run, or one of its checkpoints/step-…")
    return found[-1]


def verify(folder: Path) -> None:
    """Compare every file with the manifest. Raises RdtError that names those that are missing or changed."""
    try:
        listed = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise RdtError(f"{folder / MANIFEST} cannot be read: {error}", remedy="use an earlier checkpoint") from None
    wrong = [
        f"{name} ({'missing' if not (folder / name).is_file() else 'changed'})"
        for name, entry in listed.items()
        if not (folder / name).is_file() or _entry(folder / name) != entry
    ]
    if wrong:
        raise RdtError(f"{folder} is damaged: {', '.join(wrong)}", remedy="copy it again, or use an earlier checkpoint")


def _entry(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _link(root: Path, name: str) -> None:
    unfinished = root / f".{LAST}.{os.getpid()}"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(name)
    os.replace(unfinished, root / LAST)
