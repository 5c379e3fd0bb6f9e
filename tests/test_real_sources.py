"""Real episodes and goldens from `../shared`, converted, read back and verified; skipped where it is absent."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import rdt_data
from converters import catalog
from converters.plan import Request
from converters.run import convert_dataset
from converters.source import recognised
from converters.verify import verify_store

REAL = {
    "data/bridge_rlds": ("bridge_dataset", 25, 250),
    "data/aloha_sim/transfer_cube": ("aloha_sim", 6, 1391),
    "data/aloha_sim/transfer_cube_raw_120x160": ("aloha_sim", 1, 292),
}
GOLDENS = {
    "bridge": "bridge",
    "fractal20220817_data": "fractal20220817_data",
    "kuka": "kuka",
    "aloha_static/source": "aloha_static",
    "aloha_static_raw_images/source": "aloha_static",
}


def convert(source: Path, dest: Path, name: str, **options) -> rdt_data.Dataset:
    report = convert_dataset(source, dest, Request.of(catalog.get(name), **options))
    assert report.quarantined == []
    verified = verify_store(str(dest), source)
    assert verified.problems == []
    assert verified.episodes == report.episodes
    return rdt_data.open_dataset(str(dest))


@pytest.mark.parametrize("path", REAL)
def test_real_episodes_convert_and_equal_their_source(shared, tmp_path, path):
    name, episodes, steps = REAL[path]
    assert recognised(shared / path) == name
    ds = convert(shared / path, tmp_path / "real.zarr", name)
    assert (len(ds), ds.steps, ds.control_hz) == (episodes, steps, catalog.get(name).control_hz)
    assert all(episode.instruction for episode in ds)


def test_both_splits_of_bridge_hold_the_same_trajectories(shared, tmp_path):
    source = shared / "data/bridge_rlds"
    train = convert(source, tmp_path / "train.zarr", "bridge_dataset")
    val = convert(source, tmp_path / "val.zarr", "bridge_dataset", split="val")
    assert sorted(e.state.tobytes() for e in train) == sorted(e.state.tobytes() for e in val)


def test_the_red_cube_of_the_simulated_aloha_is_red_in_jpeg_and_in_raw_frames(shared, tmp_path):
    """Its JPEGs hold red and blue exchanged; the spec says so, the store puts it right without decoding."""
    for path in ("transfer_cube", "transfer_cube_raw_120x160"):
        ds = convert(shared / "data/aloha_sim" / path, tmp_path / f"{path}.zarr", "aloha_sim")
        frame = ds[0].images("exterior")[0].astype(int)
        red = (frame[..., 0] - frame[..., 2] > 80).sum()
        blue = (frame[..., 2] - frame[..., 0] > 80).sum()
        assert red > 5 * (blue + 1), path
    assert rdt_data.open_dataset(str(tmp_path / "transfer_cube.zarr")).camera_formats["exterior"].swapped


def test_wrist_cameras_that_only_one_episode_has_are_masked_in_the_others(shared, tmp_path):
    ds = convert(shared / "data/aloha_sim/transfer_cube", tmp_path / "sim.zarr", "aloha_sim")
    assert [len(episode.cameras) for episode in ds] == [1, 1, 1, 1, 1, 3]


@pytest.mark.parametrize("path", GOLDENS)
def test_goldens_give_the_published_vectors_words_cameras_and_rate(shared, tmp_path, path):
    folder = shared / "goldens" / path
    golden = np.load(shared / "goldens" / path.split("/")[0] / "golden.npz", allow_pickle=False)
    ds = convert(folder, tmp_path / "golden.zarr", GOLDENS[path])
    kept = [i for i in range(int(golden["n_episodes"])) if bool(golden.get(f"ep{i}_kept_by_filter", np.True_))]
    assert len(ds) == len(kept)
    for stored, i in zip(ds, kept, strict=True):
        np.testing.assert_allclose(stored.state, golden[f"ep{i}_state"], atol=1e-5)
        np.testing.assert_array_equal(np.tile(stored.state_mask, (len(stored), 1)), golden[f"ep{i}_state_mask"] != 0)
        assert stored.instruction == str(golden[f"ep{i}_instruction"])
        assert stored.instruction_raw == str(golden[f"ep{i}_instruction_raw"])
    if float(golden["control_freq"]) > 0:
        assert ds.control_hz == float(golden["control_freq"])
        for slot in ("exterior", "right_wrist", "left_wrist"):
            camera = str(golden[f"cam_{slot}"])
            assert (slot in ds.cameras) == bool(camera)
            if camera:
                assert catalog.get(GOLDENS[path]).cameras[slot].from_[0].split("/")[-1] == camera


def test_a_folder_named_like_a_dataset_of_another_container_is_not_taken_for_it(tmp_path):
    (tmp_path / "bridge").mkdir()
    with h5py.File(tmp_path / "bridge" / "episode_0.hdf5", "w") as file:
        file["action"] = np.zeros((3, 7), np.float32)
    assert recognised(tmp_path / "bridge") is None
