"""One run of `rdt eval`: a checkpoint and an environment -> success rates, and a video.

In: where the checkpoint lies, choices, and how a policy's robot is made (`converters.robot` does it, which is not known
here). Out: an `EvalReport`: an `Evaluation` of the policy, and one for each comparison that was asked for, all of them
with the same starts:

* untrained: the same network with weights as training begins with. What chance does.
* swapped: the policy is told another task than the start was drawn for, and judged by that: language is used.
* blank: the policy is shown no images: images are used.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from rdt_data.errors import RdtError
from rdt_model.batched import BatchedPolicy, untrained
from rdt_model.eval_options import EvalOptions, execution_of, words_of, worlds_of
from rdt_model.eval_video import EpisodeVideo
from rdt_model.evaluate import Words, evaluate
from rdt_model.policy_files import PolicyConfig, read_policy
from rdt_model.success import Evaluation
from rdt_model.worlds import Restricted, Robot

POLICY: Final = "policy"
COMPARISONS: Final = ("untrained", "swapped", "blank")

Progress = Callable[[int, int], None]
"""Called with episodes done and in all, those of comparisons included."""


@dataclass(frozen=True, slots=True)
class EvalReport:
    """What was run and what came of it. execution: in words. results: of POLICY and of the COMPARISONS asked for."""

    checkpoint: str
    env: str
    dataset: str
    execution: str
    denoising_steps: int
    limit: int
    seed: int
    device: str
    seconds: float
    results: dict[str, Evaluation]

    def __str__(self) -> str:
        """The table: the comparisons, then the policy by instruction where there are several."""
        told = self.results[POLICY].by_instruction
        rows = [(name, str(found.overall)) for name, found in self.results.items()]
        tasks = [(text, str(rate)) for text, rate in told.items()] if len(told) > 1 else []
        width = max(len(name) for name, _ in [*rows, *tasks])
        return "\n".join(
            [
                f"{self.checkpoint} in {self.env}, at most {self.limit} steps an episode",
                f"{self.execution}, {self.denoising_steps} denoising steps, seed {self.seed}, {self.device}, "
                f"{self.seconds:.1f} s",
                "success rate (successes, 95 % interval)",
                "",
                *(f"{name.ljust(width)}  {rate}" for name, rate in rows),
                *([""] if tasks else []),
                *(f"{text.ljust(width)}  {rate}" for text, rate in tasks),
            ]
        )


def evaluate_checkpoint(
    checkpoint: str,
    options: EvalOptions,
    robot_of: Callable[[PolicyConfig], Robot],
    progress: Progress = lambda done, total: None,
) -> EvalReport:
    """Load, evaluate, compare. Raises RdtError for a checkpoint without policy.json, and for what does not fit."""
    config = read_policy(checkpoint)
    if config is None:
        raise RdtError(f"{checkpoint} has no policy.json", remedy="give a directory that `rdt train` wrote")
    words, encoder = words_of(options, config)
    policy = BatchedPolicy.load(checkpoint, config=config, language=encoder, device=options.device, seed=options.seed)
    return evaluate_policy(policy, checkpoint, options, robot_of(config), words, progress)


def evaluate_policy(
    policy: BatchedPolicy,
    name: str,
    options: EvalOptions,
    robot: Robot,
    words: Words = lambda text: text,
    progress: Progress = lambda done, total: None,
) -> EvalReport:
    """As `evaluate_checkpoint`, of a policy in memory. name: as the report calls it; words: see `evaluate`."""
    began, execution = time.monotonic(), execution_of(options, policy.horizon)
    kinds = [POLICY, *(kind for kind in COMPARISONS if getattr(options, kind))]
    results: dict[str, Evaluation] = {}
    limit = 0
    for number, kind in enumerate(kinds):
        worlds = worlds_of(options, policy.config, swapped=kind == "swapped")
        limit = worlds[0].limit
        actor = untrained(policy, options.seed) if kind == "untrained" else policy
        with _filmed(options, kind) as video:
            results[kind] = evaluate(
                actor,
                Restricted(robot, policy.config.state_mask, policy.config.action_mask),
                worlds,
                range(options.seed, options.seed + options.episodes),
                execution=execution,
                words=words,
                blank=kind == "blank",
                steps=options.steps,
                watch=video,
                progress=_part_of(progress, number, len(kinds)),
            )
    return EvalReport(
        checkpoint=name,
        env=options.env,
        dataset=policy.config.dataset,
        execution=str(execution),
        denoising_steps=options.steps or policy.net.config.noise.num_inference_timesteps,
        limit=limit,
        seed=options.seed,
        device=str(policy.net.device),
        seconds=time.monotonic() - began,
        results=results,
    )


def _filmed(options: EvalOptions, kind: str) -> AbstractContextManager[EpisodeVideo | None]:
    """The video, which shows the policy alone, if there shall be one."""
    if options.video is None or kind != POLICY:
        return nullcontext()
    return EpisodeVideo(options.video, options.video_episodes)


def _part_of(progress: Progress, number: int, parts: int) -> Progress:
    """Progress of one of several equal parts."""
    return lambda done, total: progress(number * total + done, parts * total)
