"""embed-lang may be killed, interrupted or run twice at any moment: nothing is lost, nothing finished is done again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdt_data.language import Language, language_of

KILLS = 15
PATIENCE = 120
"""Seconds after which a process is taken to hang."""

RUNS = """
import json, os, random, shutil, signal, sys, time
import torch
torch.set_num_threads(1)  # so that it can be forked
import stats.embed
from stats.encoder import Encoder, Setup, Tokenizer

setup = Setup("t5", None, "fp32")
Encoder(setup)([Tokenizer(setup, 9)(["a"])[0].ids])  # loads libraries once, for all runs

def begin(number, stores):
    # A run in a process of its own; each batch that it has computed is a line in log.<number>.
    if child := os.fork():
        return child
    log = os.open(f"log.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Told(Encoder):
        def __call__(self, batch):
            made = super().__call__(batch)
            os.write(log, json.dumps(batch).encode() + b"\\n")
            return made

    stats.embed.Encoder = Told
    stats.embed.embed(stores, stats.embed.Options("t5", dtype="fp32", batch_tokens=250, **options))
    os._exit(0)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

what, options, kills = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
if what == "together":
    children = [begin(0, ["a.zarr", "b.zarr"]), begin(1, ["b.zarr", "a.zarr"])]
    print(json.dumps([end(child) for child in children]))
else:
    rng, began = random.Random(0), time.monotonic()
    assert end(begin("whole", ["c.zarr"])) == 0
    duration, rounds = time.monotonic() - began, [[]]
    while True:
        child = begin(f"{len(rounds) - 1}.{len(rounds[-1])}", ["a.zarr", "b.zarr"])
        if kills:
            log, latest = f"log.{len(rounds) - 1}.{len(rounds[-1])}", duration
            if kills % 2:  # every second one after the first batch: chance alone comes before it on some machines
                until, latest = time.monotonic() + duration, duration / 4
                while time.monotonic() < until and not (os.path.exists(log) and os.path.getsize(log)):
                    time.sleep(0.0005)
            time.sleep(rng.uniform(0, latest))
            os.kill(child, signal.SIGKILL)
        rounds[-1].append(end(child))
        kills -= rounds[-1][-1] != 0
        if rounds[-1][-1] == 0 and not kills:
            break
        if rounds[-1][-1] == 0:  # it was faster than the kill: begin anew
            rounds.append([])
            for folder in ("a.zarr/language", "b.zarr/language", "shared"):
                shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(rounds))
"""


def texts() -> list[str]:
    rng = np.random.default_rng(0)
    words = ["pick up", "put", "the red cup", "a box", "into", "slowly", "with both hands"]
    return [f"{number}: " + " ".join(rng.choice(words, rng.integers(1, 9))) for number in range(250)]


@pytest.fixture
def folder(tmp_path, words_store, seeded_t5) -> Path:
    """Two stores that share some texts, a third with all of them, and an encoder."""
    (tmp_path / "t5").symlink_to(seeded_t5)
    for name, some in (("a.zarr", texts()[:170]), ("b.zarr", texts()[130:]), ("c.zarr", texts())):
        words_store(tmp_path / name, [[text] for text in some])
    return tmp_path


def runs(folder: Path, what: str, kills: int = 0, **options: str) -> Any:
    """Run RUNS, which prints exit codes: of two runs at the same time, or of runs after one another, in rounds."""
    command = [sys.executable, "-c", RUNS, what, json.dumps(options), str(kills)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def computed(log: Path) -> list[set[tuple[int, ...]]]:
    """The batches that a run computed, as token ids; a line that a kill cut off was not finished."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [{tuple(ids) for ids in json.loads(line)} for line in lines if line.endswith("\n")]


def whole(language: Language, expected: Language, wanted: list[str]) -> bool:
    """Whether it has every text, each with the numbers of a run that nothing disturbed."""
    assert language.verify() == {}
    assert set(language.texts()) >= {"", *wanted}
    return all(np.abs(language.embedding(text) - expected.embedding(text)).max() < 1e-4 for text in language.texts())


@pytest.mark.parametrize("options", [{}, {"store": "shared"}], ids=["own", "shared"])
def test_killed_at_any_moment_a_run_loses_the_batch_in_flight_and_no_more(folder, options):
    rounds = runs(folder, "kill", KILLS, **options)
    ended = []
    for number, codes in enumerate(rounds):
        assert codes == [*[-signal.SIGKILL] * (len(codes) - 1), 0]
        batches = [computed(folder / f"log.{number}.{run}") for run in range(len(codes))]
        ended += [len(run) for run in batches[:-1]]
        finished: set[tuple[int, ...]] = set()
        for run in batches:
            assert not finished & set().union(*run), "computed again, although another batch had followed"
            finished |= set().union(*run[:-1])
    print(f"batches that were computed until a kill: {ended}; {len(rounds)} rounds")
    assert len(ended) == KILLS
    assert sum(count > 0 for count in ended) >= 3, "no kill hit a run between its batches"
    expected = language_of(str(folder / "c.zarr"))
    for name, some in (("a.zarr", texts()[:170]), ("b.zarr", texts()[130:])):
        assert whole(language_of(str(folder / name)), expected, some)
    places = {language_of(str(folder / name)).path for name in ("a.zarr", "b.zarr")}
    for place in places:
        found = [text for path in Path(place).glob("*.safetensors") for text in texts_of(path)]
        assert len(found) == len(set(found)), "a text was committed twice"


def texts_of(shard: Path) -> list[str]:
    import safetensors

    with safetensors.safe_open(shard, "numpy") as file:
        return [text for text, _, _ in json.loads(file.metadata()["rdt_language"])["texts"]]


@pytest.mark.parametrize("options", [{}, {"store": "shared"}], ids=["own", "shared"])
def test_two_runs_at_the_same_time_disturb_each_other_in_nothing(folder, options):
    assert runs(folder, "together", **options) == [0, 0]
    assert runs(folder, "kill") == [[0]], "makes c.zarr, to compare with, too"
    expected = language_of(str(folder / "c.zarr"))
    for name, some in (("a.zarr", texts()[:170]), ("b.zarr", texts()[130:])):
        assert whole(language_of(str(folder / name)), expected, some)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_command_continues_where_it_was_ended(tmp_path, seeded_t5, words_store, program, ending):
    store = words_store(tmp_path / "a.zarr", [[f"{number} {text}"] for number in range(4) for text in texts()])
    command = [program, "embed-lang", store, "--model", seeded_t5, "--batch-tokens", "150"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while len(found := list(store.glob("language/*/*.safetensors"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.01)
    os.killpg(process.pid, ending)
    _, errors = process.communicate(timeout=PATIENCE)
    assert len(found) >= 3
    assert "Traceback" not in errors
    if ending == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted: finished batches stay; run the same command again to continue" in errors
    else:
        assert process.returncode == -ending
    done = subprocess.run([*command, "--batch-tokens", "8192", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["already"] >= 3
    assert (report["already"] + report["computed"], report["texts"]) == (1001, 1001)
    assert language_of(str(store)).verify() == {}
