"""CALVIN: steps in files of their own, episodes as annotated runs of them, and what may be wrong with either."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.fields import action_of, read_fields
from converters.instruction import instruction_of
from converters.readers import detect, reader
from converters.source import recognised
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.layout import resolve

calvin = reader("calvin")
NPY = b"\x93NUMPY\x01\x00F\x00{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }".ljust(79) + b"\n"
FIRST = 358482  # CALVIN's numbers do not begin at 0


def step(number: int) -> dict[str, Any]:
    """The arrays of one time step, as CALVIN's recorder writes them."""
    rng = np.random.default_rng(number)
    robot = rng.uniform(-1, 1, 15)
    robot[14] = 1 if number % 2 else -1
    return {
        "actions": np.append(rng.uniform(-1, 1, 6), robot[14]),
        "rel_actions": rng.uniform(-1, 1, 7),
        "robot_obs": robot,
        "scene_obs": rng.uniform(-1, 1, 24),
        "rgb_static": np.full((200, 200, 3), (20, number % 200, 60), np.uint8),
        "rgb_gripper": np.full((84, 84, 3), (55, number % 200, 60), np.uint8),
        "rgb_tactile": np.zeros((8, 6, 6), np.uint8),
        "depth_static": np.full((200, 200), 0.1 * number, np.float32),
    }


def write_split(folder: Path, runs: Sequence[tuple[int, int]], **language: Any) -> None:
    numbers = {number for first, last in runs for number in range(first, last + 1)} | {FIRST + 90}
    (folder / "lang_annotations").mkdir(parents=True)
    for number in numbers:
        np.savez_compressed(folder / f"episode_{number:07d}.npz", **step(number))
    np.save(folder / "ep_start_end_ids.npy", np.array([[min(numbers), max(numbers)]]))
    words = {
        "ann": [f"lift the red_block number {i}" for i in range(len(runs))],
        "task": ["lift_red_block_table"] * len(runs),
        "emb": np.zeros((len(runs), 1, 384), np.float32),
    }
    annotations = {"language": {**words, **language}, "info": {"episodes": [], "indx": list(runs)}}
    np.save(folder / "lang_annotations/auto_lang_ann.npy", annotations, allow_pickle=True)


TRAINING, VALIDATION = [(FIRST, FIRST + 4), (FIRST + 3, FIRST + 9)], [(0, 2)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_split(tmp_path / "task_ABC_D/training", TRAINING)
    write_split(tmp_path / "task_ABC_D/validation", VALIDATION)
    return tmp_path / "task_ABC_D"


def episode(root: Path, number: int = 0, split: str | None = "training") -> Any:
    return calvin.open_file(root, calvin.files(root, split, {})[0], {})[number]


def test_an_episode_is_an_annotated_run_with_its_last_step(source: Path):
    raw = episode(source, 1)
    numbers = range(FIRST + 3, FIRST + 10)
    assert (len(raw), raw.number, raw.name) == (7, 1, "training#1")
    for key in ("robot_obs", "actions", "rel_actions", "depth_static"):
        np.testing.assert_array_equal(raw.array(key), np.stack([step(number)[key] for number in numbers]))
    assert raw.array("robot_obs").dtype == np.float64
    assert raw.cameras() == ["rgb_gripper", "rgb_static"]
    for key in raw.cameras():
        np.testing.assert_array_equal(np.stack(list(raw.frames(key))), [step(number)[key] for number in numbers])
    assert raw.keys() == sorted([*step(0), "instruction", "task"])
    assert raw.text("instruction") == raw.scalar("instruction") == "lift the red_block number 1"
    assert raw.text("task") == "lift_red_block_table"
    assert raw.text("language") is None


def test_steps_without_annotation_are_no_episode(source: Path):
    assert (source / f"training/episode_{FIRST + 90:07d}.npz").exists()
    assert [file.episodes for file in calvin.files(source, None, {})] == [2, 1]


def test_the_size_of_a_split_is_that_of_its_annotated_steps(source: Path):
    (file,) = calvin.files(source, "training", {})
    paths = [source / f"training/episode_{number:07d}.npz" for number in range(FIRST, FIRST + 10)]
    paths.append(source / "training/lang_annotations/auto_lang_ann.npy")
    assert file.bytes == sum(path.stat().st_size for path in paths)
    assert file.mtime_ns == max(path.stat().st_mtime_ns for path in paths)


@pytest.mark.parametrize(
    ("split", "read"),
    [
        (None, ["training", "validation"]),
        ("all", ["training", "validation"]),
        ("validation", ["validation"]),
        ("validation+training", ["validation", "training"]),
    ],
)
def test_splits(split: str | None, read: list[str], source: Path):
    assert calvin.splits(source) == ["training", "validation"]
    assert [file.path for file in calvin.files(source, split, {})] == [
        f"{name}/lang_annotations/auto_lang_ann.npy" for name in read
    ]


def test_an_unknown_split_or_option_is_an_error(source: Path):
    with pytest.raises(RdtError, match=r"no split .* is called 'train'") as error:
        calvin.files(source, "train", {})
    assert "training" in error.value.remedy
    with pytest.raises(SpecError, match="no option 'files'"):
        calvin.files(source, None, {"files": "*"})


def test_it_is_found_and_recognised_from_above_and_as_one_split(source: Path):
    assert detect(source.parent) == detect(source) == [("calvin", source)]
    assert recognised(source) == recognised(source / "training") == "calvin"
    assert len(episode(source / "training", 0, None)) == 5
    assert not calvin.find(source / "training/lang_annotations")


def test_the_task_stands_in_where_there_is_no_sentence(source: Path, tmp_path: Path):
    write_split(tmp_path / "silent/training", VALIDATION, ann=[""])
    raw = episode(tmp_path / "silent")
    assert instruction_of(catalog.get("calvin"), raw) == ("Lift red block table.", "lift_red_block_table")


# ------------------------------------------------------------------------------------------- broken


def without(arrays: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name != key}


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        (lambda path: path.unlink(), None, "no such file, and episode 0 is steps 358482 to 358486"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), None, "not a sound .npz file"),
        (lambda path: path.write_bytes(b""), None, "not a sound .npz file"),
        (lambda path: path.write_bytes(NPY), None, "not a sound .npz file"),
        (lambda path: np.savez(path, **without(step(0), "robot_obs")), "robot_obs", "this step has not"),
        (lambda path: np.savez(path, **step(0) | {"robot_obs": np.zeros(9)}), "robot_obs", r"shape \(9,\), in step"),
        (lambda path: np.savez(path, **step(0) | {"robot_obs": np.array([{}])}), None, "allow_pickle=False"),
    ],
)
def test_a_broken_step_is_named(change: Callable[[Path], None], field: str | None, problem: str, source: Path):
    change(source / f"training/episode_{FIRST + 2:07d}.npz")
    raw = episode(source)
    with pytest.raises(SourceError, match=problem) as error:
        raw.array("robot_obs")
    assert (error.value.file, error.value.episode) == (f"training/episode_{FIRST + 2:07d}.npz", 0)
    assert error.value.field == field
    assert len(episode(source, 0, "validation").array("robot_obs")) == 3


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda raw: raw.array("robot_ob"), "there is no such array"),
        (lambda raw: raw.array("task"), "there is no such array"),
        (lambda raw: raw.scalar("robot_obs"), r"it has shape \(15,\)"),
        (lambda raw: list(raw.frames("depth_static")), "no camera frame"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(read: Callable[[Any], Any], problem: str, source: Path):
    with pytest.raises(SourceError, match=problem) as error:
        read(episode(source))
    assert error.value.field
    assert error.value.remedy


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"language": {"ann": ["a"]}, "info": {"indx": [(0, 1), (2, 3)]}}, "1 texts for 2 runs"),
        ({"language": {"ann": ["a"]}}, "not the annotations of CALVIN: KeyError 'info'"),
        ([1, 2], "not the annotations of CALVIN"),
        ({"language": Path("a")}, "this file wants to run pathlib"),
    ],
)
def test_broken_annotations_are_named(annotations: Any, problem: str, source: Path):
    np.save(source / "training/lang_annotations/auto_lang_ann.npy", annotations, allow_pickle=True)
    with pytest.raises(SourceError, match=problem) as error:
        calvin.files(source, None, {})
    assert error.value.file == "training/lang_annotations/auto_lang_ann.npy"


def test_a_split_without_annotations_is_an_error_that_says_so(source: Path):
    (source / "validation/lang_annotations/auto_lang_ann.npy").unlink()
    assert calvin.splits(source) == ["training", "validation"]
    with pytest.raises(SourceError, match="cannot be read: No such file") as error:
        calvin.files(source, None, {})
    assert error.value.file == "validation/lang_annotations/auto_lang_ann.npy"
    assert len(calvin.files(source, "training", {})) == 1


def test_a_run_that_ends_before_it_begins_spoils_only_its_episode(tmp_path: Path):
    write_split(tmp_path / "calvin/training", [(0, 1), (5, 4), (2, 3)])
    with pytest.raises(SourceError, match="steps 5 to 4 are no episode") as error:
        episode(tmp_path / "calvin", 1)
    assert error.value.episode == 1
    assert len(episode(tmp_path / "calvin", 2)) == 2


# --------------------------------------------------------------------------------------------- spec


def test_the_state_and_the_command_are_as_the_facts_say(source: Path, shared: Path):
    facts = json.loads((shared / "facts/datasets.json").read_text())["datasets"]["calvin"]
    spec, raw = catalog.get("calvin"), episode(source, 1)
    state, mask = read_fields(spec.state, raw, spec.control_hz)
    action, _ = action_of(spec, "recorded", state, mask, raw)
    check_rows(facts["state"], state, mask, raw.array("robot_obs"))
    check_rows(facts["action"]["rows"], action, mask, raw.array("actions"))
    assert mask.sum() == sum(len(row["fields"]) for row in facts["state"])
    cameras = {slot: facts["cameras"][slot] for slot in ("exterior", "right_wrist")}
    assert {slot: camera.from_[0] for slot, camera in spec.cameras.items()} == cameras
    assert spec.control_hz == facts["control_freq_hz"]


def check_rows(rows: list[dict[str, Any]], vector: np.ndarray, mask: np.ndarray, source: np.ndarray) -> None:
    for row in rows:
        values = source[:, slice(*map(int, row["slice"].split(":")))]
        for word in row["transform"]:
            if word == "affine:0.5,0.5":
                values = 0.5 * values + 0.5
            else:
                assert word == "euler_xyz_to_ortho6d"
                matrices = Rotation.from_euler("xyz", values).as_matrix()
                values = np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)
        slots = list(resolve(row["fields"], len(row["fields"])))
        np.testing.assert_allclose(vector[:, slots], values, atol=1e-5)
        assert mask[slots].all()


def test_it_converts_and_verifies(source: Path, tmp_path: Path, command):
    assert command("convert", source, tmp_path / "store.zarr").code == 0
    assert command("verify", tmp_path / "store.zarr", "--source", source).code == 0


def test_the_golden_of_the_published_conversion(shared: Path):
    source = shared / "goldens/calvin"
    if not source.exists():
        pytest.skip(f"no {source}: it is kept aside")
    golden = np.load(source / "golden.npz", allow_pickle=False)
    assert recognised(source / "source") == "calvin"
    spec = catalog.get("calvin")
    (root,) = calvin.find(source / "source")
    files = [calvin.open_file(root, file, {}) for file in calvin.files(root, None, {})]
    raws = [file[i] for file in files for i in range(len(file))]
    assert len(raws) == int(golden["n_episodes"])
    for i, raw in enumerate(raws):
        state, mask = read_fields(spec.state, raw, spec.control_hz)
        np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
        assert instruction_of(spec, raw)[0] == str(golden[f"ep{i}_instruction"])
        for camera in ("rgb_static", "rgb_gripper"):
            first = np.asarray(next(raw.frames(camera)))
            np.testing.assert_allclose(first.mean((0, 1)), golden[f"ep{i}_rgb0_{camera}"], atol=1)
