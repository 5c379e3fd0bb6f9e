"""HDF5: every layout of camera frames met in the wild, texts, lengths, demo groups, and broken files."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from converters.readers import detect, reader
from rdt_data.errors import RdtError, SourceError, SpecError

hdf5 = reader("hdf5")
T = 7
JPEGS = [b"\xff\xd8" + bytes([65 + i]) * (10 + 3 * i) + b"\x00\xff\xd9" for i in range(T)]
PNGS = [b"\x89PNG\r\n\x1a\n" + bytes([65 + i]) * (20 - i) + b"IEND\xaeB`\x82" for i in range(T)]
PIXELS = np.random.default_rng(0).integers(0, 255, (T, 6, 8, 3), np.uint8)
CAMERA = "observations/images/cam"


def padded(images, width=60):
    rows = np.zeros((len(images), width), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[: len(image)] = np.frombuffer(image, np.uint8)
    return rows


def fill(file, **values):
    """An ALOHA episode: action, qpos, and what is given (name with "__" for "/")."""
    file["action"] = np.arange(T * 14, dtype=np.float32).reshape(T, 14)
    file["observations/qpos"] = np.arange(T * 14, dtype=np.float64).reshape(T, 14)
    for name, value in values.items():
        file[name.replace("__", "/")] = value


@pytest.fixture
def episode_of(tmp_path):
    """A function: it writes a file with `write(file)` and gives its only episode."""
    opened = []

    def make(write, **options):
        path = tmp_path / f"episode_{len(opened)}.hdf5"
        with h5py.File(path, "w") as file:
            write(file)
        (source,) = hdf5.files(path, None, options)
        opened.append(hdf5.open_file(path, source, options))
        return opened[-1][0]

    yield make
    for file in opened:
        file.__exit__(None, None, None)


# ------------------------------------------------------------------------------------------- frames


def chunked(data, chunks, **more):
    return lambda file: (fill(file), file.create_dataset(CAMERA, data=data, chunks=chunks, **more))


def variable(images):
    def write(file):
        fill(file)
        camera = file.create_dataset(CAMERA, (len(images),), h5py.vlen_dtype(np.uint8))
        for index, image in enumerate(images):
            camera[index] = np.frombuffer(image, np.uint8)

    return write


def plain(data):
    return lambda file: fill(file, **{CAMERA.replace("/", "__"): data})


LENGTHS = np.full((3, T), 5.0, np.float32)  # lies, is a float, and has another camera's order
ENCODED = {
    "padded rows": lambda images: plain(padded(images)),
    "padded rows with lengths": lambda images: (
        lambda file: fill(file, compress_len=LENGTHS, **{CAMERA.replace("/", "__"): padded(images)})
    ),
    "a chunk per row": lambda images: chunked(padded(images), (1, 60)),
    "a compressed chunk per row": lambda images: chunked(padded(images), (1, 60), compression="gzip"),
    "chunks of parts of rows": lambda images: chunked(padded(images), (3, 16)),
    "fixed-length strings": lambda images: plain(np.array(images, "S60")),
    "fixed-length strings that just fit": lambda images: plain(np.array(images)),
    "opaque": lambda images: plain(padded(images).view("V60")[:, 0]),
    "variable-length bytes": variable,
}


@pytest.mark.parametrize("layout", ENCODED)
@pytest.mark.parametrize("images", [JPEGS, PNGS], ids=["jpeg", "png"])
def test_encoded_frames_come_back_without_their_padding(episode_of, layout, images):
    episode = episode_of(ENCODED[layout](images))
    assert [bytes(frame) for frame in episode.frames(CAMERA)] == images


@pytest.mark.parametrize(
    "write",
    [
        plain(PIXELS),
        chunked(PIXELS, (1, 6, 8, 3)),
        chunked(PIXELS, (1, 6, 8, 3), compression="gzip"),
        chunked(PIXELS, (4, 3, 8, 3), compression="lzf", shuffle=True),
    ],
)
@pytest.mark.parametrize("slab", [1, 300, 16_000_000])
def test_raw_frames_come_back_whatever_the_chunks_and_the_slab(episode_of, monkeypatch, write, slab):
    monkeypatch.setattr("converters.readers.hdf5_frames._SLAB", slab)
    frames = list(episode_of(write).frames(CAMERA))
    assert all(frame.shape == (6, 8, 3) for frame in frames)
    np.testing.assert_array_equal(frames, PIXELS)


def test_frames_stay_as_they_are_while_later_ones_are_read(episode_of, monkeypatch):
    monkeypatch.setattr("converters.readers.hdf5_frames._SLAB", 300)
    frames = episode_of(plain(PIXELS)).frames(CAMERA)
    first = next(frames)
    assert len(list(frames)) == T - 1
    np.testing.assert_array_equal(first, PIXELS[0])


def test_a_frame_that_was_never_written_is_an_error(episode_of):
    def write(file):
        fill(file)
        file.create_dataset(CAMERA, (T, 60), np.uint8, chunks=(1, 60))[:5] = padded(JPEGS[:5])

    frames = episode_of(write).frames(CAMERA)
    assert [bytes(next(frames)) for _ in range(5)] == JPEGS[:5]
    with pytest.raises(SourceError, match=r"cannot read it|all zeros"):
        next(frames)


BAD = padded(JPEGS)
BAD[3, len(JPEGS[3]) - 1] = 0x11


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (BAD, "the end of frame 3 cannot be found: its last bytes before the zeros are 0x4400ff11, a JPEG ends"),
        (np.zeros((T, 60), np.uint8), "frame 0 is neither JPEG nor PNG: it is all zeros"),
        (padded([b"GIF89a"] * T), "frame 0 is neither JPEG nor PNG: it starts with 0x47494638"),
        (padded([PNGS[0][:-1]] * T), "the end of frame 0 cannot be found"),
        (PIXELS.astype(np.float32), "it is float32 of shape (7, 6, 8, 3), not camera frames"),
        (PIXELS.transpose(0, 3, 1, 2), "it is uint8 of shape (7, 3, 6, 8), not camera frames"),
        (PIXELS[..., 0], "it is uint8 of shape (7, 6, 8), not camera frames"),
        (PIXELS[:5], "it has 5 rows, but the episode 7 (the rows of action)"),
    ],
)
def test_frames_that_are_none_say_why(episode_of, data, problem):
    episode = episode_of(plain(data))
    with pytest.raises(SourceError) as caught:
        list(episode.frames(CAMERA))
    error = caught.value
    assert error.problem.startswith(problem)
    assert (error.file, error.episode, error.field) == ("episode_0.hdf5", 0, CAMERA)


MEMORY = """
import resource, sys
from pathlib import Path
from converters.readers import reader
hdf5 = reader("hdf5")
path = Path(sys.argv[1])
(source,) = hdf5.files(path, None, {})
with hdf5.open_file(path, source, {}) as file:
    frames = file[0].frames("observations/images/cam")
    next(frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = sum(frame.nbytes for frame in frames)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
assert total > 500_000_000, total
assert grown < 60_000_000, grown
"""


def test_a_long_raw_episode_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "long.hdf5"
    with h5py.File(path, "w") as file:
        file["action"] = np.zeros((600, 14), np.float32)
        space, plan = h5py.h5s.create_simple((600, 480, 640, 3)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # the file has its full size and nothing is written
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        images = file.create_group("observations/images")
        h5py.h5d.create(images.id, b"cam", h5py.h5t.STD_U8LE, space, plan)
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


# -------------------------------------------------------------------------- numbers, texts, lengths


def test_numbers_keep_their_dtype_and_missing_keys_are_absent(episode_of):
    episode = episode_of(lambda file: fill(file, base_action=np.ones((T, 2), np.float16), done=np.zeros(T, bool)))
    assert len(episode) == T
    assert episode.keys() == ["action", "base_action", "done", "observations/qpos"]
    assert episode.array("observations/qpos").dtype == np.float64
    assert episode.array("base_action").shape == (T, 2)
    assert episode.array("done").dtype == np.bool_
    assert episode.scalar("done") is False
    with pytest.raises(SourceError, match=r"did you mean 'observations/qpos'\?"):
        episode.array("observations/qvel")
    with pytest.raises(SourceError, match="it is a group"):
        episode.array("observations")


def test_texts_are_found_wherever_they_are(episode_of, tmp_path):
    def write(file):
        fill(file, a="déjà", b=np.array([b"fixed"]), c=np.array(["one", "two"], h5py.string_dtype()))
        file.create_dataset("d", data="ascii", dtype=h5py.string_dtype("ascii", 10))
        file["e"] = h5py.Empty("S10")
        file.attrs["task"], file.attrs["tasks"], file.attrs["sim"] = "pour", ["first", "second"], True

    (tmp_path / "instruction.txt").write_text("Fold the tøwel.\n", "utf-8")
    episode = episode_of(write)
    found = {key: episode.text(key) for key in ("a", "b", "c", "d", "e", "attr:task", "attr:tasks", "attr:no", "no")}
    assert list(found.values()) == ["déjà", "fixed", "one", "ascii", None, "pour", "first", None, None]
    assert episode.text("file:instruction.txt") == "Fold the tøwel."
    assert episode.text("file:other.txt") is None
    assert episode.scalar("attr:sim") is True
    assert episode.scalar("a") == "déjà"


@pytest.mark.parametrize(
    ("use", "key", "problem"),
    [
        ("text", "action", "it holds float32, not text"),
        ("text", "latin", "its text is not UTF-8"),
        ("text", "file:../secret.txt", "lies outside of the source"),
        ("scalar", "action", "it has shape (14,), not one value"),
        ("scalar", "nothing", "there is no such value"),
        ("array", "one", "it is a single value"),
        ("array", "names", "it is |S2, not numbers"),
        ("array", "short", "it has 3 rows, but the episode 7 (the rows of action)"),
    ],
)
def test_a_value_used_as_what_it_is_not_says_what_it_is(episode_of, use, key, problem):
    episode = episode_of(
        lambda file: fill(file, latin=np.bytes_(b"caf\xe9"), one=1.5, names=np.array([b"ab"] * T), short=np.zeros(3))
    )
    with pytest.raises(SourceError) as caught:
        getattr(episode, use)(key)
    assert problem in caught.value.problem
    assert (caught.value.file, caught.value.episode, caught.value.field) == ("episode_0.hdf5", 0, key)


def test_without_an_action_most_datasets_say_how_long_the_episode_is(episode_of):
    def write(file):
        file["compress_len"], file["a"], file["b"], file["c"], file["d"] = (
            LENGTHS,
            *(np.zeros((n, 2)) for n in (3, 5, 5, 3)),
        )
        file["e"], file["f"] = np.zeros(5), 1.0

    assert len(episode_of(write)) == 5
    nothing = episode_of(lambda file: file.create_group("observations"))
    with pytest.raises(SourceError, match="no dataset holds numbers"):
        len(nothing)


# ------------------------------------------------------------------------------- files and demo groups


def robomimic(path):
    with h5py.File(path, "w") as file:
        for number in (0, 10, 2):
            group = file.create_group(f"data/demo_{number}")
            group.attrs["num_samples"] = number + 1
            group["actions"] = np.full((number + 1, 7), float(number))
            group["obs/agentview_image"] = np.full((number + 1, 4, 4, 3), number, np.uint8)
            group["next_obs/eef"] = np.zeros((number, 3))
        file["mask/train"] = np.array([b"demo_0"])
        file["data"].attrs["env_args"] = "{}"


def test_demo_groups_are_episodes_in_natural_order(tmp_path):
    robomimic(tmp_path / "low_dim.hdf5")
    options = {"episodes": "data/demo_*"}
    (source,) = hdf5.files(tmp_path, None, options)
    assert source.episodes == 3
    with hdf5.open_file(tmp_path, source, options) as file:
        episodes = [file[i] for i in range(len(file))]
        assert [episode.name for episode in episodes] == [f"low_dim#data/demo_{n}" for n in (0, 2, 10)]
        assert [len(episode) for episode in episodes] == [1, 3, 11]
        assert episodes[1].keys() == ["actions", "next_obs/eef", "obs/agentview_image"]
        assert episodes[2].array("actions")[0, 0] == 10.0
        assert [frame[0, 0, 0] for frame in episodes[1].frames("obs/agentview_image")] == [2, 2, 2]
        assert episodes[1].text("attr:env_args") == "{}"
        assert episodes[1].scalar("attr:num_samples") == 3
        with pytest.raises(SourceError, match=r"it has 2 rows, but the episode 3 \(the attribute num_samples\)"):
            episodes[1].array("next_obs/eef")
        with pytest.raises(IndexError):
            file[3]


def test_a_pattern_that_matches_no_group_is_an_error_when_opened(tmp_path):
    robomimic(tmp_path / "low_dim.hdf5")
    options = {"episodes": "demos/*"}
    (source,) = hdf5.files(tmp_path, None, options)
    assert source.episodes == 1
    with pytest.raises(SourceError, match="no group matches 'demos/\\*'; at the top there are data, mask"):
        hdf5.open_file(tmp_path, source, options)


def test_files_come_in_natural_order_at_any_depth(tmp_path):
    paths = ["b/episode_2.hdf5", "b/episode_10.hdf5", "b/episode_1.h5", "a10/x.hdf5", "a9/x.hdf5"]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        with h5py.File(tmp_path / path, "w") as file:
            fill(file)
    (tmp_path / "b" / "notes.txt").write_text("x")

    def listed(**options):
        return [file.path for file in hdf5.files(tmp_path, None, options)]

    assert listed() == ["a9/x.hdf5", "a10/x.hdf5", "b/episode_1.h5", "b/episode_2.hdf5", "b/episode_10.hdf5"]
    assert listed(files="b/*.hdf5") == ["b/episode_2.hdf5", "b/episode_10.hdf5"]
    assert listed(files="x.*") == ["a9/x.hdf5", "a10/x.hdf5"]
    with pytest.raises(SourceError, match=r"no file below .* matches \*\.hdf"):
        listed(files="*.hdf")
    assert hdf5.find(tmp_path) == [tmp_path]
    assert detect(tmp_path) == [("hdf5", tmp_path)]
    assert hdf5.find(tmp_path / "b" / "notes.txt") == hdf5.find(tmp_path / "no") == []
    assert hdf5.names(tmp_path / "b")[:2] == ["b", tmp_path.name]
    assert hdf5.splits(tmp_path) == []


def test_one_file_can_be_a_source(tmp_path):
    with h5py.File(tmp_path / "only.hdf5", "w") as file:
        fill(file)
    root = tmp_path / "only.hdf5"
    assert hdf5.find(root) == [root]
    assert hdf5.names(root)[0] == "only"
    (source,) = hdf5.files(root, None, {})
    with hdf5.open_file(root, source, {}) as file:
        assert (source.path, file[0].name, len(file[0])) == ("only.hdf5", "only", T)


def test_unknown_options_and_splits_are_refused(tmp_path):
    with pytest.raises(RdtError, match="did you mean 'episodes'"):
        hdf5.files(tmp_path, None, {"episode": "demo_*"})
    for option in ("files", "episodes", "longer_by_one"):
        for pattern in ("/etc/*", "../*", "", 3):
            with pytest.raises(SpecError, match=f"option {option}: .* not a relative glob"):
                hdf5.files(tmp_path, None, {option: pattern})
    with pytest.raises(SpecError, match="no split 'val'"):
        hdf5.files(tmp_path, "val", {})


# ------------------------------------------------------------------------------------- broken files


def test_a_broken_file_counts_as_one_episode_and_says_what_hdf5_said(tmp_path):
    with h5py.File(tmp_path / "whole.hdf5", "w") as file:
        fill(file)
    data = (tmp_path / "whole.hdf5").read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(data[:-10])
    (tmp_path / "text.hdf5").write_text("not HDF5")
    for options in ({}, {"episodes": "*"}):
        sources = {source.path: source for source in hdf5.files(tmp_path, None, options)}
        for name, said in (("cut.hdf5", "truncated file"), ("text.hdf5", "signature not found")):
            assert sources[name].episodes == 1
            with pytest.raises(SourceError, match=said) as caught:
                hdf5.open_file(tmp_path, sources[name], options)
            assert caught.value.file == name


def test_a_damaged_dataset_spoils_only_itself(tmp_path):
    path = tmp_path / "episode.hdf5"
    with h5py.File(path, "w") as file:
        fill(file)
        file.create_dataset(CAMERA, data=PIXELS, chunks=(1, 6, 8, 3), fletcher32=True)
        offset = file[CAMERA].id.get_chunk_info(4).byte_offset
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    (source,) = hdf5.files(path, None, {})
    with hdf5.open_file(path, source, {}) as file:
        episode = file[0]
        for read in (episode.array, lambda key: list(episode.frames(key))):
            with pytest.raises(SourceError, match="HDF5 cannot read it") as caught:
                read(CAMERA)
            assert (caught.value.episode, caught.value.field) == (0, CAMERA)
        assert episode.array("action").shape == (T, 14)


# ---------------------------------------------------------------------------------------- real data


def test_the_recorded_aloha_episodes_are_read_and_every_frame_is_a_jpeg(shared):
    import cv2

    root = shared / "data" / "aloha_sim"
    sources = hdf5.files(root, None, {})
    assert [source.path.rsplit("_", 1)[1] for source in sources] == [*(f"{i}.hdf5" for i in range(6)), "0.hdf5"]
    for source in sources:
        with hdf5.open_file(root, source, {}) as file:
            episode = file[0]
            assert episode.text("file:instruction.txt").startswith("Pick up the red cube")
            assert len(episode.array("action")) == len(episode.array("observations/qpos")) == len(episode)
            keys = episode.keys()
            for key in keys:
                if "/images/" in key:
                    frames = list(episode.frames(key))
                    assert len(frames) == len(episode)
                    frame = frames[-1]
                    if isinstance(frame, memoryview):
                        frame = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
                    assert frame.shape in ((480, 640, 3), (120, 160, 3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("agilex", {}),
        ("aloha_static", {}),
        ("aloha_static_raw_images", {}),
        ("roboturk_real_towercreation", {"episodes": "data/*/demo*"}),
    ],
)
def test_every_golden_in_hdf5_is_read(shared, name, options):
    root = shared / "goldens" / name / "source"
    total = 0
    for source in hdf5.files(root, None, options):
        with hdf5.open_file(root, source, options) as file:
            assert len(file) == source.episodes
            for episode in (file[i] for i in range(len(file))):
                total += 1
                for key in set(episode.keys()) - {"compress_len"}:
                    if "/images/" in key:
                        assert len(list(episode.frames(key))) == len(episode)
                    elif key == "instruction":
                        assert episode.text(key)
                    else:
                        assert len(episode.array(key)) == len(episode)
    with np.load(shared / "goldens" / name / "golden.npz") as golden:
        assert sum(key.endswith("_kept_by_filter") for key in golden) in (0, total)
