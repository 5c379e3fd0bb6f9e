"""Check a store: every byte against its checksums, every episode against its source.

Without a source: files, sizes, checksums, counts, masks, sampled frames. With one: the plan is made again and every
episode is converted again in memory and compared (vectors, masks, words, which ones are left out); frames are
compared by checksum, each of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from converters.convert import EpisodeConverter, convert_frames, quarantine_entry, read_segments
from converters.fields import keep
from converters.plan import Plan, Request, make_plan
from converters.spec import DatasetSpec, parse_spec
from rdt_data.episode import Episode
from rdt_data.errors import RdtError, RemoteError, SourceError, SpecError
from rdt_data.images import ImageError, decode
from rdt_data.jobs import Workers
from rdt_data.merge import no_single_source
from rdt_data.remote_files import read_many
from rdt_data.seal import broken_seals
from rdt_data.shards import crc32c
from rdt_data.store import Dataset, Part, open_dataset
from rdt_data.stored import StoredEpisode

_READ_AHEAD = 16 << 20
"""Bytes of files read at once; a larger one is read alone."""


@dataclass(slots=True)
class VerifyReport:
    """What was checked, and every problem found (none: the store is good)."""

    store: str
    parts: int = 0
    episodes: int = 0
    steps: int = 0
    files: int = 0
    bytes: int = 0
    frames: int = 0
    against_source: bool = False
    problems: list[str] = field(default_factory=list)

    def add(self, other: "VerifyReport") -> None:
        for name in ("parts", "episodes", "steps", "files", "bytes", "frames"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


def verify_store(
    store: str,
    source: Path | None = None,
    *,
    spec: DatasetSpec | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> VerifyReport:
    """Check a store by itself, and against its source when that is given.

    spec: the file the store was made with; needed when its patch is a function of the user's own, because what a
    store says is never imported. Raises RdtError only when the store cannot be opened or was made with another
    spec; everything else is a problem in the report.
    """
    dataset = open_dataset(store)
    if source is not None and "merged" in dataset.attributes:
        raise no_single_source(dataset)
    asked = request_of(dataset, spec) if source is not None or spec is not None else None
    report = VerifyReport(store, against_source=source is not None)
    if not dataset.complete:
        report.problems.append("the conversion has not finished: run `rdt-data convert` again")
    elif broken := broken_seals(dataset.fs, dataset.path, dataset.attributes):
        report.problems += broken  # what is damaged is not read further
        return report
    address = store if "://" in store else str(Path(store).absolute())  # for workers elsewhere
    starts = accumulate((part.episodes for part in dataset.parts), initial=0)
    jobs = [_PartCheck(address, part, first) for part, first in zip(dataset.parts, starts, strict=False)]
    if source is not None and asked is not None:
        plan = make_plan(source, asked)
        changed = _changed_parts(dataset, plan)
        report.problems += changed.values()
        jobs = [job if number in changed else replace(job, plan=plan) for number, job in enumerate(jobs)]
    with Workers(min(workers, max(len(jobs), 1)), ray=ray) as pool:
        found = dict(pool.map(check_part, jobs))
    for number in sorted(found):
        report.add(found[number])
    return report


def request_of(dataset: Dataset, spec: DatasetSpec | None = None) -> Request:
    """The request a store was made with; `spec`, when given, is its spec as a file. Raises SpecError when it is not."""
    stored = dataset.spec_text
    if spec is None:
        spec = parse_spec(stored, f"{dataset.name}.yaml", trusted=False)
    elif spec.text != stored:
        raise SpecError(
            f"{spec.file} is not the spec that {dataset.url} was made with: {_first_difference(spec.text, stored)}",
            remedy="give the file as it was then; the store's attribute `spec_text` holds it",
        )
    asked = dict(dataset.attributes["request"])
    asked["episodes"] = None if asked["episodes"] is None else tuple(asked["episodes"])
    return Request.of(spec, **asked)


def _first_difference(given: str, stored: str) -> str:
    """The first line that is not the same in both texts."""
    pairs = zip_longest(given.splitlines(), stored.splitlines(), fillvalue="")
    for number, (here, there) in enumerate(pairs, 1):
        if here != there:
            return f"line {number} is {here!r}, then it was {there!r}"
    return "the ends of its lines differ"


@dataclass(frozen=True, slots=True)
class _PartCheck:
    store: str
    part: Part
    first: int  # number of its first episode
    plan: Plan | None = None


def _changed_parts(dataset: Dataset, plan: Plan) -> dict[int, str]:
    """Position of each part whose source is not what it was made from, with what has changed."""
    changed = {}
    for position, part in enumerate(dataset.parts):
        number = int(part.id)
        then = part.attributes["sources"]
        segments = plan.parts[number] if number < len(plan.parts) else ()
        now = [[s.file.path, s.start, s.stop, s.file.bytes] for s in segments]
        if then != now:
            changed[position] = f"part {part.id}: its source was {_said(then, now)}, it is {_said(now, then)}"
    if dataset.complete and len(plan.parts) > len(dataset.parts):
        changed[len(dataset.parts)] = f"the source makes {len(plan.parts)} parts, the store has {len(dataset.parts)}"
    return changed


def _said(rows: list[list[Any]], other: list[list[Any]]) -> str:
    """The sources that differ from `other`, in words."""
    differing = [
        f"{file}, episodes {a}:{b}, {size} bytes" for file, a, b, size in rows if [file, a, b, size] not in other
    ]
    return "; ".join(differing[:3]) + ("; …" if len(differing) > 3 else "") if differing else "nothing"


def check_part(check: _PartCheck) -> VerifyReport:
    """Check one part; runs in a worker."""
    dataset = open_dataset(check.store)
    part = check.part
    report = VerifyReport(check.store, parts=1, episodes=part.episodes, steps=part.steps)
    _check_files(dataset, part, report)
    if report.problems:
        return report  # what is damaged is not read further
    episodes = [dataset[number] for number in range(check.first, check.first + part.episodes)]
    try:
        _check_counts(part, episodes, report)
        for episode in episodes:
            _check_frames(episode, report)
        if check.plan is not None:
            _check_source(check, part, episodes, report)
    except RemoteError:  # nothing is wrong with the store
        raise
    except RdtError as error:
        report.problems.append(f"part {part.id}: {error.problem}")
    return report


def _check_files(dataset: Dataset, part: Part, report: VerifyReport) -> None:
    """Every file of a part: there, of its size, with its checksum."""
    folder = f"{dataset.path}/parts/{part.id}"
    for path, (size, checksum), data in _contents(dataset.fs, folder, part.attributes["files"]):
        if data is None:
            report.problems.append(f"part {part.id}: {path} is missing")
            continue
        report.files += 1
        report.bytes += len(data)
        if len(data) != size:
            report.problems.append(f"part {part.id}: {path} has {len(data)} bytes, {size} were written")
        elif crc32c(data) != checksum:
            report.problems.append(f"part {part.id}: {path} is damaged (its CRC32C differs)")


def _contents(fs: Any, folder: str, files: dict[str, list[int]]) -> Iterator[tuple[str, list[int], bytes | None]]:
    """Each file with what is said of it and what it holds; a few small ones are read at once."""
    batch: list[str] = []
    for path, (size, _) in files.items():
        if batch and size + sum(files[waiting][0] for waiting in batch) > _READ_AHEAD:
            yield from ((path, files[path], data) for path, data in _read(fs, folder, batch))
            batch = []
        batch.append(path)
    yield from ((path, files[path], data) for path, data in _read(fs, folder, batch))


def _read(fs: Any, folder: str, paths: list[str]) -> Iterator[tuple[str, bytes | None]]:
    return zip(paths, read_many(fs, [f"{folder}/{path}" for path in paths]), strict=True)


def _check_counts(part: Part, episodes: list[StoredEpisode], report: VerifyReport) -> None:
    lengths = [len(episode) for episode in episodes]
    starts = [episode.start for episode in episodes]
    if sum(lengths) != part.steps or starts != [sum(lengths[:i]) for i in range(len(lengths))]:
        report.problems.append(f"part {part.id}: the lengths of its episodes do not add up to {part.steps} steps")
    for episode in episodes:
        state, action = episode.state, episode.action
        for name, values, mask in (("state", state, episode.state_mask), ("action", action, episode.action_mask)):
            unused = ~np.broadcast_to(mask, values.shape)
            if values.shape != (len(episode), 128) or not np.isfinite(values).all() or values[unused].any():
                report.problems.append(f"{episode.id}: {name} is not finite, or not 0 outside its mask")


def _check_frames(episode: StoredEpisode, report: VerifyReport) -> None:
    """The first, the middle and the last frame decode to the size the store states."""
    for slot in episode.cameras:
        frames = episode.images(slot)
        for step in sorted({0, len(episode) // 2, len(episode) - 1}):
            report.frames += 1
            try:
                shape = decode(frames.encoded(step)).shape
            except ImageError as error:
                report.problems.append(f"{episode.id}: {slot} frame {step}: {error.problem}")
                continue
            if shape != frames.shape[1:]:
                report.problems.append(
                    f"{episode.id}: {slot} frame {step} is {shape}, the store says {frames.shape[1:]}"
                )


def _check_source(check: _PartCheck, part: Part, stored: list[StoredEpisode], report: VerifyReport) -> None:
    """Convert the part's source again, in memory, and compare."""
    plan = check.plan
    assert plan is not None
    left_out: dict[str, list[dict[str, Any]]] = {"filtered": [], "quarantined": []}
    there = {episode.id: episode for episode in stored}
    found = []
    for episode, frames in _again(plan, int(part.id), left_out):
        found.append(episode.id)
        if episode.id in there:
            _compare(episode, there[episode.id], report)
            _compare_frames(frames, there[episode.id], report)
    if found != list(there):
        more = [f"{name} is missing in it" for name in found if name not in there]
        less = [f"{name} is in it, but not to be converted" for name in there if name not in set(found)]
        report.problems.append(f"part {part.id}: {'; '.join((more + less)[:5]) or 'its episodes are in another order'}")
    for what, entries in left_out.items():
        if entries != part.attributes[what]:
            report.problems.append(f"part {part.id}: {what} then {part.attributes[what]}, now {entries}")


Checksums = dict[str, list[int]]


def _again(plan: Plan, part: int, left_out: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[Episode, Checksums]]:
    """The episodes of a part converted again, with the CRC32C of each frame; fills `left_out`."""
    convert = EpisodeConverter(plan.request)
    for segment, number, raw in read_segments(plan.request, plan.root, plan.parts[part]):
        try:
            if isinstance(raw, SourceError):
                raise raw
            if reason := keep(plan.request.spec, raw):
                left_out["filtered"].append({"episode": raw.name, "reason": reason})
                continue
            episode = convert(raw)
            frames = convert_frames(plan.request, plan.cameras, raw)
            sums = {slot: [crc32c(frame) for frame in of_slot] for slot, of_slot in frames.items()}
        except SourceError as error:
            left_out["quarantined"].append(quarantine_entry(error.within(file=segment.file.path, episode=number)))
            continue
        yield episode, sums


def _compare(episode: Episode, stored: StoredEpisode, report: VerifyReport) -> None:
    """Vectors exactly, masks, words."""
    for name in ("state", "action", "state_mask", "action_mask"):
        if not np.array_equal(getattr(episode, name), getattr(stored, name)):
            report.problems.append(f"{episode.id}: {name} differs from its source")
    for name in ("instruction", "instruction_raw", "source"):
        if getattr(episode, name) != getattr(stored, name):
            report.problems.append(f"{episode.id}: {name} is {getattr(stored, name)!r}, the source says otherwise")
    if (episode.instruction, *episode.phrasings) != stored.phrasings:
        report.problems.append(f"{episode.id}: the phrasings of its instruction differ from its source")
    if stored.clock.known and not stored.clock.same(episode.clock):  # older stores keep none
        report.problems.append(f"{episode.id}: what its timestamps say differs from its source")


def _compare_frames(frames: Checksums, stored: StoredEpisode, report: VerifyReport) -> None:
    """Every frame (encoding is deterministic, so this holds for encoded ones too)."""
    if set(frames) != set(stored.cameras):
        report.problems.append(f"{stored.id}: cameras are {stored.cameras}, the source has {tuple(frames)}")
        return
    for slot, sums in frames.items():
        differing = [step for step, crc in enumerate(stored.images(slot).checksums()) if crc != sums[step]]
        if differing:
            report.problems.append(f"{stored.id}: {slot} frames {differing[:5]} differ from their source")
