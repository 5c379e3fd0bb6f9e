"""What an export needs to know of a store before it writes: which slots are real, and where; which cameras.

In: a finished store. Out: per vector the slots that are real in any step and in every step; the cameras, and how many
episodes lack each; the one rate. Vectors and frames are not read here.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rdt_data.episode import BoolArray
from rdt_data.errors import RdtError, StoreError, unknown
from rdt_data.layout import DIM, preferred_name
from rdt_data.store import Dataset, open_dataset
from rdt_data.walk import walk

Vector = Literal["state", "action"]
VECTORS: tuple[Vector, ...] = ("state", "action")


@dataclass(frozen=True, slots=True)
class RealSlots:
    """The slots of a vector that are real in any step of the store, and in every step. Both (128,) bool."""

    ever: BoolArray
    always: BoolArray

    @property
    def indices(self) -> tuple[int, ...]:
        """The slots that are real anywhere, ascending."""
        return tuple(np.flatnonzero(self.ever).tolist())

    @property
    def varying(self) -> tuple[int, ...]:
        """The slots that are real somewhere, but not everywhere."""
        return tuple(np.flatnonzero(self.ever & ~self.always).tolist())


def slot_names(indices: tuple[int, ...]) -> list[str]:
    """What columns of slots are called: "right_eef_pos_x", "right_gripper_open"."""
    return [preferred_name(index) for index in indices]


def open_finished(store: str) -> Dataset:
    """A store that holds all that it shall hold. Raises StoreError for one that is still to be continued, or empty."""
    dataset = open_dataset(store)
    if not dataset.complete:
        raise StoreError(
            f"{store} is not finished: {len(dataset)} episodes are there",
            remedy="run its `rdt-data convert` command again; finished parts stay",
        )
    if not len(dataset):
        raise StoreError(f"{store} holds no episode", remedy="see `rdt-data inspect`: all were filtered or quarantined")
    return dataset


def real_slots(dataset: Dataset) -> dict[Vector, RealSlots]:
    """Look at the masks of every episode."""
    ever = {name: np.zeros(DIM, np.bool_) for name in VECTORS}
    always = {name: np.ones(DIM, np.bool_) for name in VECTORS}
    for episode in walk(dataset):
        masks = {"state": episode.state_mask, "action": episode.action_mask}
        for name in VECTORS:
            of_steps = np.atleast_2d(masks[name])
            ever[name] |= of_steps.any(axis=0)
            always[name] &= of_steps.all(axis=0)
    return {name: RealSlots(ever[name], always[name]) for name in VECTORS}


def chosen_cameras(dataset: Dataset, asked: tuple[str, ...] | None) -> dict[str, int]:
    """The camera slots to export, those asked for or all, with how many episodes lack each."""
    for slot in asked or ():
        if slot not in dataset.cameras:
            raise unknown("camera of this store", slot, dataset.cameras)
    lacking = {slot: 0 for slot in dataset.cameras if asked is None or slot in asked}
    for episode in walk(dataset):
        for slot in lacking.keys() - set(episode.cameras):
            lacking[slot] += 1
    return lacking


def whole_rate(dataset: Dataset) -> int:
    """Steps per second as the whole number that the format needs. Raises RdtError when it is none, or not one."""
    for episode in walk(dataset):
        if episode.control_hz != dataset.control_hz:
            raise RdtError(
                f"{episode.id} runs at {episode.control_hz:g} Hz, the store at {dataset.control_hz:g} Hz",
                remedy="a LeRobot dataset has one rate: use --format parquet, which keeps each episode's own",
            )
    if dataset.control_hz != round(dataset.control_hz) or dataset.control_hz < 1:
        raise RdtError(
            f"{dataset.url} runs at {dataset.control_hz:g} Hz; LeRobot's `fps` is a whole number from 1 on",
            remedy="use --format parquet, which keeps the rate as it is",
        )
    return round(dataset.control_hz)
