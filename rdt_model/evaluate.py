"""Let a policy act in environments, many side by side, and count how often it does what it was told.

In: a policy, the robot's side of its spec, environments, seeds of starts. Out: an `Evaluation`. All environments
advance together, and the policy is asked for the chunks of all of them as one batch, so that what costs most is shared.
Frames reach the policy as training data does: JPEG, decoded, letterboxed to its size (`rdt_data.letterbox`).

What an episode's policy draws follows from the seed of its start, so neither the number of environments nor the other
episodes change it (beyond rounding). Knows no robot, no dataset and no simulator: see `worlds`.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rdt_data.errors import RdtError
from rdt_data.images import encode_jpeg
from rdt_data.letterbox import write_letterboxed
from rdt_model.execution import Chunks, Execution
from rdt_model.offline import EPISODE_STRIDE
from rdt_model.policy import BoolArray, Chunk, Observation, Pixels
from rdt_model.success import EpisodeResult, Evaluation
from rdt_model.worlds import Actor, Robot, Values, World

Words = Callable[[str], str | npt.NDArray[Any]]
"""The text of an instruction -> what the policy is given: the text, or its stored embedding (L, D)."""


class Watch(Protocol):
    """Called with the worlds of the first episodes as they stand before each step, and once more when it is over."""

    def __call__(self, worlds: Sequence[World], *, over: bool) -> None: ...


def evaluate(
    policy: Actor,
    robot: Robot,
    worlds: Sequence[World],
    seeds: Sequence[int],
    *,
    execution: Execution,
    words: Words = lambda text: text,
    blank: bool = False,
    steps: int | None = None,
    watch: Watch | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """One episode for each seed. worlds: as many as are to advance together; alike, and used again and again.

    words: see `Words`. blank: the policy is shown no images, as where a camera is missing. steps: denoising steps, by
    default the network's. watch: sees the first episodes, as many as there are worlds. progress: episodes done and in
    all; those under way count by their share. Raises RdtError when there is no seed or world, and as policy, robot and
    worlds do.
    """
    if not seeds or not worlds:
        raise RdtError(f"{len(seeds)} episodes in {len(worlds)} environments", remedy="ask for at least 1 of each")
    found: list[EpisodeResult] = []
    for start in range(0, len(seeds), len(worlds)):
        group = [
            _Episode(world, robot, seed, policy, execution, blank=blank)
            for world, seed in zip(worlds, seeds[start : start + len(worlds)], strict=False)
        ]
        for step in range(max(episode.world.limit for episode in group)):
            running = [episode for episode in group if episode.runs_at(step)]
            if not running:
                break
            if watch is not None and not start:
                watch(worlds[: len(group)], over=False)
            _advance(policy, running, step, words, steps)
            share = sum(episode.share for episode in group)
            progress(min(len(found) + int(share), len(seeds)), len(seeds))
        if watch is not None and not start:
            watch(worlds[: len(group)], over=True)
        found += [episode.result for episode in group]
        progress(len(found), len(seeds))
    return Evaluation.of(found)


def _advance(policy: Actor, running: "Sequence[_Episode]", step: int, words: Words, steps: int | None) -> None:
    """One step of each: look, ask for chunks where it is time to, act."""
    execution = running[0].execution
    if execution.sees_at(step, policy.history):
        for episode in running:
            episode.look()
    if execution.plans_at(step):
        observations = [episode.observation(words) for episode in running]
        indices = [episode.seed * EPISODE_STRIDE + step for episode in running]
        for episode, chunk in zip(running, policy.chunks(observations, indices=indices, steps=steps), strict=True):
            episode.plan(chunk)
    for episode in running:
        episode.act()


class _Episode:
    """One episode under way in one world."""

    def __init__(
        self, world: World, robot: Robot, seed: int, policy: Actor, execution: Execution, *, blank: bool
    ) -> None:
        self.world, self.robot, self.seed, self.execution = world, robot, seed, execution
        self.steps = 0
        self._size, self._history, self._blank = policy.image_size, policy.history, blank
        self._seen: deque[Mapping[str, Pixels]] = deque(maxlen=policy.history)
        self._chunks = Chunks(execution)
        self._mask: BoolArray | None = None
        self._before: Values | None = None
        world.reset(seed)

    @property
    def share(self) -> float:
        """How far it is, 0 to 1."""
        return 1.0 if self.world.finished else self.steps / self.world.limit

    @property
    def result(self) -> EpisodeResult:
        return EpisodeResult(self.seed, self.world.instruction, self.world.success, self.steps)

    def runs_at(self, step: int) -> bool:
        return step < self.world.limit and not self.world.finished

    def look(self) -> None:
        """Keep the frames of this step; those of an earlier step that no chunk was asked for soon after are gone."""
        frames = {} if self._blank else self.world.frames()
        self._seen.append({camera: as_stored(frame, self._size) for camera, frame in frames.items()})

    def observation(self, words: Words) -> Observation:
        """What the policy is told before this step."""
        state, mask = self.robot.state(self.world.values(), previous=self._before, first=self.steps == 0)
        cameras = dict.fromkeys(camera for frames in self._seen for camera in frames)
        images = {camera: [frames[camera] for frames in self._seen if camera in frames] for camera in cameras}
        return Observation(state, mask, words(self.world.instruction), images, self.robot.action_mask(mask))

    def plan(self, chunk: Chunk) -> None:
        self._chunks.add(self.steps, chunk.actions)
        self._mask = chunk.mask

    def act(self) -> None:
        action = self._chunks.action(self.steps)  # (128,)
        command = self.robot.command(action[None], self._mask)
        self._before = self.world.values()
        self.world.step({key: values[0] for key, values in command.items()})
        self.steps += 1


def as_stored(frame: Pixels, size: int) -> Pixels:
    """A frame as training saw it: through JPEG, then letterboxed. frame: (H, W, 3). returns: (size, size, 3)."""
    square = np.empty((size, size, 3), np.uint8)
    write_letterboxed(encode_jpeg(frame), frame.shape[:2], square)
    return square
