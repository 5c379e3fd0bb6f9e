"""DatasetSpec: one dataset (or one lab's robot) as data, read from YAML and checked as a whole.

In: a YAML file of `converters/specs`, or a user's own of the same format. Out: a frozen model that says how an
episode becomes the unified layout; `converters.fields` does it. A spec that loads is consistent: every slot
exists and is filled once, widths and units fit through the ops, every correction applies to something.
"""

import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, JsonValue, PrivateAttr, ValidationError, model_validator

from converters.corrections import apply_correction
from converters.inverse import to_robot
from converters.patch_call import AnyPatch
from converters.readers import READERS
from converters.spec_model import (
    AnyCamera,
    AnyTimestamps,
    Camera,
    Correction,
    FieldSpec,
    Instruction,
    KeepRule,
    Names,
)
from converters.spec_table import as_table
from rdt_data import layout
from rdt_data.errors import SpecError, unknown
from rdt_data.yaml_model import Part, listed, one_of, parse_yaml, problem, read_text, spec_error

__all__ = ["SPECS", "Camera", "DatasetSpec", "FieldSpec", "load_spec", "parse_spec"]

SPECS = Path(__file__).parent / "specs"
Fields = Annotated[tuple[FieldSpec, ...], BeforeValidator(listed)]


class DatasetSpec(Part):
    """How one dataset becomes the unified layout. See docs/my_robot.yaml for every key, explained."""

    title: str = Field(min_length=1)
    reader: Annotated[str, one_of("reader", tuple(READERS))]
    options: dict[str, JsonValue] = Field(default_factory=dict)
    names: Names = ()
    control_hz: float = Field(gt=0)
    timestamps: AnyTimestamps | None = None
    robot: str | None = None
    patch: AnyPatch | None = None
    cameras: dict[Annotated[str, one_of("camera slot", layout.CAMERAS)], AnyCamera] = Field(default_factory=dict)
    instruction: Instruction
    state: Fields = ()
    action: Annotated[Literal["next_state", "recorded"], one_of("action", ("next_state", "recorded"))] = "next_state"
    recorded_action: Annotated[Fields, Field(min_length=1)] | None = None
    keep_if: Annotated[tuple[KeepRule, ...], BeforeValidator(listed)] = ()
    corrections: Annotated[tuple[Correction, ...], BeforeValidator(listed)] = ()
    refused: str | None = Field(default=None, min_length=1)
    notes: str | None = None
    source: str | None = None

    _file: str = PrivateAttr("")
    _text: str = PrivateAttr("")
    _data: dict[str, Any] = PrivateAttr(default_factory=dict)
    _applied: tuple[Correction, ...] = PrivateAttr(())
    _trusted: bool = PrivateAttr(False)

    @property
    def name(self) -> str:
        """The file's name without its ending: the name of the dataset."""
        return Path(self._file).stem

    @property
    def file(self) -> str:
        """The file it was read from, as it was given."""
        return self._file

    @property
    def text(self) -> str:
        """The YAML it was read from, unchanged; `corrected` does not change it either."""
        return self._text

    @property
    def applied(self) -> tuple[Correction, ...]:
        """The corrections this spec is the result of."""
        return self._applied

    def to_dict(self) -> dict[str, Any]:
        """The content as written, JSON-able; after `corrected`, with the corrections worked in."""
        return copy.deepcopy(self._data)

    def __str__(self) -> str:
        return as_table(self)

    def mask(self, what: Literal["state", "action"]) -> npt.NDArray[np.bool_]:
        """(128,) the slots that can be real, optional fields included; of the action by this spec's default."""
        recorded = what == "action" and self.action == "recorded"
        mask = np.zeros(layout.DIM, np.bool_)
        for field in (self.recorded_action or ()) if recorded else self.state:
            mask[list(field.indices)] = True
        return mask

    def irreversible(self) -> list[str]:
        """What cannot be turned back into the robot's own values: fields with the op that is why, and a patch."""
        return [
            *([f"patch {self.patch.name}: what it makes"] if self.patch is not None else []),
            *(
                f"{section}[{number}] {field.from_}: {op.name}"
                for section, fields in (("state", self.state), ("recorded_action", self.recorded_action or ()))
                for number, field in enumerate(fields)
                for op in field.ops
                if not op.reversible
            ),
        ]

    def to_robot(
        self, action: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None, mode: str | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Unified actions (T, 128) -> the robot's own arrays, source key -> (T, columns): see `converters.inverse`.

        mask: (128,) or (T, 128), the slots that are real. mode: what the actions are, "next_state" (states to reach,
        read back by the fields of `state`) or "recorded" (commands); None: this spec's default.
        """
        if (mode or self.action).replace("-", "_") == "next_state":
            return to_robot(self.state, action, self.control_hz, mask)
        if self.recorded_action is None:
            raise SpecError(
                f"{self._file}: has no `recorded_action`", remedy="describe the commands, or use next_state"
            )
        return to_robot(self.recorded_action, action, self.control_hz, mask)

    def corrected(self) -> "DatasetSpec":
        """This spec with its corrections of likely mistakes applied (and none left to apply)."""
        data = self.to_dict()
        data.pop("corrections", None)
        for number, correction in enumerate(self.corrections):
            apply_correction(correction, data, f"{self._file}: corrections[{number}]")
        applied = (*self._applied, *self.corrections)
        return _build(data, self._text, self._file, applied, trusted=self._trusted)

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        if self.action == "recorded" and self.recorded_action is None:
            raise problem(
                "recorded actions are the default, but none are described",
                remedy="describe them in `recorded_action`, or use next_state",
                key="action",
            )
        if not self.state and self.refused is None:
            raise problem("describes no field", remedy="describe the state, or say in `refused` why not", key="state")
        _check_overlap("state", self.state)
        _check_overlap("recorded_action", self.recorded_action or ())
        return self


def _check_overlap(section: str, fields: tuple[FieldSpec, ...]) -> None:
    owner: dict[int, int] = {}
    for number, field in enumerate(fields):
        for slot in field.indices:
            if slot in owner:
                raise problem(
                    f"{layout.preferred_name(slot)} is filled by {section}[{owner[slot]}] already",
                    remedy="let one field fill each slot",
                    key=f"{section}[{number}].to",
                )
            owner[slot] = number


def _build(
    data: dict[str, Any], text: str, file: str, applied: tuple[Correction, ...] = (), *, trusted: bool
) -> DatasetSpec:
    try:
        spec = DatasetSpec.model_validate(data, context={"trusted": trusted})
    except ValidationError as error:
        raise spec_error(error, f"{file} (corrected)" if applied else file, DatasetSpec) from error
    spec._file, spec._text, spec._data, spec._applied, spec._trusted = file, text, data, applied, trusted
    return spec


def parse_spec(text: str, file: str, *, trusted: bool = False) -> DatasetSpec:
    """The spec that a YAML text holds; `file` names it in errors. Its corrections are tried, not applied.

    trusted: whether its patch may be imported from anywhere (see `converters.patch_call`): only for what the user
    gave as a spec, never for the text that a store holds.
    """
    spec = _build(
        parse_yaml(text, file, example="docs/my_robot.yaml, or a file in converters/specs"), text, file, trusted=trusted
    )
    spec.corrected()
    return spec


def load_spec(path_or_name: str | Path) -> DatasetSpec:
    """A spec by the path of its YAML file (it ends in .yaml or .yml, or has a "/"), or by its catalog name.

    A file that is given is the user's own word: its patch may be a `module:function`, which is imported.
    """
    path = Path(path_or_name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return parse_spec(read_text(path), str(path), trusted=True)
    known = sorted(file.stem for file in SPECS.glob("*.yaml"))
    if path.name not in known:
        error = unknown("dataset spec", path.name, known)
        raise SpecError(error.problem, remedy=f"{error.remedy.rstrip()} or give the path of a YAML file")
    file = SPECS / f"{path.name}.yaml"
    return parse_spec(read_text(file), f"{SPECS.parent.name}/{SPECS.name}/{file.name}")
