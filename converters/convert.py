"""Convert one episode, and one part of a plan: what runs in a worker.

`convert_episode` is pure: (spec, raw episode) -> Episode. `convert_part` reads a part's segments, writes the part
where its destination says, and commits it. A broken episode ends the part ("stop") or is listed with its reason
("quarantine"); either way the part that becomes visible holds whole episodes only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from converters.clock import ClockReader
from converters.fields import FieldReader, action_of, keep
from converters.frames import stored_frames
from converters.instruction import instruction_of, phrasings_of
from converters.patch_call import open_episode
from converters.plan import Request, Segment
from converters.raw import RawEpisode
from converters.readers import reader as reader_named
from rdt_data.episode import CameraFormat, Episode
from rdt_data.errors import RdtError, SourceError
from rdt_data.images import Encoded

if TYPE_CHECKING:
    from rdt_data.destination import Place

OnError = Literal["stop", "quarantine"]


@dataclass(frozen=True, slots=True)
class PartJob:
    """Everything a worker needs to make one part."""

    part: int
    segments: tuple[Segment, ...]
    root: Path
    request: Request
    cameras: Mapping[str, CameraFormat]
    place: "Place"
    on_error: OnError


@dataclass(slots=True)
class PartReport:
    """What became of a part; `error` when it was not written."""

    part: int
    episodes: int = 0
    steps: int = 0
    bytes: int = 0
    filtered: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    error: RdtError | None = None


class EpisodeConverter:
    """A request made ready to convert one raw episode after another; `convert_episode` for a single one.

    The spec's patch, where there is one, has been applied to them (`open_episode`).
    """

    def __init__(self, request: Request) -> None:
        spec = request.spec
        self.spec, self.request = spec, request
        self._clock = ClockReader(spec)
        self._state = FieldReader(spec.state, spec.control_hz)
        recorded = spec.recorded_action if request.action == "recorded" else None
        self._action = None if recorded is None else FieldReader(recorded, spec.control_hz)

    def __call__(self, raw: RawEpisode) -> Episode:
        """The vectors and words of one episode. Raises SourceError naming the field that does not fit."""
        if len(raw) == 0:
            raise SourceError("the episode has no steps", remedy="leave it out with --on-error quarantine")
        state, state_mask = self._state(raw)
        if self._action is None:
            action, action_mask = action_of(self.spec, self.request.action, state, state_mask, raw)
        else:
            action, action_mask = self._action(raw)
        instruction, instruction_raw = instruction_of(self.spec, raw, default=self.request.instruction)
        return Episode(
            id=raw.name,
            source=raw.name,
            state=state,
            action=action,
            state_mask=state_mask,
            action_mask=action_mask,
            instruction=instruction,
            instruction_raw=instruction_raw,
            phrasings=phrasings_of(self.spec, raw, instruction) if self.spec.instruction.also else (),
            control_hz=self.spec.control_hz,
            clock=self._clock(raw),
        )


def convert_episode(request: Request, raw: RawEpisode) -> Episode:
    """See `EpisodeConverter`."""
    return EpisodeConverter(request)(raw)


def convert_frames(
    request: Request, cameras: Mapping[str, CameraFormat], raw: RawEpisode
) -> dict[str, Iterator[Encoded]]:
    """Slot -> the episode's frames as they are stored, read as they are asked for."""
    keys = set(raw.keys())
    frames = {}
    for slot, camera in request.spec.cameras.items():
        key = next((key for key in camera.from_ if key in keys), None)
        if key is not None and slot in cameras:
            frames[slot] = stored_frames(raw, key, camera, cameras[slot], request.image_size)
        elif not camera.optional:
            raise SourceError(
                f"the {slot} camera is missing; the episode holds {', '.join(sorted(keys)) or 'nothing'}",
                remedy="correct the camera's key in the spec, or mark it `optional: true`",
                field=camera.from_[0],
            )
    return frames


def read_segments(
    request: Request, root: Path, segments: Sequence[Segment]
) -> Iterator[tuple[Segment, int, RawEpisode | SourceError]]:
    """Every episode of a part in order, patched, or the error it could not be opened for.

    What is wrong with a file as a whole is told of each episode not yet read; found after the last one (a file with
    more records than it should have) it is told of the number behind the last.
    """
    reader = reader_named(request.spec.reader)
    for segment in segments:
        read = segment.start
        try:
            with reader.open_file(root, segment.file, request.spec.options) as file:
                for number in range(segment.start, segment.stop):
                    try:
                        raw: RawEpisode | SourceError = open_episode(file, number, request.spec)
                    except SourceError as error:
                        raw = error
                    read = number + 1
                    yield segment, number, raw
        except SourceError as error:
            for number in range(read, max(segment.stop, read + 1)):
                yield segment, number, error


def convert_part(job: PartJob) -> PartReport:
    """Make one part visible, or say in the report why not. Never leaves anything half-written in sight."""
    from rdt_data.parts import PartWriter

    report = PartReport(job.part)
    try:
        with job.place.room(job.part) as temporary:
            writer = PartWriter(temporary, job.cameras)
            try:
                _fill(writer, job, report)
                sources = [[s.file.path, s.start, s.stop, s.file.bytes] for s in job.segments]
                about = {"sources": sources, "filtered": report.filtered, "quarantined": report.quarantined}
                summary = writer.close(about)
            finally:
                writer.abandon()
            job.place.commit(temporary, job.part)
        report.episodes, report.steps = summary["episodes"], summary["steps"]
        report.bytes = sum(size for size, _ in summary["files"].values())
    except RdtError as error:
        report.error = error
    return report


def _fill(writer: Any, job: PartJob, report: PartReport) -> None:
    convert = EpisodeConverter(job.request)
    for segment, number, raw in read_segments(job.request, job.root, job.segments):
        try:
            if isinstance(raw, SourceError):
                raise raw
            if reason := keep(job.request.spec, raw):
                report.filtered.append({"episode": raw.name, "reason": reason})
                continue
            episode = convert(raw)
            writer.add(episode, convert_frames(job.request, job.cameras, raw))
        except SourceError as error:
            located = error.within(file=segment.file.path, episode=number)
            if job.on_error == "stop":
                raise located from None
            report.quarantined.append(quarantine_entry(located))


def quarantine_entry(error: SourceError) -> dict[str, Any]:
    """A broken episode as the part's attributes list it."""
    return {"file": error.file, "episode": error.episode, "field": error.field, "reason": error.problem}
