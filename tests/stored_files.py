"""The bytes of a store, on disk and behind a URL, to compare."""

from pathlib import Path

from rdt_data.remote import file_system
from rdt_data.remote_files import read_many


def files(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(url: str) -> dict[str, bytes]:
    """Path -> bytes of every object below a URL."""
    fs, path = file_system(url)
    names = fs.find(path)
    return dict(zip([name.removeprefix(f"{path}/") for name in names], read_many(fs, names), strict=True))
