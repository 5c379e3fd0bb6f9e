"""What a server counts, as Prometheus reads it (text format 0.0.4).

In: how requests went, how long each stage took, how many rows a batch had. Out: one page of text. Kept in memory of
constant size; not for several threads.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

OUTCOMES: Final = {
    "ok": "answered with actions",
    "refused": "a message that is no observation, or one that the policy cannot take",
    "failed": "an error of the server",
}
STAGES: Final = {
    "decode": "bytes to observation, frames decoded",
    "encode": "observation to conditions: image encoder, keys and values",
    "denoise": "conditions to actions, of the whole batch",
    "wait": "for other robots and for the network",
    "total": "from the message to its answer",
}

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """How many values were at most each of `bounds`, their number and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """Its samples; labels: 'a="b"' or nothing."""
        count, comma = 0, "," if labels else ""
        for bound, here in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            count += here
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.sum:.9g}"
        yield f"{name}_count{braces} {count}"


@dataclass(slots=True)
class ServeMetrics:
    """Counters of one server. connections: robots connected now."""

    connections: int = 0
    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    stages: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram(_SECONDS) for name in STAGES})
    rows: Histogram = field(default_factory=lambda: Histogram(_ROWS))
    started: float = field(default_factory=time.monotonic)

    def count(self, outcome: str) -> None:
        """One request has ended so (OUTCOMES)."""
        self.requests[outcome] += 1

    def time(self, seconds: Mapping[str, float]) -> None:
        """How long the stages of one request took (STAGES), in seconds."""
        for stage, took in seconds.items():
            self.stages[stage].add(took)

    def page(self) -> str:
        """All of it, as text."""
        lines = [
            *_head("rdt_serve_connections", "gauge", "Robots connected now."),
            f"rdt_serve_connections {self.connections}",
        ]
        lines += _head("rdt_serve_uptime_seconds", "gauge", "Since the server began.")
        lines += [f"rdt_serve_uptime_seconds {time.monotonic() - self.started:.3f}"]
        lines += _head("rdt_serve_requests_total", "counter", "Requests by outcome.")
        lines += [f'rdt_serve_requests_total{{outcome="{name}"}} {count}' for name, count in self.requests.items()]
        lines += _head("rdt_serve_stage_seconds", "histogram", "Time of a request's stages.")
        for name, histogram in self.stages.items():
            lines += histogram.lines("rdt_serve_stage_seconds", f'stage="{name}"')
        lines += _head("rdt_serve_batch_rows", "histogram", "Robots denoised together.")
        lines += self.rows.lines("rdt_serve_batch_rows")
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
