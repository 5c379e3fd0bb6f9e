"""Inspection: what is there is listed, and what looks wrong is warned about, with the evidence."""

import h5py
import numpy as np
import pytest

from converters import catalog
from converters.channels import exchanged
from converters.demo_data import write_demo_data
from converters.inspect import inspect_path
from converters.montage import CELL, montage
from converters.plan import Request
from converters.run import convert_dataset
from rdt_data.errors import SourceError
from rdt_data.images import decode, encode_jpeg


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo_data(tmp_path_factory.mktemp("demo"), episodes=4)


def aloha_file(path, *, swapped=False, rate=50.0, black=False) -> None:
    """An episode of a red block before grey, its joints moving at a known rate."""
    steps = 40
    frame = np.full((48, 64, 3), 0 if black else 120, np.uint8)
    frame[20:30, 20:40] = 0 if black else (220, 30, 30)
    jpeg = encode_jpeg(frame, 95, swapped=swapped)
    seconds = np.arange(steps)[:, None] / rate
    phase = np.arange(14)
    with h5py.File(path, "w") as file:
        file["observations/qpos"] = np.sin(3 * seconds + phase).astype(np.float32)
        file["observations/qvel"] = (3 * np.cos(3 * seconds + phase)).astype(np.float32)
        file["action"] = np.zeros((steps, 14), np.float32)
        file["instruction"] = "Pick up the red block."
        for name in ("cam_high", "cam_right_wrist", "cam_left_wrist"):
            file[f"observations/images/{name}"] = np.tile(np.frombuffer(jpeg, np.uint8), (steps, 1))


@pytest.mark.parametrize("kind", ["aloha", "rlds"])
def test_every_key_camera_and_instruction_of_a_source_is_listed(demo, kind):
    found, pictures = inspect_path(str(demo.roots[kind]))
    episodes = {"aloha": 4, "rlds": 3}[kind]  # of the RLDS splits, train is looked at
    assert found.episodes == episodes
    assert len(found.cameras) == 3
    assert len(pictures) == 3 * episodes
    assert found.lengths == {"shortest": 40, "median": 40, "longest": 40}
    assert any("float32 (40, 14)" in text for text in found.values.values())
    assert sum(found.instructions.values()) == episodes
    assert found.about["spec"] == {"aloha": "demo_aloha", "rlds": "demo_two_arm"}[kind]
    assert found.about["fills"].startswith("right_arm_joint_pos[0:6]")
    assert found.warnings == []


def test_a_store_is_described_slot_by_slot(demo, tmp_path):
    convert_dataset(demo.roots["aloha"], tmp_path / "d.zarr", Request.of(catalog.get("demo_aloha")))
    found, pictures = inspect_path(str(tmp_path / "d.zarr"))
    assert (found.episodes, found.about["rate"]) == (4, "10 Hz")
    assert "left_gripper_open" in str(found)
    assert {name.split()[1] for name in found.values if name.startswith("state")} >= {"right_gripper_open"}
    assert found.warnings == []
    assert len(pictures) == 12


@pytest.mark.parametrize(
    ("swapped", "dataset", "warned"), [(False, "aloha_static", False), (True, "aloha_static", True)]
)
def test_exchanged_red_and_blue_are_noticed(tmp_path, swapped, dataset, warned):
    aloha_file(tmp_path / "episode_0.hdf5", swapped=swapped)
    found, _ = inspect_path(str(tmp_path), dataset)
    about = [text for text in found.warnings if "exchanged" in text]
    assert bool(about) == warned
    assert all('names "red", but there is no red, and blue' in text and "`channels: bgr`" in text for text in about)


def test_a_spec_that_says_bgr_of_frames_that_are_rgb_is_noticed_too(tmp_path):
    aloha_file(tmp_path / "episode_0.hdf5")
    with h5py.File(tmp_path / "episode_0.hdf5", "r+") as file:
        file.move("observations/images/cam_high", "observations/images/top")
    found, _ = inspect_path(str(tmp_path), "aloha_sim")
    assert any("observations/images/top" in text and "`channels: rgb`" in text for text in found.warnings)


@pytest.mark.parametrize(("rate", "warned"), [(50.0, False), (45.0, False), (25.0, True), (10.0, True), (200.0, True)])
def test_a_rate_that_positions_and_velocities_contradict_is_noticed(tmp_path, rate, warned):
    aloha_file(tmp_path / "episode_0.hdf5", rate=rate)
    found, _ = inspect_path(str(tmp_path), "aloha_static")
    about = [text for text in found.warnings if "positions and velocities" in text]
    assert bool(about) == warned
    assert all(f"about {rate:.0f} Hz" in text for text in about)


def test_black_cameras_and_broken_files_are_warned_about(tmp_path):
    aloha_file(tmp_path / "episode_0.hdf5", black=True)
    aloha_file(tmp_path / "episode_1.hdf5")
    data = (tmp_path / "episode_1.hdf5").read_bytes()
    (tmp_path / "episode_1.hdf5").write_bytes(data[: len(data) // 2])
    found, _ = inspect_path(str(tmp_path), "aloha_static")
    assert "observations/images/cam_high: an episode is all black" in found.warnings
    assert any(text.startswith("episode_1.hdf5, episode 0") for text in found.warnings)


def test_what_cannot_be_inspected_says_so(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        inspect_path(str(tmp_path / "nothing"))
    (tmp_path / "note.txt").write_text("no data")
    with pytest.raises(SourceError, match="nothing that can be read"):
        inspect_path(str(tmp_path))


def test_scenes_with_both_colours_or_without_strong_ones_are_left_alone():
    grey = [np.full((8, 8, 3), 128, np.uint8)]
    both = [np.concatenate([np.full((8, 8, 3), (200, 20, 20)), np.full((8, 8, 3), (20, 20, 200))]).astype(np.uint8)]
    for words in ("pick up the red cube", "pick up the blue cube", "pick up the cube", "red and blue"):
        assert exchanged(grey, words) is None
        assert exchanged(both, words) is None


def test_a_montage_shows_every_frame(tmp_path):
    red, tall = np.full((10, 20, 3), (250, 0, 0), np.uint8), np.full((30, 20, 3), (0, 0, 250), np.uint8)
    sheet = decode(montage([("red", red), ("tall and blue, with a long caption " * 4, tall), ("red", red)], columns=2))
    assert sheet.shape[1] > 2 * CELL
    assert (sheet == (250, 0, 0)).all(axis=-1).sum() == 2 * CELL * CELL // 2
    assert (sheet == (0, 0, 250)).all(axis=-1).sum() == CELL * CELL * 3 // 2
