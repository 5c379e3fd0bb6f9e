"""The robot's side of a spec, one step at a time: what its driver reads -> unified state, unified actions -> commands.

In: a spec, and the robot's own arrays of one step under the names the spec's fields read (`from`). Out: the (128,)
state with its mask, and back from a chunk of actions the robot's own arrays. A value is read exactly as a conversion
reads it, by the same fields. Whatever a spec's patch makes is expected ready-made: a patch needs whole episodes.

Knows nothing of policies, cameras and instructions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from converters.fields import FieldReader, FloatArray, Mask
from converters.raw import Frame
from converters.spec import DatasetSpec, parse_spec
from rdt_data.errors import SourceError, SpecError, unknown
from rdt_data.layout import DIM

Values = Mapping[str, npt.ArrayLike]
"""One step of the robot's own arrays: key -> a number, (D,) or a matrix, in the source's units."""

OBSERVATION = "the observation"


class RobotSide:
    """A spec made ready for a control loop.

    mode: what actions are, "next_state" or "recorded"; None: the spec's default.
    Raises SpecError when the spec refuses its dataset, or has no such actions.
    """

    def __init__(self, spec: DatasetSpec, mode: str | None = None) -> None:
        if spec.refused is not None:
            raise SpecError(f"{spec.file}: {spec.name} is refused: {spec.refused}", remedy="describe its state first")
        self.spec, self.mode = spec, (mode or spec.action).replace("-", "_")
        if self.mode not in ("next_state", "recorded"):
            raise unknown("action", self.mode, ("next_state", "recorded"))
        if self.mode == "recorded" and spec.recorded_action is None:
            raise SpecError(f"{spec.file}: has no `recorded_action`", remedy="describe the commands, or use next_state")
        self._read = FieldReader(spec.state, spec.control_hz)
        self._of_two_steps = [(field.from_, op.name) for field in spec.state for op in field.ops if not op.kind.rowwise]

    @classmethod
    def of(cls, spec_text: str, dataset: str, mode: str | None = None, *, corrected: bool = False) -> Self:
        """From what a store or a policy says of its spec: its YAML, its name, whether its corrections were applied."""
        spec = parse_spec(spec_text, f"{dataset}.yaml")
        return cls(spec.corrected() if corrected else spec, mode)

    @property
    def keys(self) -> tuple[str, ...]:
        """The values a state is made of; those of optional fields may be absent."""
        return tuple(dict.fromkeys(field.from_ for field in self.spec.state))

    def state(self, values: Values, *, previous: Values | None = None, first: bool = False) -> tuple[FloatArray, Mask]:
        """The unified state of one step, (128,) float32 in the units of `layout`, and the slots it fills, (128,) bool.

        previous: the values of the step before, needed where a field takes its value from there (`shift_previous`:
        the last command). first: this is the first step of an episode, there is none before. Raises SourceError that
        names the value that is missing, misshapen or not finite.
        """
        steps = [values] if first or not self._of_two_steps else [self._before(previous), values]
        for step in steps:
            self._check(step)
        state, mask = self._read(_Steps(steps))
        return state[-1], mask if mask.ndim == 1 else mask[-1]

    def action_mask(self, state_mask: Mask) -> Mask:
        """The slots that the robot's actions fill, (128,), when its state fills those of `state_mask`."""
        return state_mask.copy() if self.mode == "next_state" else _filled(self.spec)

    def command(self, action: npt.NDArray[Any], mask: Mask | None = None) -> dict[str, FloatArray]:
        """A chunk of unified actions, (H, 128), as the robot's own arrays: key -> (H, columns).

        mask: (128,) or (H, 128), the slots that are real; None: all. Columns that no real slot gives are NaN, never a
        made-up command. Raises SpecError where the spec has an op that cannot be undone.
        """
        return self.spec.to_robot(action, mask, self.mode)

    def _before(self, previous: Values | None) -> Values:
        if previous is None:
            field, op = self._of_two_steps[0]
            raise SourceError(
                f"{op} takes it from the step before, which is not given",
                remedy="pass `previous`, the values of the last step, or first=True at the first step of an episode",
                file=OBSERVATION,
                field=field,
            )
        return previous

    def _check(self, values: Values) -> None:
        for field in self.spec.state:
            if not field.optional and field.from_ not in values:
                hint = unknown("value", field.from_, set(values)).remedy if values else "it holds nothing"
                patch = self.spec.patch
                made = f" (the patch {patch.name} may have made it: give it as the patch does)" if patch else ""
                raise SourceError(
                    f"there is no such value{made}",
                    remedy=f"give every value that the spec reads: {', '.join(self.keys)}; {hint}",
                    file=OBSERVATION,
                    field=field.from_,
                )


def _filled(spec: DatasetSpec) -> Mask:
    mask = np.zeros(DIM, np.bool_)
    for field in spec.recorded_action or ():
        mask[list(field.indices)] = True
    return mask


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps in memory as a raw episode, for the fields to read."""

    steps: list[Values]
    number: int = 0
    name: Literal["the observation"] = "the observation"

    def __len__(self) -> int:
        return len(self.steps)

    def keys(self) -> list[str]:
        return sorted(set(self.steps[0]).intersection(*self.steps[1:]))

    def cameras(self) -> list[str]:
        return []

    def array(self, key: str) -> npt.NDArray[Any]:
        arrays = [np.asarray(step[key]) for step in self.steps]
        if len({array.shape for array in arrays}) > 1:
            shapes = " then ".join(str(array.shape) for array in arrays)
            raise SourceError(f"has shape {shapes}", remedy="give one shape", file=OBSERVATION, field=key)
        return np.stack(arrays)

    def scalar(self, key: str) -> Any:
        return np.asarray(self.steps[0][key]).item()

    def text(self, key: str) -> str | None:
        return None

    def frames(self, key: str) -> Iterator[Frame]:
        raise SourceError("holds no frames", remedy="give frames to the policy", file=OBSERVATION, field=key)
