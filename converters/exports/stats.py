"""The statistics a LeRobot dataset carries: per feature and episode, and put together for the whole.

In: the values of an episode, (T, n), or some of its frames. Out: count (1,) int64; min, max, mean, std and five
quantiles, float64, of shape (n,) or for frames (3, 1, 1), red, green, blue from 0 to 1. As LeRobot does, a quantile of
the whole is the mean of the episodes' quantiles, weighted with their counts; everything else is exact.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.images import Pixels

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)

FRAMES_PER_EPISODE = 100
_PIXELS_A_SIDE = 150

Stats = dict[str, npt.NDArray[Any]]


def stats_of(values: npt.NDArray[Any]) -> Stats:
    """values: (T, n) numbers or truth values, T at least 1."""
    numbers = np.asarray(values, np.float64)
    stats = {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(numbers)]),
    }
    return stats | dict(zip(QUANTILES, np.quantile(numbers, list(QUANTILES.values()), axis=0), strict=True))


def sampled_steps(steps: int) -> frozenset[int]:
    """The frames of an episode that are looked at: evenly spread, all when there are few."""
    return frozenset(np.linspace(0, steps - 1, min(steps, FRAMES_PER_EPISODE)).round().astype(int).tolist())


@dataclass(slots=True)
class FrameStats:
    """How often each of the 256 values occurs in the three channels of some frames."""

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    frames: int = 0

    def add(self, pixels: Pixels) -> None:
        """pixels: (H, W, 3) uint8; of large frames every second, third … row and column."""
        stride = max(1, max(pixels.shape[:2]) // _PIXELS_A_SIDE)
        for channel in range(3):
            self.counts[channel] += np.bincount(pixels[::stride, ::stride, channel].reshape(-1), minlength=256)
        self.frames += 1

    def stats(self) -> Stats:
        """Of all frames added, at least one."""
        levels = np.arange(256) / 255
        shares = self.counts / self.counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        upto = np.cumsum(shares, axis=1)
        seen = self.counts > 0
        found = {
            "min": levels[seen.argmax(axis=1)],
            "max": levels[255 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0)),
            **{name: levels[(upto < share).sum(axis=1).clip(max=255)] for name, share in QUANTILES.items()},
        }
        shaped = {name: value.reshape(3, 1, 1) for name, value in found.items()}
        return {**shaped, "count": np.array([self.frames])}


def together(a: Stats | None, b: Stats) -> Stats:
    """The statistics of two sets of values put together (Chan et al. 1983). a: None where there are none yet."""
    if a is None:
        return b
    count = a["count"] + b["count"]
    share = float(b["count"][0] / count[0])
    shift = b["mean"] - a["mean"]
    variance = a["std"] ** 2 * (1 - share) + b["std"] ** 2 * share + shift**2 * share * (1 - share)
    return {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": a["mean"] + shift * share,
        "std": np.sqrt(variance),
        "count": count,
        **{name: a[name] * (1 - share) + b[name] * share for name in QUANTILES},
    }
