"""One episode in the unified layout, checked when it is made: what converters produce and the store keeps."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from rdt_data.clock import Clock
from rdt_data.errors import RdtError
from rdt_data.images import Codec
from rdt_data.layout import DIM

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

ActionMode = Literal["next-state", "recorded"]


@dataclass(frozen=True, slots=True)
class CameraFormat:
    """How the frames of one camera are stored: size in pixels, codec, whether red and blue lie exchanged.

    `quality` is the JPEG quality new frames are encoded with; copied frames keep their own.
    """

    codec: Codec
    height: int
    width: int
    swapped: bool = False
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """The vectors, words and origin of one episode; frames travel beside it, one at a time.

    state, action: (T, 128) float32 in the units of `layout`; the masks say which slots are real, the others are 0:
    bool (128,), or (T, 128) where steps differ (`same_in_all_steps`). instruction: cleaned text, "" where there is
    none; instruction_raw: as recorded; phrasings: other words for the same, cleaned. control_hz: steps per second, as
    stated; clock: the rate by its timestamps. id: stable within the dataset; source: file and position it came from.
    """

    id: str
    source: str
    state: FloatArray
    action: FloatArray
    state_mask: BoolArray
    action_mask: BoolArray
    instruction: str
    instruction_raw: str
    control_hz: float
    phrasings: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        steps = len(self.state)
        for name, value in (("state", self.state), ("action", self.action)):
            if value.shape != (steps, DIM) or value.dtype != np.float32:
                raise RdtError(
                    f"{self.id}: {name} is {value.dtype} {value.shape}",
                    remedy=f"an episode of {steps} steps holds float32 ({steps}, {DIM})",
                )
        for name, mask in (("state_mask", self.state_mask), ("action_mask", self.action_mask)):
            if mask.shape not in ((DIM,), (steps, DIM)) or mask.dtype != np.bool_:
                raise RdtError(
                    f"{self.id}: {name} is {mask.dtype} {mask.shape}", remedy=f"use bool ({DIM},) or ({steps}, {DIM})"
                )

    def __len__(self) -> int:
        return len(self.state)


def same_in_all_steps(mask: BoolArray) -> BoolArray:
    """A mask (T, 128) as (128,) when every step has the same; (128,) and what differs as they are."""
    if mask.ndim == 2 and len(mask) and (mask == mask[0]).all():
        first: BoolArray = mask[0].copy()
        return first
    return mask
