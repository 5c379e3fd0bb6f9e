"""Unified actions -> the robot's own values: the fields of a spec read backwards.

In: fields, (T, 128) actions, the mask of the slots that are real. Out: source key -> (T, columns) in the robot's own
representation and units. Pure; whatever no field or no real slot gives is NaN, never a made-up number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.op_chain import undo
from converters.spec_model import FieldSpec
from rdt_data.errors import RdtError, SpecError
from rdt_data.layout import DIM

FloatArray = npt.NDArray[np.float32]


def to_robot(
    fields: Sequence[FieldSpec],
    action: npt.NDArray[Any],
    control_hz: float,
    mask: npt.NDArray[np.bool_] | None = None,
) -> dict[str, FloatArray]:
    """Actions in the unified layout, (T, 128), as the robot's own values: source key -> (T, columns).

    mask: (128,) or (T, 128), the slots that are real; None: all. An array is as wide as the last column that a field
    of it uses; columns that no field describes, and those of a field whose slots are not all real, are NaN.

    An action is the state one step on, so that a value the state takes from the step before (`shift_previous`) is the
    command of this very step: nothing is shifted back. Raises SpecError where an op has no inverse.
    """
    if action.ndim != 2 or action.shape[1] != DIM:
        raise RdtError(f"actions of shape {action.shape} are given", remedy=f"give shape (T, {DIM})")
    if mask is not None and mask.shape not in ((DIM,), action.shape):
        raise RdtError(f"a mask of shape {mask.shape} is given", remedy=f"give shape ({DIM},) or {action.shape}")
    real = np.broadcast_to(True if mask is None else mask, action.shape)
    result: dict[str, FloatArray] = {}
    for key in dict.fromkeys(field.from_ for field in fields):
        own = [field for field in fields if field.from_ == key]
        array = np.full((len(action), max(field.columns[-1] for field in own) + 1), np.nan, np.float32)
        for field in own:
            columns, slots = list(field.columns), list(field.indices)
            values = _undone(field, action[:, slots], control_hz)
            values[~real[:, slots].all(axis=1)] = np.nan
            array[:, columns] = np.where(np.isnan(values), array[:, columns], values)  # a matrix has several fields
        result[key] = array
    return result


def _undone(field: FieldSpec, values: npt.NDArray[Any], control_hz: float) -> FloatArray:
    try:
        return undo([op for op in field.ops if op.kind.rowwise], values, control_hz)
    except SpecError as error:
        raise SpecError(f"{field.from_}: {error.problem}", remedy=error.remedy) from error
