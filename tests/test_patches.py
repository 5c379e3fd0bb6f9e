"""Patches: laws over the table, what a spec may say, whose code is imported, and the way through the commands."""

import copy
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from converters import catalog
from converters.patch_call import declared
from converters.patches import PATCHES, PatchedEpisode, cumulative_gripper
from converters.raw import Frame
from converters.spec import DatasetSpec, load_spec, parse_spec
from converters.verify import verify_store
from rdt_data.errors import SourceError, SpecError
from rdt_data.store import open_dataset

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES: dict[str, dict[str, Any]] = {
    "cumulative_gripper": {"from_": "change", "to": "gripper_open"},
    "drop_still_head": {"key": "change", "threshold": 0.01},
}
"""For each patch: arguments that fit `episode()`, so that all of its steps stay."""

LAB = """
title: A lab's robot
reader: hdf5
options: {files: "*.hdf5"}
control_hz: 10
cameras: {exterior: observations/images/cam_high}
patch: PATCH
instruction: {from: instruction}
state:
  - {from: observations/qpos, cols: [0, 6], unit: rad, to: right_arm_joint_pos}
  - {from: gripper_open, unit: 1, to: right_gripper_open}
"""
CUMULATIVE = "{name: cumulative_gripper, from: change, to: gripper_open}"

OWN = '''
import pathlib
from converters.patches import PatchedEpisode
from converters.raw import RawEpisode

(pathlib.Path(__file__).parent / "imported").touch()

def opened(raw: RawEpisode, from_: str, *, share: float = 1) -> RawEpisode:
    """The gripper is logged as its opposite, in percent."""
    return PatchedEpisode(raw, {"gripper_open": 1 - raw.array(from_) * share / 100})

def first(raw: RawEpisode) -> PatchedEpisode:
    """Looks for what is not there."""
    return PatchedEpisode(raw, {"gripper_open": raw.array("change")[99:][0]})

def nothing(raw: RawEpisode) -> RawEpisode:
    """Forgets to return."""

def short(raw: RawEpisode) -> RawEpisode:
    """Makes too few values."""
    return PatchedEpisode(raw, {"gripper_open": raw.array("change")[1:]})

def silent(raw: RawEpisode) -> RawEpisode:
    return raw

def loose(raw):
    """Does not say what it is."""
    return raw

def unnamed() -> RawEpisode:
    """Takes nothing."""

def returns(raw: RawEpisode) -> dict[str, float]:
    """Gives something else."""

def many(raw: RawEpisode, *keys: str) -> RawEpisode:
    """Takes any number."""

def listed(raw: RawEpisode, keys: list[str]) -> RawEpisode:
    """Takes a list."""

def called(raw: RawEpisode, name: str) -> RawEpisode:
    """Takes what YAML uses itself."""

def undefined(raw: "Episode") -> RawEpisode:
    """Names what it does not know."""
'''


@dataclass
class Memory:
    """A raw episode held in dictionaries."""

    arrays: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, Any] = field(default_factory=dict)
    number: int = 7
    name: str = "memory#7"

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def keys(self) -> list[str]:
        return sorted({**self.arrays, **self.texts, **self.scalars})

    def cameras(self) -> list[str]:
        return [key for key in self.arrays if key.startswith("camera")]

    def array(self, key: str) -> Any:
        return self.arrays[key]

    def scalar(self, key: str) -> Any:
        return self.scalars[key]

    def text(self, key: str) -> str | None:
        return self.texts.get(key)

    def frames(self, key: str) -> Iterator[Frame]:
        return iter(self.arrays[key])


def episode(*changes: float) -> Memory:
    change = np.array(changes or [0, 1, 1, 0, -0.25, 0.5], np.float32)
    change.flags.writeable = False
    images = np.zeros((len(change), 4, 4, 3), np.uint8)
    return Memory({"change": change, "camera": images}, {"words": "Wave."}, {"success": True})


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A lab's module `lab_N.patches`, importable; its folder holds `imported` once it has been imported."""
    folder = tmp_path / "code" / f"lab_{tmp_path.name.replace('-', '_')}"
    folder.mkdir(parents=True)
    (folder / "patches.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return folder


def lab_spec(folder: Path, patch: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(LAB.replace("PATCH", patch))
    return path


@pytest.fixture
def recordings(tmp_path, aloha_source) -> Path:
    """Three HDF5 episodes whose gripper is logged as changes, and in percent."""

    def add(file: h5py.File) -> None:
        file["change"] = np.array([0, 1, 0, -0.5, 0, -1], np.float32)
        file["percent"] = np.array([0, 10, 20, 30, 40, 50], np.float32)

    return aloha_source(tmp_path / "raw", episodes=3, change=dict.fromkeys(range(3), add))


@pytest.mark.parametrize("name", PATCHES)
def test_every_patch_says_why_keeps_the_length_and_changes_nothing_it_is_given(name: str):
    arguments, raw = EXAMPLES[name], episode()
    assert all(":" not in name for name in PATCHES)
    assert {key.rstrip("_") for key in arguments} <= declared(PATCHES[name]).keys()
    before = copy.deepcopy(raw)
    first, second = (PATCHES[name](raw, **arguments) for _ in range(2))
    np.testing.assert_equal(vars(raw), vars(before))
    assert (len(first), first.number, first.name) == (len(raw), raw.number, raw.name)
    assert set(first.keys()) >= set(raw.keys())
    for key in set(first.keys()) - {"words", "success"}:
        assert len(first.array(key)) == len(raw)
        np.testing.assert_array_equal(first.array(key), second.array(key))


@pytest.mark.parametrize(
    ("changes", "start", "opening"),
    [
        ([0, 1, 0, -1, 0], 1, [1, 0, 0, 1, 1]),
        ([1, 1, 1, -1], 1, [0, 0, 0, 1]),
        ([0.25, 0.25, -1, 2], 0.5, [0.25, 0, 1, 0]),
        ([0, -0.5], 0, [0, 0.5]),
        ([], 1, []),
    ],
)
def test_gripper_changes_add_up_and_stop_at_open_and_closed(changes, start, opening):
    raw = Memory({"change": np.array(changes, np.float32).reshape(-1, 1)})
    made = cumulative_gripper(raw, "change", "grip", start=start).array("grip")
    assert (made.tolist(), made.dtype) == ([[value] for value in opening], np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"chance": np.zeros(3)}, "did you mean 'chance'"),
        ({"change": np.zeros((3, 2))}, "holds float64 of shape (3, 2), the patch takes one number a step"),
        ({"change": np.array(["a"])}, "one number a step"),
        ({"change": np.array([0, np.nan])}, "step 1 is nan"),
    ],
)
def test_a_value_that_holds_no_gripper_changes_is_named(arrays, said):
    with pytest.raises(SourceError, match=re.escape(said)) as caught:
        cumulative_gripper(Memory(arrays), "change", "grip")
    assert caught.value.field == "change"


def test_a_patched_episode_adds_and_replaces_arrays_and_leaves_the_rest():
    raw = episode(1, 0, 0)
    patched = PatchedEpisode(raw, {"new": np.array([5, 6, 7]), "change": np.zeros((3, 1)), "short": np.zeros(2)})
    assert (patched.number, patched.name, len(patched)) == (7, "memory#7", 3)
    assert patched.keys() == ["camera", "change", "new", "short", "success", "words"]
    assert patched.array("change").tolist() == [[0], [0], [0]]
    assert (patched.array("camera") is raw.arrays["camera"], patched.cameras()) == (True, ["camera"])
    assert (patched.scalar("new"), patched.scalar("success"), patched.text("words")) == (5, True, "Wave.")
    assert len(list(patched.frames("camera"))) == 3
    with pytest.raises(SourceError, match=re.escape("shape (2,) in an episode of 3 steps")):
        patched.array("short")
    hidden = PatchedEpisode(raw, {"camera": np.zeros(3)})
    assert hidden.cameras() == []
    with pytest.raises(SourceError, match="not a camera"):
        hidden.frames("camera")
    with pytest.raises(AttributeError):
        patched.raw = raw


def test_a_spec_with_a_patch_prints_it_with_its_reason_and_survives_pickle():
    spec = parse_spec(LAB.replace("PATCH", "{name: cumulative_gripper, to: g, from: change, start: 1}"), "lab.yaml")
    assert "patch            cumulative_gripper from=change to=g start=1: The robot logs *changes*" in str(spec)
    assert spec.irreversible() == ["patch cumulative_gripper: what it makes"]
    again = pickle.loads(pickle.dumps(spec))  # noqa: S301
    assert again.patch == spec.patch
    assert again.patch(episode(1)).array("g").tolist() == [[0]]
    assert spec.corrected().patch == spec.patch
    assert parse_spec(LAB.replace("patch: PATCH\n", ""), "lab.yaml").patch is None


def test_the_line_in_the_example_of_a_labs_own_robot_is_right():
    text = (DOCS / "my_robot.yaml").read_text()
    assert parse_spec(text.replace("# patch: ", "patch: "), "x.yaml").patch is not None


def test_the_function_in_the_guide_is_a_patch(tmp_path, monkeypatch):
    guide = (DOCS / "add-a-robot.md").read_text()
    code, (ours, own) = re.findall(r"```python\n(.+?)```", guide, re.S)[0], re.findall(r"^patch: (.+)$", guide, re.M)
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "patches.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert parse_spec(LAB.replace("PATCH", ours), "x.yaml").patch is not None
    patch = parse_spec(LAB.replace("PATCH", own), "x.yaml", trusted=True).patch
    made = patch(Memory({"observations/fingers": np.array([[0, 1], [1, 1]])}))
    assert made.array("gripper_open").tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("cumulative_griper", ["patch: no patch is called 'cumulative_griper'", "did you mean 'cumulative_gripper'"]),
        ("{name: x}", ["patch.name: no patch is called 'x'", "choose one of cumulative_gripper", "module:function"]),
        ("cumulative_gripper", ["patch.from: cumulative_gripper needs it", "write patch: {name: cumulative_gripper, from"]),
        ("{name: cumulative_gripper, from: c}", ["patch.to: cumulative_gripper needs it"]),
        ("{name: cumulative_gripper, form: c, to: g}", ["patch.form: no argument of cumulative_gripper", "'from'"]),
        ("{name: cumulative_gripper, from_: c, to: g}", ["patch.from_", "did you mean 'from'"]),
        ("{name: cumulative_gripper, from: 3, to: g}", ["patch.from: 3 is not text"]),
        ("{name: cumulative_gripper, from: '', to: g}", ["patch.from: '' is not text"]),
        ("{name: cumulative_gripper, from: c, to: g, start: yes}", ["patch.start: True is not a number"]),
        ("{name: cumulative_gripper, from: c, to: g, start: .nan}", ["patch.start: nan is not a number"]),
        ("3", ["patch: 3 is not a patch", "{name: x, from: y}"]),
        ("[cumulative_gripper]", ["patch: ['cumulative_gripper'] is not a patch"]),
        ("{from: c}", ["patch: {'from': 'c'} is not a patch"]),
        ("{name: 3}", ["is not a patch"]),
    ],
)  # fmt: skip
def test_a_wrong_patch_is_refused_with_file_place_value_and_what_is_allowed(patch: str, said: list[str]):
    for trusted in (True, False):
        with pytest.raises(SpecError) as caught:
            parse_spec(LAB.replace("PATCH", patch), "lab/x.yaml", trusted=trusted)
        for part in ("lab/x.yaml: ", *said):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("OWN:opend", ["patch: no function of ", "did you mean 'opened'"]),
        ("OWN:pathlib", ["no function of"]),
        ("{name: 'OWN:opened', percent: 1}", ["patch.percent: no argument of", "choose one of from, share"]),
        ("OWN:opened", ["patch.from: ", "needs it"]),
        ("{name: 'OWN:short', x: y}", ["patch.x", "it takes none"]),
        ("OWN:silent", ["patch: ", ":silent has no docstring"]),
        ("OWN:loose", [":loose does not take a RawEpisode first", "write def patch(raw: RawEpisode"]),
        ("OWN:unnamed", [":unnamed does not take a RawEpisode first"]),
        ("OWN:returns", [":returns does not return a RawEpisode"]),
        ("OWN:many", [":many: *keys: str is no argument that a spec can give"]),
        ("OWN:listed", ["keys: list[str] is no argument"]),
        ("OWN:called", ["name: str is no argument"]),
        ("OWN:undefined", ["an annotation is not defined: name 'Episode'"]),
        ("no_such_module:f", ["no_such_module cannot be imported", "PYTHONPATH"]),
        ("'OWN:'", ["is not module:function"]),
        (".OWN:f", ["is not module:function"]),
        ("OWN:f:g", ["is not module:function"]),
        ("os:system", ["no function of os"]),
        ("subprocess:getoutput", ["does not take a RawEpisode first"]),
    ],
)
def test_a_labs_own_function_is_refused_unless_it_declares_itself_a_patch(own, patch: str, said: list[str]):
    with pytest.raises(SpecError) as caught:
        parse_spec(LAB.replace("PATCH", patch.replace("OWN", f"{own.name}.patches")), "lab.yaml", trusted=True)
    for part in ("lab.yaml: patch", *said):
        assert part in str(caught.value)


def test_a_module_that_is_not_python_is_named(own):
    (own / "broken.py").write_text("def f(:")
    with pytest.raises(SpecError, match=r"broken cannot be imported: .*broken\.py"):
        parse_spec(LAB.replace("PATCH", f"{own.name}.broken:f"), "lab.yaml", trusted=True)


def test_only_a_spec_given_as_a_file_is_imported(own, tmp_path):
    text = LAB.replace("PATCH", f"{{name: '{own.name}.patches:opened', from: percent}}")
    for parse in (
        lambda: parse_spec(text, "lab.yaml"),
        lambda: parse_spec(text, "lab.yaml", trusted=False).corrected(),
    ):
        with pytest.raises(
            SpecError, match=r"lab\.yaml: patch\.name: .*opened' is a function of somebody's own"
        ) as caught:
            parse()
        assert "verify STORE --source SRC --spec my_robot.yaml" in caught.value.remedy
    with pytest.raises(ValueError, match="a function of somebody's own"):
        DatasetSpec.model_validate(yaml.safe_load(text))
    assert f"{own.name}.patches" not in sys.modules
    assert not (own / "imported").exists()
    (tmp_path / "lab.yaml").write_text(text)
    spec = load_spec(tmp_path / "lab.yaml")
    assert (own / "imported").exists()
    assert str(spec.patch) == f"{own.name}.patches:opened from=percent"
    assert spec.corrected().patch == spec.patch
    assert "The gripper is logged as its opposite, in percent." in str(spec)


def test_no_spec_of_the_catalog_imports_anything():
    for name in catalog.names():
        patch = catalog.get(name).patch
        assert patch is None or patch.name in PATCHES


def test_a_conversion_uses_the_patch_for_fields_and_for_what_is_kept(recordings, tmp_path, command):
    spec = lab_spec(tmp_path, CUMULATIVE)
    dest = tmp_path / "out.zarr"
    assert command("convert", recordings, dest, "--spec", spec).code == 0
    for stored in open_dataset(str(dest)):
        assert stored.state[:, 10].tolist() == [1, 0, 0, 0.5, 0.5, 1]
        assert stored.images("exterior")[0].shape == (24, 32, 3)
    assert verify_store(str(dest), recordings).problems == []
    planned = command("convert", recordings, tmp_path / "x", "--spec", spec, "--dry-run", "--json").json
    assert (planned["problem"], planned["steps"]) == (None, 18)
    assert any("gripper_open" in slots for slots in planned["state_slots"])
    spec.write_text(spec.read_text() + "keep_if: [{from: gripper_open, equals: 0, reason: begins open}]\n")
    assert "a different command" in command("convert", recordings, dest, "--spec", spec).err
    assert command("convert", recordings, tmp_path / "none.zarr", "--spec", spec, "--json").json["filtered"] == [
        {"episode": f"episode_{number}", "reason": "begins open"} for number in range(3)
    ]


def test_an_episode_that_does_not_suit_its_patch_is_named_or_listed(recordings, tmp_path, command):
    with h5py.File(recordings / "episode_1.hdf5", "r+") as file:
        file["change"][3] = np.nan
    spec, dest = lab_spec(tmp_path, CUMULATIVE), tmp_path / "out.zarr"
    said = command("convert", recordings, dest, "--spec", spec)
    assert said.code == 1
    assert "episode_1.hdf5, episode 0, field change: step 3 is nan" in said.err
    done = command("convert", recordings, dest, "--spec", spec, "--on-error", "quarantine", "--json")
    assert (done.code, done.json["episodes"], done.json["quarantined"][0]["field"]) == (3, 2, "change")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("first", "episode_0.hdf5, episode 0: the patch"),
        ("first", "fails: IndexError: index 0 is out of bounds"),
        ("nothing", ":nothing returns NoneType, not an episode"),
        ("short", "field gripper_open: the patch made shape (5,) in an episode of 6 steps"),
    ],
)
def test_a_labs_function_that_fails_is_named(own, recordings, tmp_path, command, function: str, said: str):
    spec = lab_spec(tmp_path, f"{own.name}.patches:{function}")
    done = command("convert", recordings, tmp_path / "out.zarr", "--spec", spec)
    assert done.code == 1
    assert said in done.err


@pytest.fixture
def installed(program, own, tmp_path) -> Callable[..., tuple[int, str]]:
    """Run the installed command with the lab's code on PYTHONPATH or not: (exit code, all it printed)."""

    def run(*arguments: object, path: bool = True) -> tuple[int, str]:
        env = {key: value for key, value in os.environ.items() if path or key != "PYTHONPATH"}
        done = subprocess.run(
            [program, *map(str, arguments)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("where", [["--workers", "2"], ["--ray", "local"]], ids=" ".join)
def test_a_labs_own_function_works_through_the_commands(installed, own, recordings, tmp_path, tree, where):
    spec = lab_spec(tmp_path, f"{{name: '{own.name}.patches:opened', from: percent, share: 0.5}}")
    dest, again = tmp_path / "out.zarr", tmp_path / "again.zarr"
    assert installed("convert", recordings, dest, "--spec", spec)[0] == 0
    assert installed("convert", recordings, again, "--spec", spec, *where)[0] == 0
    assert tree(dest) == tree(again)
    assert open_dataset(str(dest))[2].state[:, 10].tolist() == pytest.approx([1, 0.95, 0.9, 0.85, 0.8, 0.75])
    code, said = installed("verify", dest, "--source", recordings, "--spec", spec, *where)
    assert (code, "equals its source" in said) == (0, True), said
    code, said = installed("convert", recordings, tmp_path / "x.zarr", "--spec", spec, path=False)
    assert (code, f"{own.name}.patches cannot be imported" in said) == (1, True), said


def test_verify_imports_nothing_that_a_store_names_and_takes_only_its_own_spec(own, recordings, tmp_path, installed):
    spec = lab_spec(tmp_path, f"{{name: '{own.name}.patches:opened', from: percent}}")
    dest = tmp_path / "out.zarr"
    assert installed("convert", recordings, dest, "--spec", spec)[0] == 0
    (own / "imported").unlink()
    code, said = installed("verify", dest, "--source", recordings)
    assert code == 1
    assert "lab.yaml: patch.name" in said
    assert "--spec my_robot.yaml" in said
    assert installed("verify", dest)[0] == 0
    assert not (own / "imported").exists()
    assert installed("verify", dest, "--source", recordings, "--spec", spec)[0] == 0
    assert installed("verify", dest, "--spec", spec)[0] == 0
    spec.write_text(spec.read_text().replace("control_hz: 10", "control_hz: 20"))
    code, said = installed("verify", dest, "--source", recordings, "--spec", spec)
    assert code == 1
    assert "is not the spec that" in said
    assert "line 5 is 'control_hz: 20', then it was 'control_hz: 10'" in said
    assert "`spec_text`" in said
