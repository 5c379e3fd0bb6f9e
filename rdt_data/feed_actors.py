"""Ray actors that fill the slots of a trainer: on its machine in place, on other machines by sending blocks.

In: (slot, block). Out: outcomes, as `filling.Filling` says. An actor works through its queue in order. One that dies,
or takes longer than `timeout_s` for a block, is replaced and its queue begun again, but not before the system says
that its process has ended: until then it might still write. A block that costs three actors their lives is an error.
"""

import os
import select
import signal
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rdt_data.arena import Arena, Attached
from rdt_data.errors import RdtError
from rdt_data.filling import Outcome, filled
from rdt_data.images import use_one_thread
from rdt_data.jobs import connect
from rdt_data.mixture import Block
from rdt_data.producer import Facts, Producer

_LIVES = 3
_LOOK_S = 0.5
"""Seconds between looks for actors that hang, while waiting."""

_GRACE_S = 2.0
"""Seconds that Ray has to end a process before this file does."""


class _Hand:
    """What runs in an actor. arena: address, slots and bytes of a slot; None on another machine."""

    def __init__(self, producer: Producer, slots: int, slot_bytes: int, address: str | None) -> None:
        self.producer, self.slots, self.slot_bytes, self.address = producer, slots, slot_bytes, address
        self.arena: Attached | None = None

    def hello(self) -> int | RdtError:
        """Map the arena; the process id."""
        use_one_thread()
        try:
            if self.address is not None:
                self.arena = Attached(self.address, self.slots, self.slot_bytes)
        except RdtError as error:
            return error
        return os.getpid()

    def fill(self, slot: int, block: Block, whole: bool) -> tuple[Facts | RdtError, float, Any]:
        """The result, the seconds, and the bytes of the slot where they must travel."""
        data = np.zeros(self.slot_bytes, np.uint8) if self.address is None else None
        memory = self._slot(slot) if data is None else data.data
        result, seconds = filled(self.producer, block, self.producer.shape.over(memory), whole)
        return result, seconds, data

    def _slot(self, number: int) -> memoryview:
        assert self.arena is not None
        return self.arena.slot(number)


@dataclass(eq=False)
class _Task:
    slot: int  # -1: the actor says hello
    block: Block | None
    whole: bool
    reference: Any


@dataclass(eq=False)
class _Actor:
    handle: Any
    node: str
    here: bool
    tasks: deque[_Task] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)  # when the first of its tasks became the first
    pid: int = 0
    pidfd: int = -1


class Actors:
    """`here` actors on this machine, `elsewhere` on the other machines of the cluster, in turn."""

    def __init__(
        self,
        producer: Producer,
        arena: Arena,
        *,
        here: int,
        elsewhere: int,
        timeout_s: float,
        ray: str,
    ) -> None:
        import ray as library

        self.ray: Any = library
        self.producer, self.arena, self.timeout_s = producer, arena, timeout_s
        self.replaced = 0
        self._lost: Counter[int] = Counter()
        self._actors: list[_Actor] = []
        self._began = not library.is_initialized()
        if self._began:
            connect(ray)
        try:
            self._home = self.ray.get_runtime_context().get_node_id()
            self._actors += [self._begin(here=True) for _ in range(here)]
            self._actors += [self._begin(here=False) for _ in range(elsewhere)]
        except BaseException:  # raised again: what began here must not stay
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        return [actor.pid for actor in self._actors if actor.here and actor.pid]

    def start(self, slot: int, block: Block, whole: bool) -> None:
        self._give(min(self._actors, key=lambda actor: len(actor.tasks)), slot, block, whole)

    def finished(self, timeout_s: float) -> list[Outcome]:
        end = time.monotonic() + timeout_s
        while True:
            done = self._look(min(max(end - time.monotonic(), 0.0), _LOOK_S))
            if done or time.monotonic() >= end:
                return done

    def close(self) -> None:
        for actor in self._actors:
            self.ray.kill(actor.handle)
        for actor in self._actors:
            self._end(actor)
        self._actors = []
        if self._began:
            self.ray.shutdown()
            self._began = False

    def _node(self) -> str:
        """Another machine of the cluster, the one with the fewest actors of ours."""
        others = [str(n["NodeID"]) for n in self.ray.nodes() if n["Alive"] and n["NodeID"] != self._home]
        if not others:
            raise RdtError(
                "there are to be remote producers, but the Ray cluster has no other machine",
                remedy="use remote_producers=0, or give the address of a cluster with more machines as `ray`",
            )
        return min(others, key=[actor.node for actor in self._actors].count)

    def _begin(self, *, here: bool) -> _Actor:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # no CPUs: as many as asked for, like any worker; no events: Ray keeps 3 kB of each block in memory otherwise
        options = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "enable_task_events": False}
        node = self._home if here else self._node()
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        remote = self.ray.remote(**options)(_Hand).options(scheduling_strategy=there)
        arena = self.arena
        handle = remote.remote(self.producer, arena.slots, arena.slot_bytes, arena.address if here else None)
        actor = _Actor(handle, node, here)
        actor.tasks.append(_Task(-1, None, False, actor.handle.hello.remote()))
        return actor

    def _give(self, actor: _Actor, slot: int, block: Block, whole: bool) -> None:
        if not actor.tasks:
            actor.since = time.monotonic()
        actor.tasks.append(_Task(slot, block, whole, actor.handle.fill.remote(slot, block, whole)))

    def _look(self, wait_s: float) -> list[Outcome]:
        """What has finished, and what must be replaced."""
        done: list[Outcome] = []
        while firsts := {actor.tasks[0].reference: actor for actor in self._actors if actor.tasks}:
            ready, _ = self.ray.wait(list(firsts), num_returns=1, timeout=wait_s)
            if not ready:
                break
            done += self._take(firsts[ready[0]])
            wait_s = 0
        for actor in [actor for actor in self._actors if actor.tasks]:
            if time.monotonic() - actor.since > self.timeout_s:
                done += self._replace(actor)
        return done

    def _take(self, actor: _Actor) -> list[Outcome]:
        task = actor.tasks[0]
        failures = (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError)
        try:
            value = self.ray.get(task.reference)
        except failures:
            return self._replace(actor)
        actor.tasks.popleft()
        actor.since = time.monotonic()
        if task.block is None:
            self._met(actor, value)
            return []
        result, seconds, data = value
        if data is not None:
            self.arena.slot(task.slot)[:] = memoryview(data)
        return [Outcome(task.slot, result, seconds)]

    def _met(self, actor: _Actor, hello: int | RdtError) -> None:
        if isinstance(hello, RdtError):
            raise hello
        if actor.here:
            actor.pid = hello
            with suppress(ProcessLookupError):  # dead already: the next look says so
                actor.pidfd = os.pidfd_open(hello)

    def _replace(self, actor: _Actor) -> list[Outcome]:
        """Begin another actor and give it the queue; a block that was the first of it three times is given up."""
        self.ray.kill(actor.handle)
        self._end(actor)
        self.replaced += 1
        new = self._begin(here=actor.here)
        self._actors[self._actors.index(actor)] = new
        failed: list[Outcome] = []
        first = actor.tasks[0].block
        number = -1 if first is None else first.number
        self._lost[number] += 1
        if self._lost[number] >= _LIVES and first is None:
            raise RdtError("producers die while they start", remedy="look into the logs of Ray: out of memory?")
        for task in (task for task in actor.tasks if task.block is not None):
            assert task.block is not None
            if task.block.number == number and self._lost[number] >= _LIVES:
                failed.append(Outcome(task.slot, _deadly(task.block), 0.0))
            else:
                self._give(new, task.slot, task.block, task.whole)
        return failed

    def _end(self, actor: _Actor) -> None:
        """Wait until the process of an actor has ended; Ray may report a death before."""
        if actor.pidfd < 0:
            return
        if not select.select([actor.pidfd], [], [], _GRACE_S)[0]:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(actor.pidfd, signal.SIGKILL)
        if not select.select([actor.pidfd], [], [], 60)[0]:
            raise RdtError(f"the producer with process id {actor.pid} cannot be killed", remedy="restart this machine")
        os.close(actor.pidfd)
        actor.pidfd = -1


def _deadly(block: Block) -> RdtError:
    return RdtError(
        f"{_LIVES} producers died or hung while they read {block.dataset}, episode {block.episode}, "
        f"steps {block.start} to {block.stop}",
        remedy="look into the logs of Ray; give timeout_s more seconds if the store is slow, producers more memory",
    )
