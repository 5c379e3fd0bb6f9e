"""A conversion may be killed, interrupted or stopped at any moment: run again, it makes the store it would have made."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = 20
PATIENCE = 60
"""Seconds after which a process is taken to hang."""


def start(program: Path, source: Path, dest: Path, workers: int = 1, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program, "convert", source, dest, "--workers", str(workers), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(program: Path, source: Path, dest: Path, workers: int = 1, *more: str) -> int:
    """Run to the end; returns how many parts were there before."""
    out, errors = (process := start(program, source, dest, workers, *more, "--json")).communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, ""), errors
    return int(json.loads(out)["already"])


def finished_parts(dest: Path) -> int:
    return len(list((dest / "parts").glob("[0-9]*")))


def wait_for_a_part(process: subprocess.Popen[str], dest: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not finished_parts(dest):
        assert time.monotonic() < deadline, "it hangs"
        assert process.poll() is None, process.communicate(timeout=PATIENCE)
        time.sleep(0.002)


def processes_about(dest: Path) -> list[Path]:
    """The processes whose command line names `dest`: a run and its workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if os.fsencode(dest) in command:
            found.append(entry)
    return found


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def uninterrupted(big_source, program, tree, tmp_path_factory) -> tuple[dict[str, str], float]:
    """The store of a run that nothing disturbs, and how long it takes."""
    dest = tmp_path_factory.mktemp("uninterrupted") / "made.zarr"
    began = time.monotonic()
    process = start(program, big_source, dest)
    _, errors = process.communicate(timeout=PATIENCE)
    duration = time.monotonic() - began
    assert (process.returncode, errors) == (0, "")
    assert finished_parts(dest) == 5
    assert not [path for path in tree(dest) if "partial" in path]
    return tree(dest), duration


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_moment_makes_the_same_store_when_it_is_run_again(
    big_source, program, tree, tmp_path, uninterrupted, workers
):
    expected, duration = uninterrupted
    rng, at, stores = random.Random(workers), [], 0
    dest = tmp_path / "made.zarr"
    while len(at) < KILLS or dest.exists():
        process = start(program, big_source, dest, workers)
        moment = rng.uniform(0, duration) if len(at) < KILLS else PATIENCE
        try:
            _, errors = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            assert moment < PATIENCE, "it hangs"
            at.append(finished_parts(dest))
            children = workers_of(process)
            if children and rng.random() < 0.5:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(rng.choice(children), signal.SIGKILL)
            else:
                process.kill()
            _, errors = process.communicate(timeout=PATIENCE)
            assert "Traceback" not in errors
        if process.returncode != 0:
            continue  # it was killed, or lost a worker that it needed
        assert errors == ""
        assert tree(dest) == expected
        stores += 1
        shutil.rmtree(dest)
    print(f"{KILLS} kills, parts that were finished then: {at}; {stores} stores")
    assert set(at) - {0, 5}, "no kill hit a run between its parts"


def test_a_killed_worker_is_told_and_the_next_run_continues(big_source, program, tree, tmp_path, uninterrupted):
    dest = tmp_path / "made.zarr"
    process = start(program, big_source, dest, 2)
    wait_for_a_part(process, dest)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors == (
        "error: a worker process died (killed, or out of memory)\n"
        "  fix: run the same command again to continue; use fewer --workers if memory ran out\n"
    )
    assert finish(program, big_source, dest, 2) > 0
    assert tree(dest) == uninterrupted[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_worker_outlives_its_run(big_source, program, tmp_path, workers):
    dest = tmp_path / "made.zarr"
    process = start(program, big_source, dest, workers)
    wait_for_a_part(process, dest)
    assert len(processes_about(dest)) == (1 if workers == 1 else 1 + workers)
    process.kill()
    process.communicate(timeout=PATIENCE)
    deadline = time.monotonic() + 5
    while processes_about(dest) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_about(dest) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_says_how_to_continue_and_leaves_a_store_that_does(
    big_source, program, tree, tmp_path, uninterrupted, workers
):
    dest = tmp_path / "made.zarr"
    process = start(program, big_source, dest, workers)
    wait_for_a_part(process, dest)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "of 5 parts are finished; run the same command again to continue" in errors
    assert "Traceback" not in errors
    assert not (dest / ".partial").exists()
    assert processes_about(dest) == []
    assert finish(program, big_source, dest, workers) > 0
    assert tree(dest) == uninterrupted[0]


@pytest.mark.parametrize("library", ["pydantic_core", "google_crc32c", "numcodecs"])
def test_ctrl_c_while_libraries_are_loaded_prints_no_traceback(big_source, program, tmp_path, library):
    process = start(program, big_source, tmp_path / "made.zarr")
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in errors) == (130, False), errors


@pytest.mark.parametrize("workers", [1, 2])
def test_a_terminated_run_continues(big_source, program, tree, tmp_path, uninterrupted, workers):
    dest = tmp_path / "made.zarr"
    process = start(program, big_source, dest, workers)
    wait_for_a_part(process, dest)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, 1)
    assert finish(program, big_source, dest, workers) > 0
    assert tree(dest) == uninterrupted[0]


def test_killed_while_it_overwrites_the_destination_can_be_overwritten_again(
    big_source, program, tree, tmp_path, uninterrupted
):
    dest, rng = tmp_path / "made.zarr", random.Random(3)
    finish(program, big_source, dest)
    for _ in range(2):
        process = start(program, big_source, dest, 1, "--overwrite")
        while finished_parts(dest) == 5:
            assert process.poll() is None
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate(timeout=PATIENCE)
        finish(program, big_source, dest, 1, "--overwrite")
        assert tree(dest) == uninterrupted[0]


def test_two_runs_on_one_destination_do_not_meet(big_source, program, tree, tmp_path, uninterrupted):
    dest = tmp_path / "made.zarr"
    first = start(program, big_source, dest)
    wait_for_a_part(first, dest)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        for more in ([], ["--overwrite"]):
            second = start(program, big_source, dest, 1, *more)
            _, errors = second.communicate(timeout=PATIENCE)
            assert second.returncode == 1
            assert f"another `rdt-data convert` is writing {dest}" in errors
    finally:
        os.kill(first.pid, signal.SIGCONT)
    _, errors = first.communicate(timeout=PATIENCE)
    assert (first.returncode, errors) == (0, "")
    assert tree(dest) == uninterrupted[0]


TAKE_TURNS = """
import os, sys
from pathlib import Path
from rdt_data.errors import StoreError
from rdt_data.ledger import Ledger

dest, marker, turns, refused = Path(sys.argv[1]), Path(sys.argv[2]), 0, 0
while turns < 60:
    try:
        ledger = Ledger(dest, {"dataset": "none"}, [])
    except StoreError as error:
        assert "another `rdt-data convert` is writing" in error.problem, error
        refused += 1
        continue
    with ledger:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails where somebody else is inside
        assert ledger.run.is_dir()
        marker.unlink()
    turns += 1
print(refused)
"""


def test_one_process_at_a_time_holds_a_destination(tmp_path):
    """The lock is a file that its holder removes at the end: who opened it before must notice."""
    command = [sys.executable, "-c", TAKE_TURNS, tmp_path / "made.zarr", tmp_path / "inside"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ended = [
        (process, *process.communicate(timeout=PATIENCE))
        for process in [subprocess.Popen(command, **pipes) for _ in range(3)]
    ]
    assert [process.returncode for process, _, _ in ended] == [0, 0, 0], [errors for _, _, errors in ended]
    assert sum(int(out) for _, out, _ in ended) > 0, "they never met"
