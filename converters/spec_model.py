"""The parts of a dataset spec, each checked when it is made: fields, cameras, instruction, filters, corrections.

In: what YAML holds. Out: frozen models that cannot be wrong in themselves: slots exist, widths and units fit
through the ops. What a problem is, where, and its remedy travel in a pydantic error of type "spec"; the file
and the full path are added by `rdt_data.yaml_model`. A spec as a whole is `converters.spec.DatasetSpec`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from converters.op_chain import Op, parse_op
from converters.ops import UNITS
from rdt_data import layout
from rdt_data.clock import TICKS
from rdt_data.errors import RdtError
from rdt_data.yaml_model import Part, listed, one_of, problem, problem_of


def _op(value: Any) -> Op:
    try:
        return value if isinstance(value, Op) else parse_op(value)
    except RdtError as error:
        raise problem_of(error) from error


def _several(value: Any) -> Any:
    """One name or a list of them -> a tuple."""
    return (value,) if isinstance(value, str) else listed(value)


def _pairs(value: Any) -> tuple[Any, ...]:
    pairs = listed(value)
    if not all(isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs):
        raise problem(f"{value!r} is not pairs of texts", remedy='write [["old", "new"], …]')
    return tuple(tuple(pair) for pair in pairs)


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
        raise problem_of(error) from error
    return value if isinstance(value, str) else tuple(names)


FIELD_SECTIONS = ("state", "recorded_action")
SECTIONS = (*FIELD_SECTIONS, "instruction", "cameras")
"""What a correction may change."""

Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Key = Annotated[str, Field(min_length=1)]


class FieldSpec(Part):
    """Columns of one source array and the slots they belong in.

    from_: slash path in the raw episode. cols: [start, stop) or [start, stop, step) of the value of a step,
    flattened row after row; None: all. unit: of the source. ops: applied left to right. to: see
    `layout.resolve`. optional: where the source lacks the key, the slots are masked off. gaps: a step whose columns
    are NaN has no value: its slots are masked off for that step (without it, NaN is an error).
    """

    from_: Key = Field(alias="from")
    cols: Annotated[tuple[int, ...], PlainValidator(_columns)] | None = None
    unit: Annotated[str, one_of("unit", UNITS)]
    ops: Annotated[tuple[Annotated[Op, PlainValidator(_op), PlainSerializer(str)], ...], BeforeValidator(listed)] = ()
    to: Annotated[str | tuple[str, ...], PlainValidator(_target)]
    optional: bool = False
    gaps: bool = False

    @property
    def columns(self) -> range:
        """The columns that are read."""
        return range(*self.cols) if self.cols else range(self.width)

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
        """Whether every op can be undone; one that only moves values along the steps needs no undoing."""
        return all(op.reversible for op in self.ops)

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
            raise problem_of(error, "ops") from error
        try:
            slots = self.indices
        except RdtError as error:
            raise problem_of(error, "to") from error
        units = frozenset({self.unit})
        try:
            for op in self.ops:
                units = op.units_after(units)
        except RdtError as error:
            raise problem_of(error, "ops") from error
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


class Timestamps(Part):
    """Where the time of each step is, one number; from it `rdt-data lint` tells whether `control_hz` is true.

    unit: of the numbers; where they begin is of no matter. optional: an episode may lack the key.
    """

    from_: Key = Field(alias="from")
    unit: Annotated[str, one_of("unit of time", tuple(TICKS))] = "s"
    optional: bool = False


def _timestamps(value: Any) -> Any:
    """The short form: only where they are, in seconds."""
    return {"from": value} if isinstance(value, str) else value


AnyTimestamps = Annotated[Timestamps, BeforeValidator(_timestamps)]


class Instruction(Part):
    """Where the words are: the first of `from_` that is not blank, else `text`, else see `missing`.

    also: where other words for the same are, a text or a list of texts each; kept beside the instruction, not required.
    code_points: the value is not text but numbers, one per character, filled up with zeros.
    clean: "rdt" is the published cleaning, "none" only takes away white space around the text. replace: [old, new]
    pairs, applied one after the other with the cleaning, anywhere in the text.
    missing: "error" refuses an episode without words, "empty" gives it the empty instruction.
    """

    from_: Names = Field(default=(), alias="from")
    text: str | None = None
    also: Names = ()
    code_points: bool = False
    replace: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_pairs)] = ()
    clean: Annotated[Literal["rdt", "none"], one_of("cleaning", ("rdt", "none"))] = "rdt"
    missing: Annotated[Literal["error", "empty"], one_of("choice", ("error", "empty"))] = "error"

    @model_validator(mode="after")
    def _has_source(self) -> "Instruction":
        if not self.from_ and self.text is None and self.missing == "error":
            raise problem("no source and no text", remedy="give `from`, `text`, or `missing: empty`", key="from")
        return self


class KeepRule(Part):
    """An episode is used only when the value at `from_` equals `equals` or is above `above`; else `reason` is recorded.

    Of a value of steps, the first step's counts.
    """

    from_: Key = Field(alias="from")
    equals: bool | int | float | str | None = None
    above: float | None = None
    reason: Key

    def accepts(self, value: Any) -> bool:
        """Whether an episode with this value is used."""
        return bool(value == self.equals) if self.equals is not None else float(value) > float(self.above or 0)

    def __str__(self) -> str:
        return f"{self.from_} is {self.equals}" if self.equals is not None else f"{self.from_} > {self.above:g}"

    @model_validator(mode="after")
    def _one_rule(self) -> "KeepRule":
        if (self.equals is None) == (self.above is None):
            raise problem("needs one of `equals` and `above`", remedy="write equals: VALUE, or above: NUMBER")
        return self


class Correction(Part):
    """A likely mistake of the published conversion: what of `section` to change, and why.

    state, recorded_action: the fields that `match` get the keys of `set`; the fields of `add` are added. instruction:
    gets the keys of `set`. cameras: `set` gives the slots their cameras, null takes one away.
    """

    section: Annotated[Literal["state", "recorded_action", "instruction", "cameras"], one_of("section", SECTIONS)]
    match: dict[str, Any] = Field(default_factory=dict)
    set: dict[str, Any] = Field(default_factory=dict)
    add: Annotated[tuple[dict[str, Any], ...], BeforeValidator(listed)] = ()
    reason: Key
    evidence: Key

    @model_validator(mode="after")
    def _changes(self) -> "Correction":
        of_fields = self.section in FIELD_SECTIONS
        if not (self.set or self.add):
            raise problem("changes nothing", remedy="say what to `set`, or fields to `add`")
        if of_fields and bool(self.set) != bool(self.match):
            raise problem("`match` and `set` belong together", remedy="say which fields to set, or only `add`")
        if not of_fields and (self.match or self.add):
            raise problem(f"{self.section} has no fields", remedy="give only `set`, the keys to change")
        return self
