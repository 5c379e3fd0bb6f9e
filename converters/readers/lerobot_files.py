"""Where LeRobot datasets lie, which of their files a conversion reads, and what is said of a file that is absent.

In: folders, the `Meta` of a dataset, the reader's options. Out: roots, `SourceFile`s, the episodes of a file, errors.
Opens no data file.
"""

import difflib
from pathlib import Path, PurePosixPath

from converters.raw import Options, SourceFile
from converters.readers.lerobot_episodes import EpisodeRow, Meta
from converters.readers.lerobot_meta import INFO, chosen_split, says_lerobot, wrong
from rdt_data.errors import SourceError, SpecError, unknown

_DEPTH = 2  # folder/owner/dataset
_CHOICES = ("listed", "present")


def find_datasets(source: Path) -> list[Path]:
    """See `lerobot.find`."""
    return _below(source, _DEPTH)


def _below(folder: Path, depth: int) -> list[Path]:
    if says_lerobot(folder):
        return [folder]
    if not depth or not folder.is_dir():
        return []
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be listed: {error.strerror}", remedy="check the permissions of the folder"
        ) from error
    return [root for child in children for root in _below(child, depth - 1)]


def chosen_files(root: Path, meta: Meta, split: str | None, options: Options) -> list[SourceFile]:
    """See `lerobot.files`."""
    _check_folders(root, meta)
    chosen = set(chosen_split(meta.info, split, [row.index for row in meta.episodes]))
    found = []
    for path, rows in meta.by_file.items():
        wanted = [row for row in rows if row.index in chosen]
        if wanted:
            cut = f"#{wanted[0].index}:{wanted[-1].index + 1}" if len(wanted) < len(rows) else ""
            episodes = _kept(root, wanted, options)
            if episodes:
                found.append(_source_file(root, path + cut, path, episodes))
    return found


def listed(root: Path, meta: Meta, path: str, options: Options) -> list[EpisodeRow]:
    """The episodes of one of `chosen_files`, in order."""
    whole, _, cut = path.partition("#")
    first, _, stop = cut.partition(":")
    rows = meta.by_file.get(whole, [])
    return _kept(root, [row for row in rows if not cut or int(first) <= row.index < int(stop)], options)


def without_split(path: str) -> str:
    """The path of the Parquet file itself."""
    return path.partition("#")[0]


def absent(root: Path, path: str, said_by: str) -> SourceError:
    """The error for a file that should be there, with what lies where it is looked for."""
    remedy = "download it, or set `options: {episodes: present}` in the spec to read only what is there"
    return SourceError(f"{said_by}, but {path} is not there{_instead(root, path)}", remedy=remedy, file=path)


def _instead(root: Path, path: str) -> str:
    """The folder that lies where `path` should lead, when one is called almost like it."""
    folder = root
    for part in PurePosixPath(path).parts[:-1]:
        if not (folder / part).is_dir():
            near = _near(folder, part)
            return f" (beside it lies {near}/)" if near else ""
        folder /= part
    return ""


def _near(folder: Path, name: str) -> str | None:
    """The folder in `folder` that is called almost `name`."""
    folders = sorted(child.name for child in folder.iterdir() if child.is_dir())
    return next(iter(difflib.get_close_matches(name, folders, n=1, cutoff=0.8)), None)


def _check_folders(root: Path, meta: Meta) -> None:
    """Refuse a folder that is called otherwise than info.json says (video/ for videos/): no episode could be read."""
    for field, template in (("data_path", meta.info.data_path), ("video_path", meta.info.video_path)):
        top = PurePosixPath(template or "").parts[:1]
        known = not top or "{" in top[0] or (root / top[0]).is_dir()
        if not known and (near := _near(root, top[0])):
            raise wrong(
                f"{field} says {template}, but the folder is called {near}/",
                field,
                f"rename {near}/ to {top[0]}/, or correct {field} in {INFO}",
            )


def _kept(root: Path, rows: list[EpisodeRow], options: Options) -> list[EpisodeRow]:
    """The episodes that the option `episodes` means."""
    for name in options:
        if name != "episodes":
            error = unknown("option of reader lerobot", name, ["episodes"])
            raise SpecError(error.problem, remedy=error.remedy)
    choice = options.get("episodes", "listed")
    if choice not in _CHOICES:
        raise SpecError(f"option episodes: {choice!r}", remedy=f"choose {' or '.join(_CHOICES)}")
    return rows if choice == "listed" else [row for row in rows if all((root / p).is_file() for p in _paths(row))]


def _paths(row: EpisodeRow) -> list[str]:
    return [row.data, *(part.path for part in row.videos.values())]


def _source_file(root: Path, name: str, path: str, rows: list[EpisodeRow]) -> SourceFile:
    """Size and age with the videos of the episodes, so that a changed video is noticed; an absent file counts 0."""
    paths = dict.fromkeys(file for row in rows for file in _paths(row))
    stats = [(root / file).stat() for file in [path, *paths] if (root / file).is_file()]
    unique = dict.fromkeys((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
    return SourceFile(
        name, sum(size for *_, size, _ in unique), max((mtime for *_, mtime in unique), default=0), len(rows)
    )
