"""Camera frames as an image encoder wants them, made on the encoder's device; and what every image encoder offers.

In: uint8 RGB frames of any size, and a mask of the real ones. Out of `prepare`: float32 images, padded to a square with
the background colour, resized and normalised. Out of an `ImageEncoder`: tokens in the published order.

As published (RoboticsDiffusionTransformer, `train/dataset.py`, `scripts/agilex_model.py`): the background colour is the
mean of the encoder's normalisation, cut to whole numbers; a missing or masked frame is an image of that colour; images
are ordered by time (older first), then by camera (exterior, right wrist, left wrist). Knows no network and no library
of encoders; draws nothing at random.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model.resize import resize

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """What an encoder is given: square images of `size` pixels, (value * scale - mean) / std for each of R, G, B.

    mean, std: of values in [0, 1]. kernel: of the resize, "bicubic" or "bilinear".
    """

    size: int
    mean: Colour = (0.5, 0.5, 0.5)
    std: Colour = (0.5, 0.5, 0.5)
    kernel: str = "bicubic"
    scale: float = 1 / 255

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour of padding and of missing images, 0 to 255: 127 for a mean of one half, as published."""
        red, green, blue = (int(mean * 255) for mean in self.mean)
        return red, green, blue


def prepare(frames: Tensor, form: ImageFormat) -> Tensor:
    """Pad, resize and normalise. frames: (N, H, W, 3) uint8. returns: (N, 3, size, size) float32, on their device.

    Equals PIL padding and `SiglipImageProcessor` on Pillow to float rounding. Raises RdtError for other frames.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise RdtError(
            f"frames are {tuple(frames.shape)} {frames.dtype}",
            remedy="give (N, H, W, 3) torch.uint8, RGB, neither H nor W 0; frames that are missing belong in the mask",
        )
    images = resize(_square(frames, form), form.size, form.kernel).permute(0, 3, 1, 2)  # (N, 3, size, size)
    mean, std = (frames.new_tensor(three, dtype=torch.float32).view(3, 1, 1) for three in (form.mean, form.std))
    return images.float().mul_(form.scale).sub_(mean).div_(std)


def background_frames(count: int, height: int, width: int, form: ImageFormat, device: torch.device) -> Tensor:
    """Frames of the background colour, (count, height, width, 3) uint8; they share memory: do not write into them."""
    return torch.tensor(form.background, dtype=torch.uint8, device=device).expand(count, height, width, 3)


def _square(frames: Tensor, form: ImageFormat) -> Tensor:
    """Frames in the middle of a square of the background colour; an odd pixel goes to the right or the bottom."""
    count, height, width, _ = frames.shape
    if height == width:
        return frames
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = background_frames(count, side, side, form, frames.device).contiguous()
    square[:, top : top + height, left : left + width] = frames
    return square


class ImageEncoder(nn.Module, ABC):
    """Images -> tokens. What a network has to know of an encoder, all of it from the encoder's own configuration.

    form: what its images are. tokens_per_image: P. token_dim: D. has_positions: whether tokens tell their place in
    the image, so that the network adds no embedding for it. frozen: no gradients, always in evaluation mode.
    chunk: how many images are encoded at once (0: all), which bounds memory. `.to(device)` and `.to(dtype)` as usual.
    """

    form: ImageFormat
    tokens_per_image: int
    token_dim: int
    has_positions: bool
    frozen: bool
    chunk: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """images: (N, 3, size, size), as `prepare` makes them, in the encoder's dtype. returns: (N, P, D)."""

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Tokens of a batch. frames: (B, history, cameras, H, W, 3) uint8; mask: (B, history, cameras), True is real.

        returns: (B, history * cameras * P, D), ordered by time (older first), camera, token; on the encoder's device.
        Frames that are not real are not read: all of them are one background image, encoded once. A mask on the CPU
        spares a wait for the device. Raises RdtError when the shapes do not fit.
        """
        if frames.ndim != 6 or mask.ndim != 3 or frames.shape[:3] != mask.shape:
            raise RdtError(
                f"frames are {tuple(frames.shape)}, their mask is {tuple(mask.shape)}",
                remedy="give (B, history, cameras, H, W, 3) and (B, history, cameras)",
            )
        real = mask.bool().flatten()  # (N,) of all images
        kept = real.nonzero().squeeze(1)
        flat = frames.to(self.device).flatten(0, 2)  # (N, H, W, 3)
        if len(kept) == len(real):
            tokens = self.encode_frames(flat)
        else:
            _, height, width, _ = flat.shape
            background = background_frames(1, height, width, self.form, self.device)
            once = self.encode_frames(torch.cat([flat[kept.to(self.device)], background]))
            which = torch.where(real, real.cumsum(0) - 1, len(kept))
            tokens = once[which.to(self.device)]
        return tokens.reshape(len(mask), -1, self.token_dim)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Tokens of each frame. frames: (N, H, W, 3) uint8. returns: (N, P, D). N may not be 0."""
        pieces = torch.split(frames.to(self.device), self.chunk or len(frames))
        # Joined outside of inference mode: a trainable adaptor can keep the tokens for its backward pass.
        return torch.cat([self._encode_piece(piece) for piece in pieces])

    def background(self) -> Tensor:
        """Tokens of a missing image, (P, D)."""
        return self.encode_frames(background_frames(1, self.form.size, self.form.size, self.form, self.device))[0]

    def position_grid(self, history: int, cameras: int) -> tuple[tuple[str, tuple[int, int, int]]]:
        """The network's `img_pos_embed_config`: a negative last number means that tokens have positions already."""
        tokens = -self.tokens_per_image if self.has_positions else self.tokens_per_image
        return (("image", (history, cameras, tokens)),)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _encode_piece(self, frames: Tensor) -> Tensor:
        with torch.inference_mode() if self.frozen else nullcontext():
            return self.encode(prepare(frames, self.form).to(self.dtype))
