"""A policy for robots that call when they please: each has its own memory, and those that wait are denoised together.

In: observations, each with its robot's `Loop`. Out: a chunk for each, the one that `Policy` gives for it alone, up to
rounding; or what is wrong with it, which leaves the others alone. Images are encoded robot by robot, in a control loop
mostly those that are new; denoising, which gains from company, is one batch.

Knows no sockets and queues. Not for several threads at once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_model.condition_cache import ConditionCache
from rdt_model.conditions import Conditions
from rdt_model.inpaint import Known, Plan
from rdt_model.policy import BoolArray, Chunk, Observation, Policy, instruction_key


@dataclass(slots=True)
class Loop:
    """What is kept of one robot's control loop: its conditions, and how often it has called."""

    cache: ConditionCache
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An observation that is ready to be denoised, until its loop's next one is prepared.

    plan: in physical units, what is in-painted.
    """

    cond: Conditions
    mask: BoolArray
    noise: Tensor
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What one robot asks. plan: actions of its last chunk that the new one goes on from."""

    loop: Loop
    observation: Observation
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A chunk, or why there is none; seconds to encode this observation, and to denoise all of the batch."""

    outcome: Chunk | Exception
    encode_s: float
    denoise_s: float


class ServedPolicy(Policy):
    """See the module; made and loaded as `Policy`."""

    def new_loop(self) -> Loop:
        """For a robot that has just come; its noise is that of (seed, its own call number)."""
        return Loop(ConditionCache(self.net, self.config.history * len(self.config.cameras)))

    def answer(self, batch: Sequence[Asked], steps: int | None = None) -> list[Answered]:
        """What each is to do next. steps: denoising steps, by default the network's.

        An outcome is an RdtError as of `prepare`, or what torch or NumPy raised for this observation.
        """
        prepared, outcomes, seconds = list[Prepared](), dict[int, Exception](), list[float]()
        for row, one in enumerate(batch):
            began = time.perf_counter()
            try:
                prepared.append(self.prepare(one.loop, one.observation, one.plan))
                self._wait_for_device()
            except (RdtError, RuntimeError, ValueError) as error:
                outcomes[row] = error
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        chunks = iter(self.act(prepared, steps) if prepared else ())
        took = time.perf_counter() - began
        return [
            Answered(outcomes[row] if row in outcomes else next(chunks), seconds[row], took)
            for row in range(len(batch))
        ]

    @torch.inference_mode()
    def prepare(self, loop: Loop, observation: Observation, plan: Plan | None = None) -> Prepared:
        """Encode what is new. plan: actions of the robot's last chunk that the new one goes on from.

        Raises RdtError as `Policy` does, and for a plan that does not fit.
        """
        mask = self._mask(observation)
        if plan is not None:
            self._check(plan)
        keys, frames = self._slots(observation)
        words = instruction_key(observation.instruction)
        known = loop.cache.knows_language(words)
        rate = self.config.control_hz if observation.control_hz is None else observation.control_hz
        cond = loop.cache.conditions(
            keys,
            self._tokens(loop.cache.missing(keys), frames),
            language=words,
            lang_tokens=None if known else self._encoded(observation.instruction),
            state=self._tensor(self._state(observation)),
            action_mask=self._tensor(mask.astype(np.float32)),
            ctrl_hz=torch.tensor([float(rate)], device=self.net.device),
        )
        loop.calls += 1
        return Prepared(cond, mask, self._noise(loop.calls - 1), plan)

    @torch.inference_mode()
    def act(self, prepared: Sequence[Prepared], steps: int | None = None) -> list[Chunk]:
        """What each is to do next, denoised as one batch. Committed actions of a plan come back as they were given.

        A row that is not finite leaves the others alone: see `checked`.
        """
        cond = Conditions.joined([one.cond for one in prepared])
        noise = torch.cat([one.noise for one in prepared])  # (B, H, 128)
        shape = (len(prepared), noise.shape[1], noise.shape[2])
        known = Known.of([self._normalised(one) for one in prepared], shape, self.net.device)
        sampled = self.net.sample(cond, steps, noise, known=known)  # (B, H, 128)
        chunks = [self._chunk(row, one.mask) for row, one in zip(sampled, prepared, strict=True)]
        return [_committed(chunk, one.plan) for chunk, one in zip(chunks, prepared, strict=True)]

    def _wait_for_device(self) -> None:
        if self.net.device.type == "cuda":
            torch.cuda.synchronize(self.net.device)

    def _normalised(self, one: Prepared) -> Plan | None:
        """The plan as the network sees actions, 0 in slots that are not meant."""
        if one.plan is None:
            return None
        norm = self.config.action_normalisation
        actions = one.plan.actions if norm is None else norm.apply(one.plan.actions)
        return replace(one.plan, actions=np.where(one.mask, actions, np.float32(0)))

    def _check(self, plan: Plan) -> None:
        horizon = self.net.config.pred_horizon
        shape = plan.actions.shape
        if len(shape) != 2 or shape[0] > horizon or shape[1] != layout.DIM or not np.isfinite(plan.actions).all():
            raise RdtError(
                f"a plan of shape {shape}, finite: {bool(np.isfinite(plan.actions).all())}",
                remedy=f"give at most {horizon} actions of the last chunk, (P, {layout.DIM}) finite numbers",
            )


def checked(chunk: Chunk) -> Chunk:
    """The chunk. Raises RdtError when it holds numbers that are not finite: no robot must follow them."""
    if not np.isfinite(chunk.actions).all():
        raise RdtError("the network's actions are not finite", remedy="check the observation, or the checkpoint")
    return chunk


def _committed(chunk: Chunk, plan: Plan | None) -> Chunk:
    """The chunk, with the committed actions to the last bit, which normalising and undoing it do not keep."""
    if plan is None or not plan.committed:
        return chunk
    first = np.where(chunk.mask, plan.actions[: plan.committed], np.float32(0))
    return Chunk(np.concatenate([first, chunk.actions[plan.committed :]]), chunk.mask)
