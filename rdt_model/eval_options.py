"""What `rdt eval` is asked for, and what follows: environments, how chunks are executed, where words come from.

In: `EvalOptions` and a policy's configuration. Out: worlds, an `Execution`, words. Runs nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rdt_data.errors import RdtError, unknown
from rdt_data.language import language_of
from rdt_data.sim import EPISODE_STEPS
from rdt_model.demo_world import DemoWorld
from rdt_model.evaluate import Words
from rdt_model.execution import ACT_DECAY, Execution, ensembling, receding
from rdt_model.gym_aloha_world import FRAME, SIMULATION_HZ, TASKS, GymAlohaWorld
from rdt_model.policy_files import PolicyConfig
from rdt_model.worlds import World

DEMO: Final = "demo"
ENVIRONMENTS: Final = (DEMO, *TASKS)
EXECUTE: Final = ("receding", "ensemble")
PARALLEL: Final = {DEMO: 50}
OTHERS_PARALLEL: Final = 5
"""Environments of a simulator that keeps frame buffers each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """env: one of ENVIRONMENTS. seed: of the noise; starts have the numbers seed, seed + 1, … parallel: environments
    side by side, None: as suits the environment. ensemble: temporal ensembling with `decay`, else receding horizon;
    every: steps from one chunk to the next, None: 1, or the whole chunk. steps: denoising steps, None: the network's.
    limit: steps of an episode, None: the environment's. language: hub id or directory of a T5; data: a store whose
    embeddings are used instead; without both, the T5 that the checkpoint names.

    untrained, swapped, blank: comparisons, see `eval_run`. video: an MP4 file of the first `video_episodes`.
    instruction, frame_size, shadows: of gym-aloha, see `GymAlohaWorld`; None: as it has them.
    """

    env: str = DEMO
    episodes: int = 50
    seed: int = 0
    parallel: int | None = None
    ensemble: bool = False
    every: int | None = None
    decay: float = ACT_DECAY
    steps: int | None = None
    limit: int | None = None
    device: str = "auto"
    language: str | None = None
    data: str | None = None
    untrained: bool = False
    swapped: bool = False
    blank: bool = False
    video: Path | None = None
    video_episodes: int = 4
    instruction: str | None = None
    frame_size: tuple[int, int] | None = None
    shadows: bool = False

    def __post_init__(self) -> None:
        if self.env not in ENVIRONMENTS:
            raise unknown("environment", self.env, ENVIRONMENTS)
        if self.language is not None and self.data is not None:
            raise RdtError("both language and data are given", remedy="give one: a T5, or a store with embeddings")
        own = {"instruction": self.instruction, "frame_size": self.frame_size, "shadows": self.shadows or None}
        if self.env == DEMO and (given := [name for name, value in own.items() if value is not None]):
            raise RdtError(f"the environment demo has no {', '.join(given)}", remedy="these are options of gym_aloha")
        if self.env != DEMO and self.swapped:
            raise RdtError(f"{self.env} has one task: none to swap it for", remedy="leave --swapped out, or use demo")


def ensembles(execute: str) -> bool:
    """The word of the command line for how chunks are executed."""
    if execute not in EXECUTE:
        raise unknown("way to execute chunks", execute, EXECUTE)
    return execute == EXECUTE[1]


def size_of(text: str) -> tuple[int, int]:
    """ "480x640" -> (480, 640), pixels, (H, W)."""
    if (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)) is None:
        raise RdtError(f"frame size {text!r}", remedy="give height and width in pixels, as 480x640")
    return int(found[1]), int(found[2])


def execution_of(options: EvalOptions, horizon: int) -> Execution:
    """How chunks of `horizon` actions are executed."""
    if options.ensemble:
        return ensembling(horizon, options.every, options.decay)
    return receding(horizon, options.every)


def worlds_of(options: EvalOptions, config: PolicyConfig, *, swapped: bool = False) -> list[World]:
    """The environments, alike. Raises RdtError when the policy acts at another rate."""
    count = min(options.episodes, options.parallel or PARALLEL.get(options.env, OTHERS_PARALLEL))
    rate = config.control_hz
    if options.env != DEMO:
        return [
            GymAlohaWorld(
                options.env,
                control_hz=rate or SIMULATION_HZ,
                limit=options.limit,
                instruction=options.instruction,
                frame_size=options.frame_size or FRAME,
                shadows=options.shadows,
            )
            for _ in range(count)
        ]
    if rate not in (0, DemoWorld.control_hz):
        raise RdtError(
            f"the policy acts at {rate:g} Hz, the built-in environment at {DemoWorld.control_hz}",
            remedy="evaluate a policy that was trained on demo data",
        )
    limit = options.limit or EPISODE_STEPS
    return [DemoWorld(cameras=config.cameras, limit=limit, swapped=swapped) for _ in range(count)]


def words_of(options: EvalOptions, config: PolicyConfig) -> tuple[Words, str | None]:
    """What the policy is given of an instruction, and the T5 to load, if that is the text.

    Raises RdtError when there is neither T5 nor store, StoreError for a store without the policy's embeddings.
    """
    named = config.language_encoder
    if options.data is None:
        if options.language is None and named is None:
            raise RdtError(
                "this checkpoint names no language encoder",
                remedy="give a T5 (--language), or the store whose embeddings it was trained with (--data)",
            )
        return (lambda text: text), options.language or named
    # A store names an encoder by its hub id, or by the last name of its directory.
    language = language_of(options.data, Path(named).name if named and Path(named).is_dir() else named)
    return language.embedding, None
