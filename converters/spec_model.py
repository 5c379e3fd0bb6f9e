"""The parts of a dataset spec, each checked when it is made: fields, cameras, instruction, filters, corrections.

In: what YAML holds. Out: frozen models that cannot be wrong in themselves: slots exist, widths and units fit
through the ops. What a problem is, where, and its remedy travel in a pydantic error of type "spec"; the file
and the full path are added by `converters.spec_file`. A spec as a whole is `converters.spec.DatasetSpec`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from converters.op_chain import Op, parse_op
from converters.ops import UNITS
from rdt_data import layout
from rdt_data.errors import RdtError, unknown


def problem(text: str, *, remedy: str, key: str = "") -> PydanticCustomError:
    """A problem found while validating; `key` is where below the validated value it lies."""
    return PydanticCustomError("spec", "{problem}", {"problem": text, "remedy": remedy, "key": key})


def _from(error: RdtError, key: str = "") -> PydanticCustomError:
    return problem(error.problem, remedy=error.remedy, key=key)


def one_of(kind: str, allowed: Sequence[str]) -> PlainValidator:
    """One of the names `allowed`, or a problem naming the near miss."""

    def check(value: Any) -> str:
        if str(value) not in allowed or isinstance(value, bool | float):
            raise _from(unknown(kind, str(value), allowed))
        return str(value)

    return PlainValidator(check)


def _op(value: Any) -> Op:
    try:
        return value if isinstance(value, Op) else parse_op(value)
    except RdtError as error:
        raise _from(error) from error


def listed(value: Any) -> Any:
    """A list -> a tuple, as the models hold it."""
    if not isinstance(value, list | tuple):
        raise problem(f"{value!r} is not a list", remedy="write a list: lines that start with `- `, or [ … ]")
    return tuple(value)


def _several(value: Any) -> Any:
    """One name or a list of them -> a tuple."""
    return (value,) if isinstance(value, str) else listed(value)


def _columns(value: Any) -> tuple[int, ...]:
    hint = "write cols: [start, stop] or [start, stop, step]; the columns are start, …, stop - 1, counted from 0"
    if not isinstance(value, list | tuple) or not all(type(n) is int for n in value) or len(value) not in (2, 3):
        raise problem(f"{value!r} is not a range of columns", remedy=hint)
    if min(value) < 0 or (len(value) == 3 and value[2] < 1) or not len(range(*value)):
        raise problem(f"{list(value)} holds no column", remedy=hint)
    return tuple(value)


def _target(value: Any) -> str | tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise problem(f"{value!r} names no slots", remedy="name a group of slots, a slot, or a list of slots")
    try:
        layout.resolve(value, None)
    except RdtError as error:
        raise _from(error) from error
    return value if isinstance(value, str) else tuple(names)


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Key = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """What every part shares: nothing can change, unknown keys are errors, types are not guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FieldSpec(Part):
    """Columns of one source array and the slots they belong in.

    from_: slash path in the raw episode. cols: [start, stop) or [start, stop, step) of the value of a step,
    flattened row after row; None: all. unit: of the source. ops: applied left to right. to: see
    `layout.resolve`. optional: where the source lacks the key, the slots are masked off.
    """

    from_: Key = Field(alias="from")
    cols: Annotated[tuple[int, ...], PlainValidator(_columns)] | None = None
    unit: Annotated[str, one_of("unit", UNITS)]
    ops: Annotated[tuple[Annotated[Op, PlainValidator(_op), PlainSerializer(str)], ...], BeforeValidator(listed)] = ()
    to: Annotated[str | tuple[str, ...], PlainValidator(_target)]
    optional: bool = False

    @property
    def indices(self) -> tuple[int, ...]:
        """The slots this field fills."""
        return layout.resolve(self.to, None if self.cols is None else self._width_after())

    @property
    def width(self) -> int:
        """How many columns are read."""
        if self.cols is not None:
            return len(range(*self.cols))
        width = len(layout.resolve(self.to, None))
        for op in reversed(self.ops):
            width = op.width_before(width)
        return width

    @property
    def reversible(self) -> bool:
        """Whether every op has an inverse."""
        return all(op.kind.inverse for op in self.ops)

    def _width_after(self) -> int:
        width = self.width
        for op in self.ops:
            width = op.width_after(width)
        return width

    @model_validator(mode="after")
    def _fits(self) -> "FieldSpec":
        try:
            self._width_after()
        except RdtError as error:
            raise _from(error, "ops") from error
        try:
            slots = self.indices
        except RdtError as error:
            raise _from(error, "to") from error
        units = frozenset({self.unit})
        try:
            for op in self.ops:
                units = op.units_after(units)
        except RdtError as error:
            raise _from(error, "ops") from error
        for slot in slots:
            if layout.unit(slot) not in units:
                raise _wrong_unit(slot, self.unit, units, has_ops=bool(self.ops))
        return self


def _wrong_unit(slot: int, unit: str, units: frozenset[str], *, has_ops: bool) -> PydanticCustomError:
    name, wanted = layout.preferred_name(slot), layout.unit(slot)
    helpful = {
        ("deg", "rad"): "deg_to_rad",
        ("deg/s", "rad/s"): "deg_to_rad",
        ("mm", "m"): "mm_to_m",
        ("mm/s", "m/s"): "mm_to_m",
        ("m", "m/s"): "times_control_hz",
        ("rad", "rad/s"): "times_control_hz",
        ("1", "1/s"): "times_control_hz",
    }.get((next(iter(units)), wanted))
    hint = f"add the op {helpful}" if helpful else "correct the unit, the ops or the target"
    got = f"{unit}, after the ops {' or '.join(sorted(units))}" if has_ops else unit
    return problem(f"{name} is in {wanted}, the values are in {got}", remedy=hint, key="unit")


class Camera(Part):
    """Where the frames of one camera slot are; the first of `from_` that is there is used.

    channels: "bgr" when the ENCODED frames were written with red and blue exchanged (OpenCV given RGB
    arrays), so that a decoder yields B, G, R. Raw pixels are always taken as R, G, B.
    """

    from_: Annotated[Names, Field(min_length=1)] = Field(alias="from")
    optional: bool = False
    channels: Annotated[Literal["rgb", "bgr"], one_of("channel order", ("rgb", "bgr"))] = "rgb"


def _camera(value: Any) -> Any:
    """The short form: only where the frames are."""
    return {"from": value} if isinstance(value, str | list) else value


AnyCamera = Annotated[Camera, BeforeValidator(_camera)]


class Instruction(Part):
    """Where the words are: the first of `from_` that is not blank, else `text`, else see `missing`.

    clean: "rdt" is the published cleaning, "none" only takes away white space around the text.
    missing: "error" refuses an episode without words, "empty" gives it the empty instruction.
    """

    from_: Names = Field(default=(), alias="from")
    text: str | None = None
    clean: Annotated[Literal["rdt", "none"], one_of("cleaning", ("rdt", "none"))] = "rdt"
    missing: Annotated[Literal["error", "empty"], one_of("choice", ("error", "empty"))] = "error"

    @model_validator(mode="after")
    def _has_source(self) -> "Instruction":
        if not self.from_ and self.text is None and self.missing == "error":
            raise problem("no source and no text", remedy="give `from`, `text`, or `missing: empty`", key="from")
        return self


class KeepRule(Part):
    """An episode is used only when the value at `from_` equals `equals`; otherwise `reason` is recorded."""

    from_: Key = Field(alias="from")
    equals: bool | int | float | str
    reason: Key


class Correction(Part):
    """A likely mistake of the published conversion: the fields of `section` that match, what to set, and why."""

    section: Annotated[Literal["state", "recorded_action"], one_of("section", ("state", "recorded_action"))]
    match: dict[str, Any] = Field(min_length=1)
    set: dict[str, Any] = Field(min_length=1)
    reason: Key
    evidence: Key
