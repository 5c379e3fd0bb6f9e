"""Fields run over episodes: laws over every spec on an episode made from the spec's own needs, and every error."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.fields import action_of, keep, read_fields
from converters.instruction import clean_rdt, instruction_of, phrasings_of
from converters.inverse import to_robot
from converters.op_chain import run
from converters.raw import Frame
from converters.spec import DatasetSpec, FieldSpec, load_spec, parse_spec
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.layout import describe

MY_ROBOT = Path(__file__).parents[1] / "docs" / "my_robot.yaml"
SPECS = {name: catalog.get(name) for name in catalog.names() if not catalog.get(name).refused} | {
    "my_robot": load_spec(MY_ROBOT)
}
CORRECTED = {f"{name} corrected": spec.corrected() for name, spec in SPECS.items() if spec.corrections}
ALL = SPECS | CORRECTED


@dataclass
class Memory:
    """A raw episode held in dictionaries."""

    arrays: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    name: str = "memory#0"
    steps: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.steps is None else self.steps

    def keys(self) -> list[str]:
        return sorted({**self.arrays, **self.texts, **self.scalars})

    def array(self, key: str) -> Any:
        return self.arrays[key]

    def scalar(self, key: str) -> Any:
        return self.scalars[key]

    def text(self, key: str) -> str | None:
        return self.texts.get(key)

    def frames(self, key: str) -> Iterator[Frame]:
        raise NotImplementedError


def all_fields(spec: DatasetSpec) -> tuple[FieldSpec, ...]:
    return (*spec.state, *(spec.recorded_action or ()))


def synthesised(spec: DatasetSpec, steps: int = 5, *, optional: bool = True) -> Memory:
    """An episode with just what the spec asks for; numbers in -1 … 1."""
    rng = np.random.default_rng(0)
    needed = [f for f in all_fields(spec) if optional or not f.optional]
    width = {key: max(f.columns[-1] + 1 for f in needed if f.from_ == key) for key in {f.from_ for f in needed}}
    arrays: dict[str, Any] = {
        key: rng.uniform(-1, 1, (steps, wide)).astype(np.float32) for key, wide in sorted(width.items())
    }
    for f in needed:
        if f.ops and f.ops[0].name.startswith("mat4"):
            matrices = np.tile(np.eye(4), (steps, 1, 1))
            matrices[:, :3] = np.concatenate(
                [Rotation.random(steps, rng).as_matrix(), rng.uniform(-1, 1, (steps, 3, 1))], 2
            )
            columnwise = "colmajor" in f.ops[0].name
            arrays[f.from_][:, list(f.columns)] = (matrices.swapaxes(1, 2) if columnwise else matrices).reshape(
                steps, 16
            )
    words = "pick up_the cup"
    texts = dict.fromkeys(spec.instruction.from_[:1], words)
    if spec.instruction.code_points:
        arrays |= {key: np.tile([*map(ord, words), 0, 0], (steps, 1)) for key in texts}
    scalars = {rule.from_: rule.equals if rule.equals is not None else rule.above + 1 for rule in spec.keep_if}
    return Memory(arrays, texts, scalars)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", ["next_state", "recorded"])
def test_every_spec_converts_an_episode_made_from_its_own_needs(name: str, mode: str):
    spec = ALL[name]
    raw = synthesised(spec)
    state, mask = read_fields(spec.state, raw, spec.control_hz)
    assert (state.shape, state.dtype, mask.shape) == ((5, 128), np.float32, (128,))
    np.testing.assert_array_equal(mask, spec.mask("state"))
    assert np.isfinite(state).all()
    assert not state[:, ~mask].any()
    assert keep(spec, raw) is None
    words = spec.instruction
    if words.from_:
        spoken, cleaned = "pick up_the cup", "Pick up the cup."
    else:
        spoken, cleaned = words.text or "", clean_rdt(words.text or "", words.replace)
    assert instruction_of(spec, raw)[0] == (cleaned if words.clean == "rdt" else spoken)
    if mode == "recorded" and spec.recorded_action is None:
        with pytest.raises(SpecError, match="no place in the unified layout"):
            action_of(spec, mode, state, mask, raw)
        return
    action, action_mask = action_of(spec, mode, state, mask, raw)
    assert (action.shape, action_mask.any()) == ((5, 128), True)
    assert not action[:, ~action_mask].any()


@pytest.mark.parametrize("name", ALL)
def test_without_its_optional_values_a_spec_masks_their_slots_off(name: str):
    spec = ALL[name]
    state, mask = read_fields(spec.state, synthesised(spec, optional=False), spec.control_hz)
    required = [i for f in spec.state if not f.optional for i in f.indices]
    assert sorted(mask.nonzero()[0].tolist()) == sorted(required)
    assert not state[:, ~mask].any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("section", ["state", "recorded_action"])
def test_from_the_robot_to_the_layout_and_back_is_the_identity(name: str, section: str):
    spec = ALL[name]
    fields = [f for f in getattr(spec, section) or () if f.reversible]
    raw = synthesised(spec)
    unified, mask = read_fields(fields, raw, spec.control_hz)
    step_on = np.concatenate([unified[1:], unified[-1:]])
    back, back_of_next = (to_robot(fields, action, spec.control_hz, mask) for action in (unified, step_on))
    assert back.keys() == {f.from_ for f in fields}
    for f in fields:
        taken_before = any(not op.kind.rowwise for op in f.ops)  # the command of step t is in the state of t + 1
        there = raw.arrays[f.from_][:-1]
        here = back_of_next[f.from_][:-1] if taken_before else back[f.from_][:-1]
        if any(op.kind.rotation for op in f.ops):  # the same rotation, perhaps in other numbers
            there, here = (
                run([op for op in f.ops if op.kind.rowwise], a[:, list(f.columns)], 1) for a in (there, here)
            )
        else:
            there, here = there[:, list(f.columns)], here[:, list(f.columns)]
        np.testing.assert_allclose(here, there, atol=1e-5, err_msg=f.from_)


def test_actions_of_slots_that_are_not_real_become_no_number():
    spec = parse_spec(LAB, "lab.yaml")
    mask = np.tile(spec.mask("state"), (2, 1))
    mask[1, 31] = False
    back = spec.to_robot(np.ones((2, 128), np.float32), mask)
    np.testing.assert_array_equal(back["pose"], [[1, 1, 1], [np.nan] * 3])
    np.testing.assert_array_equal(back["grip"], [[0], [0]])
    assert spec.to_robot(np.ones((2, 128), np.float32), mode="recorded").keys() == {"step"}
    with pytest.raises(RdtError, match=r"a mask of shape \(3,\)"):
        spec.to_robot(np.ones((2, 128), np.float32), np.ones(3, np.bool_))


def test_steps_without_a_value_are_masked_off_and_zero_only_where_gaps_are_allowed():
    text = LAB.replace("to: right_eef_pos}", "to: right_eef_pos, gaps: true}")
    pose = np.ones((3, 3), np.float32)
    pose[1, 2] = np.nan
    raw = lab(pose=pose, grip=np.zeros(3), step=np.ones((3, 4)))
    spec = parse_spec(text, "lab.yaml")
    state, mask = read_fields(spec.state, raw, 4)
    assert mask.shape == (3, 128)
    assert mask[:, 30:33].tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert mask[:, 10].all()
    assert state[:, 30:33].tolist() == [[1] * 3, [0] * 3, [1] * 3]
    action, action_mask = action_of(spec, "next_state", state, mask, raw)
    assert action_mask[:, 30].tolist() == [False, True, True]
    assert not action[~action_mask].any()
    pose[:, 2] = np.nan  # never there: one mask for the episode
    _, mask = read_fields(spec.state, raw, 4)
    assert describe(mask) == ["right_gripper_open"]
    with pytest.raises(SourceError, match="column 2 is nan"):
        read_fields(parse_spec(LAB, "lab.yaml").state, raw, 4)


@pytest.mark.parametrize("name", ALL)
def test_fields_that_cannot_be_undone_are_listed_and_refused(name: str):
    spec = ALL[name]
    for section in ("state", "recorded_action"):
        for number, f in enumerate(getattr(spec, section) or ()):
            assert f.reversible != any(line.startswith(f"{section}[{number}] ") for line in spec.irreversible())
            if not f.reversible:
                with pytest.raises(SpecError, match=f"{f.from_}: .* cannot be undone"):
                    to_robot([f], np.zeros((1, 128), np.float32), spec.control_hz)


LAB = """
title: A robot
reader: rlds
control_hz: 4
instruction: {from: [words, "attr:words"], text: Wave.}
state:
  - {from: pose, cols: [0, 3], unit: m, to: right_eef_pos}
  - {from: grip, unit: 1, ops: [invert], to: right_gripper_open}
recorded_action:
  - {from: step, cols: [1, 4], unit: m, ops: [times_control_hz], to: right_eef_lin_vel}
keep_if:
  - {from: ok, equals: true, reason: it failed}
"""


def lab(**changed: Any) -> Memory:
    arrays = {"pose": np.ones((2, 3), np.float32), "grip": np.array([True, False]), "step": np.ones((2, 4))}
    return Memory({key: value for key, value in {**arrays, **changed}.items() if value is not None})


def test_booleans_scalars_per_step_and_matrices_are_read():
    spec = parse_spec(LAB, "lab.yaml")
    state, mask = read_fields(spec.state, lab(), 4)
    assert state[:, 10].tolist() == [0, 1]
    assert describe(mask) == ["right_gripper_open", "right_eef_pos"]
    text = "{from: pose, unit: m, ops: [mat4_rowmajor_to_pos], to: right_eef_pos}"
    spec = parse_spec(LAB.replace("{from: pose, cols: [0, 3], unit: m, to: right_eef_pos}", text), "lab.yaml")
    state, _ = read_fields(spec.state, lab(pose=np.arange(32).reshape(2, 4, 4)), 4)
    assert state[0, 30:33].tolist() == [3, 7, 11]


def test_an_empty_episode_gives_no_rows():
    spec = parse_spec(LAB, "lab.yaml")
    raw = lab(pose=np.ones((0, 3)), grip=np.ones(0), step=np.ones((0, 4)))
    state, mask = read_fields(spec.state, raw, 4)
    action, _ = action_of(spec, "next_state", state, mask, raw)
    assert state.shape == action.shape == (0, 128)


def test_actions_are_the_next_state_or_the_recorded_commands():
    spec = parse_spec(LAB, "lab.yaml")
    raw = lab(pose=np.array([[1, 2, 3], [4, 5, 6]]))
    state, mask = read_fields(spec.state, raw, 4)
    for mode in ("next_state", "next-state"):
        action, action_mask = action_of(spec, mode, state, mask, raw)
        assert action[:, 30].tolist() == [4, 4]
        np.testing.assert_array_equal(action_mask, mask)
    action, action_mask = action_of(spec, "recorded", state, mask, raw)
    assert action[0, 39:42].tolist() == [4, 4, 4]
    assert describe(action_mask) == ["right_eef_lin_vel"]
    back = to_robot(spec.recorded_action or (), action, 4)["step"]
    np.testing.assert_array_equal(back, [[np.nan, 1, 1, 1]] * 2)
    with pytest.raises(RdtError, match="no action is called 'nxt'"):
        action_of(spec, "nxt", state, mask, raw)
    with pytest.raises(RdtError, match="give shape"):
        to_robot(spec.state, action[:, :14], 4)


@pytest.mark.parametrize(
    ("changed", "key", "said"),
    [
        ({"pose": None, "posa": np.ones((2, 3))}, "pose", "did you mean 'posa'"),
        ({"pose": np.ones((2, 2))}, "pose", "has 2 columns, columns 0:3 are asked for"),
        ({"grip": np.ones((2, 2))}, "grip", "has 2 columns, all are asked for and 1 fit right_gripper_open"),
        ({"grip": np.ones((2, 0))}, "grip", "has 0 columns"),
        ({"pose": np.array([[0, 0, 0], [0, np.nan, 0]])}, "pose", "step 1, column 1 is nan"),
        ({"pose": np.array([[0, np.inf, np.nan], [0, 0, 0]])}, "pose", "step 0, column 1 is inf (and 1 more)"),
        ({"pose": np.full((2, 3), 1e300)}, "pose", "step 0, column 0 of the result becomes inf (and 5 more)"),
        ({"pose": np.ones((3, 3))}, "pose", "has shape (3, 3) in an episode of 2 steps"),
        ({"pose": np.float32(1)}, "pose", "has shape () in an episode of 2 steps"),
        ({"pose": np.array([["a"] * 3] * 2)}, "pose", "not numbers"),
    ],
)
def test_wrong_data_is_an_error_that_names_field_step_and_column(changed: dict[str, Any], key: str, said: str):
    spec = parse_spec(LAB, "lab.yaml")
    raw = replace(lab(**changed), steps=2)
    with pytest.raises(SourceError) as caught:
        read_fields(spec.state, raw, 4)
    assert caught.value.field == key
    assert said in str(caught.value)


def test_an_episode_that_fails_the_filter_is_not_kept():
    spec = parse_spec(LAB, "lab.yaml")
    for value, reason in ((True, None), (np.True_, None), (np.False_, "it failed"), (0, "it failed")):
        assert keep(spec, replace(lab(), scalars={"ok": value})) == reason


def test_the_first_words_found_are_the_instruction():
    spec = parse_spec(LAB, "lab.yaml")
    assert instruction_of(spec, replace(lab(), texts={"attr:words": "go_up\n"})) == ("Go up.", "go_up\n")
    assert instruction_of(spec, replace(lab(), texts={"words": " ", "attr:words": "go"})) == ("Go.", "go")
    assert instruction_of(spec, lab(), default="Sit.") == ("Wave.", "Wave.")
    plain = parse_spec(LAB.replace("text: Wave.", "clean: none"), "lab.yaml")
    assert instruction_of(plain, replace(lab(), texts={"words": " go_up\n"})) == ("go_up", " go_up\n")
    assert instruction_of(plain, lab(), default="sit") == ("sit", "sit")
    with pytest.raises(SourceError, match="words or attr:words: there is no instruction"):
        instruction_of(plain, lab())
    with pytest.raises(SourceError, match="words: the instruction is empty"):
        instruction_of(plain, replace(lab(), texts={"words": ""}))
    empty = parse_spec(LAB.replace("text: Wave.", "missing: empty"), "lab.yaml")
    assert instruction_of(empty, replace(lab(), texts={"words": "  "})) == ("", "")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("pick up_the-cup", "Pick up the cup."),
        ("Put it at 150 mm.", "Put it at 1  mm."),
        ("open THE 4f door", "Open THE   door."),
        ("  50  ", ""),
        ("", ""),
        ("émigré", "Émigré."),
        ("why?", "Why?."),
    ],
)
def test_the_published_cleaning(text: str, cleaned: str):
    assert clean_rdt(text) == cleaned


def test_kuka_corrected_gives_base_velocities_ten_times_as_large():
    spec = SPECS["kuka"]
    raw = synthesised(spec)
    published, _ = read_fields(spec.state, raw, spec.control_hz)
    fixed, _ = read_fields(spec.corrected().state, raw, spec.control_hz)
    np.testing.assert_allclose(fixed[:, 100:103], 10 * published[:, 100:103], rtol=1e-6)
    assert not published[0, 100:103].any()
    np.testing.assert_array_equal(published[1:, 102], raw.arrays["action/base_displacement_vertical_rotation"][:-1, 0])
    assert not run(spec.state[3].ops, np.ones((1, 2)), 10).any()


def test_other_words_for_the_same_are_kept_cleaned_and_once():
    text = LAB.replace("text: Wave.}", 'text: Wave., also: [short, long, none], replace: [["arm", "hand"]]}')
    spec = parse_spec(text, "lab.yaml")
    said = {
        "words": "wave the arm",
        "short": "wave",
        "long": "wave_the arm",
        "long/1": "Wave both arms.",
        "long/2": " ",
    }
    raw = replace(lab(), texts=said)
    instruction, _ = instruction_of(spec, raw)
    assert instruction == "Wave the hand."
    assert phrasings_of(spec, raw, instruction) == ("Wave.", "Wave both hands.")


def test_an_instruction_of_code_points_is_text_without_the_zeros_behind_it():
    spec = parse_spec(LAB.replace("from: [words,", "code_points: true, from: [words,"), "lab.yaml")
    numbers = np.tile([*map(ord, "grüß den Roboter"), 0, 0], (2, 1))
    assert instruction_of(spec, lab(words=numbers)) == ("Grüß den Roboter.", "grüß den Roboter")
    assert instruction_of(spec, lab())[0] == "Wave."
    with pytest.raises(SourceError, match="not code points") as caught:
        instruction_of(spec, lab(words=np.ones((2, 3))))
    assert caught.value.field == "words"
    with pytest.raises(SourceError, match="is no character"):
        instruction_of(spec, lab(words=np.full((2, 3), -1)))


@pytest.mark.parametrize(
    ("rule", "value", "used"),
    [("above: 0.5", 0.5, False), ("above: 0.5", 0.6, True), ("equals: up", "up", True), ("equals: up", "down", False)],
)
def test_episodes_are_kept_by_a_value_or_a_threshold(rule: str, value: Any, used: bool):
    spec = parse_spec(LAB.replace("equals: true", rule), "lab.yaml")
    assert keep(spec, replace(lab(), scalars={"ok": value})) == (None if used else "it failed")


@pytest.mark.parametrize("rule", ["equals: true, above: 1", "reason: x"])
def test_a_rule_has_one_condition(rule: str):
    with pytest.raises(SpecError, match="one of `equals` and `above`"):
        parse_spec(
            LAB.replace("equals: true, reason: it failed", f"{rule}, reason: y" if "above" in rule else rule), "l.yaml"
        )
