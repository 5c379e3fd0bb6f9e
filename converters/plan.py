"""Plan a conversion: which episodes make which part, and how each camera is stored.

In: a source and a `Request`. Out: a `Plan`, which depends on the source and the request alone, never on the number
of workers, so that parts are the same bytes however they are made. Reads file sizes, episode counts and the first
frame of each camera, nothing more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converters.frames import parse_codec, stored_format
from converters.patch_call import open_episode
from converters.raw import EpisodeFile, RawEpisode, Reader, SourceFile
from converters.readers import reader as reader_named
from converters.spec import DatasetSpec
from converters.spec_model import Camera
from rdt_data.episode import ActionMode, CameraFormat
from rdt_data.errors import SourceError, SpecError, StoreError

LARGEST_PART = 256 << 20
SMALLEST_PART = 64 << 20
"""Bytes of source per part: enough to make the cost of a part small, few enough to spread over workers."""

MOST_EPISODES = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """What a conversion was asked to do; equal requests on equal sources give equal stores.

    episodes: (first, one past the last) over all files in order, None for all. image_size: longest side in pixels
    after shrinking, None to keep. codec: "keep", "jpeg:Q" or "png". instruction: text for episodes without one.
    """

    dataset: str
    spec: DatasetSpec
    split: str | None = None
    episodes: tuple[int, int] | None = None
    image_size: int | None = None
    codec: str = "keep"
    action: ActionMode = "next-state"
    corrected: bool = False
    instruction: str | None = None

    @classmethod
    def of(cls, spec: DatasetSpec, **options: Any) -> "Request":
        """A request for `spec`: its own kind of actions unless another is asked for, its corrections if they are."""
        if spec.refused:
            raise SpecError(
                f"{spec.name} cannot be converted: {' '.join(spec.refused.split())}",
                remedy="use another dataset; docs/formats.md says what an episode needs",
            )
        if options.get("corrected"):
            spec = spec.corrected()
        parse_codec(options.get("codec", "keep"))
        options["action"] = options.get("action") or ("recorded" if spec.action == "recorded" else "next-state")
        return cls(dataset=spec.name, spec=spec, **options)

    def describe(self) -> dict[str, Any]:
        """The request as JSON-able data, without the spec."""
        return {
            "split": self.split,
            "episodes": None if self.episodes is None else list(self.episodes),
            "image_size": self.image_size,
            "codec": self.codec,
            "action": self.action,
            "corrected": self.corrected,
            "instruction": self.instruction,
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of episodes [start, stop) of one source file."""

    file: SourceFile
    start: int
    stop: int

    @property
    def bytes(self) -> int:
        """About how many bytes of the file these episodes are."""
        return round(self.file.bytes * (self.stop - self.start) / max(self.file.episodes, 1))


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a worker needs besides its part number."""

    request: Request
    root: Path
    parts: tuple[tuple[Segment, ...], ...]
    cameras: Mapping[str, CameraFormat]

    @property
    def reader(self) -> Reader:
        return reader_named(self.request.spec.reader)

    @property
    def segments(self) -> list[Segment]:
        return [segment for part in self.parts for segment in part]

    @property
    def episodes(self) -> int:
        return sum(segment.stop - segment.start for segment in self.segments)

    @property
    def bytes(self) -> int:
        return sum(segment.bytes for segment in self.segments)

    def header(self) -> dict[str, Any]:
        """The attributes of the store."""
        spec = self.request.spec
        return {
            "dataset": self.request.dataset,
            "control_hz": spec.control_hz,
            "cameras": {slot: asdict(form) for slot, form in self.cameras.items()},
            "request": self.request.describe(),
            "spec": spec.to_dict(),
            "spec_text": spec.text,
        }

    def entries(self) -> list[dict[str, Any]]:
        """Each part as JSON-able data: what `Ledger` compares between runs."""
        return [
            {"sources": [[s.file.path, s.start, s.stop, s.file.bytes, s.file.mtime_ns] for s in part]}
            for part in self.parts
        ]


def make_plan(source: Path, request: Request) -> Plan:
    """Find the source's root and files, and cut them into parts. Raises RdtError when there is nothing."""
    spec = request.spec
    reader = reader_named(spec.reader)
    root = find_root(reader, source, spec.reader).absolute()  # workers may have another working directory
    files = reader.files(root, request.split, spec.options)
    if request.action == "recorded" and spec.recorded_action is None:
        raise SpecError(
            f"{spec.name} does not say how its recorded commands fit the unified layout",
            remedy="use --action next-state, or describe them in the spec's `recorded_action`",
        )
    parts = cut(files, request.episodes)
    if not parts:
        raise StoreError(
            f"{source}: no episode is left to convert ({sum(file.episodes for file in files)} in {len(files)} files)",
            remedy="check SOURCE, --split and --episodes",
        )
    cameras = camera_formats(reader, root, [segment for part in parts for segment in part], request)
    return Plan(request, root, tuple(parts), cameras)


def find_root(reader: Reader, source: Path, name: str) -> Path:
    """The one directory of this container at or below `source`."""
    if not source.exists():
        raise SourceError(f"{source} does not exist", remedy="give the directory that holds the dataset")
    roots = reader.find(source)
    if len(roots) != 1:
        found = ", ".join(str(root) for root in roots[:5]) or "none"
        raise SourceError(
            f"{source} holds {len(roots)} datasets that the {name} reader knows: {found}",
            remedy="give the directory of one dataset" if roots else f"give a directory with {name} data",
        )
    return roots[0]


def cut(files: Sequence[SourceFile], episodes: tuple[int, int] | None) -> list[tuple[Segment, ...]]:
    """Parts of about equal bytes: large files are cut between episodes, small ones put together."""
    chosen = list(_selected(files, episodes))
    total = sum(segment.bytes for segment in chosen)
    target = min(max(total // 4, SMALLEST_PART), LARGEST_PART)
    parts: list[tuple[Segment, ...]] = []
    open_part: list[Segment] = []
    for segment in (piece for whole in chosen for piece in _pieces(whole, target)):
        size = sum(piece.bytes for piece in open_part)
        count = sum(piece.stop - piece.start for piece in open_part)
        if open_part and (size + segment.bytes > 1.2 * target or count + segment.stop - segment.start > MOST_EPISODES):
            parts.append(tuple(open_part))
            open_part = []
        open_part.append(segment)
    return [*parts, tuple(open_part)] if open_part else parts


def camera_formats(
    reader: Reader, root: Path, segments: Sequence[Segment], request: Request
) -> dict[str, CameraFormat]:
    """How each camera is stored, from the first readable frame of it; a camera no episode has is left out."""
    found: dict[str, CameraFormat] = {}
    every = reader.KEYS_VARY or request.spec.patch is not None  # a patch may hide what an episode lacks
    for segment in segments:
        missing = {slot: camera for slot, camera in request.spec.cameras.items() if slot not in found}
        if not missing:
            break
        try:
            with reader.open_file(root, segment.file, request.spec.options) as file:
                found.update(_formats_in(file, segment, missing, request, every=every))
        except SourceError:
            continue  # reported when the episodes are converted
    return {slot: found[slot] for slot in request.spec.cameras if slot in found}


def _formats_in(
    file: EpisodeFile, segment: Segment, cameras: Mapping[str, Camera], request: Request, *, every: bool
) -> dict[str, CameraFormat]:
    """Look at the first readable episode of a segment, or at all while a camera is missing (`every`)."""
    found: dict[str, CameraFormat] = {}
    for number in range(segment.start, segment.stop):
        missing = {slot: camera for slot, camera in cameras.items() if slot not in found}
        try:
            found.update(_formats_of(open_episode(file, number, request.spec), missing, request))
        except SourceError:
            continue  # reported when the episode is converted
        if not every or len(found) == len(cameras):
            break
    return found


def _formats_of(raw: RawEpisode, cameras: Mapping[str, Camera], request: Request) -> dict[str, CameraFormat]:
    keys = set(raw.keys())
    formats = {}
    for slot, camera in cameras.items():
        key = next((key for key in camera.from_ if key in keys), None)
        frame = next(raw.frames(key), None) if key is not None else None
        if frame is not None:
            formats[slot] = stored_format(frame, camera, request.codec, request.image_size)
    return formats


def _selected(files: Sequence[SourceFile], episodes: tuple[int, int] | None) -> Iterator[Segment]:
    """The whole files, or what of them lies in the range of episodes."""
    low, high = episodes if episodes is not None else (0, math.inf)
    first = 0
    for file in files:
        start, stop = max(low - first, 0), min(high - first, file.episodes)
        if start < stop:
            yield Segment(file, int(start), int(stop))
        first += file.episodes


def _pieces(segment: Segment, target: int) -> Iterator[Segment]:
    count = segment.stop - segment.start
    pieces = min(count, max(math.ceil(segment.bytes / target), math.ceil(count / MOST_EPISODES)))
    for piece in range(pieces):
        yield Segment(
            segment.file, segment.start + piece * count // pieces, segment.start + (piece + 1) * count // pieces
        )
