"""Corrections: what each section may change, and what is refused with its place."""

import pytest

from converters.plan import Request
from converters.spec import parse_spec
from rdt_data.errors import SpecError
from rdt_data.layout import describe

BASE = """
title: A robot
reader: rlds
control_hz: 4
cameras: {exterior: a, left_wrist: b}
instruction: {text: build a tower}
state:
  - {from: pose, cols: [0, 3], unit: m, to: right_eef_pos}
corrections:
"""


def corrected(fix: str):
    return parse_spec(f"{BASE}  - {{{fix}, reason: r, evidence: e}}\n", "lab.yaml").corrected()


def test_fields_are_changed_and_added():
    spec = corrected("section: state, match: {from: pose}, set: {cols: [3, 6]}")
    assert spec.state[0].columns == range(3, 6)
    spec = corrected(
        "section: state, add: [{from: q, cols: [0, 4], unit: '1', ops: [quat_wxyz_to_ortho6d], to: right_eef_ortho6d}]"
    )
    assert describe(spec.mask("state")) == ["right_eef_pos", "right_eef_ortho6d"]
    assert spec.corrections == ()
    assert len(spec.applied) == 1


def test_cameras_are_changed_and_taken_away_and_words_are_set():
    spec = corrected("section: cameras, set: {left_wrist: null, right_wrist: {from: b, optional: true}}")
    assert {slot: camera.from_ for slot, camera in spec.cameras.items()} == {"exterior": ("a",), "right_wrist": ("b",)}
    assert (
        corrected("section: instruction, set: {text: lay out laundry, clean: none}").instruction.text
        == "lay out laundry"
    )


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        ("section: state, match: {from: nose}, set: {unit: m}", "no field of state has from: nose"),
        ("section: state, match: {fron: pose}, set: {unit: m}", "did you mean 'from'"),
        ("section: state, set: {unit: m}", "belong together"),
        ("section: state", "changes nothing"),
        ("section: cameras, set: {right_wrist: null}", "there is no right_wrist to take away"),
        ("section: cameras, set: {wrist: b}", "no camera slot is called 'wrist'"),
        ("section: cameras, match: {exterior: a}, set: {exterior: b}", "cameras has no fields"),
        ("section: words, set: {text: x}", "no section is called 'words'"),
        ("section: state, add: [{from: pose, cols: [0, 3], unit: m, to: right_eef_pos}]", "is filled by state"),
    ],
)
def test_a_correction_that_cannot_be_is_refused_when_the_spec_is_loaded(fix: str, said: str):
    with pytest.raises(SpecError, match=said) as caught:
        corrected(fix)
    assert "lab.yaml" in str(caught.value)


def test_a_spec_prints_what_it_would_correct():
    text = str(
        parse_spec(f"{BASE}  - {{section: cameras, set: {{left_wrist: null}}, reason: r, evidence: e}}\n", "lab.yaml")
    )
    assert "correction 0: cameras: set left_wrist: None" in text


def test_a_refused_dataset_is_refused_with_its_explanation_and_needs_no_fields():
    spec = parse_spec(
        "title: x\nreader: rlds\ncontrol_hz: 1\ninstruction: {text: x}\nrefused: It has no state.\n", "x.yaml"
    )
    assert "It has no state." in str(spec)
    with pytest.raises(SpecError, match="x cannot be converted: It has no state"):
        Request.of(spec)
    with pytest.raises(SpecError, match="state: describes no field"):
        parse_spec("title: x\nreader: rlds\ncontrol_hz: 1\ninstruction: {text: x}\n", "x.yaml")
