"""What an evaluation found: each episode, the success rate, and how sure it is.

In: results of episodes. Out: rates with Wilson's interval, in all and by instruction, as data and as a table. Knows
nothing of policies and worlds.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

from rdt_data.errors import RdtError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """seed: of its start. instruction: as the policy was told. steps: that were executed."""

    seed: int
    instruction: str
    success: bool
    steps: int


@dataclass(frozen=True, slots=True)
class Rate:
    """successes of episodes; low, high: Wilson's interval of the success rate at 95 % confidence."""

    episodes: int
    successes: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, results: Iterable[EpisodeResult]) -> Self:
        """Of at least one result."""
        outcomes = [result.success for result in results]
        successes = sum(outcomes)
        return cls(len(outcomes), successes, successes / len(outcomes), *wilson(successes, len(outcomes)))

    def __str__(self) -> str:
        interval = f"{100 * self.low:.0f} to {100 * self.high:.0f} %"
        return f"{100 * self.rate:3.0f} %  ({self.successes} of {self.episodes}, {interval})"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """overall: of all episodes; by_instruction: of those that were told the same, in the order of the words."""

    episodes: tuple[EpisodeResult, ...]
    overall: Rate
    by_instruction: dict[str, Rate]

    @classmethod
    def of(cls, episodes: Iterable[EpisodeResult]) -> Self:
        """Raises RdtError when there are none."""
        found = tuple(episodes)
        if not found:
            raise RdtError("there is no episode to judge by", remedy="ask for at least 1")
        told = sorted({episode.instruction for episode in found})
        return cls(
            found,
            Rate.of(found),
            {text: Rate.of(episode for episode in found if episode.instruction == text) for text in told},
        )


def wilson(successes: int, episodes: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a rate that fits what was counted (Wilson 1927): right also for few episodes, near 0 and near 1.

    returns: least and greatest rate, within 0 … 1.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / episodes
    middle = share + z**2 / (2 * episodes)
    spread = z * math.sqrt(share * (1 - share) / episodes + z**2 / (4 * episodes**2))
    scale = 1 + z**2 / episodes
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
