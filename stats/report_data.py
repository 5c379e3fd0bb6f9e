"""Everything a report tells of one store, as plain data: gathered once, drawn by the other `report_` files.

In: an open store with its statistics and what lint found. Out: `About`. Episodes' words are read one part at a time;
vectors and frames of a few sampled episodes only.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rdt_data.language import pointers
from rdt_data.layout import CAMERAS
from rdt_data.split import count_split, read_split
from rdt_data.store import Dataset
from rdt_data.walk import walk
from stats.lint import Report as Lint
from stats.measure import Measured
from stats.report_sample import Sampled, sample

LISTED = 1000
"""The most ids, instructions or reasons that are kept to be listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera slot. source: the key it was read from; episodes: how many have it."""

    slot: str
    source: str
    size: str
    episodes: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Episodes that are not in the store for one reason. what: "quarantined" or "filtered"."""

    what: str
    reason: str
    count: int
    episodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Instructions and how many episodes have each, most first; at most LISTED of `different`.

    without: ids of episodes that have none, at most LISTED of `missing`; phrasings: different texts in all.
    """

    counts: tuple[tuple[str, int], ...]
    different: int
    phrasings: int
    missing: int
    without: tuple[str, ...]
    encoders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class About:
    """One store. label: what it is called in the report; key: its part of ids in the page."""

    key: str
    label: str
    measured: Measured
    lint: Lint
    spec: dict[str, Any]
    spec_text: str
    facts: dict[str, str]
    cameras: tuple[Camera, ...]
    left_out: tuple[LeftOut, ...]
    words: Words
    sampled: tuple[Sampled, ...]

    @property
    def stats(self) -> dict[str, Any]:
        """The document of `stats.document.summary`."""
        found: dict[str, Any] = self.measured.document["stats"]
        return found

    @property
    def control_hz(self) -> float:
        return float(self.measured.document["control_hz"])

    @property
    def title(self) -> str:
        return str(self.spec.get("title") or self.label)

    @property
    def hours(self) -> float:
        """Hours of recording, at the dataset's control rate."""
        return float(self.stats["steps"]) / self.control_hz / 3600


def gather(
    key: str, label: str, dataset: Dataset, measured: Measured, lint: Lint, episodes: int, frames: int, seed: int
) -> About:
    """Read what else a report shows. episodes, frames: how many are sampled, and of each camera of each."""
    cameras, words = _walked(dataset)
    return About(
        key=key,
        label=label,
        measured=measured,
        lint=lint,
        spec=dataset.spec,
        spec_text=dataset.spec_text,
        facts=_facts(dataset),
        cameras=cameras,
        left_out=tuple(_left_out(dataset)),
        words=words,
        sampled=tuple(sample(dataset, episodes, frames, seed)),
    )


def _walked(dataset: Dataset) -> tuple[tuple[Camera, ...], Words]:
    """What has to be counted over all episodes."""
    texts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    phrasings: set[str] = set()
    without: list[str] = []
    for episode in walk(dataset):
        seen.update(episode.cameras)
        phrasings.update(text for text in episode.phrasings if text)
        if episode.instruction:
            texts[episode.instruction] += 1
        else:
            without.append(episode.id)
    ordered = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    encoders = tuple(f"{p.encoder.model} ({p.encoder.dtype})" for p in pointers(dataset))
    words = Words(tuple(ordered[:LISTED]), len(texts), len(phrasings), len(without), tuple(without[:LISTED]), encoders)
    return tuple(_camera(dataset, slot, seen[slot]) for slot in CAMERAS if slot in dataset.cameras), words


def _camera(dataset: Dataset, slot: str, episodes: int) -> Camera:
    form = dataset.camera_formats[slot]
    written = dataset.spec.get("cameras", {}).get(slot, "")
    keys = written.get("from", "") if isinstance(written, dict) else written
    source = " or ".join(keys) if isinstance(keys, list) else str(keys)
    swapped = ", red and blue exchanged in the file" if form.swapped else ""
    return Camera(slot, source, f"{form.width} × {form.height}, {form.codec.upper()}{swapped}", episodes)


def _facts(dataset: Dataset) -> dict[str, str]:
    """Where a store is from and how it was made, in words."""
    spec, request = dataset.spec, dataset.attributes["request"]
    files = {(row[0], row[3]) for part in dataset.parts for row in part.attributes["sources"]}
    sizes = [size for part in dataset.parts for size, _ in part.attributes["files"].values()]
    contents = "".join(str(part.attributes["content"]) for part in dataset.parts)
    facts = {
        "Dataset": dataset.name,
        "Robot": str(spec.get("robot") or ""),
        "Control rate": f"{dataset.control_hz:g} Hz",
        "Origin": str(spec.get("source") or ""),
        "Store": dataset.url,
        "Read by": f"reader {spec['reader']}" if "reader" in spec else "",
        "Source files": f"{len(files):,} ({_megabytes(sum(size for _, size in files))})",
        "Stored": f"{_megabytes(sum(sizes))}; parts: {len(dataset.parts)}; format {dataset.attributes['version']}",
        "Actions": _actions(request),
        "Asked for": ", ".join(_choices(request)),
        "Merged from": ", ".join(str(entry["store"]) for entry in dataset.attributes.get("merged", [])),
        "Split": _split(dataset),
        "Content": f"SHA-256 {hashlib.sha256(contents.encode()).hexdigest()[:16]}…",
    }
    return {name: value for name, value in facts.items() if value}


def _actions(request: dict[str, Any]) -> str:
    if request.get("action") == "next-state":
        return "the state one step later"
    return "the recorded commands" if request.get("action") == "recorded" else "different in its merged stores"


def _choices(request: dict[str, Any]) -> list[str]:
    """What the conversion was asked for beyond the plain."""
    said = {"split": "split", "episodes": "episodes", "image_size": "image size", "instruction": "instruction"}
    chosen = [f"{words} {request[name]}" for name, words in said.items() if request.get(name) is not None]
    codec = request.get("codec")
    chosen += [f"frames as {codec}"] if codec not in (None, "keep") else []
    return [*chosen, "corrections of the spec applied"] if request.get("corrected") else chosen


def _split(dataset: Dataset) -> str:
    rule = read_split(dataset)
    if rule is None:
        return ""
    counts = count_split(dataset, rule).episodes
    return f"{counts['train']:,} episodes to train, {counts['validation']:,} to validate"


def _left_out(dataset: Dataset) -> list[LeftOut]:
    """Grouped by reason, most episodes first."""
    found: dict[tuple[str, str], list[str]] = {}
    for what in ("quarantined", "filtered"):
        for entry in dataset.listed(what):
            at = f"{entry['file']}, episode {entry['episode']}" if entry.get("file") else str(entry["episode"])
            field = f", field {entry['field']}" if entry.get("field") else ""
            found.setdefault((what, str(entry["reason"])), []).append(at + field)
    rows = [LeftOut(what, why, len(names), tuple(names[:LISTED])) for (what, why), names in found.items()]
    return sorted(rows, key=lambda row: (row.what != "quarantined", -row.count, row.reason))


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
