"""Resize square uint8 images as Pillow does, bit for bit, in batch and on any device.

In: square images and a size. Out: square images of that size, equal to `PIL.Image.resize` on every device. Why not
torch's own: of its two anti-aliased kernels the one for floats differs from Pillow by up to 24 of 255 on noise and in
a fifth of all values on smooth images, and the one for bytes is near (2 of 255) but only on a CPU. Pretrained encoders
were trained behind Pillow.

Pillow (`src/libImaging/Resample.c`): columns first, then rows; each pass is a weighted sum with weights rounded to
22 bits, rounded to a uint8. Here a pass is a product of matrices in float64, in which all of these sums are exact
whatever their order: they are whole numbers of 2^-22 below 2^9. A new pixel needs only the old ones near it, so that
the product is taken in bands of the matrix. Knows nothing of colours, padding or encoders.
"""

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rdt_data.errors import unknown

_BITS: Final = 22
_BAND: Final = 16
"""New lines that are made together: more of them multiply more zeros, fewer make more and smaller products."""
_REACH: Final = {"bilinear": 1.0, "bicubic": 2.0}
"""Kernel -> half of its width, in pixels of the coarser grid."""

FloatArray = npt.NDArray[np.float64]


def resize(images: Tensor, size: int, kernel: str) -> Tensor:
    """images: (..., side, side, C) uint8; kernel: "bilinear" or "bicubic". returns: (..., size, size, C) uint8.

    Only squares: of others, Pillow may take the rows first. Raises RdtError for another kernel.
    """
    if kernel not in _REACH:
        raise unknown("resize kernel", kernel, _REACH)
    for axis in (-2, -3):
        if images.shape[axis] != size:
            images = _pass(images, axis, size, kernel)
    return images


def _pass(images: Tensor, axis: int, size: int, kernel: str) -> Tensor:
    """One axis. Weights sum to 1 and their absolute values to less than 2."""
    lines = images.movedim(axis, 0).contiguous()  # (before, …): a line is contiguous
    before = lines.flatten(1)
    after = before.new_empty(size, before.shape[1])
    for new, old, weight in _bands(len(before), size, kernel, images.device):
        after[new] = (weight @ before[old].double()).add_(0.5).clamp_(0, 255)  # a uint8 cuts, so that it is rounded
    return after.view(size, *lines.shape[1:]).movedim(0, axis)


@functools.lru_cache(maxsize=64)
def _bands(before: int, after: int, kernel: str, device: torch.device) -> tuple[tuple[slice, slice, Tensor], ...]:
    """The matrix of a pass, (after, before), in bands: new lines, the old lines they are made of, float64 weights."""
    matrix = _weights(before, after, kernel)
    bands = []
    for start in range(0, after, _BAND):
        new = slice(start, min(start + _BAND, after))
        used = np.flatnonzero(matrix[new].any(axis=0))
        old = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((new, old, torch.from_numpy(matrix[new, old].copy()).to(device)))
    return tuple(bands)


def _weights(before: int, after: int, kernel: str) -> FloatArray:
    """What each new pixel takes of each old one, (after, before), rounded as Pillow does."""
    scale = before / after
    stretch = max(scale, 1.0)
    reach = _REACH[kernel] * stretch
    centre = (np.arange(after) + 0.5) * scale  # in old pixels
    first = np.maximum(np.trunc(centre - reach + 0.5), 0)
    end = np.minimum(np.trunc(centre + reach + 0.5), before)
    position = first + np.arange(math.ceil(reach) * 2 + 1)[:, None]  # (taps, after)
    weight = np.where(position < end, _weight((position - centre + 0.5) / stretch, kernel), 0.0)
    weight /= np.add.accumulate(weight, axis=0)[-1]  # one by one: the order in which Pillow adds
    fixed = np.trunc(weight * (1 << _BITS) + np.copysign(0.5, weight))
    matrix = np.zeros((after, before))
    taken = position < end
    matrix[np.broadcast_to(np.arange(after), taken.shape)[taken], position[taken].astype(np.int64)] = fixed[taken]
    return matrix / (1 << _BITS)


def _weight(distance: FloatArray, kernel: str) -> FloatArray:
    """The kernel at a distance in pixels: a triangle, or the cubic of Keys (1981) with a = -1/2."""
    x: FloatArray = np.abs(distance)
    if kernel == "bilinear":
        weight: FloatArray = np.maximum(1 - x, 0)
    else:
        near = (1.5 * x - 2.5) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * -0.5
        weight = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weight
