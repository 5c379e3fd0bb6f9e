"""Run a spec's fields over an episode: raw values -> unified vectors. The way back is `converters.inverse`.

Pure: a raw episode in, arrays out. Whatever is wrong with the data is a SourceError that names the field, the
step and the column; nothing is guessed, filled in or skipped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.op_chain import run
from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec
from rdt_data.episode import same_in_all_steps
from rdt_data.errors import SourceError, SpecError, unknown
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
        self._fields = [(field, _as_slice(field.columns), _as_slice(field.indices)) for field in fields]

    def __call__(self, raw: RawEpisode) -> tuple[FloatArray, Mask]:
        """The (T, 128) vectors that the fields describe and the mask of the slots they fill, (128,).

        An optional field that the source lacks leaves its slots 0 and masked off. Where a field with `gaps` lacks some
        steps the mask is (T, 128).
        """
        keys = set(raw.keys())
        arrays: dict[str, npt.NDArray[Any]] = {}
        vector, mask = np.zeros((len(raw), DIM), np.float32), np.zeros(DIM, np.bool_)
        absent: list[tuple[Mask, slice | list[int]]] = []
        for field, columns, slots in self._fields:
            if field.from_ not in keys:
                if field.optional:
                    continue
                raise missing_value(field.from_, keys)
            if field.from_ not in arrays:
                arrays[field.from_] = columns_of_steps(field.from_, raw)
            values, gaps = _read(field, arrays[field.from_], columns, self._control_hz)
            vector[:, slots] = values
            mask[slots] = True
            if gaps is not None:
                absent.append((gaps, slots))
        return vector, _without(mask, absent, len(raw)) if absent else mask


def read_fields(fields: Sequence[FieldSpec], raw: RawEpisode, control_hz: float) -> tuple[FloatArray, Mask]:
    """See `FieldReader`."""
    return FieldReader(fields, control_hz)(raw)


def action_of(
    spec: DatasetSpec, mode: str, state: FloatArray, state_mask: Mask, raw: RawEpisode
) -> tuple[FloatArray, Mask]:
    """The (T, 128) actions of an episode and their mask, (128,) or where steps differ (T, 128).

    mode: "next_state": the state of the next step, the last one repeated, as the published training does;
    "recorded": the commands in the data, where the spec says how they fit the layout. ("-" may stand for "_".)
    """
    match mode.replace("-", "_"):
        case "next_state":
            mask = state_mask if state_mask.ndim == 1 else np.concatenate([state_mask[1:], state_mask[-1:]])
            return np.concatenate([state[1:], state[-1:]]), same_in_all_steps(mask).copy()
        case "recorded" if spec.recorded_action is not None:
            return read_fields(spec.recorded_action, raw, spec.control_hz)
        case "recorded":
            raise SpecError(
                f"{spec.file}: the commands of {spec.name} have no place in the unified layout",
                remedy="use the action next_state, or describe the commands in `recorded_action`",
            )
    raise unknown("action", mode, ("next_state", "recorded"))


def keep(spec: DatasetSpec, raw: RawEpisode) -> str | None:
    """None when the episode is to be used, else the reason why not, from the spec's `keep_if`."""
    for rule in spec.keep_if:
        if not rule.accepts(raw.scalar(rule.from_)):
            return rule.reason
    return None


def _as_slice(numbers: Sequence[int]) -> slice | list[int]:
    """An index for the same columns, a slice where one says it: NumPy then copies nothing."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    run = range(numbers[0], numbers[-1] + 1, step) if step > 0 else range(0)
    return slice(run.start, run.stop, step) if list(run) == list(numbers) else list(numbers)


def missing_value(key: str, keys: set[str]) -> SourceError:
    """The error for a field that the episode does not have, with the near miss or all that it has."""
    hint = unknown("value", key, keys).remedy if keys else "the episode holds no values at all"
    return SourceError(
        "the episode has no such value", remedy=f"correct `from` in the spec, or make it optional; {hint}", field=key
    )


def columns_of_steps(key: str, raw: RawEpisode) -> npt.NDArray[Any]:
    """The value of every step as one row: (T, D), in its stored type."""
    array = np.asarray(raw.array(key))
    if array.dtype.kind not in "biuf":
        raise SourceError(f"holds {array.dtype}, not numbers", remedy="name another value in `from`", field=key)
    if array.ndim == 0 or len(array) != len(raw):
        raise SourceError(
            f"has shape {array.shape} in an episode of {len(raw)} steps", remedy="name a value of steps", field=key
        )
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _read(
    field: FieldSpec, array: npt.NDArray[Any], columns: slice | list[int], control_hz: float
) -> tuple[npt.NDArray[Any], Mask | None]:
    """array: (T, D), all columns of the source -> (T, width) finished values, 0 in gaps; and the gaps, (T,) or None."""
    _check_width(field, array.shape[1])
    values, gaps = array[:, columns], None
    if field.gaps and values.dtype.kind == "f" and (missing := np.isnan(values).any(axis=1)).any():
        gaps = missing
        values = np.where(gaps[:, None], 0, values)
    if not np.isfinite(values).all():
        raise _not_finite(values, field, field.columns.__getitem__, "is")
    if not field.ops and values.dtype != np.float64:  # what is stored as float64 may be too large for float32
        return values, gaps
    values = run(field.ops, values, control_hz)
    if not np.isfinite(values).all():
        raise _not_finite(values, field, lambda column: f"{column} of the result", "becomes")
    if gaps is not None:
        values[gaps] = 0
    return values, gaps


def _without(mask: Mask, absent: Sequence[tuple[Mask, slice | list[int]]], steps: int) -> Mask:
    """The mask (128,) less the slots that are absent in some steps: (T, 128), or (128,) when steps agree after all."""
    of_steps = np.tile(mask, (steps, 1))
    for gaps, slots in absent:
        of_steps[:, slots] &= ~gaps[:, None]
    return same_in_all_steps(of_steps)


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
