"""The specs against the facts on the published conversion, dataset by dataset: every row, key, camera, word and rate."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from converters import catalog
from converters.op_chain import parse_op, run
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec
from rdt_data.layout import CAMERAS, resolve

FACTS_FILE = Path(os.environ.get("RDT_SHARED", Path(__file__).parents[2] / "shared")) / "facts/datasets.json"
FACTS: dict[str, Any] = json.loads(FACTS_FILE.read_text())["datasets"] if FACTS_FILE.exists() else {}
SKIP = pytest.mark.skip(reason=f"no {FACTS_FILE} (set RDT_SHARED)")
IN_FACTS = sorted(FACTS) or [pytest.param("kuka", marks=SKIP)]
RLDS = [name for name in sorted(FACTS) if FACTS[name]["storage"]["kind"] == "rlds_tfds"] or IN_FACTS

DEVIATIONS = {  # (dataset, what) -> why the spec differs from the facts on purpose
    ("rh20t", "state"): "arms have 6 or 7 joints: the seventh is a field of its own that may have gaps",
    ("robomimic_can_ph", "rate"): "published without one; robosuite's control frequency",
    ("robomimic_lift_ph", "rate"): "published without one; robosuite's control frequency",
    ("robomimic_square_ph", "rate"): "published without one; robosuite's control frequency",
    ("robomimic_tool_hang_ph", "rate"): "published without one; robosuite's control frequency",
    ("robomimic_transport_ph", "rate"): "published without one; robosuite's control frequency",
    ("stanford_mask_vit_converted_externally_to_rlds", "rate"): "published as 0; that of RoboNet, the nearest set",
    ("usc_cloth_sim_converted_externally_to_rlds", "rate"): "in no registry of the facts; as public lists give it",
}
UNCORRECTED = {  # dataset -> why a suspected mistake has no correction
    **dict.fromkeys(
        ("viola", "utaustin_mutex", "austin_buds_dataset_converted_externally_to_rlds",
         "austin_sirius_dataset_converted_externally_to_rlds"),
        "the order of the 4x4 matrix is stated nowhere",
    ),
    **dict.fromkeys(("berkeley_gnm_recon", *(f"robomimic_{task}_ph" for task in ("can", "lift", "square", "tool_hang", "transport"))),
                    "the published conversion stops; the reading that works is the default"),
    **dict.fromkeys(("roboturk", "cmu_franka_exploration_dataset_converted_externally_to_rlds",
                     "usc_cloth_sim_converted_externally_to_rlds"), "refused"),
    "fractal20220817_data": "it is right; the same value in kuka is not",
    "robo_net": "the guess of the unit cannot be checked",
}  # fmt: skip
TRUE_KEYS = {  # the facts name the keys of an intermediate file; these are those of the recordings
    "aloha_static": {"observation/qpos": "observations/qpos", "observation/qvel": "observations/qvel"},
    "aloha_mobile": {"observation/qpos": "observations/qpos", "observation/qvel": "observations/qvel"},
    "agilex": {"observation/qpos": "observations/qpos"},
    "bridgev2": {"qpos": "obs_dict/qpos", "state": "obs_dict/full_state"},
    "calvin": {"observation/robot_obs": "robot_obs"},
}


def slots_of(row: dict[str, Any]) -> tuple[int, ...]:
    return resolve(row["fields"], len(row["fields"]))


def rows_of(facts: dict[str, Any]) -> dict[tuple[int, ...], tuple[dict[str, Any], bool]]:
    """By slots, the rows of the published state, and whether the value is that of the step before.

    Two sets without proprioception take the commands of the step before for their state.
    """
    before = facts["base_velocity"]["rows"] if facts["base_velocity"] else []
    state = facts["state"]
    if facts["state_source"] == "previous_action_zero_first":
        before, state = [*before, *facts["action"]["rows"]], []
    return {slots_of(row): (row, row in before) for row in (*state, *before)}


def by_facts(row: dict[str, Any], array: npt.NDArray[np.float32], *, before: bool) -> npt.NDArray[np.float32]:
    """The values of a row by its own words: slice "3:6", transform "scale:3"."""
    result = array[:, slice(*(int(n) if n else None for n in row["slice"].split(":")))]
    for word in row["transform"]:
        op, _, argument = word.replace("deg2rad_if_abs_gt", "deg_to_rad_if_abs_gt").partition(":")
        numbers = [float(n) for n in argument.split(",") if n]
        if op == "permute":
            numbers = [int(n) for n in numbers]
        result = run([parse_op({op: numbers if len(numbers) > 1 else numbers[0]} if numbers else op)], result, 1)
    return np.concatenate([np.zeros_like(result[:1]), result[:-1]]) if before else result


def published(name: str) -> dict[str, dict[str, Any]]:
    """The published features of an RLDS dataset, keys as a raw episode has them."""
    return {key.removeprefix("steps/"): value for key, value in FACTS[name].get("rlds_spec", {}).items()}


def fields_of(spec: DatasetSpec) -> tuple[FieldSpec, ...]:
    return (*spec.state, *(spec.recorded_action or ()))


@pytest.mark.parametrize("name", IN_FACTS)
def test_every_dataset_of_the_facts_has_a_spec_and_its_state_is_the_published_rows(name: str):
    spec = catalog.get(name)
    if (name, "state") in DEVIATIONS:
        assert {s for f in spec.state for s in f.indices} == {s for slots in rows_of(FACTS[name]) for s in slots}
        return
    rows = {} if spec.refused else rows_of(FACTS[name])
    assert [f.indices for f in spec.state] == list(rows)
    for f in spec.state:
        row, before = rows[f.indices]
        assert f.from_ == TRUE_KEYS.get(name, {}).get(row["key"], row["key"])
        wide = int(np.prod(published(name)[f.from_]["shape"])) if published(name) else 40
        array = np.random.default_rng(0).uniform(-4, 4, (6, wide if f.cols else f.width)).astype(np.float32)
        expected = by_facts(row, array, before=before)
        np.testing.assert_allclose(run(f.ops, array[:, list(f.columns)], spec.control_hz), expected, atol=1e-5)


@pytest.mark.parametrize("name", IN_FACTS)
def test_the_rate_is_published_or_that_of_another_registry(name: str):
    known = {FACTS[name]["control_freq_hz"], FACTS[name].get("control_freq_other_registry")} - {None, 0}
    rate = catalog.get(name).control_hz
    assert (rate in known) != ((name, "rate") in DEVIATIONS), (rate, known)
    assert (FACTS[name]["control_freq_hz"] or rate) == rate, "the published one wins"


@pytest.mark.parametrize("name", RLDS)
def test_cameras_are_the_published_ones_or_chosen_where_none_are_named(name: str):
    spec, facts = catalog.get(name), FACTS[name]["cameras"]
    named = {slot: facts[slot] for slot in CAMERAS if facts and facts[slot]}
    assert spec.cameras
    if named:
        assert {slot: camera.from_ for slot, camera in spec.cameras.items()} == {
            slot: (f"observation/{key}",) for slot, key in named.items()
        }
        assert {camera.channels for camera in spec.cameras.values()} == {facts["channel_order"].lower()}


@pytest.mark.parametrize("name", RLDS)
def test_words_and_filters_are_the_published_ones(name: str):
    spec, facts = catalog.get(name), FACTS[name]
    words = facts["instruction"]
    assert spec.instruction.text == words["constant"]
    assert spec.instruction.from_ == (() if words["constant"] else (words["source"].split()[0],))
    assert spec.instruction.code_points == bool(words["codec"])
    assert (spec.instruction.clean == "none") == (not words["replacements_in_order"])
    assert [list(pair) for pair in spec.instruction.replace] == words["replacements_in_order"][7:]
    assert len(spec.keep_if) == bool(facts["episode_filter"])
    assert all(rule.from_.split("/")[-1] in facts["episode_filter"] for rule in spec.keep_if)


@pytest.mark.parametrize("name", RLDS)
def test_every_key_is_a_published_feature_and_wide_enough(name: str):
    features = published(name)
    for spec in (catalog.get(name), catalog.get(name).corrected()):
        for f in fields_of(spec):
            width = int(np.prod(features[f.from_]["shape"]))
            assert width > (f.columns[-1] if f.cols else width - 1), f.from_
            assert f.cols or f.width == width
        assert all(features[camera.from_[0]]["feature"] == "Image" for camera in spec.cameras.values())
        assert {*spec.instruction.from_, *(rule.from_ for rule in spec.keep_if)} <= features.keys()


@pytest.mark.parametrize("name", RLDS)
def test_commands_are_described_or_their_absence_is_explained(name: str):
    spec = catalog.get(name)
    assert spec.recorded_action or spec.refused or "command" in (spec.notes or "")


@pytest.mark.parametrize("name", IN_FACTS)
def test_every_mistake_about_state_or_input_has_its_correction(name: str):
    issues = [issue for issue in FACTS[name]["suspected_issues"] if issue["where"] in ("state", "base", "camera")]
    spec = catalog.get(name)
    assert not issues or bool(spec.corrections) != (name in UNCORRECTED), issues


@pytest.mark.parametrize(
    "name", ["aloha_static", "aloha_mobile", "taco_play", "utokyo_xarm_bimanual_converted_externally_to_rlds"]
)
@pytest.mark.skipif(not FACTS, reason=f"no {FACTS_FILE} (set RDT_SHARED)")
def test_absolute_commands_go_where_the_facts_put_them(name: str):
    facts = FACTS[name]
    rows = [*facts["action"]["rows"], *((facts["base_velocity"] or {"rows": []})["rows"])]
    assert {f.indices for f in catalog.get(name).recorded_action or ()} == {slots_of(row) for row in rows}


def test_proposals_of_the_facts_are_what_the_corrections_make():
    proposals = [
        (name, row)
        for name in sorted(FACTS)
        for issue in FACTS[name]["suspected_issues"]
        for row in issue.get("proposed", [])
    ]
    if not FACTS:
        pytest.skip(f"no {FACTS_FILE} (set RDT_SHARED)")
    assert {"bc_z", "dlr_sara_pour_converted_externally_to_rlds"} <= {name for name, _ in proposals}
    for name, row in proposals:
        (field,) = (f for f in catalog.get(name).corrected().state if f.indices == slots_of(row))
        assert [str(op) for op in field.ops] == row["transform"], name
