"""The patch that takes a LeRobot export of ours for what it was: with gaps where nothing was real.

In: an episode with `mask.…` features (see `exports.features`). Out: the same, NaN where a slot is not real, and without
the cameras it lacks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.exports.features import CAMERA, VALUES
from converters.patches import PatchedEpisode
from converters.raw import RawEpisode
from rdt_data.layout import CAMERAS


@dataclass(frozen=True, slots=True)
class WithoutCameras(PatchedEpisode):
    """A patched episode that lacks the cameras `hidden`."""

    hidden: frozenset[str]

    def keys(self) -> list[str]:
        return [key for key in PatchedEpisode.keys(self) if key not in self.hidden]

    def cameras(self) -> list[str]:
        return [key for key in PatchedEpisode.cameras(self) if key not in self.hidden]


def exported_masks(raw: RawEpisode) -> RawEpisode:
    """What is real in which step is said by features of their own, which no field of a spec can look at.

    Values that are not real become NaN (a gap, for fields with `gaps: true`); cameras that are black are taken away.
    """
    keys = set(raw.keys())
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, key in VALUES.items():
        if f"mask.{name}" in keys:
            real = np.asarray(raw.array(f"mask.{name}"), np.bool_).reshape(len(raw), -1)
            arrays[key] = np.where(real, raw.array(key).reshape(real.shape), np.float32(np.nan))
    hidden: set[str] = set()
    if "mask.cameras" in keys:
        there = np.asarray(raw.array("mask.cameras"), np.bool_).reshape(len(raw), -1)[0]
        exported = [CAMERA + slot for slot in CAMERAS if CAMERA + slot in keys]
        hidden = {key for key, has in zip(exported, there, strict=True) if not has}
    return WithoutCameras(raw, arrays, frozenset(hidden))
