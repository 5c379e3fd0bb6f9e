"""Mixture files: what is published, what a user may write, and what is drawn from in the end."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from converters import catalog
from rdt_data.episode import Episode
from rdt_data.errors import SpecError, StoreError
from rdt_data.ledger import Ledger, commit
from rdt_data.mixture_file import Mixture, check, load_mixture, names, survey
from rdt_data.parts import PartWriter

SHARED = Path(os.environ.get("RDT_SHARED", Path(__file__).parents[2] / "shared"))

MINE = """
title: Two robots
least_steps: 4
datasets:
  short: 1
  long: {weight: 3, path: stores/elsewhere.zarr, most_steps: 6}
"""


def make_store(dest: Path, parts: list[list[int]]) -> None:
    """A store whose parts hold episodes of the given lengths, without cameras."""
    header = {"dataset": "made_up", "control_hz": 5.0, "cameras": {}, "request": {}, "spec": {}, "spec_text": ""}
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
        for number, lengths in enumerate(parts):
            writer = PartWriter(ledger.path(number), {})
            for steps in lengths:
                rows, mask = np.zeros((steps, 128), np.float32), np.ones(128, np.bool_)
                writer.add(Episode(f"{number}/{steps}", "", rows, rows, mask, mask, "Go.", "Go.", 5.0), {})
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[len(lengths), sum(lengths)] for lengths in parts]})


def written(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


@pytest.mark.parametrize("name", names())
def test_every_mixture_names_specs_that_can_be_converted(name: str):
    mixture = load_mixture(name)
    assert sum(mixture.shares.values()) == pytest.approx(1)
    for dataset in mixture.datasets:
        assert catalog.get(dataset).refused is None


def test_the_published_mixture_has_the_published_names_weights_and_lengths():
    facts = SHARED / "facts" / "datasets.json"
    if not facts.exists():
        pytest.skip(f"no {facts} (set RDT_SHARED)")
    published = json.loads(facts.read_text())
    mixture = load_mixture("rdt_pretrain")
    weights = {name: row["sample_weight"] for name, row in published["datasets"].items() if row["pretrain"]}
    assert {name: member.weight for name, member in mixture.datasets.items()} == weights
    assert len(weights) == 46
    assert mixture.least_steps == published["general"]["min_episode_len"]
    assert str(mixture.most_steps) in published["general"]["max_episode_len"]


def test_paths_begin_at_the_file_or_at_the_root_that_is_given(tmp_path):
    file = written(tmp_path, MINE)
    mixture = load_mixture(file)
    assert mixture.shares == {"short": 0.25, "long": 0.75}
    assert mixture.url("short") == f"{tmp_path}/short.zarr"
    assert mixture.url("long") == f"{tmp_path}/stores/elsewhere.zarr"
    assert load_mixture(file, "s3://bucket/data").url("short") == "s3://bucket/data/short.zarr"
    assert load_mixture("rdt_pretrain").url("kuka") == "kuka.zarr"
    absolute = load_mixture(written(tmp_path, MINE.replace("stores/", "memory://stores/")))
    assert absolute.url("long") == "memory://stores/elsewhere.zarr"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: x\n", r"datasets: is missing"),
        ("title: x\ndatasets: {}\n", "datasets"),
        ("title: x\ndatasets: {a: 0}\n", r"datasets.a.weight: 0"),
        ("title: x\ndatasets: {a: -2.5}\n", r"datasets.a.weight: -2.5"),
        ("title: x\ndatasets: {a: yes}\n", r"datasets.a"),
        ("title: x\ndatasets: {a: {wieght: 1}}\n", "did you mean 'weight'"),
        ("title: x\ndatasets: {a: 1, a: 2}\n", "the key 'a' is there twice"),
        ("title: x\ndatasets: {a: 1, b: {weight: 1, path: a.zarr}}\n", "a.zarr is drawn from as a already"),
        ("title: x\nleast_steps: 99\ndatasets: {a: {weight: 1, most_steps: 9}}\n", "least_steps 99 is more than most"),
        ("- a\n- b\n", "it holds a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text: str, said: str):
    with pytest.raises(SpecError, match=said) as caught:
        load_mixture(written(tmp_path, text))
    assert "mine.yaml" in str(caught.value)
    assert caught.value.remedy


def test_an_unknown_name_is_answered_with_the_near_miss():
    with pytest.raises(SpecError, match="did you mean 'rdt_pretrain'"):
        load_mixture("rdt_pretrian")


@pytest.fixture
def mine(tmp_path) -> Mixture:
    make_store(tmp_path / "short.zarr", [[3, 5]])
    make_store(tmp_path / "stores" / "elsewhere.zarr", [[9], [4]])
    return load_mixture(written(tmp_path, MINE))


def test_a_survey_counts_what_is_long_enough(mine: Mixture):
    short, long = survey(mine)
    assert (short.episodes, short.usable_episodes, short.steps, short.usable_steps) == (2, 1, 8, 5)
    assert (long.episodes, long.usable_episodes, long.steps, long.usable_steps) == (2, 2, 13, 13)
    assert long.repeats(40) == pytest.approx(0.75 * 40 / 13)
    check([short, long])


def test_an_absent_store_and_one_without_usable_episodes_are_told(mine: Mixture, tmp_path):
    text = MINE.replace("least_steps: 4", "least_steps: 6").replace("elsewhere", "nowhere")
    rows = survey(load_mixture(written(tmp_path, text)))
    assert rows[0].problem == "none of 2 episodes has 6 steps"
    assert rows[1].problem is not None
    assert "nowhere.zarr" in rows[1].problem
    with pytest.raises(StoreError, match="2 of 2 datasets cannot be drawn from; short"):
        check(rows)


def test_the_command_shows_shares_and_fails_only_when_strict(mine: Mixture, tmp_path, command):
    shown = command("mixture", "show", str(tmp_path / "mine.yaml"))
    assert shown.code == 0
    assert "75.00%" in shown.out
    assert "2 of 2 datasets are ready: 100.0% of the draws" in shown.out
    as_json = command("mixture", "show", str(tmp_path / "mine.yaml"), "--json")
    assert as_json.json["datasets"][1]["usable_steps"] == 13
    assert command("mixture", "show", "rdt_pretrain", "--root", str(tmp_path)).code == 0
    strict = command("mixture", "show", "rdt_pretrain", "--root", str(tmp_path), "--strict")
    assert strict.code == 1
    assert "46 of 46 datasets cannot be drawn from" in strict.err
    assert "rdt_pretrain" in command("mixture", "list").out
