"""What a page of `rdt-data view` can ask for: a table of routes from paths to bytes. No sockets, no HTML.

In: a path with its query, as a browser sends it. Out: an `Answer`; one for what is not there or not allowed, too, as
JSON {"error", "fix"}. A path is compared as it is written and never becomes the path of a file: numbers and names of
cameras are all that it can hold. Frames are the stored bytes.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

from rdt_data.errors import RdtError
from rdt_data.images import media_type
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode
from stats.view_episode import describe_episode, describe_findings, packed_frames, vector_bytes
from stats.view_index import Index, Row
from stats.view_lint import Findings

MOST_ROWS, MOST_FRAMES = 200, 128
"""Of one answer."""

_ASSETS = {
    "/": ("view.html", "text/html; charset=utf-8"),
    **{f"/{name}.css": (f"{name}.css", "text/css; charset=utf-8") for name in ("palette", "view")},
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("view", "view_curves", "view_dom", "view_episode", "view_list", "view_player")
    },
}
_BYTES = "application/octet-stream"
_PARTS_KEPT = 64

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. kind: the media type of body."""

    body: bytes
    kind: str
    status: int = 200


class NotServedError(RdtError):
    """What was asked for is not there (404), or not a question (400)."""

    def __init__(self, problem: str, *, remedy: str, status: int = 404) -> None:
        super().__init__(problem, remedy=remedy)
        self.status = status


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer of plain data."""
    return Answer(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), "application/json", status)


def refusal(error: RdtError) -> Answer:
    """An error as JSON: 400 or 404 for what was asked wrongly, 500 for what the store cannot give."""
    status = error.status if isinstance(error, NotServedError) else 500
    return as_json({"error": error.problem, "fix": error.remedy}, status)


@dataclass(slots=True)
class View:
    """One store, shown. Its methods may be called from several threads."""

    dataset: Dataset
    index: Index
    findings: Findings
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, url: str) -> "View":
        """Open a store. Raises StoreError when there is none."""
        dataset = open_dataset(url)
        dataset.tables_kept = _PARTS_KEPT
        return cls(dataset, Index(url), Findings(url))

    def answer(self, target: str) -> Answer:
        """The answer to a GET of `target`, "/api/episodes?q=cube". Never raises for what is asked."""
        path, _, written = target.partition("?")
        try:
            for pattern, allowed, give in _ROUTES:
                if found := pattern.fullmatch(path):
                    return give(self, found.groupdict(), _query(written, allowed))
        except RdtError as error:
            return refusal(error)
        return refusal(NotServedError(f"{path[:200]!r} is not served", remedy="open / in a browser"))

    def episode(self, number: int) -> StoredEpisode:
        """Episode `number`, from 0 on."""
        if number >= len(self.dataset):
            raise NotServedError(
                f"there is no episode {number}", remedy=f"the store holds {len(self.dataset)} episodes, from 0 on"
            )
        with self._lock:  # the tables that are kept are a plain dict
            return self.dataset[number]


def _query(written: str, allowed: Mapping[str, str]) -> Query:
    """The query with what was not given; `allowed`: name -> the value it has then."""
    try:
        given = dict(parse_qsl(written, keep_blank_values=True, errors="replace", max_num_fields=len(allowed) + 1))
    except ValueError as error:
        raise NotServedError(
            f"this query cannot be read: {error}", remedy="ask for each thing once", status=400
        ) from None
    if strange := sorted(given.keys() - allowed.keys()):
        known = ", ".join(allowed) or "nothing"
        raise NotServedError(f"{strange[0][:80]!r} cannot be asked here", remedy=f"ask with {known}", status=400)
    return {**allowed, **given}


def _whole(query: Query, name: str, most: int) -> int:
    """A whole number from 0 to `most`."""
    text = query[name]
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise NotServedError(f"{name} is {text[:40]!r}", remedy=f"give a whole number from 0 to {most}", status=400)
    return int(text)


def _asset(path: str) -> "Route":
    name, kind = _ASSETS[path]
    return lambda view, given, query: Answer(files("stats").joinpath(name).read_bytes(), kind)


def _store(view: View, given: Query, query: Query) -> Answer:
    dataset = view.dataset
    spec = dataset.spec
    return as_json(
        {
            "name": dataset.name,
            "title": str(spec.get("title") or dataset.name),
            "url": dataset.url,
            "episodes": len(dataset),
            "steps": dataset.steps,
            "control_hz": dataset.control_hz,
            "cameras": list(dataset.cameras),
            "complete": dataset.complete,
            "rows": MOST_ROWS,
            "frames": MOST_FRAMES,
        }
    )


def _episodes(view: View, given: Query, query: Query) -> Answer:
    offset, limit = _whole(query, "offset", 10**12 - 1), _whole(query, "limit", MOST_ROWS)
    found = view.findings.episodes
    only = query["findings"] == "1"
    if query["findings"] not in ("0", "1"):
        raise NotServedError(f"findings is {query['findings'][:40]!r}", remedy="give 0 or 1", status=400)
    page = view.index.page(query["q"], offset, limit, (found or {}) if only else None)
    return as_json({"total": page.total, "rows": [_row(row, found) for row in page.rows]})


def _row(row: Row, findings: Mapping[int, Any] | None) -> dict[str, Any]:
    of_row = [] if findings is None else findings.get(row.number, [])
    severities = [finding.severity for finding in of_row]
    worst = next((severity for severity in ("error", "warning", "info") if severity in severities), None)
    return {
        "number": row.number,
        "id": row.id,
        "instruction": row.instruction,
        "steps": row.steps,
        "seconds": row.seconds,
        "findings": len(of_row),
        "worst": worst,
    }


def _episode(view: View, given: Query, query: Query) -> Answer:
    number = int(given["number"])
    found = view.findings.episodes
    of_episode = None if found is None else found.get(number, [])
    return as_json(describe_episode(view.episode(number), number, view.dataset.camera_formats, of_episode))


def _vector(view: View, given: Query, query: Query) -> Answer:
    name = cast(Literal["state", "action"], given["vector"])  # the pattern of the route has no other
    return Answer(vector_bytes(view.episode(int(given["number"])), name), _BYTES)


def _frame(view: View, given: Query, query: Query) -> Answer:
    episode, camera = _seen_by(view, given)
    step = int(given["step"])
    if step >= len(episode):
        raise NotServedError(f"there is no step {step}", remedy=f"the episode has {len(episode)} steps, from 0 on")
    data = episode.encoded(camera, step)
    return Answer(data, media_type(data))


def _frames(view: View, given: Query, query: Query) -> Answer:
    episode, camera = _seen_by(view, given)
    start, stop = _whole(query, "start", len(episode)), _whole(query, "stop", len(episode))
    if not start < stop <= start + MOST_FRAMES:
        remedy = f"ask for 1 to {MOST_FRAMES} frames, start below stop"
        raise NotServedError(f"frames from {start} to {stop}", remedy=remedy, status=400)
    return Answer(packed_frames(episode.images(camera).encoded_run(start, stop)), _BYTES)


def _seen_by(view: View, given: Query) -> tuple[StoredEpisode, str]:
    episode, camera = view.episode(int(given["number"])), given["camera"]
    if camera not in episode.cameras:
        has = ", ".join(episode.cameras) or "none"
        raise NotServedError(f"{episode.id} has no camera {camera}", remedy=f"its cameras: {has}")
    return episode, camera


def _lint(view: View, given: Query, query: Query) -> Answer:
    view.findings.begin()
    return as_json({**view.findings.as_json(), "store": describe_findings(view.findings.of_store)})


Route = Callable[[View, Query, Query], Answer]
_EPISODE = "/api/episodes/(?P<number>[0-9]{1,12})"
_CAMERA = f"{_EPISODE}/frames/(?P<camera>[a-z_]{{1,40}})"
_ROUTES: tuple[tuple[re.Pattern[str], Mapping[str, str], Route], ...] = (
    *((re.compile(re.escape(path)), {}, _asset(path)) for path in _ASSETS),
    (re.compile("/api/store"), {}, _store),
    (re.compile("/api/lint"), {}, _lint),
    (re.compile("/api/episodes"), {"q": "", "findings": "0", "offset": "0", "limit": str(MOST_ROWS)}, _episodes),
    (re.compile(_EPISODE), {}, _episode),
    (re.compile(f"{_EPISODE}/(?P<vector>state|action)"), {}, _vector),
    (re.compile(_CAMERA), {"start": "0", "stop": str(MOST_FRAMES)}, _frames),
    (re.compile(f"{_CAMERA}/(?P<step>[0-9]{{1,12}})"), {}, _frame),
)
"""Path, the query it takes with its defaults, and what answers."""
