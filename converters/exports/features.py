"""What a LeRobot export consists of: its features, their columns in Parquet, and the values of an episode in them.

In: what a survey found in the store. Out: the `features` of `meta/info.json` and arrays by feature. Names that begin
with "observation" or "action" reach every LeRobot policy as its input or output, so only what a policy shall see has
one; and where "image" is in a name LeRobot expects the statistics of pixels. Files are not known here.

Where a slot is not real, its value is 0; where an episode lacks a camera, its frames are black. Then `mask.state`,
`mask.action` and `mask.cameras` say in every step what is real; features that would be true throughout are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converters.exports.survey import VECTORS, RealSlots, Vector, slot_names
from rdt_data.episode import CameraFormat
from rdt_data.layout import DIM, SLOTS
from rdt_data.parquet_write import Column
from rdt_data.stored import StoredEpisode
from rdt_data.video_write import CODEC, PIXEL_FORMAT

Images = Literal["video", "image"]

VALUES: dict[Vector, str] = {"state": "observation.state", "action": "action"}
CAMERA = "observation.images."
_COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one export.

    real: of both vectors. full: export all 128 slots. cameras: slot -> its format. lacking: the cameras that not every
    episode has.
    """

    fps: int
    real: Mapping[Vector, RealSlots]
    full: bool
    cameras: Mapping[str, CameraFormat]
    lacking: frozenset[str]
    images: Images

    def exported(self, name: Vector) -> tuple[int, ...]:
        """The slots that are columns of a vector, ascending."""
        return tuple(range(DIM)) if self.full else self.real[name].indices

    def masked(self, name: Vector) -> bool:
        """Whether an exported slot is not real somewhere."""
        return not self.real[name].always[list(self.exported(name))].all()

    def camera_keys(self) -> dict[str, str]:
        """Camera slot -> feature."""
        return {slot: CAMERA + slot for slot in self.cameras}

    def vectors(self) -> dict[str, dict[str, Any]]:
        """The features that come from state and action, and the masks."""
        found: dict[str, dict[str, Any]] = {}
        for name in VECTORS:
            if slots := self.exported(name):
                found[VALUES[name]] = _feature("float32", self._names(slots))
                if self.masked(name):
                    found[f"mask.{name}"] = _feature("bool", self._names(slots))
        if self.lacking:
            found["mask.cameras"] = _feature("bool", list(self.cameras))
        return found

    def all(self) -> dict[str, dict[str, Any]]:
        """`features` of meta/info.json."""
        cameras = {key: self._camera(self.cameras[slot]) for slot, key in self.camera_keys().items()}
        counters = {name: _counter("float32" if name == "timestamp" else "int64") for name in _COUNTERS}
        return {**self.vectors(), **cameras, **counters}

    def columns(self) -> list[Column]:
        """The columns of the data files; a feature of one number is a plain column, not lists of one."""
        found = []
        for key, feature in self.all().items():
            if feature["dtype"] == "image":
                found.append(Column(key, "image"))
            elif feature["dtype"] != "video":
                shape = tuple(feature["shape"])
                found.append(Column(key, feature["dtype"], () if shape == (1,) else shape))
        return found

    def values(self, episode: StoredEpisode) -> dict[str, npt.NDArray[Any]]:
        """Feature -> (T, n), of `vectors`."""
        found: dict[str, npt.NDArray[Any]] = {}
        stored = {"state": (episode.state, episode.state_mask), "action": (episode.action, episode.action_mask)}
        for name in VECTORS:
            vector, mask = stored[name]
            real = np.broadcast_to(mask, vector.shape)
            slots = list(self.exported(name))
            found[VALUES[name]] = vector[:, slots]
            found[f"mask.{name}"] = real[:, slots]
        there = np.array([slot in episode.cameras for slot in self.cameras], np.bool_)
        found["mask.cameras"] = np.tile(there, (len(episode), 1))
        return {key: found[key] for key in self.vectors()}

    def _names(self, slots: tuple[int, ...]) -> list[str]:
        return [SLOTS[slot].name for slot in slots] if self.full else slot_names(slots)

    def _camera(self, form: CameraFormat) -> dict[str, Any]:
        feature = {
            "dtype": self.images,
            "shape": [form.height, form.width, 3],
            "names": ["height", "width", "channels"],
        }
        if self.images == "image":
            return feature
        about = {"height": form.height, "width": form.width, "codec": CODEC, "pix_fmt": PIXEL_FORMAT}
        about |= {"fps": self.fps, "channels": 3}
        return {
            **feature,
            "info": {
                **{f"video.{name}": value for name, value in about.items()},
                "has_audio": False,
                "is_depth_map": False,
            },
        }


def _feature(dtype: str, names: list[str]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": names}


def _counter(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}
