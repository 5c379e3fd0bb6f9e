"""Specs as files: what loads, what is refused and in which words, corrections, printing, the catalog."""

import json
import pickle
from pathlib import Path

import pytest

from converters import catalog
from converters.spec import DatasetSpec, load_spec, parse_spec
from rdt_data.errors import SpecError

MY_ROBOT = Path(__file__).parents[1] / "docs" / "my_robot.yaml"
MINIMAL = """
title: A robot
reader: rlds
control_hz: 10
instruction: {from: words}
state:
  - {from: pos, cols: [0, 3], unit: m, to: right_eef_pos}
  - {from: rot, cols: [0, 3], unit: rad, ops: [euler_xyz_to_ortho6d], to: right_eef_ortho6d}
"""


def problem_of(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "lab/x.yaml")
    return str(caught.value)


def test_a_minimal_spec_has_plain_defaults():
    spec = parse_spec(MINIMAL, "lab/x.yaml")
    assert (spec.name, spec.file, spec.text) == ("x", "lab/x.yaml", MINIMAL)
    assert (spec.action, spec.recorded_action, spec.cameras, spec.keep_if) == ("next_state", None, {}, ())
    assert (spec.instruction.clean, spec.instruction.missing) == ("rdt", "error")
    assert spec.mask("state").nonzero()[0].tolist() == [*range(30, 39)]


@pytest.mark.parametrize("name", catalog.names())
def test_every_spec_of_the_catalog_loads_prints_and_survives_json_and_pickle(name: str):
    spec = catalog.get(name)
    assert spec.name == name
    for section in (spec.title, spec.robot or "", *(field.from_ for field in spec.state), *spec.cameras):
        assert section in str(spec)
    assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()
    assert parse_spec(spec.text, spec.file).to_dict() == spec.to_dict()
    assert pickle.loads(pickle.dumps(spec)).text == spec.text  # noqa: S301
    assert DatasetSpec.model_validate(spec.to_dict()).state == spec.state
    assert spec.source


def test_the_example_of_a_labs_own_robot_loads_and_uses_every_key():
    spec = load_spec(MY_ROBOT)
    assert spec.name == "my_robot"
    assert spec.to_dict().keys() == DatasetSpec.model_fields.keys() - {"corrections", "patch"}
    assert spec.irreversible() == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("to: right_eef_pos}", "to: right_eef_poz}", ["state[0].to", "'right_eef_poz'", "did you mean 'right_eef_pos"]),
        ("to: right_eef_pos}", "to: [right_eef_pos_x]}", ["state[0].to", "takes 1 values, 3 are given"]),
        ("to: right_eef_pos}", "to: 3}", ["state[0].to", "names no slots"]),
        ("to: right_eef_pos}", "to: right_eef_lin_vel}", ["state[0].unit", "m/s", "add the op times_control_hz"]),
        ("unit: m,", "unit: mm,", ["state[0].unit", "the values are in mm", "add the op mm_to_m"]),
        ("unit: m,", "unit: metre,", ["state[0].unit", "'metre'", "choose one of"]),
        ("unit: m,", "", ["state[0].unit", "is missing", "add `unit:`"]),
        ("unit: rad,", "unit: deg,", ["state[1].ops", "does not take deg", "it takes rad"]),
        ("ops: [euler", "ops: [eular", ["state[1].ops[0]", "did you mean 'euler_xyz_to_ortho6d'"]),
        ("ops: [euler_xyz_to_ortho6d]", "ops: euler_xyz_to_ortho6d", ["state[1].ops", "is not a list"]),
        ("ops: [euler_xyz_to_ortho6d],", "", ["state[1].to", "takes 6 values, 3 are given"]),
        ("rot, cols: [0, 3]", "rot, cols: [0, 4]", ["state[1].ops", "takes 3 columns, 4 are given"]),
        ("pos, cols: [0, 3]", "pos, cols: [3, 3]", ["state[0].cols", "[3, 3] holds no column"]),
        ("pos, cols: [0, 3]", "pos, cols: [-3, 0]", ["state[0].cols", "holds no column"]),
        ("pos, cols: [0, 3]", "pos, cols: 3", ["state[0].cols", "is not a range", "[start, stop, step]"]),
        ("from: pos", "form: pos", ["state[0].from", "is missing", "state[0].form", "did you mean 'from'"]),
        ("to: right_eef_pos}", "to: right_eef_pos, optional: 'yes'}", ["state[0].optional", "'yes'"]),
        ("{from: pos, cols: [0, 3]", "{from: pos, cols: [0, 3], cols: [1, 4]", ["line 7", "'cols' is there twice"]),
        ("to: right_eef_ortho6d", "to: [eef_pos_x, eef_angle_1, eef_angle_2, eef_angle_3, eef_angle_4, eef_angle_5]", ["state[1].unit", "eef_pos_x is in m, the values are in rad, after the ops 1"]),
        ("control_hz: 10", "control_hz: 0", ["control_hz: 0", "greater than 0"]),
        ("control_hz: 10", "control_hz: '10'", ["control_hz: '10'", "valid number"]),
        ("control_hz: 10", "control_hz: yes", ["control_hz: True"]),
        ("control_hz: 10", "control_hz: .inf", ["finite"]),
        ("control_hz: 10", "control_hz: 10\ncontrol_hz: 20", ["line 5", "'control_hz' is there twice (first in line 4)"]),
        ("reader: rlds", "reader: rdls", ["reader", "did you mean 'rlds'"]),
        ("title:", "titel:", ["title: is missing", "titel: there is no such key", "did you mean 'title'"]),
        ("instruction: {from: words}", "instruction: {}", ["instruction.from", "no source and no text"]),
        ("instruction: {from: words}", "instruction: {from: words, clean: rtd}", ["instruction.clean", "'rdt'"]),
        ("instruction: {from: words}", "instruction: words", ["instruction: 'words'"]),
        ("state:", "cameras: {exteriour: x}\nstate:", ["cameras.exteriour", "did you mean 'exterior'"]),
        ("state:", "cameras: {exterior: {from: x, optinal: true}}\nstate:", ["cameras.exterior.optinal", "did you mean 'optional'"]),
        ("state:", "cameras: {exterior: {from: x, channels: gbr}}\nstate:", ["cameras.exterior.channels", "did you mean"]),
        ("state:", "cameras: {exterior: []}\nstate:", ["cameras.exterior.from"]),
        ("state:", "action: next\nstate:", ["action", "choose one of next_state, recorded"]),
        ("state:", "action: recorded\nstate:", ["action", "none are described"]),
        ("state:", "keep_if: [{from: ok, equals: true}]\nstate:", ["keep_if[0].reason", "is missing"]),
        ("state:", "stat: []\nstate:", ["stat", "did you mean 'state'"]),
        ("state:", "options: &a {x: 1}\nnotes: *a\nstate:", ["line 7", "an alias"]),
        ("state:", "notes: !!python/name:os.system\nstate:", ["line 6", "could not determine a constructor"]),
        ("state:", "? [a, b]\n: c\nstate:", ["line 6", "a key is not a name"]),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_with_file_place_value_and_what_is_allowed(old: str, new: str, said: list[str]):
    assert old in MINIMAL
    text = problem_of(MINIMAL.replace(old, new, 1))
    for part in ("lab/x.yaml", *said):
        assert part in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("- a", "it holds a list"),
        ("title: [a", "line 1"),
        ("title: \x00", "not YAML"),
        ("[" * 3000, "not YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(text: str, said: str):
    assert said in problem_of(text)


def test_two_fields_for_one_slot_are_refused():
    text = problem_of(MINIMAL + "  - {from: x, cols: [0, 1], unit: m, to: eef_pos_y}\n")
    assert "state[2].to: right_eef_pos_y is filled by state[0] already" in text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(SpecError, match=r"nope\.yaml: cannot be read: No such file"):
        load_spec(tmp_path / "nope.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9")
    with pytest.raises(SpecError, match="not UTF-8 text"):
        load_spec(tmp_path / "latin.yaml")
    (tmp_path / "ok.yml").write_text(MINIMAL)
    assert load_spec(str(tmp_path / "ok.yml")).name == "ok"


CORRECTION = """
corrections:
  - section: state
    match: {from: pos}
    set: {unit: mm, ops: [mm_to_m]}
    reason: The values are millimetres.
    evidence: The arm is not 300 m long.
"""


def test_a_correction_changes_the_matching_field_and_says_so():
    spec = parse_spec(MINIMAL + CORRECTION, "x.yaml")
    assert spec.state[0].unit == "m"
    assert "correction 0: state where from: pos: set unit: mm, ops: [mm_to_m]" in str(spec)
    fixed = spec.corrected()
    assert (fixed.state[0].unit, str(fixed.state[0].ops[0]), fixed.state[1]) == ("mm", "mm_to_m", spec.state[1])
    assert (fixed.corrections, len(fixed.applied), fixed.text) == ((), 1, spec.text)
    assert "corrected: state where from: pos" in str(fixed)
    assert "The arm is not 300 m long." in str(fixed)
    assert fixed.to_dict()["state"][0]["unit"] == "mm"
    assert fixed.corrected().to_dict() == fixed.to_dict()
    assert pickle.loads(pickle.dumps(fixed)).applied == fixed.applied  # noqa: S301


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("from: pos}", "from: poz}", "corrections[0].match: no field of state has from: poz"),
        ("match: {from", "match: {form", "did you mean 'from'"),
        ("ops: [mm_to_m]", "opps: [mm_to_m]", "did you mean 'ops'"),
        ("ops: [mm_to_m]", "ops: []", "state[0].unit"),
        ("section: state", "section: stat", "did you mean 'state'"),
        ("    evidence: The arm is not 300 m long.\n", "", "corrections[0].evidence"),
    ],
)
def test_a_correction_that_does_not_work_is_refused_when_loaded(old: str, new: str, said: str):
    assert said in problem_of(MINIMAL + CORRECTION.replace(old, new))


def test_the_catalog_finds_a_spec_by_file_name_and_by_further_names():
    assert catalog.find(["bridge", "goldens"]) == "bridge"
    assert catalog.find(["something", "transfer_cube"]) == "aloha_sim"
    assert catalog.find(["transfer_cube", "bridge"]) == "aloha_sim"
    assert catalog.find(["something"]) is None
    with pytest.raises(SpecError, match="did you mean 'taco_play'"):
        catalog.get("tacoplay")


def test_no_two_specs_share_a_name():
    called = [name for own in catalog.names() for name in (own, *catalog.get(own).names)]
    assert len(called) == len(set(called))


def test_the_built_in_world_and_its_specs_agree_on_the_rate():
    sim = pytest.importorskip("rdt_data.sim", reason="the built-in world is not there")
    for name in ("demo_aloha", "demo_two_arm"):
        assert catalog.get(name).control_hz == sim.CONTROL_HZ
