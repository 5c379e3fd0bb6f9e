"""`rdt sample`: predicted against recorded chunks of a store, its numbers against the definitions, its files, its words."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from demo_and_policy import demo_and_policy, run
from hypothesis import given
from hypothesis import strategies as st

from rdt_data import rotations
from rdt_data.errors import RdtError
from rdt_data.language import language_of
from rdt_data.layout import resolve
from rdt_data.remote import file_system
from rdt_data.remote_files import put_folder
from rdt_data.store import open_dataset
from rdt_model.offline import ErrorSums, angle_between, compare, distance
from rdt_model.plots import Curve, Panel, figure
from rdt_model.policy import Chunk, Policy
from rdt_model.sample_run import cameras_not_shared, chosen_episodes, policy_config, words

HORIZON = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory, seeded_t5) -> Path:
    """A folder with demo data as `store.zarr`, its words embedded, and an untrained policy for it in `policy`."""
    return demo_and_policy(tmp_path_factory.mktemp("sample"), seeded_t5, episodes=2, horizon=HORIZON)


def sample(made: Path, out: Path, *arguments: object) -> tuple[int, str, str]:
    store = made / "store.zarr"
    return run("rdt", "sample", "--checkpoint", made / "policy", "--data", store, "-o", out, *arguments)


def test_a_run_writes_table_json_and_plots(made, tmp_path):
    code, printed, err = sample(made, tmp_path / "out", "--json", "--device", "cpu", "--steps", 2)
    assert (code, err) == (0, "")
    report, dataset = json.loads(printed), open_dataset(str(made / "store.zarr"))
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["episodes"] == [episode.id for episode in dataset]
    assert report["chunks"] == sum(-(-len(episode) // HORIZON) for episode in dataset)
    assert report["compared_steps"] == dataset.steps
    assert (report["horizon"], report["denoising_steps"], report["seed"]) == (HORIZON, 2, 0)
    assert report["assumed"] == []
    names = {quantity["name"]: quantity["unit"] for quantity in report["quantities"]}
    assert names["left_arm_joint_0_pos"] == "rad"
    assert names["right_gripper_open"] == "1"
    assert len(names) == int(dataset[0].action_mask.sum())
    for quantity in report["quantities"]:
        assert len(quantity["by_step"]) == HORIZON
        assert quantity["mean"] > 0
    table = (tmp_path / "out" / "report.txt").read_text()
    assert re.search(r"^right_gripper_open +1 +\d+\.\d{4} ", table, re.MULTILINE)
    for name, panels in (("errors.svg", len(names)), ("episode_0.svg", len(names)), ("episode_1.svg", len(names))):
        drawing = ET.parse(tmp_path / "out" / name)
        assert len(drawing.findall("{http://www.w3.org/2000/svg}g")) == panels


def test_a_store_on_an_object_store_gives_the_numbers_of_its_copy_on_disk(made, s3, tmp_path):
    fs, path = file_system(url := f"{s3()}/made.zarr")
    put_folder(fs, made / "store.zarr", path)
    options = ("--json", "--device", "cpu", "--steps", 1, "--episodes", "1")
    code, printed, err = run(
        "rdt", "sample", "--checkpoint", made / "policy", "--data", url, "-o", tmp_path / "far", *options
    )
    assert (code, err) == (0, "")
    here = json.loads(sample(made, tmp_path / "near", *options)[1])
    assert json.loads(printed) == here | {"store": url}


def test_the_same_seed_gives_the_same_numbers_whatever_else_is_run(made):
    store = open_dataset(str(made / "store.zarr"))
    language = language_of(store)

    def predicted(numbers, seed):
        policy = Policy.load(made / "policy", device="cpu", seed=seed)
        return compare(policy, store, numbers, language, steps=1)[0][-1].predicted

    both, alone, other = predicted([0, 1], 0), predicted([1], 0), predicted([1], 1)
    np.testing.assert_allclose(both, alone, atol=1e-5)
    assert not np.allclose(alone, other, atol=1e-3)


def test_a_chunk_every_few_steps_is_the_chunk_that_begins_there(made):
    store = open_dataset(str(made / "store.zarr"))
    language, length = language_of(store), len(store[0])

    def traced(every):
        policy = Policy.load(made / "policy", device="cpu")
        return compare(policy, store, [0], language, steps=1, every=every)

    distances = (HORIZON // 2, None, 2 * HORIZON)
    ((dense,), often), ((plain,), once), ((sparse,), seldom) = map(traced, distances)
    starts = [trace.starts for trace in (dense, plain, sparse)]
    assert starts == [tuple(range(0, length, every or HORIZON)) for every in distances]
    # Of steps that two chunks have, the later one's; of those that none has, nothing.
    np.testing.assert_allclose(dense.predicted[: HORIZON // 2], plain.predicted[: HORIZON // 2], atol=1e-5)
    np.testing.assert_allclose(sparse.predicted[:HORIZON], plain.predicted[:HORIZON], atol=1e-5)
    assert np.abs(dense.predicted - plain.predicted)[HORIZON // 2 : HORIZON].max() > 1e-3
    assert (sparse.real[HORIZON : 2 * HORIZON].any(), np.array_equal(dense.real, plain.real)) == (False, True)
    assert often[0].by_step[0] != once[0].by_step[0] != seldom[0].by_step[0]


def test_dtype_compile_and_distance_of_chunks_reach_the_policy(made, tmp_path, monkeypatch):
    found, compiled = {}, []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(options))
    for dtype in ("fp32", "bf16"):
        arguments = ("--json", "--device", "cpu", "--steps", 1, "--episodes", 1, "--every", 1000, "--dtype", dtype)
        flags = ["--compile"] if dtype == "bf16" else []
        code, printed, err = sample(made, tmp_path / dtype, *arguments, *flags)
        assert (code, err) == (0, "")
        found[dtype] = json.loads(printed)
        assert (found[dtype]["chunks"], found[dtype]["every"], found[dtype]["compared_steps"]) == (1, 1000, HORIZON)
    assert compiled == [{"mode": "default"}]
    assert [found[dtype]["dtype"] for dtype in found] == ["float32", "bfloat16"]
    means = [[quantity["mean"] for quantity in report["quantities"]] for report in found.values()]
    assert means[0] != means[1]
    np.testing.assert_allclose(*means, rtol=0.05, atol=0.02)


def test_the_errors_of_a_policy_that_repeats_the_state_are_its_distance_from_what_was_done(made):
    dataset = open_dataset(str(made / "store.zarr"))

    class Still(Policy):
        def __call__(self, seen, **options):
            return Chunk(np.tile(seen.state, (HORIZON, 1)), seen.action_mask)

    policy = Still.load(made / "policy", device="cpu")
    _, quantities = compare(policy, dataset, [0], language_of(dataset))
    episode, slot = dataset[0], resolve("left_arm_joint_1_pos", None)[0]
    found = next(quantity for quantity in quantities if quantity.name == "left_arm_joint_1_pos")
    state, action = episode.state[:, slot].astype(float), episode.action[:, slot].astype(float)
    for step in range(HORIZON):
        starts = np.arange(0, len(episode) - step, HORIZON)
        assert found.by_step[step] == pytest.approx(np.abs(state[starts] - action[starts + step]).mean(), rel=1e-5)
    whole = np.abs(np.repeat(state[::HORIZON], HORIZON)[: len(action)] - action)
    assert found.mean == pytest.approx(whole.mean(), rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(0, np.pi), st.floats(0.1, 10))
def test_the_angle_between_rotations_is_that_of_the_turn(seed, angle, length):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    start = rotations.matrix_from_quat(rng.normal(size=4))
    turn = rotations.matrix_from_quat(rotations.quat_from_axis_angle(axis / np.linalg.norm(axis) * angle))
    one, other = (rotations.ortho6d_from_matrix(matrix)[None] for matrix in (start, turn @ start))
    # Below half a turn to its own digits; near it the arc sine keeps half of them.
    assert angle_between(one * length, other)[0] == pytest.approx(np.degrees(angle), abs=1e-5)


def test_positions_and_orientations_are_counted_as_wholes_and_only_where_real():
    sums, real = ErrorSums(4), np.zeros((3, 128), np.bool_)
    pos, rotation = (list(resolve(f"right_{name}", None)) for name in ("eef_pos", "eef_ortho6d"))
    recorded, predicted = (np.zeros((3, 128), np.float32) for _ in range(2))
    recorded[:, rotation] = predicted[:, rotation] = [1, 0, 0, 0, 1, 0]
    predicted[:, pos] = [3, 4, 0]
    predicted[2, rotation] = [0, 1, 0, -1, 0, 0]
    real[:2, pos], real[:, rotation] = True, True
    sums.add(predicted, recorded, real)
    found = {quantity.name: quantity for quantity in sums.quantities()}
    assert list(found) == ["right_eef_pos", "right_eef_rotation"]
    assert (found["right_eef_pos"].unit, found["right_eef_pos"].mean) == ("m", 5)
    assert found["right_eef_pos"].by_step == (5, 5, None, None)
    assert found["right_eef_rotation"].unit == "deg"
    assert found["right_eef_rotation"].by_step == (0, 0, pytest.approx(90), None)
    assert distance(np.zeros((1, 3)), np.array([[1.0, 2.0, 2.0]])).tolist() == [3]


def test_a_published_checkpoint_is_sampled_with_what_it_does_not_tell_assumed(made, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(made / "policy" / name, plain)
    dataset = open_dataset(str(made / "store.zarr"))
    config, assumed = policy_config(str(plain), dataset, None)
    assert (config.image_encoder, config.cameras, config.history) == (
        "google/siglip-so400m-patch14-384",
        ("exterior", "right_wrist", "left_wrist"),
        2,
    )
    assert config.state_slots is None
    assert "has no policy.json" in assumed[0]
    assert "(published; --image-encoder gives another)" in assumed[1]
    arguments = ("--checkpoint", plain, "--data", made / "store.zarr", "-o", tmp_path / "out", "--device", "cpu")
    code, _, err = run("rdt", "sample", *arguments, "--image-encoder", "keypoints")
    assert (code, "keypoints has no weights of its own" in err) == (1, True)


def test_a_published_checkpoint_with_a_siglip_and_a_t5_of_ones_own(made, seeded_t5, tmp_path):
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    tower = transformers.SiglipVisionConfig(**vision, image_size=16, patch_size=8)
    transformers.SiglipVisionModel(tower).save_pretrained(tmp_path / "siglip")
    transformers.SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "siglip")
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors"):
        (plain / name).write_bytes((made / "policy" / name).read_bytes())
    arguments = ["--checkpoint", plain, "--data", made / "store.zarr", "-o", tmp_path / "out", "--device", "cpu"]
    arguments += ["--episodes", "1", "--steps", "2", "--image-encoder", tmp_path / "siglip"]
    code, stored, err = run("rdt", "sample", *arguments)
    assert (code, err, "assumed: " in stored) == (0, "", True)
    assert f"image encoder {tmp_path / 'siglip'}" in stored
    _, spoken, _ = run("rdt", "sample", *arguments, "--language", seeded_t5)
    numbers = [re.findall(r"\d\.\d{4}", text) for text in (stored, spoken)]
    np.testing.assert_allclose(*(np.array(found, float) for found in numbers), atol=2e-2)


def test_words_come_from_the_store_or_an_encoder_or_are_asked_for(made, words_store, tmp_path):
    bare = open_dataset(str(words_store(tmp_path / "bare.zarr", [["Go."]])))
    embedded = open_dataset(str(made / "store.zarr"))
    config, _ = policy_config(str(made / "policy"), embedded, None)
    assert words(bare, config, "some/t5") == (None, "some/t5")
    assert words(bare, config.model_copy(update={"language_encoder": "own/t5"}), None) == (None, "own/t5")
    stored, encoder = words(embedded, config, None)
    assert encoder is None
    assert stored.embedding(stored.wordings(embedded[0])[0]).shape[1] == stored.dim
    with pytest.raises(RdtError, match="holds no language embeddings"):
        words(bare, config, None)
    with pytest.raises(RdtError, match="has no embeddings of 'other/t5'"):
        words(embedded, config.model_copy(update={"language_encoder": "other/t5"}), None)


def test_cameras_that_only_one_side_has_are_told(made, frame_store, tmp_path):
    config, _ = policy_config(str(made / "policy"), open_dataset(str(made / "store.zarr")), None)
    store = open_dataset(str(frame_store(tmp_path / "one.zarr", [[2]], cameras=("right_wrist",))))
    told = cameras_not_shared(store, config.model_copy(update={"cameras": ("exterior",)}))
    assert [line.split(":")[0] for line in told] == [
        "right_wrist of the store not shown",
        "exterior of the policy missing",
    ]


def test_episodes_are_chosen_by_count_number_or_id(words_store, tmp_path):
    dataset = open_dataset(str(words_store(tmp_path / "some.zarr", [["Go."]] * 5)))
    assert chosen_episodes(dataset, "3") == [0, 1, 2]
    assert chosen_episodes(dataset, "99") == [0, 1, 2, 3, 4]
    assert chosen_episodes(dataset, "3,") == [3]
    assert chosen_episodes(dataset, "e4, 1,e4") == [4, 1]
    with pytest.raises(RdtError, match="no episode of this store is called '7'"):
        chosen_episodes(dataset, "0,7")


def test_mistakes_are_told_with_the_next_step(made, tmp_path):
    code, _, err = sample(made, tmp_path, "--episodes", "0")
    assert (code, "no episode with a step was chosen" in err) == (1, True)
    code, _, err = sample(made, tmp_path, "--dtype", "fp16")
    assert (code, "no --dtype is called 'fp16'" in err) == (1, True)
    code, _, err = sample(made, tmp_path, "--device", "gpu")
    assert (code, "no device is called 'gpu'" in err) == (1, True)


def test_a_figure_is_xml_whatever_the_text_and_numbers():
    curves = [Curve([None, 1.0, 1.0, None, 2.0], "#d33"), Curve([], "#222")]
    text = figure("a < b & c", [Panel("x, <m>", curves, marks=(0, 2)), Panel("empty", [])], [("one & two", "#222")])
    root = ET.fromstring(text)
    assert "nan" not in text
    paths = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    assert sum(path.count("M") for path in paths) == 2 + 2, "two marks, and a curve in two pieces"
