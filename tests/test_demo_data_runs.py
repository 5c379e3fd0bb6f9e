"""Demo data made by several workers, interrupted, on a full disk, and by the command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.data import app
from converters import demo_data
from converters.demo_data import write_demo_data
from rdt_data.errors import RdtError

EPISODES = 7


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process writes."""
    return write_demo_data(tmp_path_factory.mktemp("demo"), episodes=EPISODES, seed=5)


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("formats", [["aloha"], ["rlds"], ["aloha", "rlds"]])
def test_any_number_of_workers_gives_the_same_bytes_and_counts(whole, tmp_path, formats):
    progress = []
    data = write_demo_data(
        tmp_path, episodes=EPISODES, seed=5, formats=formats, workers=3, progress=lambda *at: progress.append(at)
    )
    assert list(data.roots) == formats
    for name, root in data.roots.items():
        assert contents(root) == contents(whole.roots[name])
    assert (data.steps, data.successes) == (whole.steps, whole.successes)
    assert progress == [(n + 1, EPISODES) for n in range(EPISODES)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_only_whole_files_and_no_table(whole, tmp_path, workers):
    def stop(done, episodes):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_data(tmp_path, episodes=EPISODES, seed=5, workers=workers, progress=stop)
    left, complete = contents(tmp_path), contents(whole.roots["aloha"].parent)
    assert left == {name: complete[name] for name in left}
    assert sum(name.suffix == ".hdf5" for name in left) >= 4
    assert not [name for name in left if name.suffix == ".json"]


def test_a_file_that_was_being_written_is_not_left(tmp_path, monkeypatch):
    def stop(path, demo, frames):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_data, "write_aloha", stop)
    with pytest.raises(KeyboardInterrupt):
        write_demo_data(tmp_path, episodes=2)
    assert not contents(tmp_path)


def test_ctrl_c_at_the_command_leaves_only_whole_files_and_no_process(whole, tmp_path):
    program = Path(sys.executable).with_name("rdt-data")
    arguments = [program, "demo-data", tmp_path, "--episodes", "2000", "--seed", "5", "--workers", "2"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("demo_aloha/episode_*.hdf5"))) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted: what is there is whole but not all; run again with --overwrite\n"
    assert not list(tmp_path.rglob(".*"))
    for name in ("episode_0.hdf5", "episode_1.hdf5"):
        assert (tmp_path / "demo_aloha" / name).read_bytes() == (whole.roots["aloha"] / name).read_bytes()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_an_error_and_leaves_only_whole_files(whole, tmp_path, workers):
    root = tmp_path / "rlds/demo_two_arm/1.0.0"
    root.mkdir(parents=True)
    (root / ".episode_3.tfrecord.partial").symlink_to("/dev/full")
    with pytest.raises(RdtError, match=r"cannot write .*: No space left on device"):
        write_demo_data(tmp_path, episodes=EPISODES, seed=5, workers=workers)
    left, complete = contents(tmp_path), contents(whole.roots["aloha"].parent)
    assert left
    assert left == {name: complete[name] for name in left}


@pytest.mark.parametrize(
    "options", [["--formats", "rlds,aloha"], ["--formats", "aloha", "--formats", "rlds"], ["--workers", "2"], []]
)
def test_formats_are_repeated_or_separated_by_commas_and_both_are_the_default(tmp_path, options):
    result = CliRunner().invoke(app, ["demo-data", str(tmp_path), "--episodes", "1", *options])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo_aloha", "rlds"]


def test_one_format_is_written_alone(tmp_path):
    result = CliRunner().invoke(app, ["demo-data", str(tmp_path), "--episodes", "1", "--formats", "aloha"])
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["demo_aloha"]
