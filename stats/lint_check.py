"""The words of lint: a check, what it hits, and the finding that is reported.

A check is one row of `lint_table.CHECKS`. Its function sees the vectors of a run of whole episodes (`lint_rows.Rows`),
the words of such a run, one camera of one episode (`lint_frames.Clip`), or what was gathered over the whole store.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
"""error: certainly wrong. warning: almost always wrong, or costly to train on. info: good to know."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

Subject = Literal["rows", "clips", "store"]
"""What a check looks at: vectors and words of all episodes; frames of sampled ones; the store's own attributes."""

Value = float | str


@dataclass(frozen=True, slots=True)
class Hit:
    """Something a check found. episode: its number in the store, None for the store as a whole.

    slot: name of the vector's slot or group; step: within the episode, the first of `count` steps.
    remedy: in place of the check's own, where more is known.
    """

    value: Value
    expected: str
    episode: int | None = None
    step: int | None = None
    slot: str | None = None
    camera: str | None = None
    count: int = 1
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit as it is reported. part and row: where the episode lies in the store, parts/<part>/episodes/*[row]."""

    check: str
    severity: Severity
    episode: int | None
    id: str | None
    part: str | None
    row: int | None
    step: int | None
    slot: str | None
    camera: str | None
    value: Value
    expected: str
    count: int
    remedy: str

    def __str__(self) -> str:
        steps = None if self.step is None else f"step {self.step}" + (f" (of {self.count})" if self.count > 1 else "")
        where = [None if self.episode is None else f"episode {self.episode} ({self.id})", steps, self.slot, self.camera]
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        named = ", ".join(text for text in where if text) or "the store"
        return f"{named}: {value}; expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Need:
    """What a check cannot do without: in words, and whether the store has it."""

    words: str
    met: Callable[["Seen"], bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is in a store.

    state, action: the slots real in any episode; next_state: actions are next states; timed: it is kept what timestamps
    say.
    """

    state: frozenset[int]
    action: frozenset[int]
    next_state: bool
    cameras: tuple[str, ...]
    episodes: int
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table.

    about: what is wrong when it fires; threshold: from where on, in words and numbers; source: why there;
    remedy: what to do. find: hits in one `subject`; with `gather`, `find` instead gets the list of what `gather` made
    of every subject, in the order of episodes, and with `confirm` the dataset too, to look again.
    """

    name: str
    severity: Severity
    subject: Subject
    about: str
    threshold: str
    source: str
    remedy: str
    find: Callable[..., Iterable[Hit]]
    gather: Callable[[Any], Any] | None = None
    confirm: bool = False
    need: Need | None = None
