"""A policy for robots that call when they please: each has its own memory, and those that wait are denoised together.

In: one observation of one robot, with its `Loop`; then all that are ready. Out: a chunk for each, the one that `Policy`
gives for it alone, up to rounding. The two halves are apart because only the second gains from company: images of one
robot are encoded as soon as they come, in a control loop mostly those that are new.

Knows no sockets, queues and clocks. Not for several threads at once.
"""

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


class ServedPolicy(Policy):
    """See the module; made and loaded as `Policy`."""

    def new_loop(self) -> Loop:
        """For a robot that has just come; its noise is that of (seed, its own call number)."""
        return Loop(ConditionCache(self.net, self.config.history * len(self.config.cameras)))

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
