"""A merged store holds the parts of all, byte for byte, is whole by itself, and says where everything is from."""

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rdt_data.errors import StoreError
from rdt_data.merge import merge_stores, no_single_source
from rdt_data.split import Split
from rdt_data.store import open_dataset


@pytest.fixture(scope="module")
def stores(tmp_path_factory, aloha_source) -> dict[str, Path]:
    """The same recordings in three stores: a holds the first two, b the others, c all."""
    from converters import catalog
    from converters.plan import Request
    from converters.run import convert_dataset

    folder = tmp_path_factory.mktemp("stores")
    source = aloha_source(folder)
    made = {}
    for name, episodes in (("a", (0, 2)), ("b", (2, 4)), ("c", None)):
        made[name] = folder / f"{name}.zarr"
        convert_dataset(source, made[name], Request.of(catalog.get("demo_aloha"), episodes=episodes))
    return made


def same(one, other) -> None:
    for name in ("state", "action", "state_mask", "action_mask", "image_mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.source, one.instruction, one.instruction_raw) == (
        other.source,
        other.instruction,
        other.instruction_raw,
    )
    for slot in one.cameras:
        assert [one.encoded(slot, t) for t in range(len(one))] == [other.encoded(slot, t) for t in range(len(other))]


def episodes(*paths: Path) -> list:
    return [episode for path in paths for episode in open_dataset(str(path))]


def test_a_merged_store_is_whole_and_holds_all_in_order(stores, tmp_path, command, tree):
    done = command("merge", stores["a"], stores["b"], tmp_path / "all.zarr", "--json")
    assert done.code == 0, done.err
    assert (done.json["parts"], done.json["episodes"], done.json["steps"], done.json["renamed"]) == (2, 4, 24, False)
    assert command("verify", tmp_path / "all.zarr").code == 0
    for merged, one in zip(episodes(tmp_path / "all.zarr"), episodes(stores["a"], stores["b"]), strict=True):
        assert merged.id == one.id
        same(merged, one)
    for number, name in enumerate("ab"):
        assert tree(tmp_path / f"all.zarr/parts/{number}") == tree(stores[name] / "parts/0")


def test_it_says_where_each_run_of_parts_is_from(stores, tmp_path):
    merge_stores([str(stores["a"]), str(stores["b"])], tmp_path / "all.zarr")
    merged = open_dataset(str(tmp_path / "all.zarr")).attributes["merged"]
    assert [(entry["store"], entry["parts"]) for entry in merged] == [("a", 1), ("b", 1)]
    assert [entry["request"]["episodes"] for entry in merged] == [[0, 2], [2, 4]]
    assert [entry["id_prefix"] for entry in merged] == ["", ""]


def test_files_are_linked_unless_they_shall_be_copied(stores, tmp_path):
    pair = [str(stores["a"]), str(stores["b"])]
    linked = merge_stores(pair, tmp_path / "linked.zarr")
    copied = merge_stores(pair, tmp_path / "copied.zarr", copy=True)
    assert (linked.copied, copied.linked) == (0, 0)
    state = Path("parts/0/state/c/0/0")
    assert os.path.samefile(tmp_path / "linked.zarr" / state, stores["a"] / state)
    assert not os.path.samefile(tmp_path / "copied.zarr" / state, stores["a"] / state)


def test_ids_that_collide_get_the_name_of_their_store_and_the_stores_stay_as_they_were(stores, tmp_path, command, tree):
    before = {name: tree(path) for name, path in stores.items()}
    done = command("merge", stores["a"], stores["c"], tmp_path / "all.zarr")
    assert "ids would have collided" in done.out
    merged = episodes(tmp_path / "all.zarr")
    assert [episode.id for episode in merged] == [
        f"{name}/{episode.id}" for name in "ac" for episode in open_dataset(str(stores[name]))
    ]
    assert len({episode.id for episode in merged}) == 6
    for one, other in zip(merged, episodes(stores["a"], stores["c"]), strict=True):
        same(one, other)
    assert command("verify", tmp_path / "all.zarr").code == 0
    assert {name: tree(path) for name, path in stores.items()} == before


def test_renamed_parts_have_a_content_of_their_own(stores, tmp_path):
    merge_stores([str(stores["a"]), str(stores["c"])], tmp_path / "all.zarr")
    contents = [part.attributes["content"] for part in open_dataset(str(tmp_path / "all.zarr")).parts]
    assert open_dataset(str(stores["a"])).parts[0].attributes["content"] not in contents
    assert len(set(contents)) == 2


def test_stores_of_one_name_are_told_apart_by_their_place(stores, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    for folder in ("x", "y"):
        merge_stores([str(stores["a"]), str(stores["b"])], tmp_path / folder / "same.zarr")
    merge_stores([str(tmp_path / "x/same.zarr"), str(tmp_path / "y/same.zarr")], tmp_path / "all.zarr")
    prefixes = [episode.id.split("/")[0] for episode in episodes(tmp_path / "all.zarr")]
    assert prefixes == ["same-1"] * 4 + ["same-2"] * 4
    merged = open_dataset(str(tmp_path / "all.zarr")).attributes["merged"]
    assert [(entry["store"], entry["id_prefix"]) for entry in merged] == [
        ("a", "same-1/"), ("b", "same-1/"), ("a", "same-2/"), ("b", "same-2/"),
    ]  # fmt: skip


def test_a_part_that_lists_files_outside_of_itself_is_refused(stores, tmp_path):
    bad = changed(stores["b"], tmp_path / "bad.zarr")
    part = bad / "parts/0/zarr.json"
    part.write_text(part.read_text().replace('"action/zarr.json"', '"../../../action/zarr.json"'))
    changed(bad, tmp_path / "worse.zarr")
    with pytest.raises(StoreError, match="which lies outside of it"):
        merge_stores([str(stores["a"]), str(tmp_path / "worse.zarr")], tmp_path / "all.zarr")


def test_no_episode_changes_its_side_by_merging(stores, tmp_path):
    merge_stores([str(stores["a"]), str(stores["c"])], tmp_path / "all.zarr")
    split = Split(0.5, 1)
    assert [split.side(e) for e in episodes(tmp_path / "all.zarr")] == [
        split.side(e) for e in episodes(stores["a"], stores["c"])
    ]


def test_plain_zarr_reads_a_merged_store(stores, tmp_path):
    import zarr

    merge_stores([str(stores["a"]), str(stores["c"])], tmp_path / "all.zarr")
    group = zarr.open(tmp_path / "all.zarr", mode="r")
    frame = group["parts/1/images/exterior"][3]
    np.testing.assert_array_equal(frame, open_dataset(str(stores["c"]))[0].images("exterior")[3])
    assert str(group["parts/1/episodes/id"][0]).startswith("c/")


def changed(store: Path, dest: Path, **attributes) -> Path:
    """A copy of a store with other attributes, sealed again."""
    from rdt_data.seal import sealed

    fsspec.filesystem("file").copy(str(store), str(dest), recursive=True)
    document = json.loads((dest / "zarr.json").read_text())
    document["attributes"] = sealed(fsspec.filesystem("file"), str(dest), {**document["attributes"], **attributes})
    (dest / "zarr.json").write_text(json.dumps(document))
    return dest


def test_stores_of_different_kinds_are_refused_and_the_difference_is_named(stores, tmp_path, command):
    attributes = open_dataset(str(stores["b"])).attributes
    cameras = {**attributes["cameras"], "exterior": {**attributes["cameras"]["exterior"], "height": 99}}
    fewer = {slot: form for slot, form in cameras.items() if slot != "left_wrist"}
    cases = {
        r"control_hz is 10.0 in the one, 25.0 in the other": {"control_hz": 25.0},
        r"cameras.exterior.height is 24 in the one, 99 in the other": {"cameras": cameras},
        r"cameras is \['exterior', 'left_wrist', 'right_wrist'\]": {"cameras": fewer},
        r"request.action is 'next-state' in the one": {"request": {**attributes["request"], "action": "recorded"}},
        r"spec.title is ": {"spec": {**attributes["spec"], "title": "another"}},
        r"dataset is 'demo_aloha'": {"dataset": "other"},
    }
    for number, (message, difference) in enumerate(cases.items()):
        other = changed(stores["b"], tmp_path / f"{number}.zarr", **difference)
        with pytest.raises(StoreError, match=message):
            merge_stores([str(stores["a"]), str(other)], tmp_path / "all.zarr")
    done = command("merge", stores["a"], tmp_path / "0.zarr", tmp_path / "all.zarr")
    assert done.code == 1
    assert "trained together by a mixture" in done.err
    assert not (tmp_path / "all.zarr").exists()


def test_what_cannot_be_merged_is_said(stores, tmp_path):
    a, b = str(stores["a"]), str(stores["b"])
    with pytest.raises(StoreError, match="give two stores or more"):
        merge_stores([a], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="is given twice"):
        merge_stores([a, b, f"{a}/"], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="exists already"):
        merge_stores([a, b], stores["c"])
    unfinished = changed(stores["b"], tmp_path / "unfinished.zarr", complete=False)
    with pytest.raises(StoreError, match="is not finished"):
        merge_stores([a, str(unfinished)], tmp_path / "all.zarr")
    damaged = changed(stores["b"], tmp_path / "damaged.zarr")
    part = damaged / "parts/0/zarr.json"
    part.write_text(part.read_text().replace('"episodes": 2', '"episodes": 3'))
    with pytest.raises(StoreError, match=r"damaged.zarr is damaged: parts/0"):
        merge_stores([a, str(damaged)], tmp_path / "all.zarr")


def test_an_interrupted_merge_leaves_nothing(stores, tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_stores([str(stores["a"]), str(stores["b"])], tmp_path / "all.zarr", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_stores_behind_urls_are_copied(stores, tmp_path, command):
    memory = fsspec.filesystem("memory")
    memory.put(str(stores["b"]), "/merging/b.zarr", recursive=True)
    report = merge_stores([str(stores["a"]), "memory://merging/b.zarr"], tmp_path / "all.zarr")
    assert report.copied > 0 < report.linked
    assert command("verify", tmp_path / "all.zarr").code == 0


def test_there_is_no_single_source_to_verify_against(stores, tmp_path):
    merge_stores([str(stores["a"]), str(stores["b"])], tmp_path / "all.zarr")
    error = no_single_source(open_dataset(str(tmp_path / "all.zarr")))
    assert "was merged from a, b" in error.problem
    assert "verify each of those stores" in error.remedy
