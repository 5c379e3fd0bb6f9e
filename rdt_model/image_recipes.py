"""What is done to each camera frame in training: a list of steps with their numbers, drawn from (seed, sample, frame).

In: the seed, the number of a window, the place of a frame in it. Out: a `Recipe`, empty for a frame that stays as it
is. Knows no pixels and no torch; `image_augment` carries recipes out.

As published (RoboticsDiffusionTransformer, `train/dataset.py` and `train/image_corrupt.py`): half of the frames are
augmented; of those, one third by colour jitter, one third by corruption, one third by jitter and then corruption.
Jitter is torchvision's `ColorJitter(0.3, 0.4, 0.5, 0.03)`. Corruption is noise (Gaussian, Laplace or Poisson) and,
every other time, a blur (one half motion; else Gaussian, average or median), in either order.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from rdt_model.draws import Purpose, generator

JITTER: Final = {"brightness": (0.7, 1.3), "contrast": (0.6, 1.4), "saturation": (0.5, 1.5), "hue": (-0.03, 0.03)}
"""Range of each factor, uniform; of hue, a share of the full circle that is added. In an order drawn anew."""

NOISES: Final = ("gaussian_noise", "laplace_noise", "poisson_noise")
STRONGEST_NOISE: Final = 0.05
"""Upper end of the noise's scale, uniform from 0, for values in [0, 1]: standard deviation, Laplace's b, and for
Poisson the mean of a count of 1/255, whose sign is drawn for every value."""

BLURS: Final = {
    "gaussian_blur": (0.0, 3.0),
    "average_blur": (2.0, 7.0),
    "median_blur": (3.0, 5.0),  # published up to 11, whose sort costs seconds a frame
    "motion_blur": (3.0, 36.0),
}
"""Range of each extent (standard deviation, or width of the window), uniform, in pixels of a frame of 384."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on a frame.

    op: a name of `JITTER`, `NOISES` or `BLURS`. amount: its factor, scale or extent, as the tables say.
    seed: of what is drawn for each pixel. grey: the same noise in R, G and B. angle: of a motion, degrees.
    direction: -1 to 1, which end of a motion is heavier.
    """

    op: str
    amount: float
    seed: int = 0
    grey: bool = False
    angle: float = 0.0
    direction: float = 0.0


Recipe = tuple[Step, ...]
"""Steps in their order. Empty: the frame stays as it is."""


def draw_recipe(seed: int, sample: int, frame: int, share: float) -> Recipe:
    """What is done to one frame. frame: history index * cameras + camera. share: how likely anything is, 0 to 1."""
    rng = generator(seed, sample, Purpose.IMAGES, frame)
    if rng.random() >= share:
        return ()
    kind = ("corruption", "jitter", "both")[rng.integers(3)]
    jitter = () if kind == "corruption" else _jitter(rng)
    return jitter if kind == "jitter" else jitter + _corruption(rng)


def _jitter(rng: np.random.Generator) -> Recipe:
    steps = [Step(op, rng.uniform(*ends)) for op, ends in JITTER.items()]
    return tuple(steps[place] for place in rng.permutation(len(steps)))


def _corruption(rng: np.random.Generator) -> Recipe:
    noise = Step(
        NOISES[rng.integers(len(NOISES))],
        rng.uniform(0, STRONGEST_NOISE),
        seed=int(rng.integers(2**63)),
        grey=rng.random() < 0.5,
    )
    if rng.random() < 0.5:
        return (noise,)
    still = ("gaussian_blur", "average_blur", "median_blur")[rng.integers(3)]
    op = "motion_blur" if rng.random() < 0.5 else still
    blur = Step(op, rng.uniform(*BLURS[op]), angle=rng.uniform(0, 360), direction=rng.uniform(-1, 1))
    return (noise, blur) if rng.random() < 0.5 else (blur, noise)
