"""What messages mean: a robot's bytes -> an observation, checked; a chunk -> the answer's bytes.

A request is a map of these entries, those without a default are required:

    state, state_mask    (128,) numbers in the units of `layout`, and which are real
    prompt               the instruction: text, or its stored embedding (L, D)
    images               camera slot -> one frame, or a list of up to `history` frames, the newest last ({}: none);
                         a frame is a JPEG or PNG as bytes, or (H, W, 3) uint8 RGB; (N, H, W, 3) is N frames
    action_mask          (128,), the slots that actions fill; the state's
    control_hz           steps per second; the policy's
    plan, committed      in-painting: (P, 128), what the last chunk holds for the first P steps of the new one, and how
                         many of these will be executed whatever comes; none

Knows nothing of sockets and networks. Frames are decoded here, so that a thread can do it while another denoises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdt_data import images, layout
from rdt_data.errors import RdtError, unknown
from rdt_model.inpaint import Plan
from rdt_model.policy import BoolArray, Observation, Pixels

Message = Mapping[str, Any]
FloatArray = npt.NDArray[np.float32]

FIELDS: Final = ("state", "state_mask", "prompt", "images", "action_mask", "control_hz", "plan", "committed")
MOST_FRAMES: Final = 16
"""Frames of one camera in a message."""
LONGEST_SIDE: Final = 4096
MOST_PIXELS: Final = 2**22
"""Of one frame: a JPEG of a few hundred bytes can claim gigabytes."""


class MessageError(RdtError):
    """A message that is no observation: names the entry, what it is and what it must be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message that was understood."""

    observation: Observation
    plan: Plan | None


def read_request(message: Message, least: int | None = None) -> Request:
    """The observation in a message, frames decoded. Raises MessageError, or another RdtError that names the entry.

    least: pixels; a much larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, if its longer side has still so many,
    as the feed decodes what the policy is trained on.
    """
    for name in message:
        if name not in FIELDS:
            raise unknown("entry of an observation", str(name), FIELDS)
    missing = [name for name in FIELDS[:3] if name not in message]
    if missing:
        raise MessageError(f"an observation without {', '.join(missing)}", remedy="send all of state, mask and prompt")
    observation = Observation(
        state=_vector(message, "state"),
        state_mask=_mask(message, "state_mask"),
        instruction=_prompt(message["prompt"]),
        images=_images(message.get("images"), least),
        action_mask=None if message.get("action_mask") is None else _mask(message, "action_mask"),
        control_hz=_rate(message.get("control_hz")),
    )
    return Request(observation, _plan(message))


def _vector(message: Message, name: str) -> FloatArray:
    """(128,) of an entry."""
    array = _numbers(message[name], name)
    if array.shape != (layout.DIM,):
        raise MessageError(f"{name} has shape {array.shape}", remedy=f"send ({layout.DIM},)")
    return array


def _mask(message: Message, name: str) -> BoolArray:
    """(128,) of an entry; 0 and 1 are taken for bools."""
    array = _vector(message, name)
    if not np.isin(array, (0, 1)).all():
        raise MessageError(f"{name} holds numbers other than 0 and 1", remedy="send bools")
    return array.astype(np.bool_)


def _numbers(value: Any, name: str) -> FloatArray:
    """An array, or a list of numbers, or lists of them, as a float32 array; what float32 does not hold is infinite."""
    if isinstance(value, list):
        try:
            value = np.array(value)
        except ValueError:
            raise MessageError(f"{name} is lists of unequal lengths", remedy="send an array") from None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif":
        raise MessageError(f"{name} is a {type(value).__name__}", remedy="send an array of numbers")
    with np.errstate(over="ignore"):
        return value.astype(np.float32)


def _prompt(value: Any) -> str | npt.NDArray[Any]:
    if isinstance(value, str):
        return value
    array = _numbers(value, "prompt")
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise MessageError(f"prompt is an array of shape {array.shape}", remedy="send text, or a finite (L, D)")
    return array


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < 1e4:
        raise MessageError(f"control_hz is {value!r}", remedy="send steps per second, 0 to 10000")
    return float(value)


def _plan(message: Message) -> Plan | None:
    plan, committed = message.get("plan"), message.get("committed", 0)
    if not isinstance(committed, int | np.integer) or isinstance(committed, bool):
        raise MessageError(f"committed is {committed!r}", remedy="send how many actions of `plan` are, a whole number")
    if plan is None:
        if committed:
            raise MessageError(f"committed is {committed} without a plan", remedy="send `plan` with it")
        return None
    actions = _numbers(plan, "plan")
    if actions.ndim != 2 or actions.shape[1] != layout.DIM:
        raise MessageError(f"plan has shape {actions.shape}", remedy=f"send (P, {layout.DIM})")
    return Plan(actions, int(committed))


def _images(value: Any, least: int | None) -> dict[str, Sequence[Pixels]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageError(f"images is a {type(value).__name__}", remedy="send a map: camera slot -> frame")
    for camera in value:
        if camera not in layout.CAMERAS:
            raise unknown("camera slot", str(camera), layout.CAMERAS)
    return {camera: _frames(camera, given, least) for camera, given in value.items()}


def _frames(camera: str, given: Any, least: int | None) -> list[Pixels]:
    several = given if isinstance(given, list) else [given]
    if isinstance(given, np.ndarray) and given.ndim == 4:
        several = list(given[: MOST_FRAMES + 1])
    if len(several) > MOST_FRAMES:
        raise MessageError(f"{camera}: more than {MOST_FRAMES} frames", remedy="send the newest ones")
    return [_frame(camera, one, least) for one in several]


def _frame(camera: str, given: Any, least: int | None) -> Pixels:
    if isinstance(given, bytes):
        return _decoded(camera, given, least)
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        what = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        raise MessageError(f"{camera}: a frame is {what}", remedy="send (H, W, 3) uint8 RGB, or a JPEG as bytes")
    _refuse_size(camera, *given.shape[:2])
    return given


def _decoded(camera: str, data: bytes, least: int | None) -> Pixels:
    try:
        about = images.probe(data)
        _refuse_size(camera, about.height, about.width)
        return images.decode(data, least=least)
    except images.ImageError as error:
        raise MessageError(f"{camera}: {error.problem}", remedy="send a whole JPEG or PNG, or pixels") from None


def _refuse_size(camera: str, height: int, width: int) -> None:
    if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE) or height * width > MOST_PIXELS:
        raise MessageError(
            f"{camera}: a frame of {width} x {height} pixels",
            remedy=f"send 1 to {LONGEST_SIDE} pixels a side and at most {MOST_PIXELS} in all; "
            "the network sees much smaller ones",
        )
