"""Do the camera frames hold red and blue exchanged? Evidence from pixels and words.

OpenCV writes what it is given as blue, green, red. A recorder that hands it RGB arrays writes JPEGs which every
other decoder shows with red and blue exchanged; nothing in the file says so. Two signs can be looked for: the
instruction names a red (or blue) thing and only the other colour is there; and scenes of rooms, wood, skin and
light are warm, while their exchanged images are blue. Neither is proof, so it is a warning, never a correction.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdt_data.images import Pixels

ABSENT = 2e-4
"""Share of the pixels below which a named colour counts as not there."""

STRONG = 3.0
"""How many times more cool than warm colours count as a sign."""


@dataclass(frozen=True, slots=True)
class Hues:
    """Shares of all pixels that are saturated and red, reddish, blue, bluish; exchanging turns hue h into 240 - h."""

    red: float  # hue 345 to 15 degrees
    reddish: float  # 345 to 45: orange too, as wood and skin are
    blue: float  # 225 to 255
    bluish: float  # 195 to 255


def hues(frames: Sequence[Pixels]) -> Hues:
    """Measure (H, W, 3) uint8 RGB frames; saturated: above 0.4, of value above 0.2."""
    import cv2

    counts = np.zeros(4)
    pixels = 0
    for frame in frames:
        hsv = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV)
        strong = (hsv[..., 1] > 100) & (hsv[..., 2] > 50)
        hue = hsv[..., 0][strong].astype(np.int32) * 2
        red, blue = (hue >= 345) | (hue < 15), (hue >= 225) & (hue < 255)
        reddish, bluish = red | (hue < 45), (hue >= 195) & (hue < 255)
        counts += [red.sum(), reddish.sum(), blue.sum(), bluish.sum()]
        pixels += hsv[..., 0].size
    return Hues(*(float(count) for count in counts / max(pixels, 1)))


def exchanged(frames: Sequence[Pixels], instruction: str) -> str | None:
    """Why these frames, as decoded, look as if red and blue were exchanged; None when they do not.

    frames: a few RGB frames spread over an episode. instruction: the words of that episode.
    """
    seen = hues(frames)
    words = set(re.findall(r"[a-z]+", instruction.lower()))
    if "red" in words and "blue" not in words and seen.reddish < ABSENT < seen.blue:
        return f'the instruction names "red", but there is no red, and blue in {seen.blue:.2%} of the pixels'
    if "blue" in words and "red" not in words and seen.bluish < ABSENT < seen.red:
        return f'the instruction names "blue", but there is no blue, and red in {seen.red:.2%} of the pixels'
    if not words & {"red", "blue"} and seen.bluish > 0.02 and seen.bluish > STRONG * seen.reddish:
        return f"saturated colours are blue ({seen.bluish:.1%} of the pixels), hardly any is warm ({seen.reddish:.1%})"
    return None
