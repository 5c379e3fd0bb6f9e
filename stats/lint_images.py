"""Checks of cameras: unreadable, black or blank, frozen, red and blue exchanged.

In: `Clip`s of sampled episodes. Out: hits. Exchanged channels cannot be seen in one picture. What can be seen: one
episode's colours match the others of its camera only after exchanging red and blue; a camera's match the other cameras'
only so; or, over many episodes, instructions that name a red thing go with pictures that hold blue and no red.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stats.lint_check import Check, Hit, Need
from stats.lint_frames import COMPARED, FRAMES, LEVELS, Clip

Shares = npt.NDArray[np.float64]

BLACK = 8.0  # of 255, mean
FLAT = 2.0  # of 255, standard deviation
FROZEN_SECONDS = 1.0
FROZEN_FRAMES = 10

COLOURED = 0.2
CLOSER = 0.5
CLOSE = 0.3
OTHERS = 3  # episodes to compare with
ABSENT = 2e-4
NAMED = 3  # episodes

_CELLS = np.arange(LEVELS**3).reshape((LEVELS,) * 3)
EXCHANGE = _CELLS.transpose(2, 1, 0).reshape(-1)
"""The cell that each cell becomes when red and blue are exchanged."""

_LEVEL = np.indices((LEVELS,) * 3).reshape(3, -1)
REDDISH = (_LEVEL[0] >= 2) & (_LEVEL[0] - _LEVEL[2] >= 2) & (_LEVEL[1] <= _LEVEL[0] - 1)
"""Cells of red, orange and brown; exchanged, of blue."""


def frame_unreadable(clip: Clip) -> Iterator[Hit]:
    """Frames that are missing or cannot be decoded."""
    if clip.unreadable is not None:
        step, why = clip.unreadable
        yield Hit(why, "a whole JPEG or PNG", clip.number, step, camera=clip.camera)


def camera_black(clip: Clip) -> Iterator[Hit]:
    """Cameras of which every sampled frame is black or of one colour."""
    blank = _blank(clip)
    if len(blank) and blank.all():
        yield _blank_hit(clip, 0, len(blank))


def frame_blank(clip: Clip) -> Iterator[Hit]:
    """Single frames that are black or of one colour, in an episode that has others."""
    blank = _blank(clip)
    if blank.any() and not blank.all():
        yield _blank_hit(clip, int(blank.argmax()), int(blank.sum()))


def _blank(clip: Clip) -> npt.NDArray[np.bool_]:
    return np.asarray((clip.brightness[:, 0] < BLACK) | (clip.brightness[:, 1] < FLAT))


def _blank_hit(clip: Clip, frame: int, count: int) -> Hit:
    mean, deviation = clip.brightness[frame].tolist()
    value = f"{'black' if mean < BLACK else 'one colour'}: mean {mean:.1f}, deviation {deviation:.1f} of 255"
    return Hit(value, "a picture", clip.number, clip.steps[frame], camera=clip.camera, count=count)


def camera_frozen(clip: Clip) -> Iterator[Hit]:
    """Cameras that deliver the same picture again and again while the robot moves."""
    start, frames = clip.still
    if frames >= max(FROZEN_FRAMES, FROZEN_SECONDS * clip.control_hz) and not _blank(clip).all():
        value = f"{frames} identical frames in a row while the robot moves"
        yield Hit(value, "pictures that change with it", clip.number, start, camera=clip.camera, count=frames)


def colours(clip: Clip) -> Clip:
    """What `camera_exchanged` needs of a clip: its colours and words."""
    return clip


def distance(a: Shares, b: Shares) -> float:
    """Total variation, 0 equal … 1 disjoint, of two histograms."""
    return float(np.abs(a - b).sum() / 2)


def _exchanged(a: Shares, b: Shares) -> tuple[float, float] | None:
    """(as it is, exchanged): distances from a to b, where only exchanging makes them alike."""
    plain, swapped = distance(a, b), distance(a[EXCHANGE], b)
    alike = swapped < CLOSE and swapped < CLOSER * plain
    return (plain, swapped) if alike and distance(a, a[EXCHANGE]) > COLOURED else None


def camera_exchanged(found: Sequence[Clip]) -> Iterator[Hit]:
    """Episodes against the others of their camera, cameras against each other, words against colours."""
    clips: dict[str, list[Clip]] = {}
    for clip in found:
        if clip.unreadable is None and not _blank(clip).all():
            clips.setdefault(clip.camera, []).append(clip)
    means: dict[str, Shares] = {}
    for camera, own in clips.items():
        total = np.sum([clip.colours for clip in own], axis=0)
        means[camera] = total / len(own)
        if len(own) > OTHERS:
            for clip in own:
                seen = _exchanged(clip.colours, (total - clip.colours) / (len(own) - 1))
                if seen is not None:
                    yield _exchange_hit(seen, "the other episodes of this camera", camera, clip.number)
        yield from _against_words(camera, own)
    yield from _between_cameras(means)


def _between_cameras(means: Mapping[str, Shares]) -> Iterator[Hit]:
    for camera, mean in means.items():
        others = {other: _exchanged(mean, means[other]) for other in means if other != camera}
        against = {other: seen for other, seen in others.items() if seen is not None}
        if against and (len(against) > 1 or len(others) == 1) and len(against) == len(others):
            other, seen = next(iter(against.items()))
            if len(others) > 1 or camera > other:  # of two cameras either may be wrong: said once
                yield _exchange_hit(seen, " and ".join(against), camera, None)


def _exchange_hit(seen: tuple[float, float], what: str, camera: str, number: int | None) -> Hit:
    distances = f"distance {seen[1]:.2f}, before {seen[0]:.2f}"
    value = f"its colours are those of {what} after exchanging red and blue ({distances})"
    return Hit(value, "red, green, blue", number, camera=camera)


def _against_words(camera: str, clips: Sequence[Clip]) -> Iterator[Hit]:
    """Every episode that names one of both colours shows only the other."""
    signs = []
    for clip in clips:
        words = set(re.findall(r"[a-z]+", clip.instruction.lower()))
        if len(named := words & {"red", "blue"}) == 1:
            red, blue = float(clip.colours[REDDISH].sum()), float(clip.colours[REDDISH[EXCHANGE]].sum())
            there, other = (red, blue) if named == {"red"} else (blue, red)
            signs.append(there < ABSENT < other)
    if len(signs) >= NAMED and all(signs):
        value = f"in all {len(signs)} sampled episodes that name red or blue, only the other of them is seen"
        yield Hit(value, "the colour that is named", camera=camera)


_CAMERAS = Need("cameras", lambda seen: bool(seen.cameras))

IMAGES = (
    Check(
        name="frame_unreadable",
        severity="error",
        subject="clips",
        about="a frame that is missing or cannot be decoded",
        threshold="any of the sampled frames",
        source="a trainer would stop there",
        remedy="run `rdt-data verify STORE`, then convert again",
        find=frame_unreadable,
        need=_CAMERAS,
    ),
    Check(
        name="camera_black",
        severity="error",
        subject="clips",
        about="a camera that shows nothing in a whole episode",
        threshold=f"each of {FRAMES} frames has a mean below {BLACK:g} or a deviation below {FLAT:g} (of 255)",
        source="the noise of a sensor in the dark is of that size; JPEG keeps black below it",
        remedy="leave the camera out of the spec if it was never on; else leave the episode out",
        find=camera_black,
        need=_CAMERAS,
    ),
    Check(
        name="frame_blank",
        severity="warning",
        subject="clips",
        about="a single frame that is black or of one colour",
        threshold="as camera_black, but not in all sampled frames of the episode",
        source="as camera_black",
        remedy="look at the episode; cut its beginning if the camera started late",
        find=frame_blank,
        need=_CAMERAS,
    ),
    Check(
        name="camera_frozen",
        severity="warning",
        subject="clips",
        about="a camera that repeats one picture while the robot moves",
        threshold=f"{FROZEN_FRAMES} or more identical frames in a row, and {FROZEN_SECONDS:g} s or more, in the first "
        f"{COMPARED} steps, while a joint moves by 0.05 rad (or 0.01 m, or 0.1 of gripper)",
        source="sensor noise makes no two pictures equal; slower cameras repeat pictures, but not for a second",
        remedy="leave the episode out, or the camera if it does so everywhere",
        find=camera_frozen,
        need=_CAMERAS,
    ),
    Check(
        name="camera_exchanged",
        severity="warning",
        subject="clips",
        about="red and blue are exchanged in an episode or a camera",
        threshold=f"histograms of {LEVELS**3} colours: exchanging makes the distance to the camera's other episodes "
        f"(at least {OTHERS}), or to all other cameras, less than {CLOSE:g} and than {CLOSER:g} x what it was. Or all "
        f"(at least {NAMED}) episodes that name red or blue show only the other",
        source="one camera sees one scene; where all is exchanged and no colour is named, nothing can be told",
        remedy="look at a picture (`rdt-data inspect --png`); then set `channels: bgr` for that camera in the spec",
        find=camera_exchanged,
        gather=colours,
        need=_CAMERAS,
    ),
)
