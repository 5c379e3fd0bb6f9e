"""Patches: what a table cannot say about a dataset, as pure functions RawEpisode -> RawEpisode.

A spec names one with `patch:`; its keyword arguments are the function's parameters, text or numbers. A patch sees
the episode before anything else does and gives another one, most simply a `PatchedEpisode`; it never changes what
it is given. Its docstring is the reason it exists, and is printed with the spec. A new one is a function and a row.
`converters.patch_call` finds, checks and applies them. A lab's own live in a module of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.raw import Frame, RawEpisode
from rdt_data.errors import SourceError, unknown


@dataclass(frozen=True, slots=True)
class PatchedEpisode:
    """A raw episode with arrays added to it, or in place of its own; all else is as in `raw` (see `RawEpisode`)."""

    raw: RawEpisode
    arrays: Mapping[str, npt.NDArray[Any]]  # key -> (T, ...), one value per step

    @property
    def number(self) -> int:
        return self.raw.number

    @property
    def name(self) -> str:
        return self.raw.name

    def __len__(self) -> int:
        return len(self.raw)

    def keys(self) -> list[str]:
        return sorted({*self.raw.keys(), *self.arrays})

    def cameras(self) -> list[str]:
        """Without those that an array replaces: pixels of a whole episode do not belong in memory."""
        return [key for key in self.raw.cameras() if key not in self.arrays]

    def array(self, key: str) -> npt.NDArray[Any]:
        if key not in self.arrays:
            return self.raw.array(key)
        values = self.arrays[key]
        if values.shape[:1] != (len(self),):
            raise SourceError(
                f"the patch made shape {values.shape} in an episode of {len(self)} steps",
                remedy="let the patch make one value per step",
                field=key,
            )
        return values

    def scalar(self, key: str) -> Any:
        return self.array(key)[0].item() if key in self.arrays else self.raw.scalar(key)

    def text(self, key: str) -> str | None:
        return self.raw.text(key)

    def frames(self, key: str) -> Iterator[Frame]:
        if key in self.arrays:
            raise SourceError("the patch made an array of it, not a camera", remedy="name another camera", field=key)
        return self.raw.frames(key)


@dataclass(frozen=True, slots=True)
class LaterEpisode:
    """A raw episode without its first `start` steps; texts and scalars are those of the whole recording.

    Steps are counted from the new first one, also in what errors say of later stages.
    """

    raw: RawEpisode
    start: int

    @property
    def number(self) -> int:
        return self.raw.number

    @property
    def name(self) -> str:
        return self.raw.name

    def __len__(self) -> int:
        return max(len(self.raw) - self.start, 0)

    def keys(self) -> list[str]:
        return self.raw.keys()

    def cameras(self) -> list[str]:
        return self.raw.cameras()

    def array(self, key: str) -> npt.NDArray[Any]:
        return self.raw.array(key)[self.start :]

    def scalar(self, key: str) -> Any:
        return self.raw.scalar(key)

    def text(self, key: str) -> str | None:
        return self.raw.text(key)

    def frames(self, key: str) -> Iterator[Frame]:
        """Those that are left out are passed over as they lie in the source, never decoded."""
        return islice(self.raw.frames(key), self.start, None)


def drop_still_head(raw: RawEpisode, key: str, threshold: float) -> RawEpisode:
    """Recordings begin before the robot moves, which no column can express: the still steps are left out.

    key: positions (T, D), any unit. threshold: in that unit. The episode starts one step before the first whose value
    is, in any column, further than `threshold` from that of the first step, as the published AgileX conversion does.
    Raises SourceError where nothing moves that far: the rule gives no start, and there is nothing to learn.
    """
    if len(raw) == 0:
        return raw
    values = _of_steps(raw, key)
    moved = (np.abs(values - values[0]) > threshold).any(axis=1)  # in the stored precision, as published
    if not moved.any():
        raise SourceError(
            f"nothing moves: no column of it leaves its first value by more than {threshold:g}",
            remedy="leave this episode out, or lower the threshold of the patch in the spec",
            field=key,
        )
    start = int(moved.argmax()) - 1
    return raw if start <= 0 else LaterEpisode(raw, start)


def cumulative_gripper(raw: RawEpisode, from_: str, to: str, start: float = 1.0) -> RawEpisode:
    """The robot logs *changes* of its gripper, and 0 for "as before", which no column can express: they are added up.

    from_: the changes, one a step, positive closes; +1 closes all the way. to: the new value (T, 1), how far open
    the gripper is commanded to be from that step on, 0 closed … 1 open. start: how far open it is before the first
    step. What goes beyond fully open or closed is lost, as on the robot: closing twice is undone by opening once.
    """
    changes = _one_a_step(raw, from_)
    opening = accumulate(changes.tolist(), lambda is_open, change: min(max(is_open - change, 0.0), 1.0), initial=start)
    return PatchedEpisode(raw, {to: np.array([*opening][1:], np.float32).reshape(-1, 1)})


def _one_a_step(raw: RawEpisode, key: str) -> npt.NDArray[np.float64]:
    """The finite numbers (T,) at `key`. Raises SourceError naming it when they are anything else."""
    return _of_steps(raw, key, width=1).reshape(-1).astype(np.float64)


def _of_steps(raw: RawEpisode, key: str, width: int | None = None) -> npt.NDArray[np.floating[Any]]:
    """The finite numbers (T, D) at `key`, in their stored precision; `width` is D where only one fits.

    Raises SourceError naming the key when they are anything else.
    """
    if key not in (keys := raw.keys()):
        hint = unknown("value", key, keys).remedy if keys else "the episode holds no values at all"
        raise SourceError("the episode has no such value", remedy=f"correct the patch in the spec; {hint}", field=key)
    values = np.asarray(raw.array(key))
    fits = values.ndim > 0 and len(values) == len(raw) and (width is None or values.size == width * len(raw))
    if values.dtype.kind not in "biuf" or not fits:
        wanted = "numbers of each step" if width is None else "one number a step"
        raise SourceError(
            f"holds {values.dtype} of shape {values.shape}, the patch takes {wanted}",
            remedy="name another value in the patch",
            field=key,
        )
    numbers = values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)
    numbers = numbers if numbers.dtype.kind == "f" else numbers.astype(np.float64)
    if len(bad := np.argwhere(~np.isfinite(numbers))):
        raise SourceError(
            f"step {bad[0][0]} is {numbers[tuple(bad[0])]}",
            remedy="repair the data or leave this episode out",
            field=key,
        )
    return numbers


PATCHES: Mapping[str, Callable[..., RawEpisode]] = {
    "cumulative_gripper": cumulative_gripper,
    "drop_still_head": drop_still_head,
}
"""The patches that any spec may name, also one that comes out of a store."""
