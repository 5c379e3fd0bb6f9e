"""Migration: an older store becomes one of today in place, at no moment neither."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rdt_data.errors import StoreError
from rdt_data.migrate import MIGRATIONS, migrate_store
from rdt_data.seal import sealed
from rdt_data.store import VERSION, open_dataset


@pytest.fixture(scope="module")
def today(tmp_path_factory, aloha_source) -> Path:
    from converters import catalog
    from converters.plan import Request
    from converters.run import convert_dataset

    folder = tmp_path_factory.mktemp("today")
    convert_dataset(aloha_source(folder), folder / "made.zarr", Request.of(catalog.get("demo_aloha")))
    return folder / "made.zarr"


@pytest.fixture
def old(today, tmp_path) -> Path:
    """The store as version 1 wrote it: parts without masks of steps are the same in both."""
    shutil.copytree(today, tmp_path / "old.zarr")
    document = json.loads((tmp_path / "old.zarr/zarr.json").read_text())
    attributes = {**document["attributes"], "version": 1}
    document["attributes"] = sealed(fsspec.filesystem("file"), str(tmp_path / "old.zarr"), attributes)
    (tmp_path / "old.zarr/zarr.json").write_text(json.dumps(document, indent=2))
    return tmp_path / "old.zarr"


def version(store: Path) -> int:
    return json.loads((store / "zarr.json").read_text())["attributes"]["version"]


def test_every_old_version_has_a_way_to_the_next():
    assert sorted(MIGRATIONS) == list(range(1, VERSION))


def test_an_old_store_is_refused_until_it_is_migrated_and_then_whole(old, today, command, tree):
    with pytest.raises(StoreError, match="rdt-data migrate"):
        open_dataset(str(old))
    done = command("migrate", old)
    assert done.code == 0, done.err
    assert f"has version {VERSION} now" in done.out
    assert command("verify", old).code == 0
    assert tree(old) == tree(today)
    for one, then in zip(open_dataset(str(old)), open_dataset(str(today)), strict=True):
        np.testing.assert_array_equal(one.state, then.state)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(old, command, tree):
    before = tree(old)
    done = command("migrate", old, "--dry-run")
    assert "would do 1 -> 2" in done.out
    assert tree(old) == before


def test_a_store_of_today_is_left_as_it_is(today, command, tree):
    before = tree(today)
    assert "nothing to do" in command("migrate", today).out
    assert command("migrate", today, "--json").json["steps"] == []
    assert tree(today) == before


def test_migrating_twice_is_migrating_once(old, tree):
    migrate_store(str(old))
    once = tree(old)
    assert migrate_store(str(old)).steps == ()
    assert tree(old) == once


@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_interrupted_at_any_step_it_is_still_a_whole_old_store(old, today, moment, monkeypatch, tree):
    before = tree(old)
    with monkeypatch.context() as patched:
        patched.setattr(Path, moment, lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            migrate_store(str(old))
    assert tree(old) == before
    migrate_store(str(old))
    assert tree(old) == tree(today)


def test_a_conversion_that_has_not_finished_is_migrated_and_goes_on(today, tmp_path, aloha_source, command, tree):
    source = aloha_source(tmp_path)
    shutil.copytree(today, tmp_path / "old.zarr")
    document = json.loads((tmp_path / "old.zarr/zarr.json").read_text())
    for name in ("metadata", "crc32c", "parts"):
        del document["attributes"][name]
    document["attributes"] |= {"version": 1, "complete": False}
    (tmp_path / "old.zarr/zarr.json").write_text(json.dumps(document, indent=2))
    shutil.rmtree(tmp_path / "old.zarr/parts/0")
    assert command("migrate", tmp_path / "old.zarr").code == 0
    assert version(tmp_path / "old.zarr") == VERSION
    done = command("convert", source, tmp_path / "old.zarr", "--dataset", "demo_aloha")
    assert done.code == 0, done.err
    assert len(open_dataset(str(tmp_path / "old.zarr"))) == 4


def test_damage_is_not_sealed_over(old, command):
    part = old / "parts/0/zarr.json"
    part.write_text(part.read_text().replace('"steps": 24', '"steps": 23'))
    done = command("migrate", old)
    assert done.code == 1
    assert "is damaged: parts/0/zarr.json is damaged" in done.err
    assert version(old) == 1


def test_a_newer_store_and_one_of_another_program_are_told_apart(old, tmp_path, command):
    text = (old / "zarr.json").read_text()
    (old / "zarr.json").write_text(text.replace('"version": 1', '"version": 99', 1))
    assert "install a newer rdt-data" in command("migrate", old).err
    (old / "zarr.json").write_text(text.replace('"format": "rdt-data"', '"format": "other"'))
    assert "another program" in command("migrate", old).err
    assert "is not a Zarr v3 store" in command("migrate", tmp_path).err


def test_a_store_behind_a_url_is_migrated_too(old):
    memory = fsspec.filesystem("memory")
    memory.put(str(old), "/migrating.zarr", recursive=True)
    assert migrate_store("memory://migrating.zarr").to_version == VERSION
    assert len(open_dataset("memory://migrating.zarr")) == 4
