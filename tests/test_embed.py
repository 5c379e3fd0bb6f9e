"""embed-lang: every text once, equal to what the encoder gives alone, whatever the batches, runs and workers."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from rdt_data import tensor_file
from rdt_data.errors import RdtError
from rdt_data.language import language_of, open_language
from stats.embed import EmbedReport, Options, embed
from stats.embed_batches import LEAST_FILL, batches, padded_tokens
from stats.embed_export import export_stores
from stats.encoder import Encoder, Setup, Tokenizer
from stats.model_files import identify
from stats.seeded_t5 import write_seeded_t5

WORDS = ["pick up", "put", "push", "the red cup", "a box", "into", "then", "slowly", "with both hands", "the drawer"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def t5(seeded_t5) -> Path:
    return seeded_t5


def sentences(count: int, seed: int = 0, longest: int = 30) -> list[str]:
    """Different instructions of 1 to `longest` words."""
    rng = np.random.default_rng(seed)
    return [f"{n}: " + " ".join(rng.choice(WORDS, rng.integers(1, longest + 1))) for n in range(count)]


def run(*stores: Path, **options: Any) -> EmbedReport:
    return embed([str(store) for store in stores], Options(**{"dtype": "fp32", **options}))


def alone(t5: Path, text: str) -> np.ndarray:
    """The embedding of one text straight from transformers, without a mask or padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    model = transformers.T5EncoderModel.from_pretrained(t5)
    with torch.no_grad():
        return model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].numpy()


def shards(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("*.safetensors"))


# The encoder


def test_the_seeded_encoder_is_the_same_bytes_for_the_same_seed_and_loads_whole(t5, tmp_path, tree):
    write_seeded_t5(tmp_path / "again")
    write_seeded_t5(tmp_path / "other", seed=1)
    assert tree(t5) == tree(tmp_path / "again") != tree(tmp_path / "other")
    _, about = transformers.T5EncoderModel.from_pretrained(t5, output_loading_info=True)
    assert not any(about.values()), about
    with pytest.raises(RdtError, match="exists already"):
        write_seeded_t5(t5)


def test_an_embedding_is_the_same_alone_beside_a_long_text_and_straight_from_transformers(t5):
    setup = Setup(str(t5), None, "fp32")
    texts = ["", "a", "pick up the red cup", "x" * 700]
    tokens = [one.ids for one in Tokenizer(setup, 1024)(texts)]
    encoder = Encoder(setup)
    together = encoder(tokens)
    assert [len(array) for array in together] == [1, 2, 20, 701]
    for text, ids, array in zip(texts, tokens, together, strict=True):
        np.testing.assert_allclose(encoder([ids])[0], array, atol=1e-4)
        np.testing.assert_allclose(alone(t5, text), array, atol=1e-4)


def test_bfloat16_is_computed_and_stored_as_torch_does(t5):
    setup = Setup(str(t5), None, "bf16")
    ((ids, _),) = Tokenizer(setup, 1024)(["push"])
    model = transformers.T5EncoderModel.from_pretrained(t5, torch_dtype=torch.bfloat16)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    (array,) = Encoder(setup)([ids])
    np.testing.assert_array_equal(tensor_file.float32_from_bf16(array), expected.float().numpy())


def test_a_long_text_is_cut_and_keeps_its_end_of_sequence(t5):
    cut, whole, exact = Tokenizer(Setup(str(t5), None, "fp32"), 5)(["abcdef", "ab", "abcd"])
    assert (len(cut.ids), cut.ids[-1], cut.whole) == (5, 1, 7)
    assert (len(whole.ids), whole.whole) == (3, 3)
    assert (len(exact.ids), exact.whole) == (5, 5)


def test_a_sentencepiece_vocabulary_is_read(t5, tmp_path):
    spm = pytest.importorskip("sentencepiece", reason="T5 v1.1 on the hub has its vocabulary in spiece.model")
    shutil.copytree(t5, tmp_path / "spm")
    (tmp_path / "spm/tokenizer_config.json").unlink()
    (tmp_path / "words.txt").write_text("\n".join(sentences(100)))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"), model_prefix=str(tmp_path / "spm/spiece"), model_type="unigram",
        vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    tokens = Tokenizer(Setup(str(tmp_path / "spm"), None, "fp32"), 1024)(["", "pick up the red cup"])
    assert tokens[0].ids == [1]
    assert 3 < len(tokens[1].ids) < 20


def changed(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))


def without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def without_a_layer(folder: Path) -> None:
    changed(folder, "config.json", num_layers=3)


def of_another_kind(folder: Path) -> None:
    changed(folder, "config.json", model_type="bert")


def with_too_few_words(folder: Path) -> None:
    weights = read_weights(folder)
    weights["shared.weight"] = weights["shared.weight"][:50]
    write_weights(folder, weights)
    changed(folder, "config.json", vocab_size=50)


def that_overflows(folder: Path) -> None:
    weights = read_weights(folder)
    weights["encoder.final_layer_norm.weight"] = weights["encoder.final_layer_norm.weight"] * 1e6
    write_weights(folder, weights)


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"nothing")


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    data = (folder / "model.safetensors").read_bytes()
    tensors = tensor_file.header(data).tensors
    return {name: tensor.array(data[tensor.start : tensor.stop]) for name, tensor in tensors.items()}


def write_weights(folder: Path, weights: dict[str, np.ndarray]) -> None:
    data = tensor_file.dump({name: ("F32", array) for name, array in weights.items()}, {"format": "pt"})
    (folder / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_vocabulary, r"its tokenizer does not know \d+ of \d+ tokens\n.*spiece.model"),
        (without_a_layer, r"9 weights of the encoder are not in its files, encoder.block.2.layer.0"),
        (of_another_kind, r"is a model of type 'bert'\n.*t5, mt5, umt5"),
        (with_too_few_words, r"its tokenizer gives token 12\d, its weights have 50"),
        (that_overflows, r"numbers that are not finite in fp16\n.*--dtype bf16"),
        (damaged, "cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_used_is_told(t5, tmp_path, words_store, change, told):
    shutil.copytree(t5, tmp_path / "t5")
    change(tmp_path / "t5")
    store = words_store(tmp_path / "a.zarr", [["pick up the cup"]])
    with pytest.raises(RdtError, match=told):
        run(store, model=str(tmp_path / "t5"), dtype="fp16")


# Batches


@given(lengths=st.lists(st.integers(1, 1024), max_size=60), budget=st.integers(1, 3000))
def test_every_text_is_in_one_batch_that_keeps_the_budget_and_is_mostly_filled(lengths, budget):
    found = batches(lengths, budget)
    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    longest = [lengths[batch[0]] for batch in found]
    assert longest == sorted(longest, reverse=True)
    for batch in found:
        assert len(batch) == 1 or max(lengths[at] for at in batch) * len(batch) <= budget
        assert min(lengths[at] for at in batch) >= LEAST_FILL * max(lengths[at] for at in batch)
    assert padded_tokens(lengths, found) * LEAST_FILL <= sum(lengths)
    assert batches(lengths, budget) == found


def test_a_long_text_does_not_make_short_ones_long():
    assert batches([5, 1000, 5, 4], 8000) == [[1], [0, 2, 3]]


# Runs over stores


def test_each_text_is_computed_once_and_every_store_gets_its_own(t5, tmp_path, words_store):
    a = words_store(tmp_path / "a.zarr", [["one", "uno"], ["two"], ["one"]])
    b = words_store(tmp_path / "b.zarr", [["two"], ["three"]])
    report = run(a, b, model=str(t5))
    assert (report.texts, report.computed, report.already, report.copied) == (5, 5, 0, 0)
    assert report.stores[str(a)]["texts"] == 4
    assert language_of(str(a)).texts() == ("", "one", "two", "uno")
    assert language_of(str(b)).texts() == ("", "three", "two")
    np.testing.assert_allclose(language_of(str(b)).embedding("three"), alone(t5, "three"), atol=1e-4)
    assert language_of(str(a)).model == "t5"
    assert language_of(str(a)).dim == 64


def test_many_texts_in_small_batches_equal_each_text_alone(t5, tmp_path, words_store):
    texts = sentences(60)
    store = words_store(tmp_path / "a.zarr", [[text] for text in texts])
    report = run(store, model=str(t5), batch_tokens=400)
    assert report.batches > 10
    assert report.tokens <= report.padded_tokens <= report.tokens / LEAST_FILL
    setup = Setup(str(t5), None, "fp32")
    language, encoder = language_of(str(store)), Encoder(setup)
    for text, (ids, _) in zip(texts, Tokenizer(setup, 1024)(texts), strict=True):
        np.testing.assert_allclose(language.embedding(text), encoder([ids])[0], atol=1e-4)


def test_a_run_with_nothing_new_changes_nothing_and_loads_no_model(t5, tmp_path, words_store, tree):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    run(store, model=str(t5))
    before = tree(store)
    code = (
        "import sys, cli.data\n"
        "try: cli.data.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'ray', 'huggingface_hub'} & set(sys.modules)))"
    )
    began = time.monotonic()
    command = ["embed-lang", store, "--model", t5, "--dtype", "fp32"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "2 there, 0 copied, 0 computed" in done.stdout
    assert done.stderr == ""
    assert time.monotonic() - began < 10
    assert tree(store) == before


def test_a_later_run_computes_only_what_is_new(t5, tmp_path, words_store):
    a = words_store(tmp_path / "a.zarr", [["one"], ["two"]])
    b = words_store(tmp_path / "b.zarr", [["two"], ["three"]])
    run(a, model=str(t5))
    report = run(a, b, model=str(t5))
    assert (report.already, report.copied, report.computed) == (1, 2, 1), "one; two and the empty one; three"
    shared = run(b, a, model=str(t5), store=str(tmp_path / "shared"))
    assert (shared.already, shared.copied, shared.computed) == (0, 4, 0)
    assert language_of(str(a)).texts() == language_of(str(b)).texts() == ("", "one", "three", "two")
    assert open_language(str(tmp_path / "shared")).texts() == ("", "one", "three", "two")
    again = run(a, b, model=str(t5), store=str(tmp_path / "shared"))
    assert (again.already, again.copied, again.computed) == (4, 0, 0)


def test_another_dtype_or_model_is_another_encoder_and_a_renamed_directory_is_not(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    run(store, model=str(t5))
    shutil.copytree(t5, tmp_path / "renamed")
    assert run(store, model=str(tmp_path / "renamed")).computed == 0
    assert run(store, model=str(t5), dtype="bf16").computed == 2
    assert run(store, model=str(t5), max_length=8).computed == 2
    write_seeded_t5(tmp_path / "other", seed=1)
    assert run(store, model=str(tmp_path / "other")).computed == 2
    changed(tmp_path / "renamed", "tokenizer_config.json", extra_ids=0)
    assert run(store, model=str(tmp_path / "renamed")).computed == 2
    assert len(list((store / "language").glob("*/encoder.json"))) == 5


def test_of_a_large_weight_file_every_piece_that_training_changes_counts(t5, tmp_path):
    shutil.copytree(t5, tmp_path / "t5")
    weights = tmp_path / "t5/model.safetensors"
    with weights.open("wb") as file:
        file.truncate(100 << 20)
    before = identify(str(tmp_path / "t5"))
    assert before == identify(str(tmp_path / "t5"))
    for position in (0, 50 << 20, (100 << 20) - 1):
        with weights.open("r+b") as file:
            file.seek(position - position % 4096)
            file.write(b"\1" * min(4 << 20, (100 << 20) - (position - position % 4096)))
        after = identify(str(tmp_path / "t5"))
        assert after != before
        before = after


def test_episodes_without_an_instruction_are_what_missing_says(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [["one"], *[[]] * 7])
    with pytest.raises(RdtError, match=rf"{store}: 7 of 8, e1, e2, e3, e4, e5 and 2 more\n  fix: use --missing empty"):
        run(store, model=str(t5))
    assert not (store / "language").exists()
    for missing, text in (("empty", ""), ("do something", "do something")):
        report = run(store, model=str(t5), missing=missing)
        assert report.stores[str(store)]["without_instruction"] == [f"e{number}" for number in range(1, 8)]
        assert report.missing_as == language_of(str(store)).missing == text
        assert text in language_of(str(store))


def test_a_text_that_is_cut_is_reported_by_every_run(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [["abcdefgh"], ["ab"]])
    for _ in range(2):
        report = run(store, model=str(t5), max_length=5)
        assert report.truncated == {"abcdefgh": 9}
    assert language_of(str(store)).embedding("abcdefgh").shape == (5, 64)
    np.testing.assert_allclose(language_of(str(store)).embedding("abcdefgh"), alone(t5, "abcd"), atol=1e-4)


def test_what_verify_finds_damaged_is_computed_again(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [[text] for text in sentences(20)])
    folder = run(store, model=str(t5), batch_tokens=300).stores[str(store)]["language"]
    whole = {text: language_of(str(store)).stored(text).tobytes() for text in language_of(str(store)).texts()}
    flipped, cut, *_ = shards(folder)
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    assert sorted(language_of(str(store)).verify()) == [str(flipped), str(cut)]
    report = run(store, model=str(t5), batch_tokens=300)
    assert list(report.damaged) == [str(cut)], "by its size, without reading everything"
    report = run(store, model=str(t5), batch_tokens=300, verify=True)
    assert list(report.damaged) == [str(flipped)]
    assert report.computed > 0
    language = language_of(str(store))
    assert language.verify() == {}
    assert {text: language.stored(text).tobytes() for text in language.texts()} == whole


def test_what_cannot_be_copied_whole_is_computed(t5, tmp_path, words_store):
    a, b = (words_store(tmp_path / name, [["one"]]) for name in ("a.zarr", "b.zarr"))
    (shard, *_) = shards(run(a, model=str(t5), batch_tokens=1).stores[str(a)]["language"])
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    report = run(b, a, model=str(t5))
    assert (report.copied, report.computed, len(report.damaged)) == (1, 1, 1)
    assert language_of(str(b)).verify() == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "int8"}, "no --dtype is called 'int8'"),
        ({"quantize": "8"}, "no --quantize is called '8'\n  fix: (did you mean|choose)"),
        ({"max_length": 0}, "--max-length 0\n  fix: use --max-length 1 or more"),
        ({"batch_tokens": 0}, "--batch-tokens 0"),
        ({"gpus": 2}, "--gpus and --workers are of a Ray cluster\n  fix: add --ray"),
        ({"ray": "local", "gpus": 2, "workers": 2}, "both say how many"),
        ({"device": "cuda:77"}, "--device cuda:77 cannot be used"),
        ({"device": "toaster"}, "--device toaster cannot be used"),
        ({"model": "./none"}, "--model ./none: there is no such directory"),
        ({"model": "a/b/c"}, "--model a/b/c: there is no such directory"),
        ({"model": "what is this?"}, "--model what is this.: .*\n.*hub id"),
        ({"revision": "main"}, "--revision main of a directory"),
    ],
)
def test_options_that_cannot_be_used_are_told(t5, tmp_path, words_store, options, told):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    with pytest.raises(RdtError, match=told):
        run(store, **{"model": str(t5), **options})


def test_a_package_that_is_not_installed_is_named(t5, tmp_path, words_store):
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(RdtError, match="needs bitsandbytes, which is not installed\n  fix: pip install bitsandbytes"):
        run(words_store(tmp_path / "a.zarr", [["one"]]), model=str(t5), quantize="8bit")


@pytest.mark.parametrize(
    ("package", "options", "apart"),
    [
        ("bitsandbytes", {"quantize": "8bit"}, 0.05),
        ("bitsandbytes", {"quantize": "4bit"}, 0.5),
        ("accelerate", {"offload": "off"}, 1e-4),
    ],
)
def test_fewer_bits_or_offloaded_weights_give_nearly_the_same(
    t5, tmp_path, words_store, monkeypatch, package, options, apart
):
    pytest.importorskip(package, reason=f"{options} needs it")
    pytest.importorskip("accelerate", reason=f"{options} needs it")
    monkeypatch.chdir(tmp_path)
    store = words_store(tmp_path / "a.zarr", [["pick up the cup"]])
    run(store, model=str(t5), **options)
    found, expected = language_of(str(store)).embedding("pick up the cup"), alone(t5, "pick up the cup")
    assert np.sqrt(np.mean((found - expected) ** 2)) < apart  # their standard deviation is 1


def test_folders_that_are_no_models_are_told(t5, tmp_path):
    with pytest.raises(RdtError, match=r"no config\.json in it"):
        identify(str(tmp_path))
    shutil.copy(t5 / "config.json", tmp_path)
    with pytest.raises(RdtError, match="no weights in it"):
        identify(str(tmp_path))


def test_a_store_that_is_unfinished_or_given_twice_is_told(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    with pytest.raises(RdtError, match="is given twice"):
        run(store, store, model=str(t5))
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["complete"] = False
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(RdtError, match="is not finished"):
        run(store, model=str(t5))


# The hub, without a network


def offline(program: Path, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [program, "embed-lang", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_model_of_the_hub_is_taken_from_the_cache_at_its_commit(t5, tmp_path, words_store, program):
    store = words_store(tmp_path / "a.zarr", [["one"]])
    repository = tmp_path / "home/hub/models--lab--small-t5"
    shutil.copytree(t5, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    arguments = (store, "--model", "lab/small-t5", "--json")
    done = offline(program, tmp_path / "home", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    encoder = json.loads(done.stdout)["encoder"]
    assert (encoder["model"], encoder["revision"], encoder["tokenizer"]) == ("lab/small-t5", COMMIT, COMMIT)
    # Without the cache the commit that the store has recorded is trusted, until something has to be computed.
    done = offline(program, tmp_path / "empty", *arguments)
    assert (done.returncode, json.loads(done.stdout)["computed"]) == (0, 0)
    done = offline(program, tmp_path / "empty", words_store(tmp_path / "b.zarr", [["two"]]), *arguments)
    assert done.returncode == 1
    assert "lab/small-t5 is not in the local Hugging Face cache and cannot be fetched from the hub" in done.stderr
    assert "run `hf download lab/small-t5`" in done.stderr


# Published files and the command


def test_the_published_files_are_opened_as_tensors(t5, tmp_path, words_store):
    store = words_store(tmp_path / "a.zarr", [["one", "uno", "eins"], ["two"], ["one", "uno", "eins"]])
    for dtype, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        report = run(store, model=str(t5), dtype=dtype)
        for _ in range(2):  # an export replaces an earlier one
            assert export_stores([str(store)], report.encoder.key, tmp_path / "pt") == {str(tmp_path / "pt"): 5}
        table = json.loads((tmp_path / "pt/instructions.json").read_text())
        assert [(one["file"], one["instruction"], one["episodes"]) for one in table["files"]] == [
            ("lang_embed_0.pt", "one", ["e0", "e2"]),
            ("lang_embed_1.pt", "uno", ["e0", "e2"]),
            ("lang_embed_2.pt", "eins", ["e0", "e2"]),
            ("lang_embed_3.pt", "two", ["e1"]),
        ]
        language = language_of(str(store), report.encoder.key)
        files = {**{one["file"]: one["instruction"] for one in table["files"]}, "empty_lang_embed.pt": ""}
        for name, text in files.items():
            tensor = torch.load(tmp_path / "pt" / name, weights_only=True)
            assert tensor.dtype == kind
            np.testing.assert_array_equal(tensor.float().numpy(), language.embedding(text))
    (tmp_path / "pt/mine.txt").touch()
    with pytest.raises(RdtError, match=r"holds other files \(mine.txt\)"):
        export_stores([str(store)], report.encoder.key, tmp_path / "pt")


def test_the_command_tells_what_it_did(t5, tmp_path, words_store, command):
    a = words_store(tmp_path / "a.zarr", [["one"], [], ["abcdefgh"]])
    b = words_store(tmp_path / "b.zarr", [["one"]])
    base = ("embed-lang", a, b, "--model", t5, "--max-length", 8)
    done = command(*base, "--missing", "empty", "--export", "pt")
    assert (done.code, done.err) == (0, "")
    assert "3 texts, t5 (bf16): 0 there, 0 copied, 3 computed in " in done.out
    assert "1 without instruction, as '': e1" in done.out
    assert "cut from 9 to 8 tokens: 'abcdefgh'" in done.out
    assert done.out.count(".pt files in") == 2
    done = command(*base, "--missing", "empty", "--json", "--export", "pt", "--out", tmp_path / "pt")
    assert (done.json["already"], done.json["computed"], done.json["truncated"]) == (3, 0, {"abcdefgh": 9})
    assert done.json["exported"] == {str(tmp_path / "pt/a"): 4, str(tmp_path / "pt/b"): 2}
    assert done.json["stores"][str(a)]["language"].endswith(done.json["key"])
    for wrong, told in (
        (["--missing", "error"], "episodes without an instruction"),
        (["--export", "npz"], "no --export form is called 'npz'"),
        (["--out", "x"], "--out x without --export"),
    ):
        done = command(*base, *wrong)
        assert done.code == 1
        assert told in done.err


def test_the_demo_encoder_is_written_by_a_command_and_knows_the_words_of_the_demo(tmp_path, command, tree):
    from transformers import AutoTokenizer

    assert command("demo-t5", tmp_path / "t5").code == 0
    assert command("demo-t5", tmp_path / "again").code == 0
    assert tree(tmp_path / "t5") == tree(tmp_path / "again")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "t5")
    words = tokenizer("Touch the red block with the left arm.")["input_ids"]
    assert len(words) == 10, "eight words, the full stop, the end"
    assert len(tokenizer("Pick up the cup, ünï.")["input_ids"]) == 4 + 2 + 1 + 3 + 1 + 5 + 1 + 1, "others are bytes"
    assert tokenizer.unk_token_id not in tokenizer("Pick up the cup, ünï.")["input_ids"]
