"""The store: what is written is read back, lazily, by path and by URL, by this project and by plain zarr."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import rdt_data
from rdt_data.episode import CameraFormat, Episode, same_in_all_steps
from rdt_data.errors import RdtError, StoreError
from rdt_data.images import decode, encode_jpeg, encode_png
from rdt_data.layout import CAMERAS
from rdt_data.ledger import Ledger, commit
from rdt_data.parts import PartWriter


def episode(number: int, steps: int, slots: int = 7) -> Episode:
    rng = np.random.default_rng(number)
    mask = np.arange(128) < slots
    state, action = (np.where(mask, rng.normal(size=(steps, 128)), 0).astype(np.float32) for _ in "ab")
    words = f"Do thing {number} – für Elise."
    return Episode(f"e{number}", f"file#{number}", state, action, mask, mask, words, words.lower(), 5.0)


def picture(seed: int, codec: str = "jpeg", swapped: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return encode_png(pixels) if codec == "png" else encode_jpeg(pixels, 90, swapped=swapped)


def make_store(dest: Path, parts: list[list[Episode]], cameras: dict[str, CameraFormat], lacks=()) -> None:
    """A store with the given episodes; those in `lacks` have no frames."""
    header = {
        "dataset": "made_up",
        "control_hz": 5.0,
        "cameras": {
            slot: {name: getattr(form, name) for name in CameraFormat.__slots__} for slot, form in cameras.items()
        },
        "request": {"action": "next-state"},
        "spec": {"title": "made up"},
        "spec_text": "title: made up\n",
    }
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
        for number, episodes in enumerate(parts):
            writer = PartWriter(ledger.path(number), cameras)
            for one in episodes:
                frames = {s: [picture(t, c.codec, c.swapped) for t in range(len(one))] for s, c in cameras.items()}
                writer.add(one, {} if one.id in lacks else frames)
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[len(part), sum(map(len, part))] for part in parts]})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("store") / "made.zarr"
    cameras = {"exterior": CameraFormat("jpeg", 24, 32), "right_wrist": CameraFormat("png", 24, 32)}
    make_store(dest, [[episode(0, 3), episode(1, 5)], [episode(2, 4)]], cameras, lacks={"e1"})
    return dest


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.lists(st.integers(1, 40), max_size=4), min_size=1, max_size=3))
def test_every_episode_is_read_back(tmp_path_factory, lengths):
    dest = tmp_path_factory.mktemp("store") / "made.zarr"
    numbers = iter(range(100))
    parts = [[episode(next(numbers), steps) for steps in part] for part in lengths]
    make_store(dest, parts, {})
    ds = rdt_data.open_dataset(str(dest))
    flat = [one for part in parts for one in part]
    assert len(ds) == len(flat)
    assert [e.id for e in ds[1::2]] == [e.id for e in flat[1::2]]
    assert ds.steps == sum(map(len, flat))
    for stored, written in zip(ds, flat, strict=True):
        for name in ("state", "action", "state_mask", "action_mask"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(written, name))
        for name in ("id", "source", "instruction", "instruction_raw", "control_hz"):
            assert getattr(stored, name) == getattr(written, name)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), steps=st.lists(st.integers(1, 600), min_size=1, max_size=4), data=st.data())
def test_masks_that_differ_from_step_to_step_are_read_back(tmp_path_factory, seed, steps, data):
    rng = np.random.default_rng(seed)
    written = []
    for number, length in enumerate(steps):
        one = episode(number, length)
        if data.draw(st.booleans()):
            masks = [same_in_all_steps(rng.random((length, 128)) < 0.5) for _ in "ab"]
            one = replace(one, state_mask=masks[0], action_mask=masks[1])
        written.append(one)
    dest = tmp_path_factory.mktemp("store") / "made.zarr"
    make_store(dest, [written], {})
    ds = rdt_data.open_dataset(str(dest))
    for stored, one in zip(ds, written, strict=True):
        for name in ("state_mask", "action_mask"):
            assert getattr(stored, name).dtype == np.bool_
            np.testing.assert_array_equal(getattr(stored, name), getattr(one, name))
    differ = any(one.state_mask.ndim == 2 or one.action_mask.ndim == 2 for one in written)
    assert ((dest / "parts/0/state_mask").exists() or (dest / "parts/0/action_mask").exists()) == differ
    kept = zarr.open(dest, mode="r")["parts/0/episodes/state_mask"][:]
    np.testing.assert_array_equal(kept, [np.atleast_2d(one.state_mask).any(axis=0) for one in written])


def test_frames_are_lazy_arrays(store):
    frames = rdt_data.open_dataset(str(store))[0].images("exterior")
    assert frames.shape == (3, 24, 32, 3)
    whole = frames[:]
    for steps in (slice(0, 2), slice(None, None, -1), slice(1, None, 2), slice(2, 2), slice(-2, None)):
        np.testing.assert_array_equal(frames[steps], whole[steps])
    np.testing.assert_array_equal(frames[-1], whole[2])
    np.testing.assert_array_equal(whole[1], decode(picture(1)))
    with pytest.raises(IndexError):
        frames[3]


def test_stored_bytes_are_those_that_were_given(store):
    last = rdt_data.open_dataset(str(store))[-1]
    assert [last.encoded("exterior", step) for step in range(4)] == [picture(step) for step in range(4)]
    assert last.encoded("right_wrist", -1) == picture(3, "png")


def test_an_episode_without_a_camera_says_so(store):
    ds = rdt_data.open_dataset(str(store))
    assert ds[1].cameras == ()
    assert ds[0].cameras == ("exterior", "right_wrist")
    np.testing.assert_array_equal(ds[0].image_mask, [slot in ds[0].cameras for slot in CAMERAS])
    with pytest.raises(RdtError, match="e1 has no frames of exterior"):
        ds[1].images("exterior")
    with pytest.raises(RdtError, match="did you mean 'exterior'"):
        ds[0].images("exteriour")


@pytest.mark.parametrize("url", ["path", "file", "memory"])
def test_a_store_opens_by_path_and_by_url(store, url):
    if url == "memory":
        fsspec.filesystem("memory").put(str(store), "/made.zarr", recursive=True)
    address = {"path": str(store), "file": f"file://{store}", "memory": "memory://made.zarr"}[url]
    ds = rdt_data.open_dataset(address)
    assert (len(ds), ds.control_hz, ds.cameras, ds.spec["title"]) == (3, 5.0, ("exterior", "right_wrist"), "made up")
    np.testing.assert_array_equal(ds[2].state, episode(2, 4).state)
    np.testing.assert_array_equal(ds[2].images("exterior")[3], decode(picture(3)))
    assert ds[2].instruction == "Do thing 2 – für Elise."


def test_plain_zarr_reads_pixels_in_a_process_that_never_imported_this_project(store):
    code = f"""
import sys, zarr
group = zarr.open({str(store)!r}, mode="r")
assert "rdt_data" not in sys.modules
print(group["parts/0/images/exterior"][1].tobytes().hex())
print(group["parts/0/images/right_wrist"][2].tobytes().hex())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    jpeg, png = (bytes.fromhex(line) for line in done.stdout.split())
    assert jpeg == decode(picture(1)).tobytes()
    assert png == decode(picture(2, "png")).tobytes()


@pytest.mark.parametrize(("codec", "swapped"), [("jpeg", False), ("jpeg", True), ("png", False)])
def test_zarr_writes_and_reads_frames_through_the_codecs(tmp_path, codec, swapped):
    dest = tmp_path / "made.zarr"
    make_store(dest, [[episode(0, 3)]], {"exterior": CameraFormat(codec, 24, 32, swapped=swapped)})
    array = zarr.open_group(dest, mode="r+")["parts/0/images/exterior"]
    right = decode(picture(2, codec, swapped), swapped=swapped)
    np.testing.assert_array_equal(array[2], right)
    array[0] = right
    assert np.abs(array[0].astype(int) - right).mean() < 12  # blocks of noise: 4:2:0 blurs their colour
    np.testing.assert_array_equal(rdt_data.open_dataset(str(dest))[0].images("exterior")[0], array[0])


def test_no_store_another_program_and_a_newer_format_are_told_apart(tmp_path, store):
    with pytest.raises(StoreError, match="not a Zarr v3 store"):
        rdt_data.open_dataset(str(tmp_path / "nothing.zarr"))
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="another program"):
        rdt_data.open_dataset(str(tmp_path / "other.zarr"))
    zarr.create_group(tmp_path / "older.zarr", attributes={"format": "rdt-data", "version": 1})
    with pytest.raises(StoreError, match=r"format version 1, this program reads 2[\s\S]*rdt-data migrate"):
        rdt_data.open_dataset(str(tmp_path / "older.zarr"))
    zarr.create_group(tmp_path / "newer.zarr", attributes={"format": "rdt-data", "version": 99})
    with pytest.raises(StoreError, match="format version 99"):
        rdt_data.open_dataset(str(tmp_path / "newer.zarr"))


def test_opening_reads_no_array(store):
    ds = rdt_data.open_dataset(str(store))
    assert len(ds) == 3
    first = ds[0]
    assert ds._tables[0]._columns == {}
    assert len(first) == 3
    assert set(ds._tables[0]._columns) == {"length"}


def test_an_episode_of_the_wrong_shape_is_refused():
    right = episode(0, 3)
    fields = {name: getattr(right, name) for name in Episode.__dataclass_fields__}
    with pytest.raises(RdtError, match=r"action is float32 \(2, 128\)"):
        Episode(**{**fields, "action": right.action[:2]})
    with pytest.raises(RdtError, match="state_mask is float32"):
        Episode(**{**fields, "state_mask": right.state[0]})
