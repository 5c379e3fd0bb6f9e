"""`rdt eval` on a small policy: what it prints, its JSON, its video, where words come from, and its refusals."""

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from demo_and_policy import demo_and_policy, run

from rdt_data.errors import RdtError
from rdt_data.language import language_of
from rdt_data.store import open_dataset
from rdt_model.eval_options import EvalOptions, size_of, words_of, worlds_of
from rdt_model.eval_video import caption, tiled
from rdt_model.policy_files import read_policy


@pytest.fixture(scope="module")
def made(tmp_path_factory, seeded_t5) -> Path:
    """A folder with demo data of every task as `store.zarr`, its words embedded, and a policy for it in `policy`."""
    folder = tmp_path_factory.mktemp("eval")
    return demo_and_policy(folder, seeded_t5, episodes=24, horizon=16, cameras=("exterior",))


def evaluated(made: Path, *arguments: object) -> tuple[int, str, str]:
    given = ("--checkpoint", made / "policy", "--env", "demo", "--device", "cpu", "--steps", 1, *arguments)
    return run("rdt", "eval", *given)


def test_a_run_prints_rates_with_their_interval_and_comparisons(made):
    code, printed, err = evaluated(made, "--data", made / "store.zarr", "--episodes", 6, "--untrained", "--blank")
    assert (code, err) == (0, "")
    for name in ("policy", "untrained", "blank"):
        assert re.search(rf"^{name} .* %  \(\d of 6, \d+ to \d+ %\)$", printed, re.MULTILINE)
    assert "swapped" not in printed
    assert "a new chunk every 16 steps, 1 denoising steps, seed 0, cpu" in printed
    assert re.search(r"^Touch the \w+ block with the \w+ arm\. .* of \d", printed, re.MULTILINE)


def test_json_holds_every_episode_and_seeds_make_it_the_same_again(made):
    arguments = ["--data", made / "store.zarr", "--episodes", 4, "--seed", 3, "--json", "--execute", "ensemble"]
    arguments += ["--every", 8, "--swapped", "--limit", 20]
    (code, printed, err), (_, again, _) = evaluated(made, *arguments), evaluated(made, *arguments, "--parallel", 3)
    assert (code, err) == (0, "")
    report, other = json.loads(printed), json.loads(again)
    assert report["execution"] == "temporal ensembling, decay 0.01, a new chunk every 8 steps"
    assert (report["dataset"], report["env"], report["limit"]) == ("demo_aloha", "demo", 20)
    assert [episode["seed"] for episode in report["results"]["policy"]["episodes"]] == [3, 4, 5, 6]
    plain, swapped = (report["results"][name]["episodes"] for name in ("policy", "swapped"))
    assert all(one["instruction"] != two["instruction"] for one, two in zip(plain, swapped, strict=True))
    overall = report["results"]["policy"]["overall"]
    assert overall["episodes"] == 4
    assert overall["low"] <= overall["rate"] <= overall["high"]
    assert other["results"] == report["results"], "however many run side by side"


def test_the_video_shows_the_first_episodes_side_by_side(made, tmp_path):
    file = tmp_path / "out" / "eval.mp4"
    arguments = ("--data", made / "store.zarr", "--episodes", 3, "--video", file, "--video-episodes", 2)
    code, printed, err = evaluated(made, *arguments, "--limit", 12)
    assert (code, err) == (0, "")
    assert f"written: {file}" in printed
    with av.open(str(file)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].average_rate == 10
    assert len(frames) == 12 + 10, "each step, and a second of how it ended"
    assert frames[0].shape[1] > 2 * 320
    assert np.abs(frames[0].astype(int) - frames[11]).mean() > 0.1, "something moves"
    left, right = np.array_split(frames[0], 2, axis=1)
    assert np.abs(left.astype(int) - right).mean() > 1, "two different starts"


def test_words_come_from_a_t5_or_a_store(made, seeded_t5):
    results = []
    for words in (("--data", made / "store.zarr"), ("--language", seeded_t5)):
        code, printed, err = evaluated(made, *words, "--episodes", 3, "--json")
        assert (code, err) == (0, "")
        results.append(json.loads(printed)["results"]["policy"]["by_instruction"].keys())
    assert results[0] == results[1]
    config = read_policy(made / "policy")
    assert words_of(EvalOptions(language="some/t5"), config)[1] == "some/t5"
    assert words_of(EvalOptions(), config.model_copy(update={"language_encoder": "own/t5"}))[1] == "own/t5"
    said, encoder = words_of(EvalOptions(data=str(made / "store.zarr")), config)
    assert encoder is None
    text = open_dataset(str(made / "store.zarr"))[0].instruction
    np.testing.assert_array_equal(said(text), language_of(str(made / "store.zarr")).embedding(text))
    with pytest.raises(RdtError, match="names no language encoder"):
        words_of(EvalOptions(), config)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"env": "dmo"}, "no environment is called 'dmo'"),
        ({"language": "a", "data": "b"}, "both language and data"),
        ({"shadows": True}, "the environment demo has no shadows"),
        ({"instruction": "Go."}, "the environment demo has no instruction"),
        ({"env": "gym_aloha/AlohaInsertion-v0", "swapped": True}, "has one task"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options, told):
    with pytest.raises(RdtError, match=told):
        EvalOptions(**options)


def test_mistakes_are_told_with_the_next_step(made, tmp_path):
    data = ("--data", made / "store.zarr")
    code, _, err = evaluated(made, *data, "--every", 17)
    assert (code, "a chunk has 16 actions" in err) == (1, True)
    code, _, err = evaluated(made, *data, "--execute", "all")
    assert (code, "no way to execute chunks is called 'all'" in err) == (1, True)
    code, _, err = run("rdt", "eval", "--checkpoint", tmp_path, "--env", "demo", *data)
    assert (code, "has no policy.json" in err) == (1, True)
    with pytest.raises(RdtError, match="the policy acts at 5 Hz, the built-in environment at 10"):
        worlds_of(EvalOptions(), read_policy(made / "policy").model_copy(update={"control_hz": 5.0}))
    assert size_of("480x640") == (480, 640)
    with pytest.raises(RdtError, match="frame size '480'"):
        size_of("480")


def test_pictures_are_laid_out_in_a_grid_of_even_sides():
    pictures = [np.full((5, 7, 3), n + 1, np.uint8) for n in range(3)]
    sheet = tiled(pictures)
    assert sheet.shape == (10, 14, 3)
    assert [sheet[row, column, 0] for row, column in ((0, 0), (0, 7), (5, 0), (5, 7))] == [1, 2, 3, 0]
    assert tiled(pictures[:1]).shape == (6, 8, 3)


@pytest.mark.parametrize(
    "text", ["", "Go.", "Pick up the red cube with the right arm and hand it to the left arm. " * 3]
)
def test_a_caption_fits_its_picture_whatever_its_length(text):
    strip = caption(text, 332, (150, 150, 150))
    assert strip.shape[1:] == (332, 3)
    columns = np.flatnonzero((strip != 150).any(axis=(0, 2)))
    assert len(columns) == 0 if not text else columns.max() < 332
    assert (strip[:, -1] == 150).all(), "a margin is left"
