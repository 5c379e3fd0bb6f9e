"""The specs against what the published pipeline made of the same episodes, and against the facts behind it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import catalog
from converters.fields import action_of, keep, read_fields
from converters.instruction import clean_rdt, instruction_of
from converters.op_chain import parse_op, run
from converters.raw import RawEpisode
from converters.readers import detect, reader
from rdt_data.layout import resolve

SHARED = Path(os.environ.get("RDT_SHARED", Path(__file__).parents[2] / "shared"))
GOLDENS = ["bridge", "fractal20220817_data", "kuka", "aloha_static", "aloha_static_raw_images"]
IN_FACTS = [name for name in catalog.names() if not name.startswith("demo_") and name not in ("bridge_dataset", "aloha_sim")]  # fmt: skip
TRUE_KEYS = {"observation/qpos": "observations/qpos", "observation/qvel": "observations/qvel"}
"""The facts name the keys of an intermediate file; these are those of the recordings."""


def shared(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"no {SHARED / path} (set RDT_SHARED)")
    return SHARED / path


@contextmanager
def episodes(source: Path, options: dict[str, Any], split: str | None = None) -> Iterator[list[RawEpisode]]:
    """Every episode of a source, its files open."""
    (kind, root), *_ = detect(source)
    container = reader(kind)
    files = [
        container.open_file(root, file, options)
        for file in container.files(root, split or next(iter(container.splits(root)), None), options)
    ]
    try:
        yield [file[i] for file in files for i in range(len(file))]
    finally:
        for file in files:
            file.__exit__(None, None, None)


@pytest.mark.parametrize("name", GOLDENS)
def test_a_spec_gives_what_the_published_pipeline_gave(name: str):
    source = shared(f"goldens/{name}")
    golden = np.load(source / "golden.npz", allow_pickle=False)
    (kind, root), *_ = detect(source)
    found = catalog.find(reader(kind).names(root))
    assert found == {"aloha_static_raw_images": "aloha_static"}.get(name, name)
    spec = catalog.get(found)
    with episodes(source, spec.options) as raws:
        assert len(raws) == int(golden["n_episodes"])
        for i, raw in enumerate(raws):
            state, mask = read_fields(spec.state, raw, spec.control_hz)
            np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
            np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
            assert instruction_of(spec, raw) == (
                str(golden[f"ep{i}_instruction"]),
                str(golden[f"ep{i}_instruction_raw"]),
            )
            kept = f"ep{i}_kept_by_filter"
            assert (keep(spec, raw) is None) == (bool(golden[kept]) if kept in golden else True)
            _check_recorded_action(name, golden[f"ep{i}_action_arm_concat"], action_of(spec, "recorded", state, mask, raw)[0], spec.control_hz)  # fmt: skip


def _check_recorded_action(name: str, published: Any, action: Any, control_hz: float) -> None:
    """What the published pipeline keeps of the commands, though it does not train on it."""
    if name.startswith("aloha"):
        slots = [*range(50, 56), 60, *range(6), 10]
        np.testing.assert_allclose(action[:, slots], published, atol=1e-5)
    else:  # displacement, quaternion of the rotation, gripper
        np.testing.assert_allclose(action[:, 39:42] / control_hz, published[:, :3], atol=1e-5)
        quaternion = run([parse_op("euler_xyz_to_quat_xyzw")], action[:, 42:45] / control_hz, control_hz)
        np.testing.assert_allclose(quaternion, published[:, 3:7], atol=1e-5)
        np.testing.assert_allclose(action[:, 10], published[:, 7], atol=1e-5)


@pytest.mark.parametrize("name", GOLDENS)
def test_a_spec_has_the_published_cameras_and_rate(name: str):
    golden = np.load(shared(f"goldens/{name}") / "golden.npz", allow_pickle=False)
    spec = catalog.get("aloha_static" if name.startswith("aloha") else name)
    if golden["control_freq"] > 0:
        assert spec.control_hz == golden["control_freq"]
        for slot in ("exterior", "right_wrist", "left_wrist"):
            named = spec.cameras[slot].from_[0].split("/")[-1] if slot in spec.cameras else ""
            assert named == str(golden[f"cam_{slot}"])


def test_instructions_of_all_goldens_are_cleaned_as_published():
    checked = 0
    for path in sorted(shared("goldens").glob("*/golden.npz")):
        if path.parent.name in ("berkeley_cable_routing", "fmb"):
            continue  # published with a constant text, and with replacements of its own
        golden = np.load(path, allow_pickle=False)
        for key in golden.files:
            if key.endswith("_instruction_raw"):
                assert clean_rdt(str(golden[key])) == str(golden[key.removesuffix("_raw")]), path
                checked += 1
    assert checked


def facts_of(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(shared("facts/datasets.json").read_text())["datasets"][name]
    return facts


def fact_slots(row: dict[str, Any]) -> tuple[int, ...]:
    return resolve(row["fields"], len(row["fields"]))


def by_facts(row: dict[str, Any], array: np.ndarray, *, shifted: bool) -> np.ndarray:
    """The values of a row of the facts, by its own words: slice "3:6", transform "scale:3"."""
    result = array[:, slice(*(int(n) if n else None for n in row["slice"].split(":")))]
    for word in row["transform"]:
        op, _, argument = word.partition(":")
        numbers = [float(n) for n in argument.split(",") if n]
        written = {op: numbers if len(numbers) > 1 else numbers[0]} if numbers else op
        result = run([parse_op(written)], result, 1)
    return np.concatenate([np.zeros_like(result[:1]), result[:-1]]) if shifted else result


@pytest.mark.parametrize("name", IN_FACTS)
def test_every_field_of_the_state_is_a_row_of_the_facts(name: str):
    facts, spec = facts_of(name), catalog.get(name)
    base = (facts["base_velocity"] or {"rows": []})["rows"]
    rows = {fact_slots(row): (row, row in base) for row in (*facts["state"], *base)}
    assert {f.indices for f in spec.state} == rows.keys()
    for f in spec.state:
        row, shifted = rows[f.indices]
        assert f.from_ == TRUE_KEYS.get(row["key"], row["key"])
        array = np.random.default_rng(0).uniform(-1, 1, (6, 16)).astype(np.float32)
        expected = by_facts(row, array, shifted=shifted)
        wanted = array[:, list(range(*f.cols))] if f.cols else array[:, : f.width]
        np.testing.assert_allclose(run(f.ops, wanted, spec.control_hz), expected, atol=1e-5)
    assert {spec.control_hz} & {facts["control_freq_hz"], facts.get("control_freq_other_registry")}


@pytest.mark.parametrize("name", IN_FACTS)
def test_every_key_is_a_published_feature_and_wide_enough(name: str):
    facts, spec = facts_of(name), catalog.get(name)
    features = {key.removeprefix("steps/"): value for key, value in facts.get("rlds_spec", {}).items()}
    if not features:
        pytest.skip("the facts list no features for this container")
    for f in (*spec.state, *(spec.recorded_action or ())):
        width = int(np.prod(features[f.from_]["shape"]))
        assert width > (range(*f.cols)[-1] if f.cols else width - 1), f.from_
        assert f.cols or f.width == width
    images = {key.from_[0] for key in spec.cameras.values()}
    assert all(features[key]["feature"] == "Image" for key in images)
    assert all(key in features for key in spec.instruction.from_)


@pytest.mark.parametrize("name", ["aloha_static", "aloha_mobile", "taco_play"])
def test_absolute_commands_go_where_the_facts_put_them(name: str):
    facts, spec = facts_of(name), catalog.get(name)
    rows = [*facts["action"]["rows"], *((facts["base_velocity"] or {"rows": []})["rows"])]
    assert {f.indices for f in spec.recorded_action or ()} == {fact_slots(row) for row in rows}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/bridge_rlds", "bridge_dataset"),
        ("data/aloha_sim/transfer_cube", "aloha_sim"),
        ("data/aloha_sim/transfer_cube_raw_120x160", "aloha_sim"),
    ],
)
def test_real_recordings_are_recognised_and_read(source: str, name: str):
    folder = shared(source)
    (kind, root), *_ = detect(folder)
    assert catalog.find(reader(kind).names(root)) == name
    spec = catalog.get(name)
    with episodes(folder, spec.options) as raws:
        assert raws
        for raw in raws:
            state, mask = read_fields(spec.state, raw, spec.control_hz)
            action, _ = action_of(spec, "recorded", state, mask, raw)
            assert state.shape == action.shape == (len(raw), 128)
            assert state[:, 10].min() > -0.1
            assert state[:, 10].max() < 1.1
            assert instruction_of(spec, raw)[0].endswith("." if name == "aloha_sim" else "")
            assert all(camera.optional or set(camera.from_) & set(raw.keys()) for camera in spec.cameras.values())
