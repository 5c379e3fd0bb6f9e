"""Ops bound to their parameters: read from YAML, checked for width and unit, run forwards and backwards.

In YAML an op is its name (`euler_xyz_to_ortho6d`) or its name with its parameter (`{scale: 12.5}`). A chain is
applied left to right, in float64; results are float32. What the ops do is in `converters.ops`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.ops import OPS, Float, OpKind
from rdt_data.errors import RdtError, SpecError, unknown

FloatArray = npt.NDArray[np.float32]

_SHOWN = {
    "number": "a number, as in {is_lt: 0.5}",
    "factor": "a number that is not 0, as in {scale: 12.5}",
    "line": "[a, b] with a not 0 for a x + b, as in {affine: [-0.5, 0.5]}",
    "range": "[low, high] with low < high, as in {clip: [0, 1]}",
    "order": "the numbers 0, 1, … in the new order, as in {permute: [2, 1, 0]}",
}


@dataclass(frozen=True, slots=True)
class Op:
    """One op with its parameter. Prints itself as it is written: "scale 12.5"."""

    name: str
    args: tuple[float, ...] = ()

    @property
    def kind(self) -> OpKind:
        return OPS[self.name]

    @property
    def reversible(self) -> bool:
        """Whether `converters.inverse` can undo it: it has an inverse, or only moves values along the steps."""
        return self.kind.inverse is not None or not self.kind.rowwise

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{arg:g}" for arg in self.args)])

    def apply(self, x: Float, control_hz: float) -> Float:
        """x: (T, D) -> (T, D')."""
        return self.kind.apply(x, *self.args, *self._rate(control_hz))

    def undo(self, y: Float, control_hz: float) -> Float:
        """y: (T, D') -> (T, D). Raises SpecError when the op has no inverse."""
        if self.kind.inverse is None:
            raise SpecError(
                f"{self.name} cannot be undone: {about(self.name)}",
                remedy="choose fields whose ops have an inverse (`irreversible()` of the spec lists the others)",
            )
        return self.kind.inverse(y, *self.args, *self._rate(control_hz))

    def _rate(self, control_hz: float) -> tuple[float, ...]:
        return (control_hz,) if self.kind.rated else ()

    def width_after(self, width: int) -> int:
        """D' for D = width."""
        taken, given = self.kind.widths or (width, width)
        if self.kind.takes == "order":
            taken = given = len(self.args)
        if width != taken:
            raise RdtError(f"{self.name} takes {taken} columns, {width} are given", remedy=f"give it {taken} columns")
        return given

    def width_before(self, width: int) -> int:
        """D for D' = width."""
        taken, given = self.kind.widths or (width, width)
        if self.kind.takes == "order":
            taken = given = len(self.args)
        if width != given:
            raise RdtError(
                f"{self.name} gives {given} values, {width} are needed", remedy="choose another op or target"
            )
        return taken

    def units_after(self, units: frozenset[str]) -> frozenset[str]:
        """The units its result may have when x has one of `units`."""
        result = frozenset[str]().union(*(self.kind.units[unit] for unit in units if unit in self.kind.units))
        if not result:
            allowed = ", ".join(sorted(self.kind.units))
            raise RdtError(f"{self.name} does not take {' or '.join(sorted(units))}", remedy=f"it takes {allowed}")
        return result


def about(name: str) -> str:
    """What an op does, in one line."""
    return " ".join((OPS[name].apply.__doc__ or "").split("\n\n")[0].split())


def parse_op(written: Any) -> Op:
    """An op as YAML holds it -> Op. Raises RdtError naming what is allowed."""
    match written:
        case str():
            name, parameter = written, None
        case dict() if len(written) == 1:
            name, parameter = next(iter(written.items()))
        case _:
            raise RdtError(
                f"{written!r} is not an op", remedy="write the op's name, or one name with its parameter: {scale: 2}"
            )
    if name not in OPS:
        raise unknown("op", str(name), OPS)
    takes = OPS[name].takes
    if takes == "nothing":
        if parameter is not None:
            raise RdtError(f"{name} takes no parameter, {parameter!r} is given", remedy=f"write {name}")
        return Op(name)
    numbers = tuple(parameter) if isinstance(parameter, list) else (parameter,)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        numbers = ()
    if not _fits(takes, numbers, listed=isinstance(parameter, list)):
        said = "none is given" if parameter is None else f"{parameter!r} is given"
        raise RdtError(f"{name} takes a parameter, {said}", remedy=f"give {_SHOWN[takes]}")
    return Op(name, numbers)


def _fits(takes: str, numbers: tuple[float, ...], *, listed: bool) -> bool:
    match takes, numbers:
        case "number", (_,):
            return not listed
        case "factor", (k,):
            return not listed and k != 0
        case "line", (a, _):
            return a != 0
        case "range", (low, high):
            return low < high
        case "order", (_, *_):
            return listed and sorted(numbers) == list(range(len(numbers)))
    return False


def run(ops: Sequence[Op], x: npt.NDArray[Any], control_hz: float) -> FloatArray:
    """Apply the chain: x (T, D) of any number type -> (T, D') float32."""
    result = np.asarray(x, np.float64)
    for op in ops:
        result = op.apply(result, control_hz)
    return _float32(result)


def undo(ops: Sequence[Op], y: npt.NDArray[Any], control_hz: float) -> FloatArray:
    """Undo the chain: y (T, D') -> (T, D) float32. Raises SpecError when an op has no inverse."""
    result = np.asarray(y, np.float64)
    for op in reversed(ops):
        result = op.undo(result, control_hz)
    return _float32(result)


def _float32(x: Float) -> FloatArray:
    with np.errstate(over="ignore"):  # too large becomes inf, which whoever reads a field reports
        return x.astype(np.float32)
