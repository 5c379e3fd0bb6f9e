"""Do the cameras and the words of an episode look right? Missing, black, red and blue exchanged; no instruction.

In: a plan and a raw episode. Out: findings; and, for each camera slot, what was found there.
"""

from collections.abc import Iterator

import numpy as np

from converters.channels import exchanged
from converters.checks.seen import Finding, error, warning
from converters.plan import Plan
from converters.raw import RawEpisode
from converters.spec_model import Camera
from rdt_data.errors import SourceError
from rdt_data.images import ImageError, Pixels, decode

BLACK = 8
"""Of 255."""


def view_findings(
    plan: Plan, raw: RawEpisode, words: str, cameras: dict[str, str], signs: list[Finding]
) -> Iterator[Finding]:
    """What is wrong with the frames and the words of one episode.

    Adds what each camera is to `cameras`, and to `signs` the cameras whose colours look exchanged: one episode may
    look so by chance, see `believed`.
    """
    if not words:
        text = f"{raw.name} has no words, the empty instruction is stored"
        yield warning("instruction", text, "name where the words are, or convert with --instruction TEXT")
    keys = set(raw.keys())
    for slot, camera in plan.request.spec.cameras.items():
        key = next((key for key in camera.from_ if key in keys), None)
        where = f"cameras.{slot}"
        if key is None:
            if not camera.optional:
                there = ", ".join(raw.cameras()) or "none"
                text = f"{raw.name} has no {' or '.join(camera.from_)}"
                yield error(where, text, f"correct the key, or mark it optional: true; there are {there}")
            continue
        try:
            frames, encoded = _sampled(raw, key)
        except (SourceError, ImageError) as problem:
            yield error(where, f"{raw.name}: {problem.problem}", problem.remedy)
            continue
        if frames:
            height, width = frames[0].shape[:2]
            cameras.setdefault(slot, f"{key}, {width}x{height}, {'copied' if encoded else 'raw pixels'}")
            if max(int(frame.max()) for frame in frames) < BLACK:
                yield warning(where, f"{raw.name}: all frames looked at are black", "check the key of the camera")
            elif encoded and (sign := _exchanged(where, raw, frames, words, camera)) is not None:
                signs.append(sign)


def believed(signs: list[Finding], episodes: int) -> Iterator[Finding]:
    """The first sign of each camera that shows it in more than half of the episodes."""
    for where in dict.fromkeys(sign.where for sign in signs):
        own = [sign for sign in signs if sign.where == where]
        if 2 * len(own) > episodes:
            yield own[0]


def _exchanged(where: str, raw: RawEpisode, frames: list[Pixels], words: str, camera: Camera) -> Finding | None:
    swapped = camera.channels == "bgr"
    why = exchanged([frame[..., ::-1] for frame in frames] if swapped else frames, words)
    if why is None:
        return None
    text = f"{raw.name}: red and blue look exchanged: {why}"
    return warning(where, text, f"if so, write channels: {'rgb' if swapped else 'bgr'}")


def _sampled(raw: RawEpisode, key: str) -> tuple[list[Pixels], bool]:
    """The first, the middle and the last frame as a decoder sees them, and whether they are encoded."""
    wanted = {0, len(raw) // 2, len(raw) - 1}
    encoded = False
    frames: list[Pixels] = []
    for step, frame in enumerate(raw.frames(key)):
        if step in wanted:
            encoded |= not isinstance(frame, np.ndarray)
            frames.append(frame.copy() if isinstance(frame, np.ndarray) else decode(frame))
    return frames, encoded
