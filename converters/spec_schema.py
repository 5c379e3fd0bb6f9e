"""The JSON schema of the YAML format of specs, for editors: `rdt-data spec schema`.

Out: a draft 2020-12 schema that accepts what loads and refuses what no spec can hold: unknown keys, ops, slots, units,
readers, cameras. What depends on two places at once (widths, units through ops, overlaps) is for `rdt-data spec check`.
The names come from the tables of the project; a test compares the keys with those of the models.
"""

from collections.abc import Mapping
from typing import Any

from converters.op_chain import about
from converters.ops import OPS, UNITS
from converters.patches import PATCHES
from converters.readers import READERS
from converters.spec_model import SECTIONS
from rdt_data import layout
from rdt_data.clock import TICKS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_NUMBER: Schema = {"type": "number"}
_FACTOR: Schema = {"type": "number", "not": {"const": 0}}
_COLUMN: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS: Mapping[str, Schema] = {
    "number": _NUMBER,
    "factor": _FACTOR,
    "line": {"type": "array", "prefixItems": [_FACTOR, _NUMBER], "minItems": 2, "maxItems": 2},
    "range": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
    "order": {"type": "array", "items": _COLUMN, "minItems": 1, "uniqueItems": True},
}
"""OpKind.takes -> the shape of the parameter."""


def spec_schema() -> Schema:
    """The whole schema."""
    parts = {
        "unit": {"enum": [*UNITS, 1]}, "op": _op(), "slots": _slots(), "field": _field(), "camera": _camera(),
        "timestamps": _timestamps(),
        "instruction": _instruction(), "keep_if": _keep_if(), "correction": _correction(), "patch": _patch(),
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rdt-data dataset spec",
        "description": "How the episodes of one dataset, or of one lab's robot, become the unified layout.",
        **_object(_spec(), required=("title", "reader", "control_hz", "instruction")),
        "$defs": parts,
    }


def _spec() -> dict[str, Schema]:
    """The keys of a spec."""
    fields = _list_of(_ref("field"))
    return {
        "title": _TEXT | {"description": "One line about the dataset, shown in lists."},
        "reader": {"enum": list(READERS), "description": "The container."},
        "options": {"type": "object", "description": "To the reader, which documents its own."},
        "names": _names("Folders or dataset names by which this data is recognised."),
        "control_hz": {"type": "number", "exclusiveMinimum": 0, "description": "Steps a second."},
        "timestamps": {"anyOf": [_TEXT, _ref("timestamps"), {"type": "null"}]},
        "robot": {"type": ["string", "null"], "description": "The robot, for people."},
        "patch": {"anyOf": [_ref("patch"), {"type": "null"}]},
        "cameras": _cameras(),
        "instruction": _ref("instruction"),
        "state": fields | {"description": "The fields of the state, each slot filled once."},
        "action": {
            "enum": ["next_state", "recorded"],
            "description": "What a policy learns by default: the state of the next step, or the commands below.",
        },
        "recorded_action": {
            "anyOf": [fields | {"minItems": 1}, {"type": "null"}],
            "description": "The fields of the commands as recorded.",
        },
        "keep_if": _list_of(_ref("keep_if")) | {"description": "Episodes to use; the others are listed with a reason."},
        "corrections": _list_of(_ref("correction"))
        | {"description": "Likely mistakes of the published conversion; --corrected applies them."},
        "refused": {"type": ["string", "null"], "minLength": 1, "description": "Why this dataset cannot be converted."},
        "notes": {"type": ["string", "null"], "description": "For people."},
        "source": {"type": ["string", "null"], "description": "Where the facts of this spec come from."},
    }


def _field() -> Schema:
    return _object(
        {
            "from": _TEXT | {"description": "Key of a value of steps, a slash path."},
            "cols": {
                "type": "array",
                "items": _COLUMN,
                "minItems": 2,
                "maxItems": 3,
                "description": "[start, stop) or [start, stop, step) of the value of a step; without it, all columns.",
            },
            "unit": _ref("unit") | {"description": "The unit in the source."},
            "ops": _list_of(_ref("op")) | {"description": "Applied one after the other."},
            "to": _ref("slots"),
            "optional": {"type": "boolean", "description": "Where the key is missing, the slots are masked off."},
            "gaps": {"type": "boolean", "description": "A step that is NaN has no value and is masked off."},
        },
        required=("from", "unit", "to"),
    )


def _op() -> Schema:
    """An op's name, or its name with its parameter."""
    plain = [name for name, kind in OPS.items() if kind.takes == "nothing"]
    named = {
        name: _PARAMETERS[kind.takes] | {"description": about(name)}
        for name, kind in OPS.items()
        if kind.takes != "nothing"
    }
    one = {"minProperties": 1, "maxProperties": 1}
    return {"anyOf": [*({"const": name, "description": about(name)} for name in plain), _object(named) | one]}


def _slots() -> Schema:
    """A group of slots, a slot, or a list of slots."""
    known = layout.NAMES  # every name `layout.resolve` takes, with its slots
    slots, groups = ([name for name, indices in known.items() if (len(indices) == 1) == one] for one in (True, False))
    return {
        "anyOf": [
            {"enum": [*groups, *slots]},
            {"type": "array", "items": {"enum": slots}, "minItems": 1, "uniqueItems": True},
        ],
        "description": "Where the values belong: a group of slots, a slot, or one slot for each value.",
    }


def _cameras() -> Schema:
    camera = {"anyOf": [_TEXT, _list_of(_TEXT) | {"minItems": 1}, _ref("camera")]}
    said = "Camera slot to the key of its frames. A single wrist camera is right_wrist."
    return _object(dict.fromkeys(layout.CAMERAS, camera)) | {"description": said}


def _camera() -> Schema:
    keys = _names("The key of the frames; of several, the first that is there.")
    return _object(
        {
            "from": keys,
            "optional": {"type": "boolean", "description": "An episode may lack this camera."},
            "channels": {
                "enum": ["rgb", "bgr"],
                "description": "bgr: the encoded frames were written with red and blue exchanged.",
            },
        },
        required=("from",),
    )


def _timestamps() -> Schema:
    keys: dict[str, Schema] = {
        "from": _TEXT | {"description": "Key of the time of each step, one number."},
        "unit": {"enum": list(TICKS), "description": "The unit of the times; seconds without it."},
        "optional": {"type": "boolean", "description": "An episode may lack the key."},
    }
    said = "When each step was recorded: rdt-data lint compares control_hz with it."
    return _object(keys, required=("from",)) | {"description": said}


def _instruction() -> Schema:
    pair = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
    return _object(
        {
            "from": _names("Keys of the words; the first that is not blank is used."),
            "text": {"type": ["string", "null"], "description": "Used where no key has words."},
            "also": _names("Keys of other words for the same, kept beside the instruction."),
            "code_points": {"type": "boolean", "description": "The value is numbers, one for each character."},
            "replace": _list_of(pair) | {"description": "[old, new] pairs, replaced with the cleaning."},
            "clean": {"enum": ["rdt", "none"], "description": "rdt: as the published pipeline cleans words."},
            "missing": {"enum": ["error", "empty"], "description": "An episode without words: an error, or allowed."},
        }
    ) | {"anyOf": [{"required": ["from"]}, {"required": ["text"]}, {"required": ["missing"]}]}


def _keep_if() -> Schema:
    rule = {
        "from": _TEXT | {"description": "Key of a value; of a value of steps, the first counts."},
        "equals": {"type": ["boolean", "number", "string"], "description": "The episode is used when it equals this."},
        "above": _NUMBER | {"description": "The episode is used when it is above this."},
        "reason": _TEXT | {"description": "Why the others are left out."},
    }
    return _object(rule, required=("from", "reason")) | {"oneOf": [{"required": ["equals"]}, {"required": ["above"]}]}


def _correction() -> Schema:
    keys = [*_field()["properties"], *_instruction()["properties"], *layout.CAMERAS]
    some = {"type": "object", "propertyNames": {"enum": list(dict.fromkeys(keys))}}
    return _object(
        {
            "section": {"enum": list(SECTIONS)},
            "match": some | {"description": "The fields that have these values."},
            "set": some | {"description": "What to change in them."},
            "add": _list_of(_ref("field")) | {"description": "Fields to add."},
            "reason": _TEXT,
            "evidence": _TEXT,
        },
        required=("section", "reason", "evidence"),
    )


def _patch() -> Schema:
    name = {"anyOf": [{"enum": list(PATCHES)}, {"type": "string", "pattern": r"^[\w.]+:\w+$"}]}
    given = {"type": "object", "required": ["name"], "properties": {"name": name}}
    return {
        "anyOf": [name, given | {"additionalProperties": {"type": ["string", "number"]}}],
        "description": "A function that sees each episode first: one of ours, or your own module:function.",
    }


def _names(description: str) -> Schema:
    return {"anyOf": [{"type": "string"}, _list_of(_TEXT)], "description": description}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """A mapping of these keys and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }
