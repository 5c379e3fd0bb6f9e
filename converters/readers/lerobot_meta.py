"""What `meta/info.json` of a LeRobot dataset says: version, rate, features, splits, where files are.

In: the root of a dataset. Out: an `Info`, or a SourceError that names the file and what in it does not fit. Looks at
no episode. Layout: the LeRobot project's dataset formats v2.0 and v2.1 (a file per episode) and v3.0 (many episodes in
a file).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rdt_data.errors import SourceError, unknown

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of `features`.

    shape: of a step, channels included for cameras. names: one per number, () where there are none. codec: of a
    video, None where it is not stated. depth: a video of distances, not of colours.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    codec: str | None = None
    depth: bool = False

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("video", "image") and not self.depth

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of a camera, whether channels come last or first; None when the shape is no image's."""
        if len(self.shape) != 3:
            return None
        if self.shape[2] in _CHANNELS:
            return self.shape[0], self.shape[1]
        return (self.shape[1], self.shape[2]) if self.shape[0] in _CHANNELS else None


@dataclass(frozen=True, slots=True)
class Info:
    """What is needed of info.json. fps: rows per second. splits: name → [first, last + 1) of episode_index."""

    version: str
    fps: float
    robot_type: str | None
    total_episodes: int | None
    chunks_size: int
    data_path: str
    video_path: str | None
    features: dict[str, Feature]
    splits: dict[str, tuple[int, int]]

    @property
    def many_per_file(self) -> bool:
        return self.version == "v3.0"

    @property
    def videos(self) -> list[str]:
        """The keys of the features that are videos, depth included."""
        return [key for key, feature in self.features.items() if feature.dtype == "video"]

    def place(self, template: str, **values: Any) -> str:
        """A path of the dataset from `data_path` or `video_path`; one that leaves the dataset is refused."""
        try:
            path = template.format(**values)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise wrong(f"the template {template!r} cannot be filled in: {error}", "data_path, video_path") from error
        if PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise wrong(f"the template {template!r} leads out of the dataset", "data_path, video_path")
        return path


def wrong(problem: str, field: str | None = None, remedy: str = "") -> SourceError:
    """An error in info.json."""
    remedy = remedy or f"correct {INFO}, or download it again"
    return SourceError(problem, remedy=remedy, file=INFO, field=field)


def says_lerobot(root: Path) -> bool:
    """Whether `root` has an info.json with a codebase_version, even one that is damaged otherwise."""
    try:
        return '"codebase_version"' in (root / INFO).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def read_info(root: Path) -> Info:
    """Read and check info.json."""
    raw = _loaded(root)
    version = raw.get("codebase_version")
    if version not in VERSIONS:
        raise wrong(
            f"codebase_version {version!r} is not read here; {', '.join(VERSIONS)} are",
            "codebase_version",
            "convert the dataset to v2.1 or v3.0 with the scripts of the lerobot package",
        )
    features = {key: _feature(key, value) for key, value in _typed(raw, "features", dict).items()}
    fps = _typed(raw, "fps", (int, float))
    if not 0 < fps < math.inf:
        raise wrong(f"it is {fps}, not a rate", "fps")
    has_videos = any(feature.dtype == "video" for feature in features.values())
    splits = raw.get("splits") or {}
    if not isinstance(splits, dict):
        raise wrong(f"it is {splits!r}, not a table of ranges", "splits")
    total = raw.get("total_episodes")
    return Info(
        version=version,
        fps=float(fps),
        robot_type=raw["robot_type"] if isinstance(raw.get("robot_type"), str) else None,
        total_episodes=total if isinstance(total, int) else None,
        chunks_size=_positive(raw, "chunks_size", 1000),
        data_path=_typed(raw, "data_path", str),
        video_path=_typed(raw, "video_path", str) if has_videos else None,
        features=features,
        splits={name: _range(name, text) for name, text in splits.items()},
    )


def chosen_split(info: Info, split: str | None, indices: list[int]) -> list[int]:
    """Which of the episodes `indices` belong to a split: a name, several joined by "+", "all", or the default.

    The default is "train" if there is one, else all; but where the splits leave episodes out, it has to be said which
    are meant. Raises SourceError, and RdtError for a split that does not exist.
    """
    if split == "all" and "all" not in info.splits:
        return indices
    ranges = info.splits
    if split is None:
        outside = [index for index in indices if ranges and not any(a <= index < b for a, b in ranges.values())]
        if outside:
            raise wrong(
                f"no split holds episode {outside[0]} ({len(outside)} of {len(indices)} episodes are in none)",
                "splits",
                "correct the ranges, or choose with --split: all takes every episode",
            )
        split = "train" if "train" in ranges else "all"
    if split == "all" and "all" not in ranges:
        return indices
    for name in split.split("+"):
        if name not in ranges:
            raise unknown(f"split of {INFO}", name, [*ranges, "all"])
    wanted = [ranges[name] for name in split.split("+")]
    return [index for index in indices if any(a <= index < b for a, b in wanted)]


def _loaded(root: Path) -> dict[str, Any]:
    try:
        raw = json.loads((root / INFO).read_text("utf-8"))
    except OSError as error:
        raise wrong(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise wrong(f"it is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise wrong("it is not a table of values")
    return raw


def _feature(key: str, raw: Any) -> Feature:
    field = f"features.{key}"
    if not isinstance(raw, dict) or not isinstance(raw.get("dtype"), str):
        raise wrong("it has no dtype", field)
    shape = raw.get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise wrong(f"its shape is {shape!r}, not a list of whole numbers", field)
    about = raw.get("info") or raw.get("video_info") or {}  # v2.0 calls it video_info
    about = about if isinstance(about, dict) else {}
    codec = about.get("video.codec")
    return Feature(
        dtype=raw["dtype"],
        shape=tuple(shape),
        names=_flat(raw.get("names")),
        codec=codec if isinstance(codec, str) else None,
        depth=bool(about.get("video.is_depth_map") or about.get("is_depth_map")),
    )


def _flat(names: Any) -> tuple[str, ...]:
    """Names come as a list, a list of lists, a table of lists ({"motors": […]}), or name → position."""
    if isinstance(names, dict):
        values = list(names.values())
        if values and all(isinstance(value, int) for value in values):
            return tuple(sorted(names, key=lambda name: names[name]))
        return _flat(values)
    if isinstance(names, list):
        return tuple(
            name for part in names for name in (_flat(part) if isinstance(part, list | dict) else (str(part),))
        )
    return ()


def _range(name: str, text: Any) -> tuple[int, int]:
    start, colon, stop = str(text).partition(":")
    if not colon or not start.isdecimal() or not stop.isdecimal():
        raise wrong(f'it is {text!r}, not a range of episodes like "0:100"', f"splits.{name}")
    return int(start), int(stop)


def _typed(raw: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(raw.get(key), kind) or isinstance(raw.get(key), bool):
        raise wrong(f"it is {raw[key]!r}" if key in raw else "it is missing", key)
    return raw[key]


def _positive(raw: dict[str, Any], key: str, default: int) -> int:
    value = raw.get(key, default)
    if not isinstance(value, int) or value < 1:
        raise wrong(f"it is {value!r}, not a whole number from 1", key)
    return value
