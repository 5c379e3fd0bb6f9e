"""What a check has seen of the episodes: raw columns and finished values of each field, and findings about them.

In: a spec, then raw episodes one by one. Out: `Seen`, which the checks read. Steps in which a field with `gaps` has no
value are left out of both its arrays.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converters.drafts.signs import Array
from converters.drafts.words import kind_of
from converters.fields import read_fields
from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec
from rdt_data.errors import SourceError


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong (error) or suspicious (warning). where: "state[2]", "cameras.exterior", "control_hz"."""

    level: Literal["error", "warning"]
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.problem}\n  fix: {self.remedy}"


def error(where: str, problem: str, remedy: str) -> Finding:
    return Finding("error", where, problem, remedy)


def warning(where: str, problem: str, remedy: str) -> Finding:
    return Finding("warning", where, problem, remedy)


@dataclass(slots=True)
class FieldSeen:
    """One field. raw: (T, width) of each episode as stored; results: (T, slots) as converted."""

    section: str
    number: int
    field: FieldSpec
    raw: list[Array] = dataclasses.field(default_factory=list)
    results: list[Array] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.section}[{self.number}]"

    def fills(self, group: tuple[int, ...]) -> bool:
        """Whether all its slots are of a group."""
        return set(self.field.indices) <= set(group)


@dataclass(slots=True)
class Seen:
    """All fields of a spec over the episodes. clocks: key -> times of steps, as the spec names them, else all."""

    spec: DatasetSpec
    fields: list[FieldSeen]
    clocks: dict[str, list[npt.NDArray[Any]]] = dataclasses.field(default_factory=dict)

    def add(self, raw: RawEpisode) -> None:
        """Add one episode, which the spec fits. Raises SourceError when its recorded commands do not."""
        keys = set(raw.keys())
        read = []
        for one in self.fields:
            if one.field.from_ not in keys and one.field.optional:
                continue
            values, mask = read_fields([one.field], raw, self.spec.control_hz)
            slots = list(one.field.indices)
            here = np.broadcast_to(mask, values.shape)[:, slots].all(axis=1)
            read.append((one, _columns(raw, one.field)[here], values[:, slots].astype(np.float64)[here]))
        for one, columns, results in read:
            one.raw.append(columns)
            one.results.append(results)
        named = self.spec.timestamps
        clocks = sorted(key for key in keys if kind_of(key) == "clock") if named is None else [named.from_]
        for key in clocks:
            if key in keys:
                self._add_clock(raw, key)

    def _add_clock(self, raw: RawEpisode, key: str) -> None:
        try:
            times = np.asarray(raw.array(key))
        except SourceError:
            return  # a text, or one value for the episode: no clock
        if times.dtype.kind in "iuf" and times.size == len(raw):
            self.clocks.setdefault(key, []).append(times.reshape(-1, 1))


def see(spec: DatasetSpec) -> Seen:
    """Nothing seen yet."""
    sections = (("state", spec.state), ("recorded_action", spec.recorded_action or ()))
    return Seen(spec, [FieldSeen(section, n, f) for section, fields in sections for n, f in enumerate(fields)])


def _columns(raw: RawEpisode, wanted: FieldSpec) -> Array:
    array: npt.NDArray[np.float64] = np.asarray(raw.array(wanted.from_)).astype(np.float64)
    return array.reshape(len(raw), -1)[:, list(wanted.columns)]
