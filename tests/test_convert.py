"""Conversion: how a source is cut into parts, what each option does, and that the way it is run changes nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.demo_data import ALOHA_CAMERAS, write_demo_data
from converters.plan import LARGEST_PART, MOST_EPISODES, SMALLEST_PART, cut
from converters.raw import SourceFile
from rdt_data.images import decode, encode_jpeg, encode_png
from rdt_data.store import Dataset, open_dataset

SPECS = Path(__file__).parents[1] / "converters" / "specs"

sizes = st.one_of(st.integers(0, 1000), st.integers(1 << 20, 400 << 20), st.integers(1 << 30, 1 << 36))
files = st.lists(st.builds(SourceFile, st.uuids().map(str), sizes, st.just(0), st.integers(0, 9000)), max_size=30)
ranges = st.none() | st.tuples(st.integers(0, 5000), st.integers(1, 5000)).map(lambda r: (r[0], r[0] + r[1]))


def listed(parts) -> list[tuple[str, int]]:
    return [(s.file.path, number) for part in parts for s in part for number in range(s.start, s.stop)]


@given(files=files, chosen=ranges)
def test_every_chosen_episode_is_in_one_part_in_order(files, chosen):
    everything = [(file.path, number) for file in files for number in range(file.episodes)]
    parts = cut(files, chosen)
    assert listed(parts) == everything[slice(*chosen) if chosen else slice(None)]
    assert all(segment.start < segment.stop for part in parts for segment in part)
    assert all(parts)


@given(files=files, chosen=ranges)
def test_parts_are_neither_large_nor_needlessly_small(files, chosen):
    parts = cut(files, chosen)
    sizes = [sum(segment.bytes for segment in part) for part in parts]
    counts = [sum(segment.stop - segment.start for segment in part) for part in parts]
    for part, size, count in zip(parts, sizes, counts, strict=True):
        one_episode = max(segment.file.bytes / segment.file.episodes for segment in part)
        assert count <= MOST_EPISODES
        assert size <= 1.2 * LARGEST_PART + one_episode + 1
    for number in range(len(parts) - 1):
        together = sizes[number] + parts[number + 1][0].bytes
        assert together > SMALLEST_PART or counts[number] + counts[number + 1] > MOST_EPISODES


@given(files=files)
def test_a_source_of_more_than_a_part_is_spread_over_several(files):
    total = sum(file.bytes for file in files if file.episodes)
    if total > 5 * SMALLEST_PART and max(file.bytes / max(file.episodes, 1) for file in files) < SMALLEST_PART:
        assert len(cut(files, None)) >= 3


def test_parts_depend_on_the_files_alone(big_source, command, tree, tmp_path):
    stores = {}
    for name, more in {"one": [], "two": ["--workers", 2], "quarantine": ["--on-error", "quarantine"]}.items():
        assert command("convert", big_source, tmp_path / name, *more).code == 0
        stores[name] = tree(tmp_path / name)
    assert len(open_dataset(str(tmp_path / "one")).parts) == 5
    assert stores["one"] == stores["two"] == stores["quarantine"]


def test_neither_workers_nor_ray_nor_the_working_directory_change_a_byte(big_source, program, tree, tmp_path):
    """The working directory holds modules of our names, which nobody may import; paths are relative to it."""
    for name in ("stats/__init__.py", "converters/__init__.py", "rdt_model/__init__.py", "cli.py", "rdt_data.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('raise RuntimeError("the wrong module: " + __file__)')
    (tmp_path / "source").symlink_to(big_source)

    def run(*arguments: str) -> None:
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "wrong module" not in done.stderr

    run("convert", "source", "one.zarr")
    run("convert", "source", "two.zarr", "--workers", "2")
    run("convert", "source", "ray.zarr", "--ray", "local")
    run("verify", "two.zarr", "--source", "source", "--workers", "2")
    one = tree(tmp_path / "one.zarr")
    assert one == tree(tmp_path / "two.zarr") == tree(tmp_path / "ray.zarr")


@pytest.fixture
def convert(command, tmp_path) -> Callable[..., Dataset]:
    """Convert into a new store and open it."""

    def run(source: Path, *options: object) -> Dataset:
        dest = tmp_path / f"store-{len(list(tmp_path.glob('store-*')))}.zarr"
        done = command("convert", source, dest, *options)
        assert (done.code, done.err) == (0, ""), done.err
        checked = command("verify", dest, "--source", source)
        assert checked.code == 0, checked.out
        return open_dataset(str(dest))

    return run


def own_spec(folder: Path, *edits: tuple[str, str], base: str = "demo_two_arm") -> Path:
    """A spec of the user's: that of demo_two_arm with some text replaced."""
    text = (SPECS / f"{base}.yaml").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("0:1", [0]), ("1:4", [1, 2, 3]), ("4:", [4, 5]), (":2", [0, 1]), (":", range(6)), ("5:100", [5])],
)
def test_episodes_are_chosen_over_all_files(rlds_source, convert, tmp_path, chosen, expected):
    source = rlds_source(tmp_path)
    whole, some = convert(source), convert(source, "--episodes", chosen)
    assert [episode.id for episode in some] == [whole[number].id for number in expected]
    for episode, number in zip(some, expected, strict=True):
        np.testing.assert_array_equal(episode.state, whole[number].state)


@pytest.mark.parametrize("chosen", ["3", "3:3", "4:2", "-1:2", "a:b", "6:9"])
def test_a_range_without_episodes_is_refused(rlds_source, command, tmp_path, chosen):
    refused = command("convert", rlds_source(tmp_path), tmp_path / "made.zarr", "--episodes", chosen)
    assert refused.code == 1
    assert "--episodes" in refused.err
    assert not (tmp_path / "made.zarr").exists()


@pytest.mark.parametrize(
    ("size", "longest", "stored"),
    [((24, 32), 16, (12, 16)), ((32, 24), 16, (16, 12)), ((24, 32), 32, (24, 32)), ((24, 32), 999, (24, 32))],
)
def test_frames_shrink_to_the_longest_side_and_are_never_enlarged(
    aloha_source, convert, tmp_path, size, longest, stored
):
    source = aloha_source(tmp_path, size=size)
    kept, shrunk = convert(source)[0], convert(source, "--image-size", longest)[0]
    assert shrunk.images("exterior").shape == (6, *stored, 3)
    assert shrunk.images("exterior")[0].shape == (*stored, 3)
    assert (shrunk.encoded("exterior", 2) == kept.encoded("exterior", 2)) == (size == stored)


def test_kept_frames_are_the_bytes_of_the_source(aloha_source, convert, tmp_path):
    source = aloha_source(tmp_path)
    for number, episode in enumerate(convert(source)):
        with h5py.File(source / f"episode_{number}.hdf5") as file:
            for slot, camera in ALOHA_CAMERAS.items():
                rows = file[f"observations/images/{camera}"][()]
                assert [episode.encoded(slot, t) for t in range(6)] == [bytes(row).rstrip(b"\0") for row in rows]


def test_png_loses_nothing_and_jpeg_has_the_quality_asked_for(aloha_source, convert, tmp_path):
    source = aloha_source(tmp_path)
    kept, png, good, bad = (
        convert(source, "--codec", codec)[1].images("exterior") for codec in ("keep", "png", "jpeg:95", "jpeg:5")
    )
    np.testing.assert_array_equal(png[:], kept[:])
    assert png.encoded(0).startswith(b"\x89PNG")
    assert good.encoded(3) == encode_jpeg(kept[3], 95)
    assert bad.encoded(3) == encode_jpeg(kept[3], 5)


@pytest.mark.parametrize("codec", ["webp", "jpeg:0", "jpeg:101", "jpeg", "PNG"])
def test_an_unknown_codec_is_refused(rlds_source, command, tmp_path, codec):
    refused = command("convert", rlds_source(tmp_path), tmp_path / "made.zarr", "--codec", codec)
    assert refused.code == 1
    assert f"codec '{codec}'" in refused.err
    assert "use keep, png, or jpeg:Q with a quality from 1 to 100" in refused.err


def gradient() -> Any:
    """A smooth picture, much red and little blue."""
    red, green = np.meshgrid(np.linspace(120, 250, 32), np.linspace(60, 160, 24))
    return np.stack([red, green, np.full_like(red, 20)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("codec", ["keep", "jpeg:90", "png"])
@pytest.mark.parametrize("source_codec", ["jpeg", "png"])
def test_exchanged_colours_come_out_right_in_every_codec(rlds_source, convert, tmp_path, codec, source_codec):
    picture = gradient()
    encoded = encode_jpeg(picture, 95, swapped=True) if source_codec == "jpeg" else encode_png(picture[..., ::-1])

    def exchange(features: Any) -> None:
        features["steps/observation/image"].bytes_list.value[:] = [encoded] * 5

    source = rlds_source(tmp_path, shards=(1,), change={0: exchange})
    spec = own_spec(tmp_path, ("exterior: observation/image\n", "exterior: {from: observation/image, channels: bgr}\n"))
    dataset = convert(source, "--spec", spec, "--codec", codec)
    pixels = dataset[0].images("exterior")[4]
    assert np.abs(pixels.astype(int) - picture).max() <= (0 if source_codec == "png" and codec != "jpeg:90" else 12)
    np.testing.assert_array_equal(dataset.group["parts/0/images/exterior"][4], pixels)
    if codec == "keep" and source_codec == "jpeg":
        assert dataset[0].encoded("exterior", 4) == encoded
    if codec == "png":
        np.testing.assert_array_equal(pixels, decode(encoded, swapped=True))


def test_raw_pixels_become_jpegs_or_pngs(aloha_source, convert, tmp_path):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (6, 24, 32, 3), np.uint8)

    def pixels(file: h5py.File) -> None:
        for camera in ALOHA_CAMERAS.values():
            del file[f"observations/images/{camera}"]
            file[f"observations/images/{camera}"] = raw

    source = aloha_source(tmp_path, episodes=1, change={0: pixels})
    np.testing.assert_array_equal(convert(source, "--codec", "png")[0].images("left_wrist")[:], raw)
    assert convert(source)[0].encoded("left_wrist", 5) == encode_jpeg(raw[5], 95)


def test_actions_are_the_next_state_or_the_recorded_command(rlds_source, convert, tmp_path):
    commands: list[Any] = []
    source = rlds_source(
        tmp_path, change={0: lambda features: commands.extend(features["steps/action"].float_list.value)}
    )
    following, recorded = convert(source)[0], convert(source, "--action", "recorded")[0]
    np.testing.assert_array_equal(following.action, np.concatenate([following.state[1:], following.state[-1:]]))
    np.testing.assert_array_equal(following.action_mask, following.state_mask)
    np.testing.assert_array_equal(recorded.state, following.state)
    table = np.reshape(np.array(commands, np.float32), (5, 14))
    np.testing.assert_array_equal(recorded.action[:, [*range(50, 56), 60, *range(0, 6), 10]], table)
    assert recorded.action_mask.sum() == 14


def test_recorded_actions_that_a_spec_does_not_describe_are_refused(rlds_source, command, tmp_path):
    spec = own_spec(tmp_path)
    text = spec.read_text()
    spec.write_text(text[: text.index("recorded_action:")])
    refused = command("convert", rlds_source(tmp_path), tmp_path / "m.zarr", "--spec", spec, "--action", "recorded")
    assert refused.code == 1
    assert "mine does not say how its recorded commands fit the unified layout" in refused.err
    assert "use --action next-state" in refused.err


CORRECTION = """
corrections:
  - section: state
    match: {from: observation/velocity, cols: [0, 6]}
    set: {unit: rad, ops: [times_control_hz]}
    reason: These are displacements of one step.
    evidence: They are.
"""


def test_corrections_are_applied_when_asked_for(rlds_source, convert, tmp_path):
    source, spec = rlds_source(tmp_path), own_spec(tmp_path)
    spec.write_text(spec.read_text() + CORRECTION)
    published, corrected = convert(source, "--spec", spec)[2], convert(source, "--spec", spec, "--corrected")[2]
    expected = published.state.copy()
    expected[:, 65:71] *= 10  # Hz
    np.testing.assert_array_equal(corrected.state, expected)
    assert np.abs(corrected.state - published.state).max() > 1


def test_an_instruction_is_given_to_episodes_without_one(rlds_source, convert, tmp_path):
    def silence(features: Any) -> None:
        features["steps/language_instruction"].bytes_list.value[:] = [b" "] * 5

    dataset = convert(rlds_source(tmp_path, change={1: silence}), "--instruction", "wave both arms")
    assert [episode.instruction for episode in dataset][:3] == [
        "Push the red block.",
        "Wave both arms.",
        "Push the red block.",
    ]


def test_episodes_that_a_rule_leaves_out_are_listed_with_its_reason(rlds_source, convert, command, tmp_path):
    def fail(features: Any) -> None:
        features["episode_metadata/success"].int64_list.value[0] = 0

    source, spec = rlds_source(tmp_path, change={1: fail, 4: fail}), own_spec(tmp_path)
    rule = "keep_if: [{from: episode_metadata/success, equals: true, reason: it failed}]\n"
    spec.write_text(spec.read_text() + rule)
    dataset = convert(source, "--spec", spec)
    assert len(dataset) == 4
    assert dataset.listed("filtered") == [
        {"episode": f"demo_two_arm-train.tfrecord-0000{file}-of-00003#{number}", "reason": "it failed"}
        for file, number in ((0, 1), (2, 0))
    ]
    plan = command("convert", source, tmp_path / "m.zarr", "--spec", spec, "--dry-run", "--json").json
    assert (plan["episodes"], plan["steps"], plan["filtered"]) == (4, 20, 2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write_demo_data(tmp_path_factory.mktemp("demo"), episodes=5, formats=["rlds"]).roots["rlds"]


def test_splits_are_chosen_by_name(demo, convert, command, tmp_path):
    found = {split: convert(demo, *(["--split", split] if split else [])) for split in ("", "train", "val", "all")}
    assert {split: len(dataset) for split, dataset in found.items()} == {"": 4, "train": 4, "val": 1, "all": 5}
    assert [e.id for e in convert(demo, "--split", "train+val")] == [e.id for e in found["all"]]
    refused = command("convert", demo, tmp_path / "made.zarr", "--split", "vall")
    assert (refused.code, "did you mean 'val'?" in refused.err) == (1, True)


@pytest.mark.parametrize("options", [(), ("--image-size", "16"), ("--codec", "png"), ("--episodes", "1:5")], ids=str)
def test_a_dry_run_writes_nothing_and_says_what_the_run_then_does(rlds_source, command, tree, tmp_path, options):
    source, dest = rlds_source(tmp_path / "source", steps=9), tmp_path / "made.zarr"
    before = tree(tmp_path)
    plan = command("convert", source, dest, "--dry-run", "--json", *options).json
    said = command("convert", source, dest, "--dry-run", *options).out
    assert tree(tmp_path) == before
    done = command("convert", source, dest, "--json", *options).json
    assert plan["exact"]
    assert {name: plan[name] for name in ("parts", "episodes", "steps")} == {
        name: done[name] for name in ("parts", "episodes", "steps")
    }
    assert plan["store_bytes"] == pytest.approx(done["bytes"], rel=0.1)
    assert f"{done['parts']} parts, {done['episodes']} episodes, {done['steps']} steps" in said
    assert "state fills  right_arm_joint_pos[0:6], right_gripper_open, right_arm_joint_vel[0:6], left_arm" in said


def test_memory_does_not_grow_with_the_length_of_an_episode(program, tmp_path):
    """300 steps of three raw 480x640 cameras: 0.8 GB of pixels."""
    steps, source = 300, tmp_path / "demo_aloha" / "episode_0.hdf5"
    source.parent.mkdir()
    picture = np.tile(gradient(), (20, 20, 1))
    with h5py.File(source, "w") as file:
        for key in ("action", "observations/qpos", "observations/qvel"):
            file[key] = np.zeros((steps, 14), np.float32)
        file["instruction"] = "Wait"
        for camera in ALOHA_CAMERAS.values():
            frames = file.create_dataset(f"observations/images/{camera}", (steps, 480, 640, 3), "u1")
            for step in range(steps):
                frames[step] = picture
    assert source.stat().st_size > 800_000_000
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    convert = [sys.executable, "-c", measure, program, "convert", source.parent, tmp_path / "made.zarr"]
    done = subprocess.run(convert, capture_output=True, text=True, check=True)
    source.unlink()
    assert open_dataset(str(tmp_path / "made.zarr")).steps == steps
    assert int(done.stdout) < 250_000, "kB at most, of which Python and its libraries are about 80,000"
