"""Does a spec fit a source? Some episodes are converted in memory and every slot is reported: `rdt-data spec check`.

In: a spec and a source. Out: a `CheckReport`: slot by slot where the values come from and in which range they are, what
is wrong (an error) or looks wrong (a warning), and whether robot -> unified -> robot -> unified is the identity. What
looks wrong is in `values`, `motion` and `views`; the way back is in `robot`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.checks.motion import motion_findings
from converters.checks.robot import TOLERANCE, round_trip
from converters.checks.seen import FieldSeen, Finding, Seen, error, see
from converters.checks.values import value_findings
from converters.checks.views import believed, view_findings
from converters.convert import convert_episode
from converters.fields import keep
from converters.patch_call import open_episode
from converters.plan import Plan, Request, make_plan
from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from rdt_data.errors import SourceError
from rdt_data.layout import preferred_name, unit

EPISODES = 3
"""Episodes that are converted, spread over the source."""


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot of a field: "state[0]", "right_arm_joint_0_pos", read from "observations/qpos[7]" in rad, and so on."""

    field: str
    slot: str
    index: int
    source: str
    source_unit: str
    ops: str
    unit: str
    low: float
    high: float


@dataclass(slots=True)
class CheckReport:
    """What `check_spec` found. round_trip: field -> largest difference after the way to the robot and back."""

    spec: str
    source: str
    episodes: list[str] = field(default_factory=list)
    steps: int = 0
    slots: list[SlotReport] = field(default_factory=list)
    cameras: dict[str, str] = field(default_factory=dict)
    instructions: list[str] = field(default_factory=list)
    irreversible: list[str] = field(default_factory=list)
    round_trip: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def wrong(self, *, strict: bool = False) -> bool:
        """Whether there is an error; strict: or a warning."""
        return any(strict or finding.level == "error" for finding in self.findings)

    def __str__(self) -> str:
        largest = max(self.round_trip.values(), default=0.0)
        back = f"to the robot and back: {len(self.round_trip)} fields, largest difference {largest:.1g}"
        lines = [
            f"{len(self.episodes)} episodes, {self.steps} steps of {self.source}",
            *(f"  {line}" for line in _table(self.slots)),
            *(f"  {slot}: {what}" for slot, what in self.cameras.items()),
            *(f"  instruction: {text!r}" for text in self.instructions[:3]),
            *([f"  {back}"] if self.round_trip else []),
            *(f"  cannot be turned back into robot commands: {line}" for line in self.irreversible),
            *(f"{finding}" for finding in self.findings),
        ]
        return "\n".join(line.rstrip() for line in lines)


def check_spec(spec: DatasetSpec, source: Path, *, episodes: int = EPISODES) -> CheckReport:
    """Convert up to `episodes` episodes spread over `source` and report. Raises RdtError when there is no source."""
    report = CheckReport(spec.file or spec.name, str(source), irreversible=spec.irreversible())
    plan = make_plan(source, Request.of(spec))
    seen = see(spec)
    filtered, signs = 0, list[Finding]()
    for place, raw in _episodes(plan, episodes):
        try:
            if isinstance(raw, SourceError):
                raise raw
            if keep(spec, raw):
                filtered += 1
                continue
            _add(report, seen, plan, raw, signs)
        except SourceError as problem:
            _tell(report, problem.within(file=place))
    if filtered and not report.episodes:
        reasons = "; ".join(str(rule) for rule in spec.keep_if)
        report.findings.append(
            error("keep_if", f"keeps none of the {filtered} episodes looked at", f"correct the rule: {reasons}")
        )
    if report.episodes:
        report.slots = [row for one in seen.fields if one.results for row in _rows(one)]
        report.findings += believed(signs, len(report.episodes))
        report.findings += value_findings(seen)
        report.findings += motion_findings(seen)
    return report


def _add(report: CheckReport, seen: Seen, plan: Plan, raw: RawEpisode, signs: list[Finding]) -> None:
    """Convert one episode and remember what it shows; signs: of colours that look exchanged."""
    spec = plan.request.spec
    episode = convert_episode(plan.request, raw)
    seen.add(raw)
    report.episodes.append(raw.name)
    report.steps += len(raw)
    if episode.instruction not in report.instructions:
        report.instructions.append(episode.instruction)
    for finding in view_findings(plan, raw, episode.instruction, report.cameras, signs):
        if finding.where not in {other.where for other in report.findings}:
            report.findings.append(finding)
    for name, difference in round_trip(spec, raw).items():
        report.round_trip[name] = max(report.round_trip.get(name, 0.0), difference)
        if difference > TOLERANCE:
            text = f"{raw.name}: differs by {difference:.3g} after the way to the robot and back"
            report.findings.append(error(name, text, "use ops that lose nothing, or say it in `notes`"))


def _episodes(plan: Plan, wanted: int) -> Iterator[tuple[str, RawEpisode | SourceError]]:
    """(file, episode or why it cannot be opened) of episodes spread over the plan."""
    picks = {round(i) for i in np.linspace(0, plan.episodes - 1, min(wanted, plan.episodes))}
    first = 0
    for segment in plan.segments:
        count = segment.stop - segment.start
        numbers = [segment.start + number - first for number in sorted(picks) if first <= number < first + count]
        first += count
        if not numbers:
            continue
        try:
            with plan.reader.open_file(plan.root, segment.file, plan.request.spec.options) as file:
                for number in numbers:
                    try:
                        raw: RawEpisode | SourceError = open_episode(file, number, plan.request.spec)
                    except SourceError as problem:
                        raw = problem.within(episode=number)
                    yield segment.file.path, raw
        except SourceError as problem:
            yield segment.file.path, problem


def _tell(report: CheckReport, problem: SourceError) -> None:
    """An episode that cannot be converted; the same problem of several episodes is told once."""
    where = problem.field or "source"
    known = {(other.where, other.problem.split(": ", 1)[-1]) for other in report.findings}
    if (where, problem.problem) not in known:
        report.findings.append(error(where, f"{problem.file}: {problem.problem}", problem.remedy))


def _table(slots: list[SlotReport]) -> list[str]:
    """The slots as text, in columns; a line names each section."""
    rows = [("slot", "index", "from", "unit", "ops", "range", "unit")]
    rows += [
        (s.slot, str(s.index), s.source, s.source_unit, s.ops, f"[{s.low:.4g}, {s.high:.4g}]", s.unit) for s in slots
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    sections = ["", *(s.field.partition("[")[0] for s in slots)]
    lines = []
    for line, section, before in zip(shown, sections, ["", *sections], strict=False):
        lines += [line] if section == before else [f"{section}:", line]
    return lines if slots else []


def _rows(one: FieldSeen) -> Iterator[SlotReport]:
    values = np.concatenate(one.results)
    columns, slots = list(one.field.columns), one.field.indices
    ops = ", ".join(map(str, one.field.ops))
    for place, slot in enumerate(slots):
        each = len(columns) == len(slots) and not any(op.kind.rotation or op.name == "permute" for op in one.field.ops)
        which = str(columns[place]) if each else f"{columns[0]}:{columns[-1] + 1}"
        yield SlotReport(
            one.name,
            preferred_name(slot),
            slot,
            f"{one.field.from_}[{which}]",
            one.field.unit,
            ops,
            unit(slot),
            float(values[:, place].min()),
            float(values[:, place].max()),
        )
