"""Raw BridgeData V2: folders of pickles and JPEGs, the lag of early cameras, what is missing or does not fit."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import catalog
from converters.clock import ClockReader
from converters.fields import action_of, read_fields
from converters.instruction import instruction_of
from converters.op_chain import parse_op, run
from converters.readers import detect, reader
from converters.source import recognised
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.images import decode_jpeg, encode_jpeg

bridge = reader("bridge_raw")
STEPS = 11
STATE = np.random.default_rng(0).normal(size=(STEPS + 1, 7)).astype(np.float32)
ACTIONS = np.random.default_rng(1).normal(size=(STEPS, 7))
DATED = "2022-05-06_12-00-00"


def jpeg(camera: int, number: int) -> bytes:
    return encode_jpeg(np.full((8, 12, 3), (20 + 40 * camera, 200 - 12 * number, 60), np.uint8), 95)


def observations() -> dict[str, Any]:
    return {
        "full_state": STATE,
        "qpos": STATE[:, :6] / 2,
        "time_stamp": list(np.arange(STEPS + 1.0)),
        "env_done": [False] * (STEPS + 1),
        "note": "by hand",
    }


@pytest.fixture
def trajectory(tmp_path: Path) -> Callable[..., Path]:
    """A function: it writes a trajectory as BridgeData does and gives the root; `change` alters its folder."""

    def write(
        change: Callable[[Path], None] = lambda folder: None,
        *,
        number: int = 0,
        dated: str = DATED,
        words: str | None = "put the carrot on the plate\nconfidence: 1\nand this\n",
        observed: dict[str, Any] | None = None,
        commanded: Any = None,
    ) -> Path:
        root = tmp_path / "bridge_data_v2"
        folder = root / "datacol1" / "toykitchen1" / "00" / dated / "raw" / "traj_group0" / f"traj{number}"
        for camera in range(2):
            (folder / f"images{camera}").mkdir(parents=True)
            for image in range(STEPS + 1):
                (folder / f"images{camera}" / f"im_{image}.jpg").write_bytes(jpeg(camera, image))
        (folder / "depth_images0").mkdir()
        (folder / "obs_dict.pkl").write_bytes(pickle.dumps(observations() if observed is None else observed))
        commands = [{"actions": row, "policy_type": "oculus"} for row in ACTIONS] if commanded is None else commanded
        (folder / "policy_out.pkl").write_bytes(pickle.dumps(commands))
        if words is not None:
            (folder / "lang.txt").write_text(words)
        change(folder)
        return root

    return write


def only(root: Path) -> Any:
    """The only episode below `root`."""
    (file,) = bridge.files(root, None, {})
    return bridge.open_file(root, file, {})[0]


def test_an_episode_has_as_many_steps_as_actions(trajectory):
    raw = only(trajectory())
    assert len(raw) == STEPS
    assert raw.keys() == [
        "images0",
        "images1",
        "language",
        *(f"obs_dict/{key}" for key in ("env_done", "full_state", "note", "qpos", "time_stamp")),
        "policy_out/actions",
        "policy_out/policy_type",
    ]
    np.testing.assert_array_equal(raw.array("obs_dict/full_state"), STATE[:-1])
    np.testing.assert_array_equal(raw.array("obs_dict/time_stamp"), np.arange(STEPS))
    assert ClockReader(catalog.get("bridgev2"))(raw).measured_hz == 1
    np.testing.assert_array_equal(raw.array("policy_out/actions"), ACTIONS)
    assert raw.scalar("obs_dict/env_done") is False


def test_observations_may_also_end_with_the_last_action(trajectory):
    raw = only(trajectory(observed={"full_state": STATE[:-1]}, commanded=list(ACTIONS)))
    np.testing.assert_array_equal(raw.array("obs_dict/full_state"), STATE[:-1])
    np.testing.assert_array_equal(raw.array("policy_out/actions"), ACTIONS)


def test_images_are_copied_in_the_order_of_their_numbers(trajectory):
    raw = only(trajectory())
    assert raw.cameras() == ["images0", "images1"]
    assert list(raw.frames("images1")) == [jpeg(1, number) for number in range(STEPS)]


def test_before_the_repair_of_the_lag_the_first_observation_and_the_last_action_are_dropped(trajectory):
    raw = only(trajectory(dated="2021-07-22_23-59-59"))
    assert len(raw) == STEPS - 1
    np.testing.assert_array_equal(raw.array("obs_dict/full_state"), STATE[1:-1])
    np.testing.assert_array_equal(raw.array("policy_out/actions"), ACTIONS[:-1])
    assert list(raw.frames("images0")) == [jpeg(0, number) for number in range(1, STEPS)]
    (file,) = bridge.files(trajectory(dated="2021-07-23_00-00-00", number=1), None, {})[1:]
    assert "2021-07-23" in file.path


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("put it down\nconfidence: 1\n", "put it down"),
        ("\n  take it \nconfidence: 0.5\nput it\n", "take it"),
        ("confidence: 1\n", ""),
        ("", ""),
        (None, None),
    ],
)
def test_the_language_is_the_first_sentence(words: str | None, language: str | None, trajectory):
    raw = only(trajectory(words=words))
    assert raw.text("language") == language
    assert raw.text("instruction") is None
    assert raw.keys().count("language") == (words is not None)
    assert instruction_of(catalog.get("bridgev2"), raw)[1] == (language or "")


def test_every_trajectory_is_a_source_file(trajectory):
    for number in (10, 2, 0):
        root = trajectory(number=number)
    files = bridge.files(root, "all", {})
    assert [file.path.rsplit("/", 1)[1] for file in files] == ["traj0", "traj2", "traj10"]
    folder = root / files[0].path
    inside = [path.stat() for path in folder.rglob("*") if path.is_file()]
    assert (files[0].bytes, files[0].mtime_ns, files[0].episodes) == (
        sum(stat.st_size for stat in inside),
        max(stat.st_mtime_ns for stat in inside),
        1,
    )
    assert bridge.splits(root) == []
    with pytest.raises(SpecError, match="no split 'train'"):
        bridge.files(root, "train", {})
    with pytest.raises(RdtError, match="no option 'files'"):
        bridge.files(root, None, {"files": "*"})


@pytest.mark.parametrize("below", [".", "datacol1", f"datacol1/toykitchen1/00/{DATED}/raw/traj_group0"])
def test_it_is_found_from_any_folder_above(below: str, trajectory):
    root = trajectory() / below
    assert detect(root) == [("bridge_raw", root)]
    assert bridge.open_file(root, bridge.files(root, None, {})[0], {})[0].name.endswith("traj0")
    assert not bridge.find(root / "nothing")
    assert not bridge.find(next(root.rglob("lang.txt")))


def test_it_is_recognised_by_a_folder_above_or_below(trajectory, tmp_path: Path):
    assert recognised(trajectory()) == recognised(tmp_path) == "bridgev2"


def broken(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "obs_dict.pkl").unlink(), "obs_dict.pkl cannot be read: No such file"),
        (broken("policy_out.pkl", pickle.dumps(list(ACTIONS))[:-9]), "policy_out.pkl: not a sound pickle"),
        (broken("policy_out.pkl", pickle.dumps(Path("x"))), "policy_out.pkl: this file wants to run pathlib"),
        (broken("policy_out.pkl", pickle.dumps([{"action": 1}])), "holds no list of actions"),
        (broken("obs_dict.pkl", pickle.dumps([1])), "obs_dict.pkl holds list, not a dict"),
    ],
)
def test_a_broken_trajectory_says_which_file_is_wrong(change, problem: str, trajectory):
    with pytest.raises(SourceError, match=problem) as error:
        only(trajectory(change))
    assert error.value.file.endswith("raw/traj_group0/traj0")
    assert error.value.remedy


@pytest.mark.parametrize(
    ("change", "camera", "problem"),
    [
        (lambda f: (f / "images0/im_3.jpg").unlink(), "images0", "im_3.jpg is missing, im_11.jpg is there"),
        (lambda f: [(f / f"images0/im_{n}.jpg").unlink() for n in (10, 11)], "images0", "10 images for 11 actions"),
        (lambda f: (f / "images0/im_12.jpg").touch(), "images0", "13 images for 11 actions"),
        (lambda f: None, "images2", "there is no such camera"),
    ],
)
def test_images_that_do_not_fit_the_actions_are_an_error(change, camera: str, problem: str, trajectory):
    raw = only(trajectory(change))
    with pytest.raises(SourceError, match=problem) as error:
        list(raw.frames(camera))
    assert (error.value.field, error.value.episode) == (camera, 0)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("obs_dict/qpos", "there is no such value"),
        ("obs_dict/full_state", "9 rows for 11 actions"),
        ("obs_dict/note", "not numbers"),
        ("policy_out/policy_type", "not numbers"),
        ("obs_dict/ragged", "its steps differ in shape"),
    ],
)
def test_values_that_do_not_fit_are_an_error(key: str, problem: str, trajectory):
    raw = only(trajectory(observed={"full_state": STATE[:9], "note": "x", "ragged": [[1], [1, 2]]}))
    with pytest.raises(SourceError, match=problem) as error:
        raw.array(key)
    assert error.value.field == key


def test_it_converts_and_verifies(trajectory, tmp_path: Path, command):
    source = trajectory()
    trajectory(number=1)
    assert command("convert", source, tmp_path / "store.zarr").code == 0
    assert command("verify", tmp_path / "store.zarr", "--source", source).code == 0


def test_the_golden_of_the_published_conversion(shared: Path):
    source = shared / "goldens/bridgev2"
    golden = np.load(source / "golden.npz", allow_pickle=False)
    assert recognised(source / "source") == "bridgev2"
    spec = catalog.get("bridgev2")
    assert spec.control_hz == golden["control_freq"]
    assert {slot: camera.from_[0] for slot, camera in spec.cameras.items()} == {"exterior": str(golden["cam_exterior"])}
    (root,) = bridge.find(source / "source")
    files = bridge.files(root, None, spec.options)
    assert len(files) == int(golden["n_episodes"])
    for i, file in enumerate(files):
        raw = bridge.open_file(root, file, spec.options)[0]
        assert (file.path, len(raw)) == (str(golden[f"ep{i}_file"]), int(golden[f"ep{i}_num_steps"]))
        state, mask = read_fields(spec.state, raw, spec.control_hz)
        np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
        assert instruction_of(spec, raw) == (
            str(golden[f"ep{i}_instruction"]),
            str(golden[f"ep{i}_instruction_raw"]),
        )
        first = decode_jpeg(next(raw.frames("images0")))
        np.testing.assert_allclose(first.mean((0, 1)), golden[f"ep{i}_rgb0_images0"], atol=1)
        check_commands(action_of(spec, "recorded", state, mask, raw)[0], golden[f"ep{i}_action_arm_concat"])


def check_commands(action: np.ndarray, published: np.ndarray) -> None:
    """Displacement, quaternion of the rotation, gripper."""
    np.testing.assert_allclose(action[:, 39:42] / 5, published[:, :3], atol=1e-5)
    quaternion = run([parse_op("euler_xyz_to_quat_xyzw")], action[:, 42:45] / 5, 5)
    np.testing.assert_allclose(quaternion, published[:, 3:7], atol=1e-5)
    np.testing.assert_allclose(action[:, 10], published[:, 7], atol=1e-5)
