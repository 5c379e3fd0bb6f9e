"""Run a spec's fields over an episode: raw values -> unified vectors, and unified actions -> the robot's values.

Pure: a raw episode in, arrays out. Whatever is wrong with the data is a SourceError that names the field, the
step and the column; nothing is guessed, filled in or skipped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.op_chain import run, undo
from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec
from rdt_data.errors import RdtError, SourceError, SpecError, unknown
from rdt_data.layout import DIM, place

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class FieldReader:
    """A list of fields made ready to read one episode after another; `read_fields` for a single one.

    What does not change from episode to episode is worked out once: short episodes come by the million.
    """

    def __init__(self, fields: Sequence[FieldSpec], control_hz: float) -> None:
        """control_hz: steps per second. Raises RdtError when two fields fill one slot."""
        place([(field.indices, np.zeros((0, len(field.indices)), np.float32)) for field in fields], steps=0)
        self._control_hz = control_hz
        self._fields = [(field, _as_slice(_columns(field)), _as_slice(field.indices)) for field in fields]

    def __call__(self, raw: RawEpisode) -> tuple[FloatArray, Mask]:
        """The (T, 128) vectors that the fields describe and the (128,) mask of the slots they fill.

        An optional field that the source lacks leaves its slots 0 and masked off.
        """
        keys = set(raw.keys())
        arrays: dict[str, npt.NDArray[Any]] = {}
        vector, mask = np.zeros((len(raw), DIM), np.float32), np.zeros(DIM, np.bool_)
        for field, columns, slots in self._fields:
            if field.from_ not in keys:
                if field.optional:
                    continue
                raise _missing(field.from_, keys)
            if field.from_ not in arrays:
                arrays[field.from_] = _columns_of_steps(field.from_, raw)
            vector[:, slots] = _read(field, arrays[field.from_], columns, self._control_hz)
            mask[slots] = True
        return vector, mask


def read_fields(fields: Sequence[FieldSpec], raw: RawEpisode, control_hz: float) -> tuple[FloatArray, Mask]:
    """See `FieldReader`."""
    return FieldReader(fields, control_hz)(raw)


def action_of(
    spec: DatasetSpec, mode: str, state: FloatArray, state_mask: Mask, raw: RawEpisode
) -> tuple[FloatArray, Mask]:
    """The (T, 128) actions of an episode and their (128,) mask.

    mode: "next_state": the state of the next step, the last one repeated, as the published training does;
    "recorded": the commands in the data, where the spec says how they fit the layout. ("-" may stand for "_".)
    """
    match mode.replace("-", "_"):
        case "next_state":
            return np.concatenate([state[1:], state[-1:]]), state_mask.copy()
        case "recorded" if spec.recorded_action is not None:
            return read_fields(spec.recorded_action, raw, spec.control_hz)
        case "recorded":
            raise SpecError(
                f"{spec.file}: the commands of {spec.name} have no place in the unified layout",
                remedy="use the action next_state, or describe the commands in `recorded_action`",
            )
    raise unknown("action", mode, ("next_state", "recorded"))


def to_robot(fields: Sequence[FieldSpec], action: npt.NDArray[Any], control_hz: float) -> dict[str, FloatArray]:
    """Actions in the unified layout, (T, 128), as the robot's own values: source key -> (T, columns).

    An array is as wide as the last column that a field of it uses; columns that no field describes are NaN.
    Raises SpecError where an op has no inverse.
    """
    if action.ndim != 2 or action.shape[1] != DIM:
        raise RdtError(f"actions of shape {action.shape} are given", remedy=f"give shape (T, {DIM})")
    result: dict[str, FloatArray] = {}
    for key in dict.fromkeys(field.from_ for field in fields):
        own = [field for field in fields if field.from_ == key]
        array = np.full((len(action), max(_columns(field)[-1] for field in own) + 1), np.nan, np.float32)
        for field in own:
            try:
                array[:, _columns(field)] = undo(field.ops, action[:, list(field.indices)], control_hz)
            except SpecError as error:
                raise SpecError(f"{key}: {error.problem}", remedy=error.remedy) from error
        result[key] = array
    return result


def keep(spec: DatasetSpec, raw: RawEpisode) -> str | None:
    """None when the episode is to be used, else the reason why not, from the spec's `keep_if`."""
    for rule in spec.keep_if:
        if not bool(raw.scalar(rule.from_) == rule.equals):
            return rule.reason
    return None


def _columns(field: FieldSpec) -> list[int]:
    return list(range(*field.cols)) if field.cols else list(range(field.width))


def _as_slice(numbers: Sequence[int]) -> slice | list[int]:
    """An index for the same columns, a slice where one says it: NumPy then copies nothing."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    run = range(numbers[0], numbers[-1] + 1, step) if step > 0 else range(0)
    return slice(run.start, run.stop, step) if list(run) == list(numbers) else list(numbers)


def _missing(key: str, keys: set[str]) -> SourceError:
    """The error for a field that the episode does not have, with the near miss or all that it has."""
    hint = unknown("value", key, keys).remedy if keys else "the episode holds no values at all"
    return SourceError(
        "the episode has no such value", remedy=f"correct `from` in the spec, or make it optional; {hint}", field=key
    )


def _columns_of_steps(key: str, raw: RawEpisode) -> npt.NDArray[Any]:
    """The value of every step as one row: (T, D), in its stored type."""
    array = np.asarray(raw.array(key))
    if array.dtype.kind not in "biuf":
        raise SourceError(f"holds {array.dtype}, not numbers", remedy="name another value in `from`", field=key)
    if array.ndim == 0 or len(array) != len(raw):
        raise SourceError(
            f"has shape {array.shape} in an episode of {len(raw)} steps", remedy="name a value of steps", field=key
        )
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _read(field: FieldSpec, array: npt.NDArray[Any], columns: slice | list[int], control_hz: float) -> npt.NDArray[Any]:
    """array: (T, D) all columns of the source -> (T, width) finished values of the field."""
    _check_width(field, array.shape[1])
    values = array[:, columns]
    if not np.isfinite(values).all():
        raise _not_finite(values, field, _columns(field).__getitem__, "is")
    if not field.ops and values.dtype != np.float64:  # what is stored as float64 may be too large for float32
        return values
    values = run(field.ops, values, control_hz)
    if not np.isfinite(values).all():
        raise _not_finite(values, field, lambda column: f"{column} of the result", "becomes")
    return values


def _check_width(field: FieldSpec, wide: int) -> None:
    if field.cols is None and wide != field.width:
        raise SourceError(
            f"has {wide} columns, all are asked for and {field.width} fit {field.to}",
            remedy="say which in `cols`",
            field=field.from_,
        )
    if field.cols is not None and wide <= range(*field.cols)[-1]:
        raise SourceError(
            f"has {wide} columns, columns {':'.join(map(str, field.cols))} are asked for",
            remedy="correct `cols` in the spec, or leave this episode out",
            field=field.from_,
        )


def _not_finite(
    values: npt.NDArray[Any], field: FieldSpec, column_name: Callable[[int], object], verb: str
) -> SourceError:
    bad = np.argwhere(~np.isfinite(values))
    step, column = (int(i) for i in bad[0])
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return SourceError(
        f"step {step}, column {column_name(column)} {verb} {values[step, column]}{more}",
        remedy="repair the data or leave this episode out",
        field=field.from_,
    )
