"""A camera frame as the model gets it: decoded, shrunk or enlarged into a square, the rest one colour.

In: encoded bytes and a square to write into. Out: the square. The frame keeps its proportions and lies in the middle;
an odd pixel of the rest goes to the right or the bottom, as RDT pads. A JPEG is decoded at 1/2, 1/4 or 1/8 where that
is still larger than needed; what remains to shrink is less than a half, for which bilinear weights use every pixel.
PNGs, which cannot be decoded smaller, are shrunk by area first when they are more than twice too large.
"""

from rdt_data.images import Encoded, Pixels, decode, resize, resize_into

BACKGROUND = 127
"""The colour around a frame and of a missing one: the mean of SigLIP's normalisation, int(0.5 * 255), as published."""


def fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """(H, W) of a frame whose longer side becomes `size`."""
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def write_letterboxed(data: Encoded, shape: tuple[int, int], square: Pixels, *, swapped: bool = False) -> None:
    """Decode a frame of `shape` (H, W) into `square`, (S, S, 3) uint8 RGB.

    Raises ImageError, and leaves the square in any state then.
    """
    size = len(square)
    pixels = decode(data, swapped=swapped, least=size)
    height, width = fitted(*shape, size)
    if pixels.shape[0] >= 2 * height:
        pixels = resize(pixels, height, width)
    top, left = (size - height) // 2, (size - width) // 2
    square[:top], square[top + height :] = BACKGROUND, BACKGROUND
    square[top : top + height, :left], square[top : top + height, left + width :] = BACKGROUND, BACKGROUND
    resize_into(pixels, square[top : top + height, left : left + width])
