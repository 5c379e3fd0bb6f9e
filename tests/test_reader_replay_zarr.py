"""Replay buffers in Zarr: both formats, folders and zip files, every way to keep images, and what may be wrong."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs.numcodecs
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.readers import detect, reader
from rdt_data.codecs import JpegCodec
from rdt_data.errors import RdtError, SourceError, SpecError
from rdt_data.images import decode, encode_jpeg

replay = reader("replay_zarr")
ENDS = [4, 5, 12]
N = ENDS[-1]
SMOOTH = np.broadcast_to(np.linspace(0, 250, N * 16).reshape(N, 16, 1, 1), (N, 16, 20, 3)).astype(np.uint8)
VALUES = {
    "action": np.random.default_rng(0).normal(size=(N, 7)).astype(np.float32),
    "state": np.random.default_rng(1).normal(size=(N, 5)),
    "reward": np.arange(N),
    "img": np.random.default_rng(2).integers(0, 255, (N, 8, 10, 3), np.uint8),
}


def write(path: Path, zarr_format: int = 2, ends: Any = ENDS, **values: Any) -> Path:
    """A replay buffer; a value may also be a dict of arguments for `create_array`."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_group("data")
    for key, value in {**VALUES, **values}.items():
        if isinstance(value, dict):
            pixels = value.pop("pixels")
            array = group.create_array(f"data/{key}", shape=pixels.shape, dtype=pixels.dtype, **value)
            array[:] = pixels
        elif value is not None:
            group.create_array(f"data/{key}", data=value, chunks=(5, *value.shape[1:]))
    if ends is not None:
        group.create_array("meta/episode_ends", data=np.asarray(ends))
    return path


def zipped(folder: Path, to: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, prefix + path.relative_to(folder).as_posix())
    shutil.rmtree(folder)
    return to


@pytest.fixture
def opened():
    """A function: the open source file of a store."""
    stores = []

    def open_store(root: Path) -> Any:
        (file,) = replay.files(root, None, {})
        stores.append(replay.open_file(root, file, {}))
        return stores[-1]

    yield open_store
    for store in stores:
        store.__exit__(None, None, None)


def check_episodes(file: Any) -> None:
    """Every episode has its rows of the values written."""
    assert len(file) == len(ENDS)
    for i, (start, stop) in enumerate(zip([0, *ENDS], ENDS, strict=False)):
        raw = file[i]
        assert (raw.number, len(raw)) == (i, stop - start)
        for key in ("action", "state", "reward"):
            np.testing.assert_array_equal(raw.array(key), VALUES[key][start:stop])
            assert raw.array(key).dtype == VALUES[key].dtype
        np.testing.assert_array_equal(list(raw.frames("img")), VALUES["img"][start:stop])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["folder", "zip", "zip of the folder"])
def test_episodes_are_the_rows_between_two_ends(kind: str, zarr_format: int, tmp_path: Path, opened):
    root = write(tmp_path / "pusht.zarr", zarr_format)
    if kind != "folder":
        prefix = "pusht/pusht.zarr/" if kind == "zip of the folder" else ""
        root = zipped(root, tmp_path / "pusht.zarr.zip", prefix)
    assert detect(tmp_path) == [("replay_zarr", root)] == detect(root)
    assert replay.names(root)[:2] == ["pusht", tmp_path.name]
    file = opened(root)
    check_episodes(file)
    assert file[0].keys() == sorted(VALUES)
    assert file[0].cameras() == ["img"]
    assert file[2].name == "pusht#2"
    assert file[1].scalar("reward") == 4


def test_a_zip_file_of_any_name_is_read_where_it_is_the_source(tmp_path: Path, opened):
    root = zipped(write(tmp_path / "a"), tmp_path / "pusht.zip", "a/")
    assert replay.find(root) == [root]
    assert replay.find(tmp_path) == []  # listing every zip file on the way would be slow
    assert replay.names(root)[0] == "pusht"
    check_episodes(opened(root))


def test_the_source_file_is_the_whole_store(tmp_path: Path):
    root = write(tmp_path / "pusht.zarr")
    stats = [path.stat() for path in root.rglob("*") if path.is_file()]
    (file,) = replay.files(root, None, {})
    assert (file.path, file.episodes) == ("pusht.zarr", 3)
    assert (file.bytes, file.mtime_ns) == (sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats))
    (file,) = replay.files(zipped(root, tmp_path / "pusht.zarr.zip"), "all", {})
    assert file.bytes == (tmp_path / "pusht.zarr.zip").stat().st_size
    assert replay.splits(root) == []


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    chunk=st.integers(1, 12),
    slab=st.sampled_from([1, 700, 2_000_000]),
)
def test_frames_are_the_same_whatever_the_chunks(lengths: list[int], chunk: int, slab: int, tmp_path_factory):
    ends = np.cumsum(lengths)
    pixels = np.random.default_rng(0).integers(0, 255, (int(ends[-1]), 8, 10, 3), np.uint8)
    root = tmp_path_factory.mktemp("any") / "a.zarr"
    write(root, ends=ends, **dict.fromkeys(VALUES), cam={"pixels": pixels, "chunks": (chunk, 8, 10, 3)})
    with pytest.MonkeyPatch.context() as patch, replay.open_file(root, replay.files(root, None, {})[0], {}) as file:
        patch.setattr("converters.readers.replay_zarr._SLAB", slab)
        frames = [frame for i in range(len(file)) for frame in file[i].frames("cam")]
    np.testing.assert_array_equal(frames, pixels)


# ------------------------------------------------------------------------------------------- images

ONE = {"pixels": SMOOTH, "chunks": (1, 16, 20, 3)}


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zipping", [False, True])
def test_jpeg_xl_frames_of_umi_are_pixels(zipping: bool, consolidated: bool, tmp_path: Path, opened, monkeypatch):
    codec = imagecodecs.numcodecs.Jpegxl(level=99, lossless=False, numthreads=1)
    root = write(tmp_path / "dataset.zarr", camera0_rgb={**ONE, "compressors": codec})
    if consolidated:  # then all arrays are looked at as soon as the store is opened
        imagecodecs.numcodecs.register_codecs(codecs=[codec.codec_id], verbose=False)
        zarr.consolidate_metadata(root)
    registry = {key: item for key, item in numcodecs.registry.codec_registry.items() if "imagecodecs" not in key}
    monkeypatch.setattr(numcodecs.registry, "codec_registry", registry)  # as it is in a process that begins
    raw = opened(zipped(root, tmp_path / "dataset.zarr.zip") if zipping else root)[2]
    frames = list(raw.frames("camera0_rgb"))
    assert all(isinstance(frame, np.ndarray) for frame in frames)
    assert np.abs(np.stack(frames).astype(int) - SMOOTH[5:]).mean() < 2


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_jpeg_in_a_chunk_of_its_own_is_handed_over_as_it_is(zarr_format: int, tmp_path: Path, opened):
    root = tmp_path / "a.zarr"
    if zarr_format == 2:
        write(root, cam={**ONE, "compressors": imagecodecs.numcodecs.Jpeg(level=90)})
        stored = [(root / f"data/cam/{i}.0.0.0").read_bytes() for i in range(N)]
    else:
        write(root, 3, cam={**ONE, "serializer": JpegCodec(level=90), "compressors": None})
        stored = [(root / f"data/cam/c/{i}/0/0/0").read_bytes() for i in range(N)]
    frames = list(opened(root)[2].frames("cam"))
    assert frames == stored[5:]
    pixels = np.stack([decode(frame) for frame in frames]).astype(int)
    assert np.abs(pixels - SMOOTH[5:]).mean() < 2


@pytest.mark.parametrize(
    "codec",
    [
        imagecodecs.numcodecs.Jpeg(level=90, colorspace_data="BGR"),
        imagecodecs.numcodecs.Jpeg(level=90, colorspace_jpeg="RGB"),
        imagecodecs.numcodecs.Webp(level=100, lossless=True),
        numcodecs.Blosc("zstd"),
    ],
    ids=lambda codec: codec.codec_id,
)
def test_other_frames_are_the_pixels_that_zarr_gives(codec: Any, tmp_path: Path, opened):
    colour = SMOOTH // np.array([1, 2, 4], np.uint8)
    root = write(tmp_path / "a.zarr", cam={**ONE, "pixels": colour, "compressors": codec})
    frames = list(opened(root)[0].frames("cam"))
    assert isinstance(frames[0], np.ndarray)
    np.testing.assert_array_equal(frames, zarr.open_array(root / "data/cam", mode="r")[:4])


def test_a_chunk_that_is_not_stored_is_black(tmp_path: Path, opened):
    root = write(tmp_path / "a.zarr", cam={**ONE, "compressors": imagecodecs.numcodecs.Jpeg()})
    (root / "data/cam/1.0.0.0").unlink()
    frames = list(opened(root)[0].frames("cam"))
    assert isinstance(frames[0], bytes)
    np.testing.assert_array_equal(frames[1], np.zeros((16, 20, 3)))


def test_only_uint8_images_with_channels_last_are_cameras(tmp_path: Path, opened):
    root = write(tmp_path / "a.zarr", depth=np.zeros((N, 4, 4, 3), "f4"), chw=np.zeros((N, 3, 4, 4), "u1"))
    raw = opened(root)[0]
    assert raw.cameras() == ["img"]
    for key in ("depth", "chw"):
        with pytest.raises(SourceError, match="not camera frames") as error:
            list(raw.frames(key))
        assert (error.value.file, error.value.field, error.value.remedy.endswith("img")) == ("a.zarr", key, True)
        assert raw.array(key).shape[0] == 4


def test_texts_of_steps_and_of_episodes(tmp_path: Path, opened):
    root = write(tmp_path / "a.zarr", task=np.array(["put"] * 5 + ["take"] * 7), raw=np.array([b"ab\xff"] * N))
    group = zarr.open_group(root, mode="r+")
    group.create_array("meta/instruction", data=np.array(["one", "two", "three"]))
    group.create_array("meta/seed", data=np.array([7, 8, 9]))
    group.create_array("meta/other", data=np.zeros(5))
    raw = opened(root)[2]
    assert (raw.text("task"), raw.text("meta/instruction"), raw.text("nothing")) == ("take", "three", None)
    assert raw.scalar("meta/seed") == 9
    assert raw.keys() == sorted([*VALUES, "task", "raw", "meta/instruction", "meta/seed"])
    for read, problem in [
        (lambda: raw.text("action"), "it holds ndarray, not text"),
        (lambda: raw.text("raw"), "not UTF-8"),
        (lambda: raw.array("task"), "not numbers"),
        (lambda: raw.array("meta/seed"), "a row for each episode"),
        (lambda: raw.array("acton"), "no such array"),
        (lambda: raw.scalar("action"), r"shape \(7,\)"),
    ]:
        with pytest.raises(SourceError, match=problem):
            read()


# ------------------------------------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        ([4, 4, 12], "episode 1 ends at 4, the one before at 4"),
        ([4, 12, 5], "episode 2 ends at 5, the one before at 12"),
        ([0, 12], "episode 0 ends at 0"),
        ([-1, 12], "episode 0 ends at -1"),
        ([4.0, 12.0], "it is float64 of shape"),
        ([[4, 12]], r"of shape \(1, 2\)"),
        ([], "not one whole number"),
        (None, "there is no meta/episode_ends"),
    ],
)
def test_ends_that_do_not_increase_are_refused(ends: Any, problem: str, tmp_path: Path):
    root = write(tmp_path / "a.zarr", ends=ends)
    assert replay.find(tmp_path) == [root]
    with pytest.raises(SourceError, match=problem) as error:
        replay.files(root, None, {})
    assert (error.value.file, error.value.field) == ("a.zarr", "meta/episode_ends")


def test_a_key_with_another_number_of_rows_is_named(tmp_path: Path, opened):
    root = write(tmp_path / "a.zarr", short=np.zeros((N - 1, 3)), img=VALUES["img"][:-1])
    raw = opened(root)[0]
    for read in (lambda: raw.array("short"), lambda: list(raw.frames("img"))):
        with pytest.raises(SourceError, match=r"has shape \(11, .*the last of meta/episode_ends is 12") as error:
            read()
        assert error.value.field in ("short", "img")
    assert len(raw.array("action")) == 4


def rewritten(root: Path, key: str, **changes: Any) -> None:
    path = next(path for path in (root / key / ".zarray", root / key / "zarr.json") if path.exists())
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("zarr_format", "changes", "codec"),
    [
        (2, {"compressor": {"id": "nobody_knows"}}, "nobody_knows"),
        (2, {"compressor": {"id": "imagecodecs_nothing"}}, "imagecodecs_nothing"),
        (3, {"codecs": [{"name": "nobody_knows", "configuration": {}}]}, "nobody_knows"),
    ],
)
def test_an_unknown_codec_is_named(zarr_format: int, changes: dict[str, Any], codec: str, tmp_path: Path):
    root = write(tmp_path / "a.zarr", zarr_format)
    rewritten(root, "data/img", **changes)
    (file,) = replay.files(root, None, {})
    with pytest.raises(SourceError, match=f"compressed with '{codec}', which is not known") as error:
        replay.open_file(root, file, {})
    assert (error.value.file, error.value.field) == ("a.zarr", "data")


def test_without_imagecodecs_it_says_what_to_install(tmp_path: Path):
    root = write(tmp_path / "a.zarr", cam={**ONE, "compressors": imagecodecs.numcodecs.Jpegxl()})
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from converters.readers import reader; from rdt_data.errors import SourceError\n"
        f"replay, root = reader('replay_zarr'), Path({str(root)!r})\n"
        "try: replay.open_file(root, replay.files(root, None, {})[0], {})\n"
        "except SourceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == "a.zarr, field data: an array is compressed with imagecodecs_jpegxl\n  fix: pip install imagecodecs\n"
    )


def test_a_cut_zip_file_is_found_and_refused(tmp_path: Path):
    root = zipped(write(tmp_path / "a.zarr"), tmp_path / "a.zarr.zip")
    root.write_bytes(root.read_bytes()[:-300])
    assert replay.find(tmp_path) == replay.find(root) == [root]
    with pytest.raises(SourceError, match="not a sound Zarr store: BadZipFile") as error:
        replay.files(root, None, {})
    assert error.value.file == "a.zarr.zip"


@pytest.mark.parametrize("compressor", [numcodecs.Blosc("zstd"), numcodecs.Zlib(), imagecodecs.numcodecs.Jpegxl()])
def test_a_damaged_chunk_spoils_only_its_episode(compressor: Any, tmp_path: Path, opened):
    root = write(tmp_path / "a.zarr", cam={**ONE, "compressors": compressor})
    chunk = root / "data/cam/4.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    file = opened(root)
    assert len(list(file[0].frames("cam"))) == 4
    with pytest.raises(SourceError, match="it cannot be read") as error:
        list(file[1].frames("cam"))
    assert (error.value.file, error.value.episode, error.value.field) == ("a.zarr", 1, "cam")


@pytest.mark.parametrize("name", ["data/img/.zarray", "meta/episode_ends/.zarray"])
def test_damaged_metadata_is_refused(name: str, tmp_path: Path):
    root = write(tmp_path / "a.zarr")
    (root / name).write_text('{"zarr_format": 2, "shape": [')
    with pytest.raises(SourceError, match="not a sound Zarr store"):
        replay.open_file(root, replay.files(root, None, {})[0], {})


def test_other_stores_and_archives_are_not_claimed(tmp_path: Path):
    zarr.open_group(tmp_path / "own.zarr", mode="w").create_array("parts/0/state", shape=(3, 128), dtype="f4")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("a.jpg", encode_jpeg(SMOOTH[0]))
    for source in (tmp_path, tmp_path / "own.zarr", tmp_path / "photos.zip", tmp_path / "nothing"):
        assert replay.find(source) == []


def test_splits_and_options_are_refused(tmp_path: Path):
    root = write(tmp_path / "a.zarr")
    with pytest.raises(SpecError, match="no split 'train'"):
        replay.files(root, "train", {})
    with pytest.raises(RdtError, match="no option 'episodes'"):
        replay.files(root, None, {"episodes": "*"})
    with (
        pytest.raises(IndexError, match="episode 3 of 3"),
        replay.open_file(root, replay.files(root, None, {})[0], {}) as f,
    ):
        f[3]


SPEC = """
title: A pushed T
reader: replay_zarr
control_hz: 10
cameras: {exterior: camera0_rgb}
instruction: {text: Push the T.}
state: [{from: state, cols: [0, 3], unit: m, to: right_eef_pos}]
"""


@pytest.mark.parametrize("codec", [imagecodecs.numcodecs.Jpegxl, imagecodecs.numcodecs.Jpeg])
def test_it_converts_and_verifies(codec: Callable[..., Any], tmp_path: Path, command):
    root = zipped(
        write(tmp_path / "a.zarr", camera0_rgb={**ONE, "compressors": codec(level=90)}), tmp_path / "a.zarr.zip"
    )
    spec = tmp_path / "my.yaml"
    spec.write_text(SPEC)
    assert command("convert", root, tmp_path / "store.zarr", "--spec", spec).code == 0
    assert command("verify", tmp_path / "store.zarr", "--source", root).code == 0
