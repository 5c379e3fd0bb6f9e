"""Where a TFDS dataset lies and which files it has: version folders, `dataset_info.json`, shard names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.raw import SourceFile
from rdt_data.errors import RdtError, SourceError

VERSION = re.compile(r"\d+\.\d+\.\d+")
_DEPTH = 3  # data_dir/dataset/config/version
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True, slots=True)
class Split:
    template: str
    lengths: tuple[int, ...]  # episodes of each shard


@dataclass(frozen=True, slots=True)
class Info:
    """What is needed of a dataset_info.json."""

    name: str
    config: str
    format: str
    splits: dict[str, Split]


def find_versions(source: Path) -> list[Path]:
    """The version folders at or up to three levels below `source`; two versions of one dataset are an error."""
    found = list(_version_folders(source, _DEPTH))
    for dataset in dict.fromkeys(path.parent for path in found):
        versions = [path.name for path in found if path.parent == dataset and VERSION.fullmatch(path.name)]
        if len(versions) > 1:
            raise RdtError(
                f"{dataset} holds several versions: {', '.join(versions)}",
                remedy=f"give one of them as the source, for example {dataset / versions[-1]}",
            )
    return found


def _version_folders(folder: Path, depth: int) -> Iterator[Path]:
    if all((folder / name).is_file() for name in ("features.json", "dataset_info.json")):
        yield folder
    elif depth and folder.is_dir():
        try:
            children = sorted(child for child in folder.iterdir() if child.is_dir())
        except OSError as error:
            raise SourceError(
                f"{folder} cannot be listed: {error.strerror}", remedy="check the permissions of the folder"
            ) from error
        for child in children:
            yield from _version_folders(child, depth - 1)


def find_shards(root: Path, info: Info, split: str) -> list[SourceFile]:
    lengths = info.splits[split].lengths
    shards = [_shard_name(info, split, index) for index in range(len(lengths))]
    missing = [shard for shard in shards if not (root / shard).is_file()]
    if missing:
        raise SourceError(
            f"shard {missing[0]} is missing ({len(missing)} of {len(shards)} shards of split {split!r} are)",
            remedy=f"download it into {root}, or convert another split: {', '.join(info.splits)}",
            file=missing[0],
        )
    stats = [(root / shard).stat() for shard in shards]
    return [
        SourceFile(shard, stat.st_size, stat.st_mtime_ns, episodes)
        for shard, stat, episodes in zip(shards, stats, lengths, strict=True)
    ]


def _shard_name(info: Info, split: str, index: int) -> str:
    total = len(info.splits[split].lengths)
    values = {
        "DATASET": info.name,
        "SPLIT": split,
        "FILEFORMAT": info.format,
        "SHARD_INDEX": f"{index:05d}",
        "NUM_SHARDS": f"{total:05d}",
        "SHARD_X_OF_Y": f"{index:05d}-of-{total:05d}",
    }
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), info.splits[split].template)


def read_info(root: Path) -> Info:
    try:
        info = json.loads((root / "dataset_info.json").read_text("utf-8"))
        splits = {
            split["name"]: Split(
                split.get("filepathTemplate") or _TEMPLATE, tuple(int(length) for length in split["shardLengths"])
            )
            for split in info["splits"]
        }
        return Info(info["name"], info.get("configName", ""), info.get("fileFormat") or "tfrecord", splits)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"it does not list the splits and their shardLengths ({type(error).__name__}: {error})"
    raise SourceError(
        problem,
        remedy="download dataset_info.json again, or write it with tfds.folder_dataset.write_metadata",
        file="dataset_info.json",
    )
