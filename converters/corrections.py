"""Work a spec's correction into its content: `rdt-data … --corrected`.

In: a correction (checked in itself) and the content of the spec as YAML holds it. Out: the content, changed in place;
the result is validated like any other spec. A correction that changes nothing is an error.
"""

import copy
from typing import Any

from converters.spec_model import FIELD_SECTIONS, Correction, FieldSpec, Instruction
from rdt_data.errors import SpecError, unknown
from rdt_data.layout import CAMERAS

_KEYS = {
    **{section: [field.alias or name for name, field in FieldSpec.model_fields.items()] for section in FIELD_SECTIONS},
    "instruction": [field.alias or name for name, field in Instruction.model_fields.items()],
    "cameras": list(CAMERAS),
}
"""Section -> the keys that may stand in `match` and `set`."""


def apply_correction(correction: Correction, data: dict[str, Any], where: str) -> None:
    """Change `data`, the content of the spec. where: file and number of the correction, for errors."""
    for part, keys in (("match", correction.match), ("set", correction.set)):
        for key in keys:
            if key not in _KEYS[correction.section]:
                kind = "camera slot" if correction.section == "cameras" else "key of a field"
                error = unknown(kind, key, _KEYS[correction.section])
                raise SpecError(f"{where}.{part}: {error.problem}", remedy=error.remedy)
    if correction.section in FIELD_SECTIONS:
        _change_fields(correction, data, where)
    else:
        _change_mapping(correction, data.setdefault(correction.section, {}), where)


def _change_fields(correction: Correction, data: dict[str, Any], where: str) -> None:
    fields = data.get(correction.section) or []
    matching = [field for field in fields if all(field.get(key) == value for key, value in correction.match.items())]
    if correction.match and not matching:
        asked = ", ".join(f"{key}: {value}" for key, value in correction.match.items())
        raise SpecError(
            f"{where}.match: no field of {correction.section} has {asked}",
            remedy="copy the values from the field to correct",
        )
    if correction.match:
        for field in matching:
            field.update(copy.deepcopy(correction.set))
    data[correction.section] = [*fields, *copy.deepcopy(list(correction.add))]


def _change_mapping(correction: Correction, mapping: dict[str, Any], where: str) -> None:
    for key, value in correction.set.items():
        if value is None and key not in mapping:
            raise SpecError(f"{where}.set: there is no {key} to take away", remedy="name one that is there")
        if value is None:
            del mapping[key]
        else:
            mapping[key] = copy.deepcopy(value)
