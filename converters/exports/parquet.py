"""Write a store as two flat Parquet files, for pandas, DuckDB, Polars: `vectors.parquet` and `episodes.parquet`.

`vectors.parquet` has a row a step and a column a number: `episode_index`, `step`, then `state_<slot>` and
`action_<slot>` float32 for every slot that is real anywhere. Where a slot is not real its cell is null, so that means,
plots and joins leave it out by themselves and no mask has to be carried along. `episodes.parquet` has a row an
episode. Frames are not written.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from converters.exports.survey import VECTORS, RealSlots, Vector, real_slots, slot_names
from rdt_data.clock import COLUMNS as CLOCK
from rdt_data.clock import Clock
from rdt_data.layout import DIM
from rdt_data.parquet_write import Column, ParquetFile
from rdt_data.split import read_split
from rdt_data.store import Dataset
from rdt_data.stored import StoredEpisode
from rdt_data.walk import walk

ROWS_PER_GROUP = 16_384
EPISODES_PER_GROUP = 4_096

EPISODE_COLUMNS = (
    Column("episode_index", "int64"),
    Column("id", "string"),
    Column("source", "string"),
    Column("instruction", "string"),
    Column("instruction_raw", "string"),
    Column("length", "int64"),
    Column("first_row", "int64"),
    Column("control_hz", "float32"),
    *(Column(name, kind) for name, kind in CLOCK.items()),
    Column("state_mask", "bool", (DIM,)),
    Column("action_mask", "bool", (DIM,)),
    Column("cameras", "strings"),
)
"""first_row: in vectors.parquet. The masks: the slots that are real in any step, by their index in `layout`.

What timestamps say (`rdt_data.clock.Clock`) is null where there are none.
"""

Progress = Callable[[int, int], None]


def write_parquet(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """Fill `folder`, a row group of each file in memory at a time."""
    slots = real_slots(dataset)
    split = read_split(dataset)
    columns = [*EPISODE_COLUMNS, *([Column("split", "string")] if split is not None else [])]
    with (
        _Buffered(ParquetFile(folder / "vectors.parquet", _vector_columns(slots)), ROWS_PER_GROUP) as vectors,
        _Buffered(ParquetFile(folder / "episodes.parquet", columns), EPISODES_PER_GROUP) as table,
    ):
        for number, episode in enumerate(walk(dataset)):
            row = _about(number, episode, vectors.rows)
            vectors.add(_steps(number, episode, slots), len(episode))
            table.add(row if split is None else {**row, "split": [split.side(episode)]}, 1)
            progress(number + 1, len(dataset))


class _Buffered:
    """Batches of rows put together into row groups of at least `enough` rows, but the last. A context manager."""

    def __init__(self, file: ParquetFile, enough: int) -> None:
        self.file, self.enough = file, enough
        self.rows = self._waiting_rows = 0
        self._waiting: list[dict[str, Any]] = []

    def add(self, batch: dict[str, Any], rows: int) -> None:
        """batch: column -> the values of so many rows."""
        self._waiting.append(batch)
        self.rows += rows
        self._waiting_rows += rows
        if self._waiting_rows >= self.enough:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            batch = {}
            for name in self._waiting[0]:
                values = [waiting[name] for waiting in self._waiting]
                batch[name] = np.ma.concatenate(values)  # type: ignore[no-untyped-call]  # NumPy declares no types for it
            self.file.write(batch)
            self._waiting, self._waiting_rows = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self.file.close()


def _vector_columns(slots: dict[Vector, RealSlots]) -> list[Column]:
    named = [f"{name}_{slot}" for name in VECTORS for slot in slot_names(slots[name].indices)]
    return [Column("episode_index", "int64"), Column("step", "int64"), *(Column(name, "float32") for name in named)]


def _steps(number: int, episode: StoredEpisode, slots: dict[Vector, RealSlots]) -> dict[str, Any]:
    """The steps of an episode as columns."""
    batch: dict[str, Any] = {"episode_index": np.full(len(episode), number), "step": np.arange(len(episode))}
    stored = {"state": (episode.state, episode.state_mask), "action": (episode.action, episode.action_mask)}
    for name in VECTORS:
        vector, mask = stored[name]
        real = np.broadcast_to(mask, vector.shape)
        for slot, index in zip(slot_names(slots[name].indices), slots[name].indices, strict=True):
            batch[f"{name}_{slot}"] = np.ma.MaskedArray(vector[:, index], mask=~real[:, index])
    return batch


def _about(number: int, episode: StoredEpisode, first_row: int) -> dict[str, Any]:
    """What is said of an episode, as columns of one row."""
    cameras = np.empty(1, object)
    cameras[0] = list(episode.cameras)
    return {
        "episode_index": [number],
        "id": [episode.id],
        "source": [episode.source],
        "instruction": [episode.instruction],
        "instruction_raw": [episode.instruction_raw],
        "length": [len(episode)],
        "first_row": [first_row],
        "control_hz": [episode.control_hz],
        **_measured(episode.clock),
        "state_mask": np.atleast_2d(episode.state_mask).any(axis=0, keepdims=True),
        "action_mask": np.atleast_2d(episode.action_mask).any(axis=0, keepdims=True),
        "cameras": cameras,
    }


def _measured(clock: Clock) -> dict[str, Any]:
    """The rate by the timestamps, as columns of one row; what there is not is masked."""
    values = {name: getattr(clock, name) for name in CLOCK}
    return {
        name: np.ma.MaskedArray([value], mask=[not clock.known or np.isnan(value) or value == -1])
        for name, value in values.items()
    }
