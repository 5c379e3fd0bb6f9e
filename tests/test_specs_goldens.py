"""The specs against what the published pipeline made of the same episodes: vectors, words, filters, cameras, rates."""

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
from converters.frames import stored_format, stored_frames
from converters.instruction import clean_rdt, instruction_of
from converters.op_chain import parse_op, run
from converters.plan import Request
from converters.raw import RawEpisode
from converters.readers import detect, reader
from converters.spec import DatasetSpec
from rdt_data.errors import SpecError
from rdt_data.images import decode
from rdt_data.layout import CAMERAS, GROUPS, resolve

SHARED = Path(os.environ.get("RDT_SHARED", Path(__file__).parents[2] / "shared"))
SPEC_OF = {"aloha_static_raw_images": "aloha_static"}
RLDS = sorted(path.parents[1].name for path in SHARED.glob("goldens/*/*/features.json"))
GOLDENS = [*(RLDS or ["kuka"]), "aloha_static", "aloha_static_raw_images"]
COMMANDED = [name for name in GOLDENS if name != "aloha_static_raw_images" and catalog.get(name).recorded_action]

TRUE_COMMANDS = {  # dataset -> the published labels that `recorded_action` does not follow, and why
    "droid": (("eef_vel", "eef_angular_vel", "arm_joint_", "gripper"), "velocities are shares, the gripper closes at 1"),
    "furniture_bench_dataset_converted_externally_to_rlds": (("gripper",), "-x runs from -1 to 1, not from 0"),
    "imperialcollege_sawyer_wrist_cam": (("eef_angular_vel_roll", "eef_angular_vel_yaw"), "the angles are about z, y, x"),
    "nyu_door_opening_surprising_effectiveness": (("eef_vel", "eef_angular_vel"), "these are velocities already"),
    "nyu_franka_play_dataset_converted_externally_to_rlds": (("gripper",), "an op with an inverse, the same for -1 and 1"),
    "robomimic_lift_ph": (("eef_delta",), "the controller turns 1 into 0.05 m and 0.5 rad"),
    "robomimic_tool_hang_ph": (("eef_delta", "gripper"), "the controller's factors; the label reads a quaternion"),
    "taco_play": (("gripper",), "an op with an inverse, the same for -1 and 1"),
}  # fmt: skip


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


def golden_of(name: str) -> dict[str, Any]:
    """What the published pipeline made of the two episodes of a dataset."""
    with np.load(shared(f"goldens/{name}") / "golden.npz", allow_pickle=False) as golden:
        return dict(golden)


def spec_of(golden: str) -> DatasetSpec:
    return catalog.get(SPEC_OF.get(golden, golden))


@pytest.mark.parametrize("name", GOLDENS)
def test_a_spec_gives_what_the_published_pipeline_gave(name: str):
    golden, source = golden_of(name), shared(f"goldens/{name}")
    (kind, root), *_ = detect(source)
    assert catalog.find(reader(kind).names(root)) == SPEC_OF.get(name, name)
    spec = spec_of(name)
    with episodes(source, spec.options) as raws:
        assert len(raws) == int(golden["n_episodes"])
        for i, raw in enumerate(raws):
            assert len(raw) == int(golden[f"ep{i}_num_steps"])
            words = (str(golden[f"ep{i}_instruction"]), str(golden[f"ep{i}_instruction_raw"]))
            assert instruction_of(spec, raw) == words
            assert (keep(spec, raw) is None) == bool(golden.get(f"ep{i}_kept_by_filter", True))
            if spec.refused:
                assert f"ep{i}_state" not in golden
                continue
            state, mask = read_fields(spec.state, raw, spec.control_hz)
            np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
            np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)


@pytest.mark.parametrize("name", COMMANDED)
def test_recorded_commands_are_the_published_ones_unless_these_are_mistaken(name: str):
    golden, spec = golden_of(name), spec_of(name)
    mistaken, _ = TRUE_COMMANDS.get(spec.name, ((), ""))
    with episodes(shared(f"goldens/{name}"), spec.options) as raws:
        for i, raw in enumerate(raws):
            action, mask = action_of(spec, "recorded", *read_fields(spec.state, raw, spec.control_hz), raw)
            labels = str(golden[f"ep{i}_action_format"]).split(",")
            published = dict(zip(labels, golden[f"ep{i}_action_arm_concat"].T, strict=False))
            for label, slots, values in _as_labelled(action, mask, published, spec.control_hz):
                same = np.allclose(values, published[label], atol=1e-5)
                assert same != label.startswith(mistaken), (label, slots)


def _as_labelled(action: Any, mask: Any, labels: Any, control_hz: float) -> Iterator[tuple[str, int, Any]]:
    """Of the published labels those that the action has a value for: the label, the slot, the value as it is labelled."""
    angles = action[:, GROUPS["right_eef_ang_vel"]] / control_hz
    quaternion = run([parse_op("euler_xyz_to_quat_xyzw")], angles, control_hz)
    for label in labels:
        kind, _, axis = label.rpartition("_")
        if kind in ("eef_delta_pos", "eef_delta_angle"):
            group = GROUPS["right_eef_lin_vel" if kind == "eef_delta_pos" else "right_eef_ang_vel"]
            axes = {"x": 0, "y": 1, "z": 2, "w": 3, "roll": 0, "pitch": 1, "yaw": 2}
            values = action[:, group] / control_hz if kind == "eef_delta_pos" else quaternion
            if axis in ("roll", "pitch", "yaw"):
                values = angles
            if mask[group[min(axes[axis], 2)]]:
                yield label, group[min(axes[axis], 2)], values[:, axes[axis]]
        elif label.endswith("_delta_pos"):  # of a joint
            (slot,) = resolve(label.replace("_delta_pos", "_vel"), 1)
            if mask[slot]:
                yield label, slot, action[:, slot] / control_hz
        else:
            (slot,) = resolve(label, 1)
            if mask[slot]:
                yield label, slot, action[:, slot]


@pytest.mark.parametrize("name", GOLDENS)
def test_a_spec_has_the_published_cameras_and_rate(name: str):
    golden, spec = golden_of(name), spec_of(name)
    if golden["control_freq"] > 0:
        assert spec.control_hz == golden["control_freq"]
    published = {slot: str(golden[f"cam_{slot}"]) for slot in CAMERAS}
    if any(published.values()):
        assert {slot: camera.from_[0].split("/")[-1] for slot, camera in spec.cameras.items()} == {
            slot: key for slot, key in published.items() if key
        }
    else:
        assert spec.cameras, "the published configuration names none: the spec chooses"


@pytest.mark.parametrize("name", RLDS)
def test_frames_come_from_their_cameras_in_true_colours(name: str):
    spec = catalog.get(name)
    images = [key for key, value in facts_of(name)["rlds_spec"].items() if value["feature"] == "Image"]
    with episodes(shared(f"goldens/{name}"), spec.options) as raws:
        for i, raw in enumerate(raws):
            for camera in spec.cameras.values():
                key = camera.from_[0]
                form = stored_format(next(raw.frames(key)), camera, "keep", None)
                frames = [decode(frame, swapped=form.swapped) for frame in stored_frames(raw, key, camera, form, None)]
                assert len(frames) == len(raw)
                stored = [(20 + 35 * images.index(f"steps/{key}")) % 256, 200, 60 + 90 * i]  # as the goldens paint them
                expected = stored[::-1] if camera.channels == "bgr" else stored
                np.testing.assert_allclose(frames[0].mean(axis=(0, 1)), expected, atol=3)


def facts_of(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(shared("facts/datasets.json").read_text())["datasets"][name]
    return facts


def test_instructions_of_all_goldens_are_cleaned_as_published():
    checked = 0
    for path in sorted(shared("goldens").glob("*/golden.npz")):
        if path.parent.name in ("berkeley_cable_routing", "fmb"):
            continue  # published with a constant text, and with replacements of its own
        golden = golden_of(path.parent.name)
        for key in golden:
            if key.endswith("_instruction_raw"):
                assert clean_rdt(str(golden[key])) == str(golden[key.removesuffix("_raw")]), path
                checked += 1
    assert checked


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("roboturk", "holds an image and commands, but neither joints nor the pose of the end effector"),
        (
            "cmu_franka_exploration_dataset_converted_externally_to_rlds",
            "neither joints nor the pose of the end effector",
        ),
        ("usc_cloth_sim_converted_externally_to_rlds", "but no position of the picker"),
    ],
)
def test_a_dataset_without_state_is_refused_with_what_is_missing_and_what_one_can_do(name: str, missing: str):
    with pytest.raises(SpecError) as error:
        Request.of(catalog.get(name))
    assert error.value.problem.startswith(f"{name} cannot be converted: There is no state")
    assert missing in error.value.problem
    assert "write a spec of your own" in error.value.problem


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
