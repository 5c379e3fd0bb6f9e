"""Run a table of checks over a converted store.

In: the path or URL of a store, which checks, how many episodes' frames to look at. Out: a `Report` of findings in a
fixed order. Vectors are read once, block by block; every check sees each block. Frames are sampled. Workers change the
time, not the result.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from rdt_data.errors import RdtError
from rdt_data.jobs import Workers
from rdt_data.store import Dataset, open_dataset
from stats.lint_check import SEVERITIES, Check, Finding, Hit, Seen
from stats.lint_frames import COMPARED, FRAMES, Clipped, chosen, read_clip
from stats.lint_rows import Block, Rows, blocks, read
from stats.lint_table import CHECKS, choose

EPISODES_A_CAMERA = 40
SHOWN = 3
BLOCKS_A_TASK = 16

Progress = Callable[[int, int], None]
"""Called with (done, total) episodes, those whose frames are looked at counted once more."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one worker call looks at: neighbouring blocks of vectors, or the cameras of one episode."""

    url: str
    checks: tuple[str, ...]
    blocks: tuple[Block, ...]
    clips: tuple[Clipped, ...]
    seed: int

    @property
    def episodes(self) -> int:
        return sum(block.last - block.first for block in self.blocks) + bool(self.clips)


@dataclass(slots=True)
class Measured:
    """What was found in some episodes: hits by check, and by gathering function what was gathered."""

    hits: dict[str, list[Hit]] = field(default_factory=dict)
    gathered: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What lint found. not_applicable: check -> what it needs that this store has not."""

    store: str
    dataset: str
    episodes: int
    steps: int
    checks: tuple[str, ...]
    not_applicable: dict[str, str]
    sample: str
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """How many findings there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain data; `counts` says how many findings there are of each severity."""
        return {**asdict(self), "counts": {severity: self.count(severity) for severity in SEVERITIES}}

    def __str__(self) -> str:
        lines = [f"{self.store}: {self.dataset}, {self.episodes} episodes, {self.steps} steps"]
        for name in self.checks:
            found = [finding for finding in self.findings if finding.check == name]
            if found:
                check = CHECKS[name]
                episodes = len({finding.episode for finding in found if finding.episode is not None})
                where = f" in {episodes} of {self.episodes} episodes" if episodes else ""
                lines += ["", f"{check.severity}: {name}: {len(found)}{where}: {check.about}"]
                lines += [f"  {finding}" for finding in found[:SHOWN]]
                if len(found) > SHOWN:
                    lines.append(f"  … and {len(found) - SHOWN} more (--json lists all)")
                lines += [f"  fix: {remedy}" for remedy in dict.fromkeys(finding.remedy for finding in found[:SHOWN])]
        lines += ["", self.sample]
        if self.not_applicable:
            lines.append("does not apply here:")
            for need in dict.fromkeys(self.not_applicable.values()):
                names = ", ".join(name for name, words in self.not_applicable.items() if words == need)
                lines.append(f"  {names}: needs {need}")
        counts = ", ".join(
            f"{self.count(s)} {s}{'s' if s != 'info' and self.count(s) != 1 else ''}" for s in SEVERITIES
        )
        return "\n".join([*lines, f"{len(self.checks)} checks: {counts}"])


def lint(
    url: str,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    images: int = EPISODES_A_CAMERA,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Check a store. images: episodes a camera whose frames are looked at, 0 for none. Raises RdtError, StoreError."""
    checks = choose(only, skip)
    if images < 0 or seed < 0:
        raise RdtError(f"images {images}, seed {seed}", remedy="give numbers from 0 on")
    dataset = open_dataset(url)
    names = tuple(check.name for check in checks)
    clips = chosen(dataset, images, seed) if any(check.subject == "clips" for check in checks) else []
    by_episode: dict[int, list[Clipped]] = {}
    for clip in clips:
        by_episode.setdefault(clip[0], []).append(clip)
    vectors = blocks(dataset) if any(check.subject == "rows" for check in checks) else ()
    tasks = [Task(dataset.url, names, some, (), seed) for some in _together(vectors)]
    tasks += [Task(dataset.url, names, (), tuple(some), seed) for some in by_episode.values()]
    total = _run(tasks, workers, progress)
    seen = _total_seen(total.gathered.pop("seen", []), dataset)
    hits = {check.name: _hits(check, total, dataset) for check in checks}
    missing = {check.name: check.need.words for check in checks if check.need is not None and not check.need.met(seen)}
    return Report(
        store=dataset.url,
        dataset=dataset.name,
        episodes=len(dataset),
        steps=dataset.steps,
        checks=names,
        not_applicable=missing,
        sample=_sample(dataset, clips),
        findings=tuple(_findings(checks, hits, dataset)),
    )


def _together(all_blocks: Iterable[Block]) -> Iterator[tuple[Block, ...]]:
    """Up to BLOCKS_A_TASK blocks of one part, whose per-episode arrays are then read once."""
    for _, of_part in groupby(all_blocks, key=lambda block: block.part):
        some = list(of_part)
        yield from (tuple(some[at : at + BLOCKS_A_TASK]) for at in range(0, len(some), BLOCKS_A_TASK))


def _run(tasks: Sequence[Task], workers: int, progress: Progress) -> Measured:
    """Measure every task, and add up in the order of the tasks."""
    found: dict[int, Measured] = {}
    episodes = sum(task.episodes for task in tasks)
    with Workers(workers) as pool, pool.stopped_first():
        for position, measured in pool.map(measure, tasks):
            found[position] = measured
            progress(sum(tasks[done].episodes for done in found), episodes)
    total = Measured()
    for position in range(len(tasks)):
        _extend(total, found.pop(position))
    return total


def measure(task: Task) -> Measured:
    """Run the checks over some blocks or the cameras of one episode."""
    dataset = open_dataset(task.url)
    checks = [CHECKS[name] for name in task.checks]
    total = Measured()
    for block in task.blocks:
        rows = read(dataset, block)
        if rows.numbers:
            _extend(total, measure_rows(rows, checks))
    for number, camera in task.clips:
        clip = read_clip(dataset, number, camera, task.seed)
        _extend(total, measured(clip, [check for check in checks if check.subject == "clips"]))
    return total


def measure_rows(rows: Rows, checks: Sequence[Check]) -> Measured:
    """Run the checks of vectors and words over a block; also what there is in it."""
    found = measured(rows, [check for check in checks if check.subject == "rows"])
    seen = Seen(frozenset(rows.state.slots), frozenset(rows.action.slots), rows.next_state, (), len(rows.numbers))
    found.gathered["seen"] = [seen]
    return found


def measured(subject: Any, checks: Sequence[Check]) -> Measured:
    """Run checks over one subject; checks that gather with the same function share what it makes."""
    found = Measured()
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are `not_finite`'s to report
        for check in checks:
            if check.gather is None:
                found.hits[check.name] = list(check.find(subject))
            elif check.gather.__name__ not in found.gathered:
                found.gathered[check.gather.__name__] = [check.gather(subject)]
    return found


def _extend(total: Measured, more: Measured) -> None:
    for ours, theirs in ((total.hits, more.hits), (total.gathered, more.gathered)):
        for name, values in theirs.items():
            ours.setdefault(name, []).extend(values)


def _hits(check: Check, total: Measured, dataset: Dataset) -> list[Hit]:
    if check.subject == "store":
        return list(check.find(dataset))
    if check.gather is None:
        return total.hits.get(check.name, [])
    gathered = total.gathered.get(check.gather.__name__, [])
    return list(check.find(gathered, dataset) if check.confirm else check.find(gathered))


def _total_seen(parts: Sequence[Seen], dataset: Dataset) -> Seen:
    return Seen(
        state=frozenset().union(*(part.state for part in parts)),
        action=frozenset().union(*(part.action for part in parts)),
        next_state=all(part.next_state for part in parts),
        cameras=dataset.cameras,
        episodes=len(dataset),
        timed=any(dataset.table(at).timed for at in range(len(dataset.parts))),
    )


def _sample(dataset: Dataset, clips: Sequence[Clipped]) -> str:
    """Which frames were looked at, in words."""
    if not clips:
        return "images: none were looked at"
    counts = Counter(camera for _, camera in clips)
    each = ", ".join(f"{count} episodes of {camera}" for camera, count in counts.items())
    return (
        f"images: {FRAMES} frames decoded of each of {each}; the first {COMPARED} frames of each compared byte by byte"
    )


def _findings(checks: Sequence[Check], hits: dict[str, list[Hit]], dataset: Dataset) -> Iterator[Finding]:
    """Hits told where they lie, by check, then episode and step."""
    ends: list[int] = []
    ids: list[str] = []
    for part in dataset.parts:
        ends.append((ends[-1] if ends else 0) + part.episodes)
        ids.append(part.id)
    for check in checks:
        for hit in sorted(hits[check.name], key=lambda hit: (hit.episode or 0, hit.step or 0)):
            number = hit.episode
            at = None if number is None else bisect.bisect_right(ends, number)
            yield Finding(
                check=check.name,
                severity=check.severity,
                episode=number,
                id=None if number is None else dataset[number].id,
                part=None if at is None else ids[at],
                row=None if at is None or number is None else number - (ends[at - 1] if at else 0),
                step=hit.step,
                slot=hit.slot,
                camera=hit.camera,
                value=hit.value,
                expected=hit.expected,
                count=hit.count,
                remedy=hit.remedy or check.remedy,
            )
