"""The commands: each explains itself, starts fast, prints JSON when asked, and fails without a traceback."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

import cli.data
import cli.train

HEAVY = {"av", "torch", "zarr", "ray", "h5py", "numpy", "pydantic", "pyarrow", "cv2", "google", "rich.progress", "yaml"}
PROGRAMS = {"rdt-data": cli.data.app, "rdt": cli.train.app}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of every program by what is typed."""
    for name, app in PROGRAMS.items():
        waiting = [(name, typer.main.get_command(app))]
        while waiting:
            path, command = waiting.pop()
            yield path, command
            waiting += [(f"{path} {child}", inner) for child, inner in getattr(command, "commands", {}).items()]


COMMANDS = dict(commands())
WITH_JSON = {path for path, command in COMMANDS.items() if any("--json" in param.opts for param in command.params)}


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_says_what_it_does_and_what_each_option_is(path):
    command = COMMANDS[path]
    assert command.help, f"{path} has no docstring"
    assert command.help.strip().splitlines()[0].endswith(".")
    for param in command.params:
        assert getattr(param, "help", None), f"{path}: {param.name} has no help"


DOCUMENTS = {"rdt-data spec new", "rdt-data spec schema", "rdt-data report", "rdt-data view", "rdt-data demo-t5"}
"""What they print or write is a document by itself."""


def test_every_command_that_does_something_prints_json_when_asked():
    groups = {path for path, command in COMMANDS.items() if hasattr(command, "commands")}
    assert set(COMMANDS) - groups - DOCUMENTS == WITH_JSON - DOCUMENTS


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_printed_without_importing_anything_heavy(path):
    program, *rest = path.split()
    module = {"rdt-data": "cli.data", "rdt": "cli.train"}[program]
    heavy = HEAVY - {"pydantic"} if rest else HEAVY  # typer itself imports it to read the options of a command
    code = f"""
import sys
sys.argv = {[program, *rest, "--help"]!r}
try:
    import {module}
    {module}.main()
except SystemExit as end:
    assert not end.code
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("Usage: ")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package(command):
    assert command("--version").out == version("rdt-data") + "\n"


def test_a_mistyped_option_is_a_usage_error(command):
    assert command("convert", "--no-such-option").code == 2
    assert command("convret").code == 2


@pytest.fixture
def silent(rlds_source, tmp_path) -> Path:
    """A source in which episode 1 has no words."""

    def silence(features: Any) -> None:
        features["steps/language_instruction"].bytes_list.value[:] = [b""] * 5

    return rlds_source(tmp_path / "silent", change={1: silence})


def test_exit_codes_tell_success_failure_and_quarantine_apart(rlds_source, silent, command, tmp_path):
    whole, store = rlds_source(tmp_path), tmp_path / "made.zarr"
    assert command("convert", whole, store).code == 0
    assert command("verify", store).code == 0
    assert command("convert", silent, tmp_path / "stopped.zarr").code == 1
    assert command("convert", silent, tmp_path / "some.zarr", "--on-error", "quarantine").code == 3
    assert command("convert", silent, tmp_path / "some.zarr").code == 3, "still so when there is nothing to do"
    assert command("verify", tmp_path / "some.zarr", "--source", silent).code == 0
    assert command("verify", store, "--source", silent).code == 1
    assert command("verify", tmp_path / "stopped.zarr").code == 1


def test_json_output_is_one_document(rlds_source, seeded_t5, command, tmp_path):
    source, store = rlds_source(tmp_path), tmp_path / "made.zarr"
    printed = {
        "rdt-data convert": command("convert", source, store, "--json"),
        "rdt-data convert --dry-run": command("convert", source, store, "--dry-run", "--json"),
        "rdt-data inspect": command("inspect", store, "--json"),
        "rdt-data inspect SOURCE": command("inspect", source, "--json"),
        "rdt-data verify": command("verify", store, "--json"),
        "rdt-data demo-data": command("demo-data", tmp_path / "demo", "--episodes", "1", "--json"),
        "rdt-data spec list": command("spec", "list", "--json"),
        "rdt-data spec show": command("spec", "show", "bridge", "--json"),
        "rdt-data spec check": command("spec", "check", "demo_two_arm", "--source", source, "--json"),
    }
    other = tmp_path / "other.zarr"
    shutil.copytree(store, other)
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("title: One\ndatasets: {made: 1}\n")
    printed |= {
        "rdt-data mixture list": command("mixture", "list", "--json"),
        "rdt-data mixture show": command("mixture", "show", mixture, "--json"),
        "rdt-data split": command("split", store, "--json"),
        "rdt-data bench feed": command("bench", "feed", store, "--seconds", "1", "--producers", "0", "--json"),
        "rdt-data stats": command("stats", store, "--json"),
        "rdt-data lint": command("lint", store, "--json"),
        "rdt-data migrate": command("migrate", store, "--json"),
        "rdt-data merge": command("merge", store, other, tmp_path / "merged.zarr", "--json"),
        "rdt-data export": command("export", store, tmp_path / "flat", "--format", "parquet", "--json"),
        "rdt-data embed-lang": command("embed-lang", store, "--model", seeded_t5, "--json"),
    }
    assert {path for path in WITH_JSON - DOCUMENTS if path.startswith("rdt-data")} <= set(printed)
    for path, done in printed.items():
        assert (done.code, done.err) == (0, ""), path
        assert json.loads(done.out), path
    assert printed["rdt-data convert"].json["episodes"] == 6
    assert printed["rdt-data verify"].json["problems"] == []


def test_the_trainer_describes_this_machine_as_json(program):
    done = subprocess.run([program.with_name("rdt"), "env", "--json"], capture_output=True, text=True, check=True)
    assert "torch" in json.loads(done.stdout)


def test_an_error_is_told_as_json_too(silent, command, tmp_path):
    failed = command("convert", silent, tmp_path / "made.zarr", "--json")
    assert failed.code == 1
    assert failed.json == {
        "error": "the instruction is empty",
        "fix": failed.json["fix"],
        "message": failed.err.removeprefix("error: ").rstrip("\n"),
    }
    assert failed.json["message"].startswith(
        "demo_two_arm-train.tfrecord-00000-of-00003, episode 1, field language_instruction: the instruction is empty"
    )
    assert failed.json["fix"].startswith("name where the words are")


def test_mistakes_are_told_with_the_next_step(rlds_source, command, tmp_path):
    source, dest, empty = rlds_source(tmp_path), tmp_path / "made.zarr", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "bad.yaml").write_text("title: [")
    mistakes = {
        ("convert", tmp_path / "nowhere", dest): "nowhere",
        ("convert", empty, dest): "no spec is known for",
        ("convert", empty, dest, "--dataset", "bridge"): "holds 0 datasets that the rlds reader knows",
        ("convert", source, dest, "--dataset", "brigde"): "did you mean 'bridge'?",
        ("convert", source, dest, "--dataset", "demo_aloha"): "datasets that the hdf5 reader knows",
        ("convert", source, dest, "--dataset", "bridge", "--spec", "x.yaml"): "--dataset and --spec are both given",
        ("convert", source, dest, "--spec", tmp_path / "no.yaml"): "no.yaml",
        ("convert", source, dest, "--spec", tmp_path / "bad.yaml"): "bad.yaml",
        ("convert", source, dest, "--workers", "0"): "0 workers",
        ("convert", source, dest, "--image-size", "3"): "--image-size 3",
        ("convert", source, dest, "--split", "test"): "no split of demo_two_arm is called 'test'",
        ("verify", tmp_path / "nowhere.zarr"): "it has no zarr.json",
        ("inspect", tmp_path / "nowhere"): "does not exist",
        ("inspect", empty): "fix: ",
        ("spec", "show", "kuak"): "did you mean 'kuka'?",
        ("spec", "check", "bridge", "--source", source): "does not fit",
        ("demo-data", source / "features.json"): "is not a directory",
    }
    for arguments, told in mistakes.items():
        failed = command(*arguments)
        assert failed.code == 1, arguments
        assert failed.out == "", arguments
        assert failed.err.startswith("error: "), arguments
        assert told in failed.err, arguments
        assert "\n  fix: " in failed.err, arguments
    assert not dest.exists()


def on_terminal(arguments: list[object]) -> str:
    """What a command writes to a terminal as its stderr."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=terminal, env=environment)
    os.close(terminal)
    written = b""
    while True:
        try:
            data = os.read(controller, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not data:
            break
        written += data
    os.close(controller)
    assert process.wait() == 0
    return written.decode()


def test_progress_is_shown_on_a_terminal_only(rlds_source, program, tmp_path):
    source = rlds_source(tmp_path)
    shown = on_terminal([program, "convert", source, tmp_path / "a.zarr"])
    assert "converting" in shown
    assert "6/6" in shown
    assert on_terminal([program, "convert", source, tmp_path / "b.zarr", "--json"]) == ""
    piped = subprocess.run(
        [program, "convert", source, tmp_path / "c.zarr"], capture_output=True, text=True, check=True
    )
    assert piped.stderr == ""


def test_output_that_nobody_reads_to_the_end_is_no_error(program):
    lists = subprocess.Popen([program, "spec", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lists.stdout.close()
    errors = lists.stderr.read().decode()
    lists.stderr.close()
    lists.wait()
    assert "Traceback" not in errors
