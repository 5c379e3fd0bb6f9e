"""Colour jitter and corruption of camera frames, on their device, each frame by its own recipe.

In: uint8 frames of a batch, which are real, and the numbers of their windows. Out: frames of the same shape; those
that are not real or whose recipe is empty are bit-identical. Everything drawn follows from (seed, sample number,
frame): recipes come from `image_recipes`, noise from a generator of the frame's own. Pixels are worked on by kornia.

On a CPU frames are worked on one by one, since kornia and torch choose their algorithm by the size of what they are
given: so a row's bits do not depend on its batch. On a GPU frames that need the same operation go together; there rows
agree to rounding, and noise is that of the GPU's own generator.
"""

from collections.abc import Callable, Sequence
from math import ceil, pi
from typing import Final

import kornia.enhance
import kornia.filters
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model.image_recipes import BLURS, Recipe, Step, draw_recipe

TOGETHER: Final = 64
"""Most frames worked on at once on a GPU, which bounds memory: about 0.5 GB at 384 pixels."""

_REFERENCE: Final = 384  # the frame that extents of blurs are given for, pixels


def augment_images(
    images: Tensor, mask: Tensor, samples: npt.NDArray[np.int64], seed: int, *, share: float = 0.5
) -> Tensor:
    """Augment a share of the real frames, as published.

    images: (B, history, cameras, S, S, 3) uint8, RGB. mask: (B, history, cameras), True is real; on the CPU it spares a
    wait for the device. samples: (B,) numbers of the windows. share: of real frames that are augmented, 0 to 1.
    returns: new images of the same shape and type on the same device. Raises RdtError for other shapes or shares.
    """
    _check(images, mask, samples, share)
    result = images.clone()
    flat = result.flatten(0, 2)  # (N, S, S, 3), the same memory
    per_window = images.shape[1] * images.shape[2]
    recipes: dict[int, Recipe] = {}  # of each chosen frame
    for number in mask.bool().flatten().nonzero().squeeze(1).tolist():
        window, frame = divmod(number, per_window)
        if recipe := draw_recipe(seed, int(samples[window]), frame, share):
            recipes[number] = recipe
    together = 1 if images.device.type == "cpu" else TOGETHER
    for chosen in torch.split(torch.tensor(list(recipes), dtype=torch.int64), together):
        where = chosen.to(images.device)
        frames = flat[where].permute(0, 3, 1, 2).contiguous().float() / 255  # (n, 3, S, S)
        frames = carry_out([recipes[number] for number in chosen.tolist()], frames)
        flat[where] = frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return result


def carry_out(recipes: Sequence[Recipe], frames: Tensor) -> Tensor:
    """Each frame after the steps of its recipe. frames: (n, 3, H, W), 0 to 1, written over. returns: the same."""
    for place in range(max(map(len, recipes), default=0)):
        steps = {row: recipe[place] for row, recipe in enumerate(recipes) if place < len(recipe)}
        for op in sorted({step.op for step in steps.values()}):
            rows = [row for row, step in steps.items() if step.op == op]
            where = torch.tensor(rows, device=frames.device)
            frames[where] = _OPS[op](frames[where], [steps[row] for row in rows]).clamp(0, 1)
    return frames


def _amounts(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    return torch.tensor([step.amount for step in steps], device=frames.device)


def _brightness(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    return kornia.enhance.adjust_brightness_accumulative(frames, _amounts(frames, steps))


def _contrast(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    return kornia.enhance.adjust_contrast_with_mean_subtraction(frames, _amounts(frames, steps))


def _saturation(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    return kornia.enhance.adjust_saturation_with_gray_subtraction(frames, _amounts(frames, steps))


def _hue(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    return kornia.enhance.adjust_hue(frames, 2 * pi * _amounts(frames, steps))  # kornia wants radians


def _noise(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    """Frames with noise on them, each from the generator that its step names."""
    noisy = [frame + _noise_of(step, frame) for frame, step in zip(frames, steps, strict=True)]
    return torch.stack(noisy)


def _noise_of(step: Step, frame: Tensor) -> Tensor:
    """(3, H, W) or, where it is grey, (1, H, W)."""
    rng = torch.Generator(frame.device).manual_seed(step.seed)
    shape = (1 if step.grey else 3, *frame.shape[1:])
    if step.op == "gaussian_noise":
        return step.amount * torch.randn(shape, generator=rng, device=frame.device)
    even = torch.rand(shape, generator=rng, device=frame.device)
    if step.op == "laplace_noise":
        away = even - 0.5
        return -step.amount * away.sign() * torch.log1p(-2 * away.abs())
    # Poisson: the count is where the cumulative probabilities pass `even`; torch.poisson takes several times as long.
    counts = torch.arange(1.0, 65.0, device=frame.device)
    cumulative = torch.special.gammaincc(counts, counts.new_full((), 255 * step.amount))
    sign = torch.randint(2, shape, generator=rng, device=frame.device) * 2 - 1
    return torch.searchsorted(cumulative, even) * sign / 255


def _gaussian_blur(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    """One window for all: three of the largest standard deviations to each side."""
    to_pixels = _pixels(frames)
    window = 2 * ceil(3 * BLURS["gaussian_blur"][1] * to_pixels) + 1
    sigma = (_amounts(frames, steps) * to_pixels).clamp(min=1e-3)  # kornia refuses 0
    return kornia.filters.gaussian_blur2d(frames, (window, window), sigma[:, None].expand(-1, 2), "replicate")


def _average_blur(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    widths = [max(1, round(step.amount * _pixels(frames))) for step in steps]
    return _by_width(frames, widths, lambda some, width: kornia.filters.box_blur(some, (width, width), "replicate"))


def _median_blur(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    widths = [_odd(step.amount * _pixels(frames)) for step in steps]
    return _by_width(frames, widths, lambda some, width: kornia.filters.median_blur(some, (width, width)))


def _motion_blur(frames: Tensor, steps: Sequence[Step]) -> Tensor:
    widths = [_odd(step.amount * _pixels(frames)) for step in steps]
    kernels = frames.new_zeros(len(steps), max(widths), max(widths))
    for kernel, step, width in zip(kernels, steps, widths, strict=True):
        edge = (max(widths) - width) // 2
        kernel[edge : edge + width, edge : edge + width] = _motion_kernel(step, width, frames.device)
    return kornia.filters.fft_conv(frames, kernels, "replicate")  # a direct convolution is slower by far


def _motion_kernel(step: Step, width: int, device: torch.device) -> Tensor:
    """(width, width), sums to 1."""
    if width == 1:
        return torch.ones(1, 1, device=device)
    angle, direction = (torch.tensor([value], device=device) for value in (step.angle, step.direction))
    return kornia.filters.get_motion_kernel2d(width, angle, direction, mode="bilinear")[0]


def _by_width(frames: Tensor, widths: Sequence[int], filtered: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Frames filtered with windows of their own width, those of the same width together; 1 is left as it is."""
    for width in sorted({*widths} - {1}):
        where = torch.tensor([row for row, own in enumerate(widths) if own == width], device=frames.device)
        frames[where] = filtered(frames[where], width)
    return frames


def _pixels(frames: Tensor) -> float:
    """Pixels of these frames for one of a frame of 384."""
    return max(frames.shape[-2:]) / _REFERENCE


def _odd(width: float) -> int:
    """The nearest odd whole number."""
    return 2 * round((width - 1) / 2) + 1


_OPS: Final[dict[str, Callable[[Tensor, Sequence[Step]], Tensor]]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
    "gaussian_noise": _noise,
    "laplace_noise": _noise,
    "poisson_noise": _noise,
    "gaussian_blur": _gaussian_blur,
    "average_blur": _average_blur,
    "median_blur": _median_blur,
    "motion_blur": _motion_blur,
}


def _check(images: Tensor, mask: Tensor, samples: npt.NDArray[np.int64], share: float) -> None:
    if images.dtype != torch.uint8 or images.ndim != 6 or images.shape[-1] != 3 or images.shape[:3] != mask.shape:
        raise RdtError(
            f"images are {tuple(images.shape)} {images.dtype}, their mask is {tuple(mask.shape)}",
            remedy="give (B, history, cameras, S, S, 3) torch.uint8, RGB, and (B, history, cameras)",
        )
    if samples.shape != images.shape[:1]:
        raise RdtError(
            f"{len(images)} windows have sample numbers of shape {samples.shape}",
            remedy=f"give the number of each window, ({len(images)},)",
        )
    if not 0 <= share <= 1:
        raise RdtError(f"share of augmented frames is {share}", remedy="give a number from 0 to 1")
