"""`verify` finds whatever is not as it was written, or not as the source says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdt_data.store import open_dataset

KINDS = {
    "the attributes of the store": "zarr.json",
    "the plan": "parts/zarr.json",
    "the attributes of a part": "parts/0/zarr.json",
    "metadata of vectors": "parts/0/state/zarr.json",
    "vectors": "parts/0/action/c/0/0",
    "metadata of the cameras": "parts/0/images/zarr.json",
    "metadata of a camera": "parts/0/images/exterior/zarr.json",
    "frames": "parts/0/images/right_wrist/c/0/0/0/0",
    "metadata of episodes": "parts/0/episodes/zarr.json",
    "metadata of lengths": "parts/0/episodes/length/zarr.json",
    "lengths": "parts/0/episodes/length/c/0",
    "masks": "parts/0/episodes/state_mask/c/0/0",
    "instructions": "parts/0/episodes/instruction/c/0",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, rlds_source) -> Path:
    return rlds_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, small, program) -> Path:
    from cli.convert import choose_spec
    from converters.plan import Request
    from converters.run import convert_dataset

    dest = tmp_path_factory.mktemp("store") / "made.zarr"
    convert_dataset(small, dest, Request.of(choose_spec(small, None, None)))
    return dest


@pytest.fixture
def big_store(big_source, command, tmp_path) -> Path:
    assert command("convert", big_source, tmp_path / "big.zarr").code == 0
    return tmp_path / "big.zarr"


def test_a_good_store_equals_its_source(store, small, command):
    alone, compared = command("verify", store), command("verify", store, "--source", small, "--json")
    assert alone.code == compared.code == 0
    assert "6 episodes, 30 steps" in alone.out
    assert "is whole" in alone.out
    report = compared.json
    assert (report["parts"], report["episodes"], report["steps"], report["problems"]) == (1, 6, 30, [])
    assert report["against_source"]


def test_every_file_of_a_store_is_of_a_kind_that_is_checked_below(store):
    def kind(path: str) -> str:
        return "/".join("*" if part in siblings or part.isdecimal() else part for part in path.split("/"))

    siblings = {
        *("state", "action", "exterior", "left_wrist", "right_wrist", "start", "length", "control_hz", "state_mask"),
        *("action_mask", "image_mask", "id", "source", "instruction", "instruction_raw"),
    }
    there = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert {kind(path) for path in there} == {kind(path) for path in KINDS.values()}
    assert set(KINDS.values()) <= there


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("path", KINDS.values(), ids=KINDS)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_in_any_file(store, command, path, where, bit):
    file = store / path
    good = file.read_bytes()
    damaged = bytearray(good)
    damaged[int(where * len(good))] ^= 1 << bit
    file.write_bytes(damaged)
    try:
        found = command("verify", store)
    finally:
        file.write_bytes(good)
    name = "zarr.json" if file.name == "zarr.json" else path.removeprefix("parts/0/")
    assert found.code == 1
    assert name in found.out + found.err or "another program" in found.err or "format version" in found.err


def edited(store: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: (s / "parts/0/images/exterior/c/0/0/0/0").unlink(), "images/exterior/c/0/0/0/0 is missing"),
        (lambda s: (s / "parts/0/episodes/id/c/0").unlink(), "episodes/id/c/0 is missing"),
        (lambda s: (s / "parts/0/zarr.json").unlink(), "parts/0 is missing"),
        (lambda s: (s / "parts/zarr.json").unlink(), "parts is missing"),
        (lambda s: shutil.rmtree(s / "parts/0"), "parts/0 is missing"),
        (lambda s: shutil.rmtree(s / "parts"), "the folder parts is missing"),
        (lambda s: (s / "zarr.json").unlink(), "is not a Zarr v3 store: it has no zarr.json"),
        (lambda s: shutil.copytree(s / "parts/0", s / "parts/1"), "parts/1 does not belong to this store"),
        (lambda s: (s / "parts/0/state/c/0/0").write_bytes(b""), "state/c/0/0 has 0 bytes, "),
    ],
)
def test_what_is_missing_or_too_much_is_found(store, command, tmp_path, change, problem):
    found = command("verify", edited(store, tmp_path, change))
    assert found.code == 1
    assert problem in found.out + found.err


def test_a_missing_part_is_found_among_many(big_store, big_source, command):
    shutil.rmtree(big_store / "parts" / "1")
    found = command("verify", big_store, "--source", big_source, "--json")
    assert (found.code, found.json["problems"]) == (1, ["parts/1 is missing"])


def test_an_unfinished_store_is_compared_as_far_as_it_goes(big_store, big_source, command):
    shutil.rmtree(big_store / "parts" / "1")
    attributes = json.loads((big_store / "zarr.json").read_text())
    attributes["attributes"]["complete"] = False
    (big_store / "zarr.json").write_text(json.dumps(attributes))
    found = command("verify", big_store, "--source", big_source, "--json")
    assert found.json["problems"] == ["the conversion has not finished: run `rdt-data convert` again"]
    assert (found.code, found.json["parts"], found.json["episodes"]) == (1, 4, 32)


def test_a_store_that_was_barely_begun_is_told_to_be_unfinished(small, store, command, tmp_path):
    def barely_begun(copy: Path) -> None:
        shutil.rmtree(copy / "parts" / "0")
        attributes = json.loads((copy / "zarr.json").read_text())
        attributes["attributes"]["complete"] = False
        (copy / "zarr.json").write_text(json.dumps(attributes))

    begun = edited(store, tmp_path, barely_begun)
    for more in ([], ["--source", small]):
        found = command("verify", begun, *more)
        assert found.code == 1
        assert "the conversion has not finished: run `rdt-data convert` again" in found.out
    assert command("convert", small, begun).code == 0
    assert command("verify", begun, "--source", small).code == 0


def number(key: str, index: int, value: float) -> Callable[[object], None]:
    return lambda features: features[f"steps/{key}"].float_list.value.__setitem__(index, value)


def text(key: str, index: int, change: Callable[[bytes], bytes]) -> Callable[[object], None]:
    def apply(features) -> None:
        values = features[f"steps/{key}"].bytes_list.value
        values[index] = change(values[index])

    return apply


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (number("observation/state", 14, 0.5), "#1: state differs from its source"),
        (number("observation/state", 14, np.nan), "#1 is in it, but not to be converted"),
        (number("observation/state", 14, np.nan), "quarantined then [], now [{"),
        (text("language_instruction", 0, lambda words: words.replace(b"red", b"tan")), "#1: instruction is "),
        (text("observation/image", 3, lambda jpeg: jpeg[:-9] + b"\0" + jpeg[-8:]), "#1: exterior frames [3] differ"),
    ],
)
def test_a_source_that_says_otherwise_is_found(store, rlds_source, command, tmp_path, change, problem):
    other = rlds_source(tmp_path / "other", change={3: change})
    found = command("verify", store, "--source", other)
    assert found.code == 1
    assert problem in found.out
    assert "Traceback" not in found.err


@pytest.mark.parametrize(("shards", "problem"), [((2, 2), "its source was "), ((2, 2, 3), "episodes 0:3, ")])
def test_a_source_of_other_files_is_found(store, rlds_source, command, tmp_path, shards, problem):
    found = command("verify", store, "--source", rlds_source(tmp_path / "other", shards=shards))
    assert found.code == 1
    assert problem in found.out


def test_verify_reads_the_pixels_of_sampled_frames(store, command, tmp_path):
    found = command("verify", store, "--json").json
    assert found["frames"] == 6 * 3 * 3
    assert len(open_dataset(str(store))) == 6
