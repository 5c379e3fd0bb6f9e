"""The published JSON schema: it knows every key, accepts every spec that loads and refuses what none can hold."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from converters import catalog, spec_model
from converters.op_chain import parse_op
from converters.ops import OPS
from converters.spec import SPECS, DatasetSpec, parse_spec
from converters.spec_schema import spec_schema
from rdt_data import layout
from rdt_data.errors import RdtError, SpecError

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = spec_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MINIMAL = """
title: A robot
reader: rlds
control_hz: 10
cameras: {exterior: image}
instruction: {from: words}
state:
  - {from: pos, cols: [0, 3], unit: m, ops: [{scale: 2}], to: right_eef_pos}
  - {from: gripper, cols: [0, 1], unit: 1, to: [right_gripper_open]}
keep_if: [{from: success, equals: true, reason: it failed}]
"""


def accepted(data: Any) -> bool:
    return bool(VALIDATOR.is_valid(data))


def test_the_published_schema_is_the_one_the_code_makes(command):
    published = (DOCS / "spec.schema.json").read_text()
    assert command("spec", "schema").out == published, "run: rdt-data spec schema > docs/spec.schema.json"
    assert (DOCS / "my_robot.yaml").read_text().startswith("# yaml-language-server: $schema=spec.schema.json\n")


def test_it_is_a_schema_of_its_draft():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (DatasetSpec, SCHEMA),
        (spec_model.FieldSpec, SCHEMA["$defs"]["field"]),
        (spec_model.Timestamps, SCHEMA["$defs"]["timestamps"]),
        (spec_model.Camera, SCHEMA["$defs"]["camera"]),
        (spec_model.Instruction, SCHEMA["$defs"]["instruction"]),
        (spec_model.KeepRule, SCHEMA["$defs"]["keep_if"]),
        (spec_model.Correction, SCHEMA["$defs"]["correction"]),
    ],
)
def test_its_keys_are_those_of_the_models(model, part):
    keys = {field.alias or name: field for name, field in model.model_fields.items()}
    assert part["properties"].keys() == keys.keys()
    assert set(part.get("required", ())) == {name for name, field in keys.items() if field.is_required()}
    assert not part["additionalProperties"]


@pytest.mark.parametrize("file", [*sorted(SPECS.glob("*.yaml")), DOCS / "my_robot.yaml"], ids=lambda path: path.stem)
def test_every_spec_is_accepted(file: Path):
    assert [f"{e.json_path}: {e.message}" for e in VALIDATOR.iter_errors(yaml.safe_load(file.read_text()))] == []


TYPOS = [
    ("title:", "titel:"), ("reader: rlds", "reader: rdls"), ("control_hz: 10", "control_hz: 0"),
    ("control_hz: 10", "control_hz: 10\ntimestamps: {from: t, unit: min}"), ("control_hz: 10", "control_hz: 10\ntimestamps: {unit: s}"),
    ("control_hz: 10", "control_hz: '10'"), ("exterior: image", "exteriour: image"), ("{from: words}", "{form: words}"),
    ("{from: words}", "{}"), ("{from: words}", "words"), ("{from: words}", "{from: words, clean: rtd}"),
    ("unit: m,", "unit: metre,"), ("unit: m,", ""), ("scale: 2", "scael: 2"), ("scale: 2", "scale: 0"),
    ("{scale: 2}", "scale"), ("[{scale: 2}]", "deg_to_rad"), ("{scale: 2}", "{scale: 2, div: 3}"),
    ("{scale: 2}", "{clip: [0]}"), ("{scale: 2}", "{affine: [0, 1]}"), ("{scale: 2}", "{deg_to_rad: 1}"),
    ("to: right_eef_pos", "to: right_eef_poz"), ("to: right_eef_pos", "to: reserved_45"), ("to: right_eef_pos", "to: 3"),
    ("to: [right_gripper_open]", "to: []"), ("to: [right_gripper_open]", "to: [right_eef_pos]"),
    ("cols: [0, 3]", "cols: 3"), ("cols: [0, 3]", "cols: [-3, 0]"), ("cols: [0, 3]", "cols: [0]"),
    ("equals: true, ", ""), ("equals: true", "equals: true, above: 1"), (", reason: it failed", ""),
    ("to: right_eef_pos}", "to: right_eef_pos, optional: 'yes'}"), ("state:", "action: next\nstate:"),
    ("state:", "recorded_action: []\nstate:"), ("state:", "patch: cumulative_griper\nstate:"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), TYPOS)
def test_a_typo_is_refused_by_the_schema_as_by_the_loader(old: str, new: str):
    assert accepted(yaml.safe_load(MINIMAL))
    assert old in MINIMAL
    text = MINIMAL.replace(old, new, 1)
    assert not accepted(yaml.safe_load(text))
    with pytest.raises(SpecError):
        parse_spec(text, "x.yaml")


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_accepted_with_the_parameter_it_takes_and_no_other(name: str):
    shapes: dict[str, Any] = {"nothing": None, "number": 0.5, "factor": 2.0, "line": [0.5, 1], "range": [0, 1], "order": [1, 0]}  # fmt: skip
    for takes, parameter in shapes.items():
        written: Any = name if parameter is None else {name: parameter}
        try:
            parse_op(written)
            loads = True
        except RdtError:
            loads = False
        op = {"$ref": "#/$defs/op", "$defs": SCHEMA["$defs"]}
        seen = jsonschema.Draft202012Validator(op).is_valid(written)
        assert seen or not loads, (takes, "the schema may not refuse what loads")
        if OPS[name].takes == takes:
            assert loads


@given(
    st.sampled_from(
        sorted({name for slot in layout.SLOTS if slot.unit for name in (slot.name, *slot.aliases)} | set(layout.GROUPS))
    )
)
def test_every_name_of_slots_is_accepted(name: str):
    data = yaml.safe_load(MINIMAL)
    data["state"][0]["to"] = name
    assert accepted(data)


def test_names_are_explained():
    described = [op["description"] for op in SCHEMA["$defs"]["op"]["anyOf"][:-1]]
    assert all(described)
    assert "Degrees -> radians" in json.dumps(SCHEMA, ensure_ascii=False)
    assert {"rlds", "hdf5"} <= set(SCHEMA["properties"]["reader"]["enum"])
    assert set(catalog.get("demo_aloha").cameras) <= SCHEMA["properties"]["cameras"]["properties"].keys()
