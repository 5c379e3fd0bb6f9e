"""Look at a source or a store: what is there, in which ranges, and what looks wrong.

In: a path. Out: an `Inspection`, which prints itself, and camera frames for a montage. Reads a handful of episodes
of a source; of a store the words and lengths of all episodes, the vectors of up to MEASURED, and a handful of frames.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters import catalog
from converters.channels import exchanged
from converters.plan import find_root
from converters.raw import RawEpisode
from converters.readers import detect, reader
from converters.source import names_of, recognised
from converters.spec import DatasetSpec
from rdt_data import layout
from rdt_data.clock import measured_words
from rdt_data.errors import SourceError
from rdt_data.images import Pixels, decode
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode

_USUAL_WORDS = ("language_instruction", "instruction", "file:instruction.txt")

MEASURED = 256
"""Episodes of a store whose ranges are measured, spread over all of it."""

LOOKED_AT = 8
"""Episodes of a source that are read, spread over all of it."""


@dataclass(slots=True)
class Inspection:
    """What `rdt-data inspect` prints. `values`: key or slot -> one line; lengths in steps."""

    path: str
    kind: str
    about: dict[str, str] = field(default_factory=dict)
    episodes: int = 0
    lengths: dict[str, float] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind}"]
        lines += [f"  {name:12} {value}" for name, value in self.about.items()]
        if self.lengths:
            spread = ", ".join(f"{name} {value:g}" for name, value in self.lengths.items())
            lines.append(f"  {'lengths':12} {spread} steps")
        for title, table in (("values", self.values), ("cameras", self.cameras)):
            width = max(map(len, table), default=0)
            lines += [f"  {title}:", *(f"    {key:{width}}  {text}" for key, text in table.items())] if table else []
        if self.instructions:
            lines.append(f"  instructions ({len(self.instructions)} different):")
            lines += [f"    {count:4} x {text!r}" for text, count in list(self.instructions.items())[:10]]
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join(lines)


Picture = tuple[str, Pixels]
"""A caption and an RGB frame."""


def inspect_path(path: str, dataset: str | None = None) -> tuple[Inspection, list[Picture]]:
    """Inspect a store (by path or URL) or a raw source; pictures are for `montage.montage`."""
    if "://" in path or (Path(path) / "zarr.json").exists():
        return inspect_store(open_dataset(path))
    source = Path(path)
    if not source.exists():
        raise SourceError(f"{path} does not exist", remedy="give a raw dataset or a converted store")
    return inspect_source(source, dataset)


def inspect_store(dataset: Dataset) -> tuple[Inspection, list[Picture]]:
    """Counts, ranges of every real slot, words, and what was left out."""
    found = Inspection(dataset.url, f"store of {dataset.name}", episodes=len(dataset))
    formats = dataset.camera_formats
    found.about = {
        "episodes": f"{len(dataset)} in {len(dataset.parts)} parts, {dataset.steps} steps",
        "rate": f"{dataset.control_hz:g} Hz",
        "action": str(dataset.attributes["request"]["action"]),
    }
    found.cameras = {slot: _described(formats[slot]) for slot in dataset.cameras}
    episodes = list(dataset)
    found.about["rate"] += measured_words(episode.clock for episode in episodes)
    found.lengths = _spread([len(episode) for episode in episodes])
    found.instructions = _counted(episode.instruction for episode in episodes)
    measured = [episodes[number] for number in _spread_over(len(episodes), MEASURED)]
    if len(measured) < len(episodes):
        found.about["ranges"] = f"of {len(measured)} episodes spread over all"
    for name in ("state", "action") if found.about["action"] == "recorded" else ("state",):
        found.values |= {f"{name} {key}": text for key, text in _ranges(measured, name).items()}
    for what in ("quarantined", "filtered"):
        if entries := dataset.listed(what):
            found.warnings.append(f"{len(entries)} episodes are {what}: {entries[0]}" + (" …" if entries[1:] else ""))
    if not dataset.complete:
        found.warnings.append("the conversion has not finished; run it again to continue")
    pictures = []
    for number in _spread_over(len(episodes), 6):
        pictures += _stored_pictures(number, episodes[number], found)
    return found, pictures


def inspect_source(source: Path, dataset: str | None = None) -> tuple[Inspection, list[Picture]]:
    """Containers, keys with shapes and ranges, the spec that fits, and what looks wrong."""
    name = dataset or recognised(source)
    spec = catalog.get(name) if name is not None else None
    kinds = [kind for kind, _ in detect(source)]
    if not kinds:
        raise SourceError(f"{source} holds nothing that can be read", remedy="docs/formats.md lists what is read")
    kind = spec.reader if spec is not None else kinds[0]
    read = reader(kind)
    root = find_root(read, source, kind)
    options = spec.options if spec is not None else {}
    files = read.files(root, None, options)
    found = Inspection(str(source), f"{kind} source", episodes=sum(file.episodes for file in files))
    found.about = {
        "root": str(root),
        "names": names_of(source),
        "spec": "none is known; write one (docs/my_robot.yaml) or give --dataset" if spec is None else spec.name,
        "files": f"{len(files)}, {sum(file.bytes for file in files) / 1e6:.1f} MB",
        "episodes": str(found.episodes),
    }
    if spec is not None:
        found.about["fills"] = ", ".join(layout.describe(spec.mask("state")))
    if splits := read.splits(root):
        found.about["splits"] = ", ".join(splits)
    picks = _picks([file.episodes for file in files])
    pictures: list[Picture] = []
    lengths: list[int] = []
    for at, number in picks:
        try:
            with read.open_file(root, files[at], options) as file:
                raw = file[number]
                lengths.append(len(raw))
                pictures += _look(raw, spec, found)
        except SourceError as error:
            found.warnings.append(str(error.within(file=files[at].path, episode=number)).replace("\n", ";"))
    found.lengths = _spread(lengths)
    return found, pictures


def _look(raw: RawEpisode, spec: DatasetSpec | None, found: Inspection) -> list[Picture]:
    """Add what one raw episode shows to `found`; returns its pictures."""
    words = _words(raw, spec)
    for text in words:
        found.instructions[text] = found.instructions.get(text, 0) + 1
    pictures: list[Picture] = []
    keys, cameras = raw.keys(), raw.cameras()
    for key in keys:
        if key not in cameras and key not in found.values:
            found.values[key] = _raw_range(raw, key)
    for key in cameras:
        frames = _sampled_frames(raw, key)
        found.cameras.setdefault(key, f"{frames[0].shape[1]}x{frames[0].shape[0]}")
        caption = f"{key.rsplit('/', 1)[-1]}: {words[0] if words else raw.name}"
        pictures.append((caption, frames[len(frames) // 2]))
        black = f"{key}: an episode is all black"
        if max(int(frame.max()) for frame in frames) < 8 and black not in found.warnings:
            found.warnings.append(black)
        _warn_exchanged(key, frames, " ".join(words), spec, found)
    if spec is not None and (warning := rate_warning(raw, spec)) is not None and warning not in found.warnings:
        found.warnings.append(warning)
    return pictures


def rate_warning(raw: RawEpisode, spec: DatasetSpec) -> str | None:
    """Positions and velocities of the same joints say how long a step is: warn when the spec says otherwise."""
    keys = set(raw.keys())
    if not {"observations/qpos", "observations/qvel"} <= keys:
        return None
    position, velocity = raw.array("observations/qpos"), raw.array("observations/qvel")
    if position.shape != velocity.shape or len(position) < 20:
        return None
    moved = np.diff(position[:, :6], axis=0).astype(np.float64)
    speed = (velocity[1:, :6] + velocity[:-1, :6]).astype(np.float64) / 2
    if (power := float((speed**2).sum())) < 1e-6:
        return None
    seconds = float((moved * speed).sum()) / power  # least squares of moved = seconds * speed
    agreement = float((moved * speed).sum()) / np.sqrt(float((moved**2).sum()) * power)
    if seconds <= 0 or agreement < 0.9 or 0.7 < seconds * spec.control_hz < 1.4:
        return None
    agreed = f"positions and velocities agree at about {1 / seconds:.0f} Hz"
    return f"{raw.name}: {agreed}, the spec says {spec.control_hz:g} Hz"


def _sampled_frames(raw: RawEpisode, key: str) -> list[Pixels]:
    """The first, the middle and the last frame, RGB as a decoder sees them."""
    wanted = {0, len(raw) // 2, len(raw) - 1}
    sampled = [frame for step, frame in enumerate(raw.frames(key)) if step in wanted]
    return [frame if isinstance(frame, np.ndarray) else decode(frame) for frame in sampled]


def _warn_exchanged(key: str, frames: list[Pixels], words: str, spec: DatasetSpec | None, found: Inspection) -> None:
    known = [camera for camera in spec.cameras.values() if key in camera.from_] if spec is not None else []
    if any(camera.channels == "bgr" for camera in known):
        frames = [frame[..., ::-1] for frame in frames]
    why = exchanged(frames, words)
    seen = f"{key}: red and blue look exchanged"
    if why is not None and not any(warning.startswith(seen) for warning in found.warnings):
        needed = "rgb" if any(camera.channels == "bgr" for camera in known) else "bgr"
        found.warnings.append(f"{seen}: {why}. If so, its camera in the spec needs `channels: {needed}`")


def _words(raw: RawEpisode, spec: DatasetSpec | None) -> list[str]:
    keys = (
        spec.instruction.from_
        if spec is not None
        else ("language_instruction", "instruction", "task", "file:instruction.txt")
    )
    texts = (raw.text(key) for key in keys)
    return [text for text in texts if text][:1]


def _raw_range(raw: RawEpisode, key: str) -> str:
    """Type, shape and range of a numeric value; what there is to say of any other."""
    reason = ""
    for read in (raw.array, raw.scalar):
        try:
            value = np.asarray(read(key))
        except SourceError as error:
            reason = reason or error.problem
            continue
        if value.dtype.kind not in "biuf" or value.size == 0:
            return f"text {str(value)[:60]!r}" if value.dtype.kind == "U" else f"{value.dtype} {value.shape}"
        what = f"{value.dtype} {value.shape}" if value.shape else f"{value.dtype}, one for the episode"
        missing = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
        if missing == value.size:
            return f"{what}, NaN throughout"
        gaps = f", {missing} NaN" if missing else ""
        return f"{what} in [{np.nanmin(value):.4g}, {np.nanmax(value):.4g}]{gaps}"
    return reason


def _ranges(episodes: Sequence[StoredEpisode], name: str) -> dict[str, str]:
    """Slot -> smallest, mean, largest value over the episodes that have it, with its unit."""
    low, high = np.full(layout.DIM, np.inf), np.full(layout.DIM, -np.inf)
    total, count = np.zeros(layout.DIM), np.zeros(layout.DIM)
    for episode in episodes:
        values: npt.NDArray[Any] = getattr(episode, name)
        real = np.broadcast_to(getattr(episode, f"{name}_mask"), values.shape)
        low = np.minimum(low, values.min(axis=0, where=real, initial=np.inf))
        high = np.maximum(high, values.max(axis=0, where=real, initial=-np.inf))
        total += values.sum(axis=0, where=real)
        count += real.sum(axis=0)
    return {
        layout.preferred_name(slot): f"[{low[slot]:9.4f}, {high[slot]:9.4f}] {layout.unit(slot):5} "
        f"mean {total[slot] / count[slot]:9.4f}"
        for slot in np.flatnonzero(count).tolist()
    }


def _stored_pictures(number: int, episode: StoredEpisode, found: Inspection) -> list[Picture]:
    pictures = []
    for slot in episode.cameras:
        frames = episode.images(slot)
        sampled = [frames[step] for step in sorted({0, len(frames) // 2, len(frames) - 1})]
        pictures.append((f"{number} {slot}: {episode.instruction}", sampled[len(sampled) // 2]))
        if (why := exchanged(sampled, episode.instruction)) is not None:
            found.warnings.append(f"episode {number}, {slot}: red and blue look exchanged: {why}")
    return pictures


def _described(form: Any) -> str:
    exchanged_bytes = ", stored with red and blue exchanged (decoded right)" if form.swapped else ""
    return f"{form.width}x{form.height} {form.codec}{exchanged_bytes}"


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    if not lengths:
        return {}
    return {"shortest": min(lengths), "median": float(np.median(lengths)), "longest": max(lengths)}


def _spread_over(count: int, wanted: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(wanted, count))}) if count else []


def _picks(episodes: Sequence[int]) -> list[tuple[int, int]]:
    """(file, episode) of up to LOOKED_AT episodes spread over all files."""
    ends = np.cumsum(episodes)
    picks = []
    for number in _spread_over(int(ends[-1]) if len(ends) else 0, LOOKED_AT):
        file = int(np.searchsorted(ends, number, side="right"))
        picks.append((file, number - int(ends[file] - episodes[file])))
    return picks


def _counted(texts: Iterator[str]) -> dict[str, int]:
    return dict(Counter(texts).most_common())
