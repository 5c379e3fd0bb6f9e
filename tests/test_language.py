"""Language embeddings on disk: what was committed is read back exactly, and no byte changes unnoticed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import safetensors
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from rdt_data import tensor_file
from rdt_data.errors import StoreError
from rdt_data.language import Language, Pointer, language_of, open_language, pointers, record, wordings
from rdt_data.language_folder import EncoderId, Row, commit, remove, scan, sweep
from rdt_data.store import open_dataset

LOCAL = fsspec.filesystem("file")
ENCODER = EncoderId("lab/t5", "0" * 40, "0" * 40, "fp32", None, 1024)
NUMPY = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}


def row(text: str, dtype: str = "fp32", dim: int = 4) -> Row:
    """An embedding that is drawn from its text, with a token for each character and one more."""
    length = len(text) + 1
    values = np.random.default_rng([*text.encode(), dim]).normal(size=(length, dim)).astype(np.float32)
    stored = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bf16" else values.astype(NUMPY[dtype])
    return Row(text, length, stored)


def written(folder: Path, *batches: list[Row], encoder: EncoderId = ENCODER) -> Language:
    for rows in batches:
        commit(LOCAL, str(folder), encoder, rows)
    return Language(str(folder), encoder)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=4), max_size=4),
    dtype=st.sampled_from(sorted(NUMPY)),
)
def test_what_was_committed_is_read_back_bit_by_bit(tmp_path_factory, texts, dtype):
    folder, encoder = tmp_path_factory.mktemp("any"), replace(ENCODER, dtype=dtype)
    batches = [[row(text, dtype) for text in dict.fromkeys(batch)] for batch in texts]
    language = written(folder, *batches, encoder=encoder)
    everything = {one.text: one for batch in batches for one in batch}
    assert language.texts() == tuple(sorted(everything))
    assert len(language) == len(everything)
    assert language.verify() == {}
    for text, one in everything.items():
        assert text in language
        assert language.stored(text).tobytes() == one.embedding.tobytes()
        assert language.embedding(text).shape == one.embedding.shape
        assert language.embedding(text).dtype == (np.float16 if dtype == "fp16" else np.float32)
        assert language.tokens(text) == one.tokens
    shutil.rmtree(folder)


def test_bfloat16_is_read_as_the_float32_of_the_same_value(tmp_path):
    bits = np.array([[0x3F80, 0xC000], [0x7F80, 0x0001]], np.uint16)  # 1, -2; infinity, the smallest number
    language = written(tmp_path, [Row("", 2, bits)], encoder=replace(ENCODER, dtype="bf16"))
    np.testing.assert_array_equal(language.empty, np.array([[1, -2], [np.inf, 2.0**-133]], np.float32))
    assert language.dim == 2


def test_the_safetensors_library_reads_a_shard(tmp_path):
    rows = [row(text, "bf16") for text in ("", "Pick it up.")]
    written(tmp_path, rows, encoder=replace(ENCODER, dtype="bf16"))
    found = dict(safetensors.deserialize(shards(tmp_path)[0].read_bytes()))
    read = sorted((one["dtype"], one["shape"], bytes(one["data"])) for one in found.values())  # in no order of its own
    assert read == sorted(("BF16", [len(one.text) + 1, 4], one.embedding.tobytes()) for one in rows)
    with safetensors.safe_open(shards(tmp_path)[0], "numpy") as file:
        words = json.loads(file.metadata()["rdt_language"])
    assert [text for text, _, _ in words["texts"]] == ["", "Pick it up."]


def test_no_byte_of_a_shard_changes_unnoticed(tmp_path):
    rows = [row("a"), row("bc")]
    language = written(tmp_path, rows)
    (shard,) = shards(tmp_path)
    whole = shard.read_bytes()
    for position in range(len(whole)):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert list(Language(str(tmp_path), ENCODER).verify()) == [str(shard)], position
    for length in range(len(whole)):
        shard.write_bytes(whole[:length])
        assert list(Language(str(tmp_path), ENCODER).damaged) == [str(shard)], length
    shard.write_bytes(whole + b"\0")
    assert list(Language(str(tmp_path), ENCODER).damaged) == [str(shard)]
    shard.write_bytes(whole)
    assert language.verify() == Language(str(tmp_path), ENCODER).verify() == {}


def test_a_damaged_embedding_is_never_returned(tmp_path):
    language = written(tmp_path, [row("a"), row("bc")])
    (shard,) = shards(tmp_path)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1  # of "bc"
    shard.write_bytes(data)
    np.testing.assert_array_equal(language.embedding("a"), row("a").embedding)
    with pytest.raises(StoreError, match=r"the embedding of 'bc' is damaged .*\n.*--verify"):
        language.embedding("bc")
    remove(LOCAL, language.verify())
    remove(LOCAL, [str(shard)])  # another run has done it already
    assert "a" not in Language(str(tmp_path), ENCODER)


def test_a_shard_of_another_encoder_is_not_mixed_in(tmp_path):
    other = replace(ENCODER, revision="1" * 40)
    written(tmp_path / "other", [row("a")], encoder=other)
    written(tmp_path / "here", [row("b")])
    shutil.copy(shards(tmp_path / "other")[0], tmp_path / "here")
    language = Language(str(tmp_path / "here"), ENCODER)
    assert language.texts() == ("b",)
    assert list(language.damaged.values()) == [f"it holds embeddings of the encoder {other.key}"]


def test_a_header_longer_than_the_first_read_is_found(tmp_path):
    rows = [row(f"{number:03d}" + "x" * 400, dim=1) for number in range(300)]
    assert len(written(tmp_path, rows)) == 300
    assert len(shards(tmp_path)) == 1


def test_a_text_committed_twice_is_read_from_one_of_them(tmp_path):
    language = written(tmp_path, [row("a"), row("b")], [row("b"), row("c")], [row("b"), row("c")])
    assert len(shards(tmp_path)) == 2, "equal batches are one file"
    assert language.texts() == ("a", "b", "c")
    np.testing.assert_array_equal(language.embedding("b"), row("b").embedding)


COMMIT = """
import sys
import numpy as np
import fsspec
from rdt_data.language_folder import EncoderId, Row, commit

encoder = EncoderId("lab/t5", "0" * 40, "0" * 40, "fp32", None, 1024)
for number in range(60):
    for text in (f"shared {number}", f"{sys.argv[2]} {number}"):
        commit(fsspec.filesystem("file"), sys.argv[1], encoder, [Row(text, 1, np.full((1, 4), number, np.float32))])
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", COMMIT, tmp_path / "x", name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    language = open_language(str(tmp_path / "x"))
    assert language.texts() == tuple(sorted(f"{name} {n}" for name in ("shared", *"abc") for n in range(60)))
    assert language.verify() == {}
    assert len(shards(tmp_path / "x")) == 4 * 60
    assert not list((tmp_path / "x").glob("*.partial"))


def test_what_a_killed_run_left_half_written_is_swept_when_nobody_can_be_writing_it(tmp_path):
    written(tmp_path, [row("a")])
    old, new = (tmp_path / f"{name}.safetensors.0.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    sweep(LOCAL, str(tmp_path))
    assert (old.exists(), new.exists(), len(shards(tmp_path))) == (False, True, 1)
    assert scan(LOCAL, str(tmp_path), ENCODER).damaged == {}


def test_embeddings_are_read_through_a_url():
    fs = fsspec.filesystem("memory")
    commit(fs, "/language/x", ENCODER, [row("a"), row("")])
    language = open_language("memory://language")
    np.testing.assert_array_equal(language.embedding("a"), row("a").embedding)
    assert language.verify() == {}
    fs.rm("/language", recursive=True)


def test_a_folder_of_several_encoders_wants_one_to_be_named(tmp_path):
    for encoder in (ENCODER, replace(ENCODER, dtype="fp16"), replace(ENCODER, model="lab/other", revision="1" * 40)):
        written(tmp_path / encoder.key, [row("", encoder.dtype)], encoder=encoder)
    assert open_language(str(tmp_path), "lab/other").model == "lab/other"
    assert open_language(str(tmp_path), ENCODER.key).encoder == ENCODER
    assert open_language(str(tmp_path / ENCODER.key)).encoder == ENCODER
    with pytest.raises(StoreError, match=rf"has 3 encoders that fit\n.*{ENCODER.key} \(lab/t5\)"):
        open_language(str(tmp_path))
    with pytest.raises(StoreError, match="has 2 encoders that fit"):
        open_language(str(tmp_path), "lab/t5")
    with pytest.raises(StoreError, match=r"has no embeddings of 'lab/unknown'\n.*lab/other"):
        open_language(str(tmp_path), "lab/unknown")


def test_a_place_without_embeddings_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match=r"holds no language embeddings\n.*embed-lang"):
            open_language(str(path))
    with pytest.raises(StoreError, match="cannot be opened"):
        open_language("nothing://here")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version 2; read here: 'rdt-language', 1\n.*newer rdt-data"),
        ({"format": "other"}, "has format 'other'"),
        ({"encoder": {"model": "x"}}, r"encoder.json is damaged: .*revision"),
    ],
)
def test_an_encoder_file_that_cannot_be_read_is_told(tmp_path, change, told):
    written(tmp_path, [row("")])
    about = tmp_path / "encoder.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | change))
    with pytest.raises(StoreError, match=told):
        open_language(str(tmp_path))
    about.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        open_language(str(tmp_path))


def test_the_key_depends_on_everything_but_the_name_of_the_model():
    assert replace(ENCODER, model="renamed").key == ENCODER.key
    others = {"revision": "1", "tokenizer": "1", "dtype": "bf16", "quantize": "8bit", "max_length": 1}
    keys = {replace(ENCODER, **{name: value}).key for name, value in others.items()}
    assert len(keys | {ENCODER.key}) == 1 + len(others)


def test_a_text_that_is_not_there_is_told(tmp_path):
    language = written(tmp_path, [row("a")])
    with pytest.raises(StoreError, match=r"no embedding of 'b' \(1 texts of lab/t5 are there\)\n.*embed-lang"):
        language.embedding("b")
    shards(tmp_path)[0].write_bytes(b"")
    with pytest.raises(StoreError, match=r"no embedding of '' .*; 1 damaged shards were left out"):
        Language(str(tmp_path), ENCODER).dim  # noqa: B018


def test_a_dataset_finds_its_embeddings_inside(tmp_path, words_store):
    dataset = open_dataset(str(words_store(tmp_path / "a.zarr", [["a", "b"]])))
    with pytest.raises(StoreError, match="holds no language embeddings"):
        language_of(dataset)
    written(tmp_path / "a.zarr/language" / ENCODER.key, [row("a"), row("")])
    record(dataset, Pointer(ENCODER, (ENCODER.key,), "nothing"))
    moved = (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    for url in (moved, f"file://{moved}"):
        language = language_of(str(url))
        np.testing.assert_array_equal(language.embedding("a"), row("a").embedding)
        assert (language.missing, language.encoder) == ("nothing", ENCODER)
    with pytest.raises(StoreError, match="has no embeddings of 'lab/other'"):
        language_of(str(moved), "lab/other")


@pytest.mark.parametrize("together", [True, False])
def test_a_dataset_finds_shared_embeddings_after_both_or_it_alone_have_moved(tmp_path, words_store, together):
    shared, old, new = tmp_path / "old/shared", tmp_path / "old", tmp_path / "new"
    dataset = open_dataset(str(words_store(old / "a.zarr", [["a"]])))
    written(shared / ENCODER.key, [row("a")])
    record(dataset, Pointer(ENCODER, (f"../../shared/{ENCODER.key}", str(shared / ENCODER.key)), ""))
    if together:
        old.rename(new)
    else:
        new.mkdir()
        (old / "a.zarr").rename(new / "a.zarr")
    assert language_of(str(new / "a.zarr")).texts() == ("a",)
    shutil.rmtree((new if together else old) / "shared")
    with pytest.raises(
        StoreError, match=r"embeddings of lab/t5 are not at .*new/shared.* or .*old/shared.*\n.*--store"
    ):
        language_of(str(new / "a.zarr"))


def test_the_wordings_of_an_episode_are_its_phrasings_or_what_stands_for_a_missing_one(tmp_path, words_store):
    episodes = open_dataset(str(words_store(tmp_path / "a.zarr", [["a", "b", "a"], [], ["", "c"]])))
    assert [wordings(episode) for episode in episodes] == [("a", "b"), (), ("c",)]
    language = written(tmp_path / "x", [row("a")])
    assert [language.wordings(episode) for episode in episodes] == [("a", "b"), ("",), ("c",)]
    language = Language(str(tmp_path / "x"), ENCODER, "do something")
    assert language.wordings(episodes[1]) == ("do something",)


def test_recording_again_what_is_recorded_writes_nothing(tmp_path, words_store, tree):
    dataset = open_dataset(str(words_store(tmp_path / "a.zarr", [["a"]])))
    pointer = Pointer(ENCODER, (ENCODER.key,), "")
    record(dataset, pointer)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "a.zarr/language").iterdir()}
    record(dataset, pointer)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "a.zarr/language").iterdir()}
    assert pointers(dataset) == [pointer]
    record(dataset, replace(pointer, missing="x"))
    assert [one.missing for one in pointers(dataset)] == ["x"]


def test_zarr_does_not_stumble_over_the_folder(tmp_path, words_store):
    dataset = open_dataset(str(words_store(tmp_path / "a.zarr", [["a"]])))
    record(dataset, Pointer(ENCODER, (ENCODER.key,), ""))
    assert {name for name, _ in zarr.open_group(tmp_path / "a.zarr", mode="r").members()} == {"parts", "language"}


@pytest.mark.parametrize(
    "data", [b"", b"\1", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{", b'\x09\0\0\0\0\0\0\0{"a":"b"}']
)
def test_what_is_not_a_tensor_file_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"it has|header|JSON|Expecting"):
        tensor_file.header(data)
