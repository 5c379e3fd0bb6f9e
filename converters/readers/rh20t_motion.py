"""The motion of an RH20T scene at the times of each camera's frames: the files in its folder `transformed`.

    joint.npy               {camera: {time: (6,) or (7,)}}
    gripper.npy             {camera: {time: {"gripper_command": (k,), "gripper_info": (k,)}}}
    tcp.npy, tcp_base.npy   {camera: [{"timestamp": time, "tcp": (7,)}, …]}

In: a scene folder, a camera, its times (ms). Out: float64 arrays with a row for each time; a row is NaN where the file
has nothing for that time, and the seventh joint is NaN for an arm of six. Joints are always there. Files that are not
laid out so are errors. Knows no units and no robots.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.readers.plain_pickle import load_npy
from rdt_data.errors import SourceError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value is: the file, the name within the entry of a time ("": the entry itself), how long it may be."""

    file: str
    name: str
    widths: tuple[int, ...] = ()  # empty: any, the same for all times


_PLACES = {
    "joint": _Place("joint", "", (6, 7)),
    "gripper_command": _Place("gripper", "gripper_command"),
    "gripper_info": _Place("gripper", "gripper_info"),
    "tcp": _Place("tcp", "tcp", (7,)),
    "tcp_base": _Place("tcp_base", "tcp", (7,)),
}


@dataclass(slots=True)
class Motion:
    """The files of one scene, each read once and when it is asked for. name: the scene in errors."""

    folder: Path
    name: str
    _files: dict[str, Any] = field(default_factory=dict)

    def keys(self) -> list[str]:
        """The values whose file is there."""
        return [key for key, place in _PLACES.items() if self._path(place.file).is_file()]

    def values(self, key: str, camera: str, times: Sequence[int]) -> FloatArray:
        """The value `key` at the times of `camera`: (T, W). Raises SourceError naming the file and the step."""
        place = _PLACES[key]
        entries = self._entries(place.file, camera)
        rows = [self._row(place, entries.get(time), f"step {step} (time {time})") for step, time in enumerate(times)]
        found = {len(row) for row in rows if row is not None}
        if not place.widths and len(found) > 1:
            raise self._wrong(place.file, f"{key} has {' or '.join(map(str, sorted(found)))} values in one episode")
        array = np.full((len(times), max(place.widths or found or {1})), np.nan)
        for step, row in enumerate(rows):
            if row is not None:
                array[step, : len(row)] = row
            elif key == "joint":
                raise self._wrong(place.file, f"step {step} (time {times[step]}) of {camera} has no joint values")
        return array

    def _row(self, place: _Place, entry: Any, where: str) -> FloatArray | None:
        """The numbers of one time, (w,); None where there are none."""
        value = entry.get(place.name) if place.name and isinstance(entry, dict) else entry
        if value is None:
            return None
        try:
            row = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise self._wrong(place.file, f"{where}: {type(value).__name__} is no vector: {error}") from error
        if row.ndim != 1 or (place.widths and len(row) not in place.widths):
            allowed = f"{' or '.join(map(str, place.widths))} values" if place.widths else "a vector"
            raise self._wrong(place.file, f"{where} has shape {row.shape}, {allowed} are known")
        if not np.isfinite(row).all():
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            raise self._wrong(place.file, f"{where}, column {column} is {row[column]}")
        return row

    def _entries(self, file: str, camera: str) -> dict[Any, Any]:
        """Time -> entry of one camera; empty for a camera that is not in the file."""
        if file not in self._files:
            try:
                self._files[file] = load_npy(self._path(file))
            except SourceError as error:
                raise error.within(file=self._shown(file)) from error
        cameras = self._files[file]
        entries = cameras.get(camera, {}) if isinstance(cameras, dict) else cameras
        if isinstance(entries, list) and all(isinstance(entry, dict) and "timestamp" in entry for entry in entries):
            return {entry["timestamp"]: entry for entry in entries}
        if not isinstance(entries, dict):
            raise self._wrong(file, f"it holds {type(entries).__name__} where the times of a camera belong")
        return entries

    def _path(self, file: str) -> Path:
        return self.folder / "transformed" / f"{file}.npy"

    def _shown(self, file: str) -> str:
        return f"{self.name}/transformed/{file}.npy"

    def _wrong(self, file: str, problem: str) -> SourceError:
        remedy = "copy the file again, or leave the episode out with --on-error quarantine"
        return SourceError(problem, remedy=remedy, file=self._shown(file))
