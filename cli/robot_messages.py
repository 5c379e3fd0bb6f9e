"""A robot's own messages for the policy server: its arrays and cameras under the names of its spec.

In: a policy's configuration, whose spec says what the robot's values mean. Out: a `rdt_model.server.Side` for each
connection. A message holds, beside `prompt`, `control_hz`, `plan` and `committed`: each value the spec reads, each
camera it may have under the camera's key or slot, and where a field looks a step back `previous`, a map of the values
then, or `first`: true. The answer has the chunk as `commands` too: key -> (H, columns), NaN where nothing is meant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from converters.robot import RobotSide
from rdt_data.errors import unknown
from rdt_model.messages import Message, MessageError
from rdt_model.policy import Chunk
from rdt_model.policy_files import PolicyConfig

PASSED: Final = ("prompt", "control_hz", "plan", "committed")


def sides(config: PolicyConfig) -> Callable[[], "RobotMessages"]:
    """What makes a side for each connection. Raises SpecError when the policy's spec cannot be used."""
    robot = RobotSide.of(config.spec_text, config.dataset, config.action, corrected=config.corrected)
    return lambda: RobotMessages(robot)


@dataclass(frozen=True, slots=True)
class RobotMessages:
    """See the module."""

    robot: RobotSide

    @property
    def cameras(self) -> dict[str, str]:
        """The key of a camera, or its slot -> slot."""
        found = self.robot.spec.cameras
        keys = {name: slot for slot, camera in found.items() for name in camera.from_}
        return {**keys, **{slot: slot for slot in found}}

    def read(self, message: Message) -> Message:
        """As `Side.read`. Raises RdtError that names the entry."""
        cameras, keys = self.cameras, self.robot.keys
        for name in message:
            if name not in (*PASSED, *cameras, *keys, "previous", "first"):
                raise unknown("entry of this robot's observation", str(name), (*PASSED[:1], *cameras, *keys))
        previous, first = message.get("previous"), message.get("first", False)
        if not isinstance(previous, Mapping | None) or not isinstance(first, bool):
            raise MessageError("previous is no map, or first no bool", remedy="send the values of the step before")
        values = _values(message, keys)
        before = None if previous is None else _values(previous, keys)
        state, mask = self.robot.state(values, previous=before, first=first)
        passed = {name: message[name] for name in PASSED if name in message}
        images = {slot: message[name] for name, slot in cameras.items() if name in message}
        actions = self.robot.action_mask(mask)
        return {**passed, "state": state, "state_mask": mask, "action_mask": actions, "images": images}

    def write(self, chunk: Chunk) -> dict[str, Any]:
        """As `Side.write`."""
        return {"commands": self.robot.command(chunk.actions, chunk.mask)}


def _values(message: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    values = {key: message[key] for key in keys if key in message}
    for key, value in values.items():
        try:
            numeric = np.asarray(value).dtype.kind in "buif"
        except ValueError:
            numeric = False
        if not numeric:
            raise MessageError(f"{key} is a {type(value).__name__}", remedy="send a number or an array of numbers")
    return values
