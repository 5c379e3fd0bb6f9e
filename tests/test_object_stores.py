"""Stores behind URLs: every command says the same of a store on an object store as of its copy on disk."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import converters.plan
from converters.catalog import get
from converters.run import convert_dataset
from rdt_data import Feed, Mixture, open_dataset
from rdt_data.errors import StoreError
from stats.view_api import View

READING = {
    "inspect": ["inspect", "STORE", "--json"],
    "verify": ["verify", "STORE", "--json"],
    "verify against its source": ["verify", "STORE", "--source", "SOURCE", "--json"],
    "lint": ["lint", "STORE", "--json"],
    "mixture": ["mixture", "show", "MIXTURE", "--json"],
    "export to Parquet": ["export", "STORE", "OUT", "--format", "parquet", "--json"],
    "export to LeRobot": ["export", "STORE", "OUT", "--format", "lerobot", "--images", "image", "--json"],
    "stats": ["stats", "STORE", "--json"],
    "compare": ["stats", "compare", "STORE", "STORE"],
    "report": ["report", "STORE", "-o", "OUT"],
    "split": ["split", "STORE", "--validation", "0.5", "--json"],
    "migrate": ["migrate", "STORE", "--json"],
}
"""Commands that take a store; those that add to it, too."""


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as plan:
        plan.setattr(converters.plan, "SMALLEST_PART", 1)
        yield


@pytest.fixture(scope="module")
def source(rlds_source, tmp_path_factory) -> Path:
    return rlds_source(tmp_path_factory.mktemp("source"), shards=(1, 1, 1))


@pytest.fixture(scope="module")
def local(source, small_parts, tmp_path_factory) -> Path:
    """A store of several parts on disk."""
    convert_dataset(
        source, dest := tmp_path_factory.mktemp("local") / "made.zarr", converters.plan.Request.of(get("demo_two_arm"))
    )
    assert len(open_dataset(str(dest)).parts) > 1
    return dest


@pytest.fixture(scope="module", params=["file", "memory", "s3"])
def url(request, local, tmp_path_factory) -> str:
    """A copy of the store behind a URL."""
    if request.param == "s3":
        address = f"{request.getfixturevalue('s3')()}/folder/made.zarr"
    else:
        address = {
            "file": f"file://{tmp_path_factory.mktemp('file')}/made.zarr",
            "memory": "memory://folder/made.zarr",
        }[request.param]
    fs, path = fsspec.core.url_to_fs(address)
    fs.put(f"{local}/", path, recursive=True)
    return address


def without(text: str, *places: object) -> str:
    """What a command said, whatever it called the places, and however long their names are."""
    for place in places:
        text = re.sub(rf"(file://)?{re.escape(str(place).removeprefix('file://'))}", "THERE", text)
    return re.sub(r"[0-9.]+ kB", "SIZE", text)


@pytest.mark.parametrize("name", READING)
def test_a_command_says_the_same_of_a_url_as_of_a_path(name, local, url, source, command, tmp_path):
    def run(store: object, label: str) -> Any:
        (mixture := tmp_path / f"{label}.yaml").write_text(
            f"title: one\nleast_steps: 1\ndatasets:\n  demo: {{weight: 1, path: '{store}'}}\n"
        )
        words = {"STORE": store, "SOURCE": source, "OUT": tmp_path / label, "MIXTURE": mixture}
        done = command(*(words.get(word, word) for word in READING[name]))
        page = (tmp_path / label).read_text() if name == "report" else ""
        return done.code, *(without(text, store, tmp_path / label) for text in (done.out, done.err, page))

    expected = run(local, "path")
    assert expected[0] == (4 if name == "compare" else 0), expected  # 4: so few steps do not show that it is safe
    assert run(url, "url") == expected


def test_a_feed_reads_a_url_as_it_reads_a_path(local, url):
    def batches(store: object) -> list[dict[str, Any]]:
        mixture = Mixture.of({str(store): 1.0}, least_steps=1)
        with Feed(
            mixture, batch_size=4, producers=0, image_size=16, epochs=1, horizon=4, shuffle_gb=0, split=None
        ) as feed:
            return [
                {name: np.copy(getattr(batch, name)) for name in ("images", "state", "action", "episode", "step")}
                for batch in feed
            ]

    expected, found = batches(local), batches(url)
    assert sum(len(batch["step"]) for batch in expected) == 15
    np.testing.assert_equal(found, expected)


def test_a_page_shows_a_url(local, url):
    for target in ("/api/episodes", "/api/episodes/2", "/api/episodes/1/state", "/api/episodes/0/frames/exterior/3"):
        assert View.of(url).answer(target) == View.of(str(local)).answer(target)


def test_a_store_that_is_still_converted_to_an_object_store_holds_its_finished_parts(local, s3):
    address = f"{s3()}/made.zarr"
    fs, path = fsspec.core.url_to_fs(address)
    fs.put(f"{local}/", path, recursive=True)
    root = json.loads(fs.cat_file(f"{path}/zarr.json"))
    root["attributes"]["complete"] = False
    fs.pipe_file(f"{path}/zarr.json", json.dumps(root).encode())
    fs.rm_file(f"{path}/parts/0/zarr.json")
    dataset = open_dataset(address)
    whole = open_dataset(str(local))
    assert dataset.parts == whole.parts[1:]
    assert len(dataset) == len(whole) - whole.parts[0].episodes


def test_a_url_that_is_no_store_is_told_with_what_to_do(s3, monkeypatch):
    with pytest.raises(StoreError, match="not a Zarr v3 store"):
        open_dataset(f"{s3()}/nothing.zarr")
    with pytest.raises(StoreError, match="nosuch://a/b cannot be opened"):
        open_dataset("nosuch://a/b")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StoreError, match=r"gs:// 'rdt-data\[gs\]'"):
        open_dataset("gs://bucket/made.zarr")
