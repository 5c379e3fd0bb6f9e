"""A small image encoder that is trained with the policy: a few convolutions, then one point in the image per feature.

In: images of its own size. Out: `keypoints` tokens per image. Each feature map becomes a probability over the image
(softmax over all places); its mean place (x, y) is the keypoint (Levine et al. 2016, arXiv:1504.00702; also the image
encoder of robomimic and of Diffusion Policy). A token is its keypoint's place through an affine map of its own.
Localisation is nearly all it passes on, which small policies need and learn slowly from patches.

The same interface as the pretrained encoders (`rdt_model.images.ImageEncoder`). Starts from weights drawn by torch's
generator: seed it first. Knows nothing of cameras, time and the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model.images import ImageEncoder, ImageFormat

_GROUPS = 8  # of channels that are normalised together


@dataclass(frozen=True, slots=True)
class KeypointConfig:
    """Sizes. image_size in pixels; keypoints: tokens per image; token_dim: their width; channels: of each convolution.

    The first two convolutions halve the image. Raises RdtError for channels that do not divide into groups of norms.
    """

    image_size: int = 96
    keypoints: int = 32
    token_dim: int = 64
    channels: tuple[int, ...] = (32, 64, 64)

    def __post_init__(self) -> None:
        wrong = [count for count in self.channels if count <= 0 or count % _GROUPS]
        if wrong or len(self.channels) < 2:
            raise RdtError(
                f"channels of the keypoint encoder are {self.channels}",
                remedy=f"give at least two numbers, each a multiple of {_GROUPS}",
            )


class KeypointEncoder(ImageEncoder):
    """See the module. Trainable; float32 inside the softmax whatever its dtype."""

    def __init__(self, config: KeypointConfig) -> None:
        super().__init__()
        self.config = config
        self.form = ImageFormat(config.image_size)
        self.tokens_per_image, self.token_dim = config.keypoints, config.token_dim
        self.has_positions, self.frozen, self.chunk = False, False, 0
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((3, *config.channels), config.channels, strict=False)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2 if number < 2 else 1, padding=1),
                nn.GroupNorm(_GROUPS, outputs),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(*layers)
        self.maps = nn.Conv2d(config.channels[-1], config.keypoints, 1)
        self.project = nn.Parameter(torch.randn(2, config.token_dim))
        self.bias = nn.Parameter(torch.randn(config.keypoints, config.token_dim))

    def encode(self, images: Tensor) -> Tensor:
        """images: (N, 3, size, size). returns: (N, keypoints, token_dim)."""
        x, y = self.keypoints(images).unsqueeze(-1).unbind(-2)  # (N, K, 1) each
        # Not a matrix product, which autocast would round to bfloat16: places need their digits.
        return x * self.project[0] + y * self.project[1] + self.bias

    def keypoints(self, images: Tensor) -> Tensor:
        """Where each feature is. images: (N, 3, size, size). returns: (N, K, 2), x and y from -1 to 1."""
        maps = self.maps(self.trunk(images))  # (N, K, h, w)
        return spatial_softmax(maps.float()).to(images.dtype)


def spatial_softmax(maps: Tensor) -> Tensor:
    """The mean place under each map's softmax. maps: (..., h, w) logits. returns: (..., 2), x (right) and y (down).

    -1 and 1 are the edges of the image, so that the centre of the first of w columns is at x = -1 + 1 / w.
    """
    height, width = maps.shape[-2:]
    share = maps.flatten(-2).softmax(-1).view(maps.shape)
    x = (share.sum(-2) * _centres(width, maps)).sum(-1)
    y = (share.sum(-1) * _centres(height, maps)).sum(-1)
    return torch.stack([x, y], -1)


def _centres(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1
