"""The memory of every process of a feed over time, read from Linux: the trainer, its producers, the Ray it began.

In: a feed, looked at again and again. Out: resident and private megabytes of each process, and how much they grew after
the start. Resident memory holds the arena, which is the same from the beginning; private memory is without it and
without files that are mapped, so that small growth shows there.
"""

from dataclasses import dataclass, field
from pathlib import Path

from rdt_data.feed import Feed

SETTLED_S = 120.0
"""Growth is counted from this second on, in a short run from a tenth of it: before, caches fill."""

_PAGE_MB = 4096 / 1e6


@dataclass(frozen=True, slots=True)
class Growth:
    """Of one process: megabytes when it had settled and at the end; share: by how much the resident ones grew."""

    process: str
    rss_mb: tuple[float, float]
    private_mb: tuple[float, float]
    share: float


@dataclass
class Memory:
    """What was seen. at_s: when; looks: process -> (resident, private) megabytes at each of these times."""

    at_s: list[float] = field(default_factory=list)
    looks: list[dict[str, tuple[float, float]]] = field(default_factory=list)

    def look(self, feed: Feed, at_s: float) -> None:
        """Look once more, `at_s` seconds after the beginning."""
        found = {name: _megabytes(pid) for name, pid in _processes(feed).items()}
        self.at_s.append(at_s)
        self.looks.append({name: both for name, both in found.items() if both is not None})

    @property
    def rss_mb(self) -> dict[str, list[float]]:
        """Process -> resident megabytes at every time it was there."""
        names = dict.fromkeys(name for look in self.looks for name in look)
        return {name: [look[name][0] for look in self.looks if name in look] for name in names}

    def growth(self, settled_s: float) -> list[Growth]:
        """Of every process that was there `settled_s` seconds after the beginning and still is."""
        settled = next((look for at, look in zip(self.at_s, self.looks, strict=True) if at >= settled_s), {})
        last = self.looks[-1] if self.looks else {}
        pairs = {name: tuple(zip(settled[name], last[name], strict=True)) for name in settled if name in last}
        return [Growth(name, rss, private, rss[1] / rss[0] - 1) for name, (rss, private) in pairs.items()]


def _processes(feed: Feed) -> dict[str, int | str]:
    """Name -> process id. What this process began and is no producer is the Ray of a feed that began one."""
    names: dict[str, int | str] = {"trainer": "self"} | {f"producer {pid}": pid for pid in feed.pids}
    parents: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, after = stat.read_text().rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        parents[int(stat.parent.name)] = int(after.split()[1]), before.split("(", 1)[1]
    own = {int(Path("/proc/self").readlink().name)}
    while more := {pid for pid, (parent, _) in parents.items() if parent in own} - own:
        own |= more
    return names | {
        f"{parents[pid][1]} {pid}": pid for pid in sorted(own) if parents[pid][0] in own and pid not in feed.pids
    }


def _megabytes(pid: int | str) -> tuple[float, float] | None:
    """Resident and private; None when the process has ended."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (resident * _PAGE_MB, (resident - shared) * _PAGE_MB) if resident else None
