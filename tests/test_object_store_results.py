"""What commands make of stores, written to object stores: statistics, splits, embeddings, merged and migrated stores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_files import files, objects

from converters.catalog import get
from converters.plan import Request
from converters.run import convert_dataset
from rdt_data.errors import StoreError
from rdt_data.language import language_of
from rdt_data.merge import merge_stores
from rdt_data.merge_target import Remote
from rdt_data.remote import file_system
from rdt_data.remote_files import put_folder
from rdt_data.store import open_dataset


@pytest.fixture(params=["memory", "s3"])
def root(request, tmp_path) -> str:
    """The URL of an empty folder."""
    return (
        request.getfixturevalue("s3")() if request.param == "s3" else f"memory://{tmp_path.parent.name}/{tmp_path.name}"
    )


@pytest.fixture
def put() -> Callable[[Path, str], str]:
    """Copy a folder to a URL; returns the URL."""

    def copy(folder: Path, url: str) -> str:
        fs, path = file_system(url)
        put_folder(fs, folder, path)
        return url

    return copy


def test_statistics_and_splits_are_the_same_files(root, put, frame_store, tmp_path, command):
    local = frame_store(tmp_path / "made.zarr", [[4, 5], [6]])
    url = put(local, f"{root}/made.zarr")
    for store in (local, url):
        assert command("split", store, "--validation", "0.5", "--seed", "3").code == 0
        assert "2 parts measured, 0 known" in command("stats", store).out
        assert "0 parts measured, 2 known" in command("stats", store).out
    assert objects(url) == files(local)
    assert {name for name in objects(url) if name.startswith("stats/parts/")}


def test_a_store_is_migrated_where_it_lies(root, put, frame_store, tmp_path, command):
    local = frame_store(tmp_path / "made.zarr", [[4]], complete=False)
    document = json.loads((local / "zarr.json").read_bytes())
    document["attributes"]["version"] = 1
    (local / "zarr.json").write_text(json.dumps(document))
    url = put(local, f"{root}/made.zarr")
    for store in (local, url):
        assert command("migrate", store).code == 0
    assert objects(url) == files(local)
    assert len(open_dataset(url)) == 1


def test_embeddings_are_computed_once_for_stores_wherever_they_lie(
    root, put, words_store, tmp_path, seeded_t5, command
):
    kitchen = words_store(tmp_path / "kitchen.zarr", [["Open the drawer."], ["Wipe.", "Wipe the table."]])
    yard = put(words_store(tmp_path / "yard.zarr", [["Wipe."]]), f"{root}/yard.zarr")
    there = put(kitchen, f"{root}/kitchen.zarr")
    options = ("--model", seeded_t5, "--dtype", "fp32", "--json")
    assert command("embed-lang", kitchen, *options).json["computed"] == 4
    assert command("embed-lang", there, *options).json["computed"] == 4
    shared = command("embed-lang", there, yard, "--store", f"{root}/words", *options).json
    assert (shared["texts"], shared["copied"], shared["computed"]) == (4, 4, 0)
    for text in ("Open the drawer.", "Wipe.", "Wipe the table.", ""):
        expected = language_of(str(kitchen)).embedding(text)
        assert (language_of(there).embedding(text) == expected).all()
    assert language_of(yard).url == f"{root}/words/{shared['key']}"
    assert (language_of(yard).embedding("Wipe.") == language_of(str(kitchen)).embedding("Wipe.")).all()
    assert command("embed-lang", there, "--verify", *options).json["damaged"] == {}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, aloha_source) -> dict[str, Path]:
    """Stores of the same robot: a and b of different episodes, c of the same as a."""
    folder = tmp_path_factory.mktemp("stores")
    source = aloha_source(folder, episodes=2)
    made = {name: folder / f"{name}.zarr" for name in "abc"}
    for dest, episodes in zip(made.values(), ((0, 1), (1, 2), (0, 1)), strict=True):
        convert_dataset(source, dest, Request.of(get("demo_aloha"), episodes=episodes))
    return made


@pytest.mark.parametrize("names", ["ab", "ac"], ids=["ids that differ", "ids that collide"])
@pytest.mark.parametrize("where", ["disk", "the same object store"])
def test_a_merged_store_has_the_bytes_of_one_merged_on_disk(root, put, recorded, tmp_path, names, where, command):
    made = [recorded[name] for name in names]
    stores = [str(store) if where == "disk" else put(store, f"{root}/{store.name}") for store in made]
    expected = merge_stores([str(store) for store in made], tmp_path / "both.zarr")
    said = command("merge", *stores, f"{root}/both.zarr", "--json").json
    assert said["renamed"] == expected.renamed == (names == "ac")
    assert (said["dest"], said["episodes"], said["linked"]) == (f"{root}/both.zarr", 2, 0)
    assert objects(f"{root}/both.zarr") == files(tmp_path / "both.zarr")


class Stopped(BaseException):
    """What ends a merge here, as a signal would."""


def test_a_merge_that_ends_before_its_time_is_no_store_and_the_next_one_begins_anew(
    root, recorded, tmp_path, monkeypatch
):
    stores = [str(recorded[name]) for name in "ab"]
    dest = f"{root}/both.zarr"

    def stopped(self: Remote, *arguments: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Remote, "finish", stopped)
        with pytest.raises(Stopped):
            merge_stores(stores, dest)
        assert objects(dest) == {}
        patched.setattr("rdt_data.merge_target.remove_tree", lambda fs, path: None)  # killed: nobody cleans up
        with pytest.raises(Stopped):
            merge_stores(stores, dest)
    assert "parts/1/zarr.json" in objects(dest)
    with pytest.raises(StoreError, match="not a Zarr v3 store"):
        open_dataset(dest)
    merge_stores(stores, dest)
    merge_stores(stores, tmp_path / "both.zarr")
    assert objects(dest) == files(tmp_path / "both.zarr")
    with pytest.raises(StoreError, match="exists already"):
        merge_stores(stores, dest)
