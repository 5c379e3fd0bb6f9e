"""Exports hold what the store holds: vectors bit for bit, frames within what is said, and the way back is the identity.

That the `lerobot` package itself opens them is checked by benchmarks/check_lerobot_export.py.
"""

import fcntl
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from converters.exports.export import export_store
from converters.exports.files import FileNumber
from converters.exports.stats import FrameStats, sampled_steps, stats_of, together
from rdt_data import video
from rdt_data.episode import CameraFormat, Episode
from rdt_data.errors import RdtError, StoreError
from rdt_data.images import decode, encode_jpeg, encode_png
from rdt_data.layout import resolve
from rdt_data.ledger import Ledger, commit
from rdt_data.parts import PartWriter
from rdt_data.split import Split, split_store
from rdt_data.store import open_dataset
from rdt_data.video_write import VideoFile

SLOTS = [*resolve("right_arm_joint_pos", 6), *resolve("right_gripper_open", 1), *resolve("base_lin_vel", 2)]
JPEG = CameraFormat("jpeg", 48, 64)


def episode(number: int, steps: int, slots=SLOTS) -> Episode:
    rng = np.random.default_rng(number)
    mask = np.isin(np.arange(128), slots)
    state, action = (np.where(mask, rng.normal(size=(steps, 128)), 0).astype(np.float32) for _ in "ab")
    words = "Push the block." if number % 2 else "Für Elise."
    return Episode(f"e{number}", f"file#{number}", state, action, mask, mask.copy(), words, words.lower(), 5.0)


def picture(seed: int) -> np.ndarray:
    """A smooth scene with a coloured block whose place depends on the seed."""
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 4, columns * 3, 255 - rows * 2 - columns], axis=-1).astype(np.uint8)
    at = 5 * seed % 40
    pixels[10:22, at : at + 12] = (200, 30, 40)
    return pixels


def stored(pixels: np.ndarray, form: CameraFormat) -> bytes:
    return encode_png(pixels) if form.codec == "png" else encode_jpeg(pixels, 95, swapped=form.swapped)


def make_store(dest: Path, parts, cameras=None, *, lacks=(), hz: float = 5.0, finish: bool = True) -> Path:
    """A store of episodes; `lacks` are pairs (id, slot) without frames."""
    cameras = cameras or {}
    header = {
        "dataset": "made_up",
        "control_hz": hz,
        "cameras": {slot: asdict(form) for slot, form in cameras.items()},
        "request": {"action": "next-state", "corrected": False},
        "spec": {"title": "made up"},
        "spec_text": "title: made up\n",
    }
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
        for number, episodes in enumerate(parts):
            writer = PartWriter(ledger.path(number), cameras)
            for one in episodes:
                pictures = [picture(step + len(one)) for step in range(len(one))]
                frames = {s: [stored(p, c) for p in pictures] for s, c in cameras.items() if (one.id, s) not in lacks}
                writer.add(replace(one, control_hz=hz), frames)
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        if finish:
            ledger.finish({"parts": [[len(part), sum(map(len, part))] for part in parts]})
    return dest


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(float) - b) ** 2).mean())
    return 10 * np.log10(255**2 / error) if error else np.inf


def table(folder: Path, pattern: str) -> dict[str, list]:
    return pq.read_table(sorted(folder.glob(pattern))).to_pydict()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("store") / "made.zarr"
    cameras = {"exterior": JPEG, "right_wrist": CameraFormat("png", 48, 64)}
    return make_store(dest, [[episode(0, 7), episode(1, 4)], [episode(2, 9)]], cameras)


@pytest.fixture(scope="module")
def lerobot(store, tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("export") / "lerobot"
    export_store(str(store), dest, "lerobot")
    return dest


def test_a_lerobot_dataset_says_what_it_holds(lerobot):
    info = json.loads((lerobot / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == (5, 3, 20, 2)
    state = info["features"]["observation.state"]
    assert state["shape"] == [9]
    assert state["names"][5:8] == ["right_arm_joint_5_pos", "right_gripper_open", "base_vel_x"]
    assert info["features"]["observation.images.exterior"]["shape"] == [48, 64, 3]
    assert not any(key.startswith("mask.") for key in info["features"])
    tasks = pq.read_table(lerobot / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["Für Elise.", "Push the block."]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_lerobot_vectors_are_those_of_the_store_bit_for_bit(store, lerobot):
    rows = table(lerobot, "data/*/*.parquet")
    dataset = open_dataset(str(store))
    for key, name in (("observation.state", "state"), ("action", "action")):
        want = np.concatenate([getattr(one, name)[:, SLOTS] for one in dataset])
        np.testing.assert_array_equal(np.array(rows[key], np.float32), want)
    assert rows["index"] == list(range(20))
    assert rows["frame_index"] == [*range(7), *range(4), *range(9)]
    assert rows["episode_index"] == [0] * 7 + [1] * 4 + [2] * 9
    assert rows["task_index"] == [0] * 7 + [1] * 4 + [0] * 9
    np.testing.assert_array_equal(rows["timestamp"], (np.array(rows["frame_index"]) / 5).astype(np.float32))


def test_lerobot_episodes_say_where_each_lies(lerobot):
    rows = table(lerobot, "meta/episodes/*/*.parquet")
    assert rows["dataset_from_index"] == [0, 7, 11]
    assert rows["dataset_to_index"] == [7, 11, 20]
    assert rows["videos/observation.images.exterior/from_timestamp"] == [0, 7 / 5, 11 / 5]
    assert rows["videos/observation.images.exterior/to_timestamp"] == [7 / 5, 11 / 5, 20 / 5]
    assert rows["rdt/id"] == ["e0", "e1", "e2"]
    assert rows["rdt/source"] == ["file#0", "file#1", "file#2"]


def test_lerobot_statistics_are_those_of_the_vectors(store, lerobot):
    stats = json.loads((lerobot / "meta/stats.json").read_text())["observation.state"]
    values = np.concatenate([one.state[:, SLOTS] for one in open_dataset(str(store))]).astype(np.float64)
    assert stats["count"] == [20]
    for name, want in (
        ("min", values.min(0)),
        ("max", values.max(0)),
        ("mean", values.mean(0)),
        ("std", values.std(0)),
    ):
        np.testing.assert_allclose(stats[name], want, rtol=1e-6, atol=1e-9)
    rows = table(lerobot, "meta/episodes/*/*.parquet")
    np.testing.assert_allclose(rows["stats/observation.state/mean"][1], values[7:11].mean(0))
    assert np.array(rows["stats/observation.images.exterior/q50"][0]).shape == (3, 1, 1)


@pytest.mark.parametrize("slot", ["exterior", "right_wrist"])
def test_video_frames_are_shown_at_their_step_and_look_like_the_stored_ones(store, lerobot, slot):
    path = lerobot / f"videos/observation.images.{slot}/chunk-000/file-000.mp4"
    np.testing.assert_allclose(video.frame_times(path), np.arange(20) / 5, atol=1e-6)
    want = [frame for one in open_dataset(str(store)) for frame in one.images(slot)[:]]
    for got, frame in zip(video.read_frames(path, 0, 20), want, strict=True):
        assert psnr(got, frame) >= 40


def test_even_noise_is_kept_within_40_db(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    with VideoFile(tmp_path / "noise.mp4", fps=10, height=48, width=64) as file:
        for frame in frames:
            file.add(frame)
    assert all(psnr(*pair) >= 40 for pair in zip(video.read_frames(tmp_path / "noise.mp4", 0, 6), frames, strict=True))


@pytest.mark.parametrize("form", [JPEG, CameraFormat("png", 48, 64)], ids=["jpeg", "png"])
def test_images_are_the_stored_bytes(tmp_path, form):
    made = make_store(tmp_path / "made.zarr", [[episode(0, 300)]], {"exterior": form})
    export_store(str(made), tmp_path / "out", "lerobot", options={"images": "image"})
    rows = table(tmp_path / "out", "data/*/*.parquet")
    one = open_dataset(str(made))[0]
    assert [row["bytes"] for row in rows["observation.images.exterior"]] == [
        one.encoded("exterior", step) for step in range(300)
    ]


def test_images_with_exchanged_colours_are_put_right_without_loss(tmp_path):
    form = CameraFormat("jpeg", 48, 64, swapped=True)
    made = make_store(tmp_path / "made.zarr", [[episode(0, 3)]], {"exterior": form})
    export_store(str(made), tmp_path / "out", "lerobot", options={"images": "image"})
    rows = table(tmp_path / "out", "data/*/*.parquet")["observation.images.exterior"]
    frames = open_dataset(str(made))[0].images("exterior")
    for step, row in enumerate(rows):
        np.testing.assert_array_equal(decode(row["bytes"]), frames[step])


def masked_episodes() -> list[Episode]:
    """Episodes whose masks differ, within one of them from step to step too."""
    whole, fewer, changing = episode(0, 6), episode(1, 5, SLOTS[:6]), episode(2, 7)
    real = np.tile(changing.state_mask, (7, 1))
    real[2:4, SLOTS[0]] = real[5, SLOTS[8]] = False
    return [whole, fewer, replace(changing, state=np.where(real, changing.state, 0), state_mask=real)]


def test_what_is_not_real_is_masked(tmp_path):
    made = make_store(tmp_path / "made.zarr", [masked_episodes()])
    export_store(str(made), tmp_path / "out", "lerobot")
    rows = table(tmp_path / "out", "data/*/*.parquet")
    for name in ("state", "action"):
        want = [np.broadcast_to(getattr(one, f"{name}_mask"), (len(one), 128)) for one in open_dataset(str(made))]
        np.testing.assert_array_equal(rows[f"mask.{name}"], np.concatenate(want)[:, SLOTS])


@pytest.mark.parametrize("full", [False, True], ids=["real slots", "all slots"])
@pytest.mark.parametrize("images", ["video", "image"])
def test_an_export_converts_back_to_the_same_store(tmp_path, command, images, full):
    cameras = {"exterior": JPEG, "left_wrist": JPEG}
    lacks = {("e0", "left_wrist")}
    made = make_store(tmp_path / "made.zarr", [masked_episodes()[:1], masked_episodes()[1:]], cameras, lacks=lacks)
    arguments = ["--images", images, *(["--full"] if full else [])]
    done = command("export", made, tmp_path / "out", "--format", "lerobot", *arguments)
    assert done.code == 0, done.err
    assert "left_wrist: 1 episodes lack it" in done.out
    spec = tmp_path / "out/meta/rdt_spec.yaml"
    codec = "png" if images == "video" else "keep"  # JPEG would add a loss of its own
    done = command("convert", tmp_path / "out", tmp_path / "back.zarr", "--spec", spec, "--codec", codec)
    assert done.code == 0, done.err
    there, back = open_dataset(str(made)), open_dataset(str(tmp_path / "back.zarr"))
    assert (len(back), back.control_hz) == (3, 5)
    for one, again in zip(there, back, strict=True):
        assert (again.instruction, again.cameras) == (one.instruction, one.cameras)
        for name in ("state", "action", "state_mask", "action_mask"):
            np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
        for slot in one.cameras:
            assert min(map(psnr, again.images(slot)[:], one.images(slot)[:])) >= 40
            if images == "image":
                assert again.encoded(slot, 2) == one.encoded(slot, 2)


def test_a_vector_of_one_number_is_a_plain_column(tmp_path, command):
    made = make_store(tmp_path / "made.zarr", [[episode(0, 4, SLOTS[:1])]])
    export_store(str(made), tmp_path / "out", "lerobot")
    rows = table(tmp_path / "out", "data/*/*.parquet")
    np.testing.assert_array_equal(np.array(rows["action"], np.float32), open_dataset(str(made))[0].action[:, 0])
    spec = tmp_path / "out/meta/rdt_spec.yaml"
    assert command("convert", tmp_path / "out", tmp_path / "back.zarr", "--spec", spec).code == 0
    back = open_dataset(str(tmp_path / "back.zarr"))[0]
    np.testing.assert_array_equal(back.state, open_dataset(str(made))[0].state)


def test_full_files_are_followed_by_new_ones(tmp_path, store, command, monkeypatch):
    monkeypatch.setattr("converters.exports.files.DATA_MEGABYTES", 0)
    monkeypatch.setattr("converters.exports.files.VIDEO_SECONDS", 11 / 5)
    export_store(str(store), tmp_path / "out", "lerobot")
    rows = table(tmp_path / "out", "meta/episodes/*/*.parquet")
    assert rows["data/file_index"] == [0, 1, 2]
    assert rows["videos/observation.images.exterior/file_index"] == [0, 0, 1]
    assert rows["videos/observation.images.exterior/from_timestamp"] == [0, 7 / 5, 0]
    spec = tmp_path / "out/meta/rdt_spec.yaml"
    assert command("convert", tmp_path / "out", tmp_path / "back.zarr", "--spec", spec, "--codec", "png").code == 0
    for one, again in zip(open_dataset(str(store)), open_dataset(str(tmp_path / "back.zarr")), strict=True):
        np.testing.assert_array_equal(again.state, one.state)
        assert psnr(again.images("exterior")[1], one.images("exterior")[1]) >= 40


def test_a_thousand_files_make_a_chunk():
    at = FileNumber(0, 998)
    at.next()
    assert (at.chunk, at.file) == (0, 999)
    at.next()
    assert (at.chunk, at.file) == (1, 0)


def test_parquet_has_a_column_for_each_number_and_null_where_it_is_not_real(tmp_path):
    made = make_store(tmp_path / "made.zarr", [masked_episodes()], {"exterior": JPEG}, lacks={("e1", "exterior")})
    export_store(str(made), tmp_path / "out", "parquet")
    vectors = pq.read_table(tmp_path / "out/vectors.parquet")
    dataset = open_dataset(str(made))
    assert vectors.column_names[:4] == [
        "episode_index",
        "step",
        "state_right_arm_joint_0_pos",
        "state_right_arm_joint_1_pos",
    ]
    for name in ("state", "action"):
        for slot, column in (
            (SLOTS[0], "right_arm_joint_0_pos"),
            (SLOTS[6], "right_gripper_open"),
            (SLOTS[8], "base_vel_y"),
        ):
            real = np.concatenate(
                [np.broadcast_to(getattr(e, f"{name}_mask"), (len(e), 128))[:, slot] for e in dataset]
            )
            values = np.concatenate([getattr(e, name)[:, slot] for e in dataset])
            want = [float(value) if there else None for value, there in zip(values, real, strict=True)]
            assert vectors[f"{name}_{column}"].to_pylist() == want
    episodes = pq.read_table(tmp_path / "out/episodes.parquet").to_pydict()
    assert episodes["first_row"] == [0, 6, 11]
    assert episodes["length"] == [6, 5, 7]
    assert episodes["instruction_raw"] == ["für elise.", "push the block.", "für elise."]
    assert episodes["cameras"] == [["exterior"], [], ["exterior"]]
    np.testing.assert_array_equal(episodes["action_mask"], [e.action_mask for e in dataset])
    assert "split" not in episodes


def test_parquet_puts_short_episodes_together(tmp_path, monkeypatch):
    monkeypatch.setattr("converters.exports.parquet.ROWS_PER_GROUP", 10)
    made = make_store(tmp_path / "made.zarr", [[episode(number, 4) for number in range(7)]])
    export_store(str(made), tmp_path / "out", "parquet")
    about = pq.ParquetFile(tmp_path / "out/vectors.parquet").metadata
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [12, 12, 4]


def test_both_formats_carry_the_split_of_the_store(tmp_path):
    made = make_store(tmp_path / "made.zarr", [[episode(number, 2) for number in range(9)]])
    split_store(str(made), Split(0.5, 3))
    want = [Split(0.5, 3).side(one) for one in open_dataset(str(made))]
    assert len(set(want)) == 2
    for format, pattern, column in (
        ("parquet", "episodes.parquet", "split"),
        ("lerobot", "meta/episodes/*/*", "rdt/split"),
    ):
        export_store(str(made), tmp_path / format, format)
        assert table(tmp_path / format, pattern)[column] == want


def test_what_cannot_be_exported_is_said(tmp_path, store, command):
    done = command("export", store, tmp_path / "out", "--format", "lerobot", "--camera", "left_wrist")
    assert done.code == 1
    assert "no camera of this store is called 'left_wrist'" in done.err
    done = command("export", store, tmp_path / "out", "--format", "parquet", "--images", "image")
    assert "images say nothing for parquet" in done.err
    fraction = make_store(tmp_path / "fraction.zarr", [[episode(0, 2)]], hz=12.5)
    with pytest.raises(RdtError, match=r"12.5 Hz; LeRobot's `fps` is a whole number[\s\S]*--format parquet"):
        export_store(str(fraction), tmp_path / "out", "lerobot")
    unfinished = make_store(tmp_path / "unfinished.zarr", [[episode(0, 2)]], finish=False)
    with pytest.raises(StoreError, match="is not finished"):
        export_store(str(unfinished), tmp_path / "out", "parquet")
    empty = make_store(tmp_path / "empty.zarr", [[]])
    with pytest.raises(StoreError, match="holds no episode"):
        export_store(str(empty), tmp_path / "out", "parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.zarr", "fraction.zarr", "unfinished.zarr"]


def test_nothing_is_overwritten(tmp_path, store):
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        export_store(str(store), tmp_path / "out", "parquet")


@pytest.mark.parametrize("format", ["lerobot", "parquet"])
def test_an_interrupted_export_leaves_nothing(tmp_path, store, format):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(str(store), tmp_path / "out", format, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_cleared_and_a_running_one_respected(tmp_path, store):
    left = tmp_path / ".out.partial"
    (left / "data").mkdir(parents=True)
    (left / "junk").write_text("half")
    lock = os.open(left, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another process is writing"):
        export_store(str(store), tmp_path / "out", "parquet")
    os.close(lock)
    export_store(str(store), tmp_path / "out", "parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["episodes.parquet", "vectors.parquet"]


numbers = arrays(np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1e3, 1e3, width=32))


@given(values=numbers, more=numbers)
def test_statistics_of_a_whole_are_those_of_its_pieces_together(values, more):
    whole, pieces = stats_of(np.concatenate([values, more])), together(stats_of(values), stats_of(more))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-6, atol=1e-4)


@given(frames=arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(6), st.just(5), st.just(3))))
def test_statistics_of_frames_are_those_of_their_pixels(frames):
    found = FrameStats()
    for frame in frames:
        found.add(frame)
    stats, pixels = found.stats(), frames.reshape(-1, 3) / 255
    assert stats["count"] == [len(frames)]
    for name, want in (
        ("min", pixels.min(0)),
        ("max", pixels.max(0)),
        ("mean", pixels.mean(0)),
        ("std", pixels.std(0)),
    ):
        np.testing.assert_allclose(stats[name].ravel(), want, atol=1e-9)
    ranked = np.sort(pixels, axis=0)
    np.testing.assert_allclose(stats["q50"].ravel(), ranked[(len(ranked) + 1) // 2 - 1], atol=1e-9)


@given(steps=st.integers(1, 5000))
def test_sampled_steps_are_few_and_reach_both_ends(steps):
    sampled = sampled_steps(steps)
    assert {0, steps - 1} <= sampled <= set(range(steps))
    assert len(sampled) == min(steps, 100)


def test_aloha_sim_goes_to_lerobot_and_back(tmp_path, shared, command):
    source = shared / "data/aloha_sim/transfer_cube"
    made, out, back = tmp_path / "made.zarr", tmp_path / "out", tmp_path / "back.zarr"
    assert command("convert", source, made, "--dataset", "aloha_sim", "--episodes", "5:6").code == 0
    assert command("export", made, out, "--format", "lerobot").code == 0
    assert command("convert", out, back, "--spec", out / "meta/rdt_spec.yaml").code == 0
    one, again = open_dataset(str(made))[0], open_dataset(str(back))[0]
    np.testing.assert_array_equal(again.state, one.state)
    np.testing.assert_array_equal(again.action, one.action)
    assert again.cameras == one.cameras == ("exterior", "right_wrist", "left_wrist")
    assert again.instruction == one.instruction
    for slot in one.cameras:
        there, then = again.images(slot), one.images(slot)
        assert min(psnr(there[step], then[step]) for step in range(0, len(one), 5)) >= 40
