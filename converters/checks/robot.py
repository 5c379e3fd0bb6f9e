"""The way to the robot and back: what an episode says, turned into the robot's own values and read again.

In: a spec and a raw episode. Out: field -> largest difference between what was read first and what is read from the
values that `converters.inverse` makes of it. Fields that cannot be turned back are left out (see `irreversible`).
"""

from collections.abc import Sequence

import numpy as np

from converters.fields import read_fields
from converters.inverse import to_robot
from converters.patches import PatchedEpisode
from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec

TOLERANCE = 1e-5
"""Of a slot, in its unit; of values beyond 1, as a share of the value."""


def round_trip(spec: DatasetSpec, raw: RawEpisode) -> dict[str, float]:
    """The largest difference of each field that can be turned back and that the episode has."""
    found: dict[str, float] = {}
    for section, fields in (("state", spec.state), ("recorded_action", spec.recorded_action or ())):
        keys = set(raw.keys())
        chosen = {n: _rowwise(f) for n, f in enumerate(fields) if f.reversible and f.from_ in keys}
        differences = _differences(list(chosen.values()), raw, spec.control_hz)
        found |= {f"{section}[{n}]": difference for n, difference in zip(chosen, differences, strict=True)}
    return found


def _rowwise(field: FieldSpec) -> FieldSpec:
    """A field without ops that move values along the steps: a command is not moved back (see `to_robot`)."""
    return field.model_copy(update={"ops": tuple(op for op in field.ops if op.kind.rowwise)})


def _differences(fields: Sequence[FieldSpec], raw: RawEpisode, hz: float) -> list[float]:
    """Read, turn back, read again, and compare slot by slot."""
    if not fields:
        return []
    first, mask = read_fields(fields, raw, hz)
    arrays = {key: array.astype(np.float64) for key, array in to_robot(fields, first, hz, mask).items()}
    again, _ = read_fields(fields, PatchedEpisode(raw, arrays), hz)
    off = np.abs(again - first) / np.maximum(1, np.abs(first))
    return [float(off[:, list(field.indices)].max(initial=0)) for field in fields]
