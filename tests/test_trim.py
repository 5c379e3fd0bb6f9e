"""The still head of a recording is left out: where an episode starts, what goes with it, and AgileX as published."""

import json
import re

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converters import catalog
from converters.fields import action_of, read_fields
from converters.instruction import instruction_of
from converters.patch_call import open_episode
from converters.patches import PatchedEpisode, drop_still_head
from converters.readers import reader
from converters.verify import verify_store
from rdt_data.errors import SourceError
from rdt_data.images import encode_jpeg
from rdt_data.store import open_dataset

hdf5 = reader("hdf5")
CAMERAS = ("cam_high", "cam_right_wrist", "cam_left_wrist")


def flat(step, episode):
    """A frame of one colour; red and blue exchanged, as AgileX records them."""
    return encode_jpeg(np.full((16, 16, 3), (10 * step, 100, 200 - 10 * episode), np.uint8), 95, swapped=True)


def record(path, qpos, number=0, **values):
    """An AgileX episode whose positions are `qpos`; frame t says t."""
    steps = len(qpos)
    with h5py.File(path, "w") as file:
        file["observations/qpos"] = qpos
        file["action"] = np.arange(steps * 14, dtype=np.float32).reshape(steps, 14)
        for camera in CAMERAS:
            file[f"observations/images/{camera}"] = np.array([flat(step, number) for step in range(steps)])
        for key, value in values.items():
            file[key] = value


def still_then(moves, still, width=14):
    """`still` equal rows, then one row for each of `moves`, away from them by that much."""
    qpos = np.full((still + len(moves), width), 0.5, np.float32)
    qpos[still:, 3] += np.array(moves, np.float32)
    return qpos


@pytest.fixture
def opened(tmp_path):
    """A function: it records `qpos` and gives the raw episode."""
    files = []

    def make(qpos, **values):
        path = tmp_path / f"episode_{len(files)}.hdf5"
        record(path, qpos, **values)
        (source,) = hdf5.files(path, None, {})
        files.append(hdf5.open_file(path, source, {}))
        return files[-1][0]

    yield make
    for file in files:
        file.__exit__(None, None, None)


# ------------------------------------------------------------------------------------ where it starts


@pytest.mark.parametrize(
    ("qpos", "start"),
    [
        (still_then([0.02, 0], still=4), 3),  # the last still step is kept
        (still_then([0.005, 0.02], still=4), 4),  # what moves less than the threshold is still
        (still_then([0.02, 0.02], still=1), 0),
        (still_then([-0.02], still=2), 1),
        (np.array([[0], [0], [1]]), 1),
        (np.array([[5], [4]], np.uint8), 0),  # integers do not wrap around
        (np.array([0, 0, 0, 1.0]), 2),  # one number a step
        (np.linspace(0, 0.06, 13)[:, None], 2),  # 0.005 a step: away from the first step, not from the one before
    ],
)
def test_an_episode_starts_one_step_before_the_first_that_has_moved(opened, qpos, start):
    raw = opened(qpos)
    trimmed = drop_still_head(raw, "observations/qpos", 0.01)
    assert len(trimmed) == len(qpos) - start
    np.testing.assert_array_equal(trimmed.array("observations/qpos"), qpos[start:])


@given(
    values=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1, 1, width=32)
    ),
    threshold=st.floats(0, 1),
)
def test_whatever_moves_the_rule_of_the_facts_holds(values, threshold):
    """First row where any |qpos - qpos[0]| > threshold, minus one."""
    raw = PatchedEpisode(Steps(len(values)), {"qpos": values})
    moved = [row for row in range(len(values)) if (np.abs(values[row] - values[0]) > threshold).any()]
    if not moved:
        with pytest.raises(SourceError, match="nothing moves"):
            drop_still_head(raw, "qpos", threshold)
    else:
        np.testing.assert_array_equal(drop_still_head(raw, "qpos", threshold).array("qpos"), values[moved[0] - 1 :])


class Steps:
    """A raw episode of some length that holds nothing."""

    number, name = 0, "nothing"

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return self.steps

    def keys(self):
        return []


def test_everything_of_a_step_starts_later_and_what_is_of_the_episode_stays(opened):
    raw = opened(still_then([0.1, 0.2, 0.3], still=3), instruction="Wave.", success=True)
    trimmed = drop_still_head(raw, "observations/qpos", 0.01)
    assert (len(trimmed), trimmed.number, trimmed.name) == (4, raw.number, raw.name)
    assert (trimmed.keys(), trimmed.cameras()) == (raw.keys(), raw.cameras())
    np.testing.assert_array_equal(trimmed.array("action"), raw.array("action")[2:])
    frames = [bytes(frame) for frame in trimmed.frames("observations/images/cam_high")]
    assert frames == [flat(step, 0) for step in range(2, 6)]
    assert (trimmed.text("instruction"), trimmed.scalar("success")) == ("Wave.", True)
    assert len(raw) == 6
    with pytest.raises(SourceError, match="there is no such dataset"):
        trimmed.array("nothing")


@pytest.mark.parametrize(
    ("qpos", "key", "problem", "remedy"),
    [
        (still_then([], still=5), "observations/qpos", "nothing moves: no column of it leaves its first value by more than 0.01", "leave this episode out, or lower the threshold"),
        (still_then([0.005], still=5), "observations/qpos", "nothing moves", "lower the threshold"),
        (still_then([0.1], still=1), "observations/qvel", "the episode has no such value", "did you mean 'observations/qpos'"),
        (still_then([0.1], still=1), "instruction", "it is a single value, not one row a step", "use it as a scalar or as text"),
        (still_then([np.nan, 1], still=2), "observations/qpos", "step 2 is nan", "repair the data"),
    ],
)  # fmt: skip
def test_an_episode_without_a_start_says_so(opened, qpos, key, problem, remedy):
    raw = opened(qpos, instruction="Wave.")
    with pytest.raises(SourceError, match=re.escape(problem)) as caught:
        drop_still_head(raw, key, 0.01)
    assert caught.value.field == key
    assert remedy in caught.value.remedy


def test_an_empty_episode_is_left_to_whoever_needs_steps(opened):
    assert len(drop_still_head(opened(np.zeros((0, 14))), "observations/qpos", 0.01)) == 0


# ------------------------------------------------------------------------------------ through the commands


@pytest.fixture
def recordings(tmp_path):
    """Two AgileX episodes, one of which never moves, with the words in a side file only."""
    folder = tmp_path / "agilex" / "wave"
    folder.mkdir(parents=True)
    record(folder / "episode_0.hdf5", still_then([0.1, 0.2, 0.3], still=3), 0)
    record(folder / "episode_1.hdf5", still_then([], still=6), 1)
    words = {"instruction": "wave_both hands", "simplified_instruction": ["Wave."], "expanded_instruction": []}
    (folder / "expanded_instruction_gpt-4-turbo.json").write_text(json.dumps(words))
    return tmp_path / "agilex"


def test_a_conversion_starts_where_the_robot_moves_and_learns_the_commands(recordings, tmp_path, command):
    dest = tmp_path / "out.zarr"
    stopped = command("convert", recordings, dest)
    assert stopped.code == 1
    assert "wave/episode_1.hdf5, episode 0, field observations/qpos: nothing moves" in stopped.err
    done = command("convert", recordings, dest, "--on-error", "quarantine", "--json")
    assert (done.code, done.json["episodes"], done.json["steps"]) == (3, 1, 4)
    (stored,) = open_dataset(str(dest))
    assert (stored.instruction, stored.instruction_raw) == ("Wave both hands.", "wave_both hands")
    assert stored.control_hz == 25
    commands = np.arange(6 * 14, dtype=np.float32).reshape(6, 14)[2:]
    np.testing.assert_array_equal(stored.action[:, 50:56], commands[:, :6])
    np.testing.assert_allclose(stored.action[:, [60, 10]], commands[:, [6, 13]] / [11.8997, 13.9231], rtol=1e-6)
    for slot in ("exterior", "right_wrist", "left_wrist"):
        colours = [stored.images(slot)[step].mean(axis=(0, 1)) for step in range(4)]
        np.testing.assert_allclose(colours, [(10 * step, 100, 200) for step in range(2, 6)], atol=3)
        assert stored.encoded(slot, 0) == flat(2, 0)  # copied, not encoded again
    assert verify_store(str(dest), recordings).problems == []


def test_actions_can_still_be_the_next_states(recordings, tmp_path, command):
    dest = tmp_path / "out.zarr"
    assert command("convert", recordings, dest, "--on-error", "quarantine", "--action", "next-state").code == 3
    (stored,) = open_dataset(str(dest))
    np.testing.assert_array_equal(stored.action[:-1], stored.state[1:])


# ------------------------------------------------------------------------------------ as published


def test_agilex_is_what_the_published_pipeline_makes_of_it(shared):
    source = shared / "goldens" / "agilex"
    spec = catalog.get("agilex")
    assert catalog.find(hdf5.names(source / "source")) == "agilex"
    with np.load(source / "golden.npz", allow_pickle=False) as golden:
        assert spec.control_hz == golden["control_freq"]
        for slot in ("exterior", "right_wrist", "left_wrist"):
            assert spec.cameras[slot].from_ == (f"observations/images/{golden[f'cam_{slot}']}",)
        files = hdf5.files(source / "source", None, spec.options)
        assert len(files) == int(golden["n_episodes"])
        for i, found in enumerate(files):
            with hdf5.open_file(source / "source", found, spec.options) as file:
                assert found.path == str(golden[f"ep{i}_file"])
                raw = open_episode(file, 0, spec)
                assert len(file[0]) - len(raw) == int(golden[f"ep{i}_first_row"])
                state, mask = read_fields(spec.state, raw, spec.control_hz)
                action, action_mask = action_of(spec, spec.action, state, mask, raw)
                np.testing.assert_allclose(state, golden[f"ep{i}_state"], atol=1e-6)
                np.testing.assert_allclose(action, golden[f"ep{i}_action"], atol=1e-6)
                np.testing.assert_array_equal(np.tile(mask, (len(raw), 1)), golden[f"ep{i}_state_mask"] > 0)
                np.testing.assert_array_equal(action_mask, mask)
                words = str(golden[f"ep{i}_instruction"]), str(golden[f"ep{i}_instruction_raw"])
                assert instruction_of(spec, raw) == words
                assert raw.text(spec.instruction.from_[1]) == "Pour the water from the cup"


def test_agilex_converts_with_true_colours(shared, tmp_path, command):
    source, dest = shared / "goldens" / "agilex", tmp_path / "out.zarr"
    assert command("convert", source / "source", dest).code == 0
    with np.load(source / "golden.npz", allow_pickle=False) as golden:
        for i, stored in enumerate(open_dataset(str(dest))):
            for slot in ("exterior", "right_wrist", "left_wrist"):
                colour = golden[f"ep{i}_rgb0_{golden[f'cam_{slot}']}"]
                np.testing.assert_allclose(stored.images(slot)[0].mean(axis=(0, 1)), colour, atol=0.5)
