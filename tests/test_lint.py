"""Lint: every check of the table finds what it is for, there and nowhere else; clean data yields nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.demo_data import write_demo_data
from converters.plan import Request
from converters.run import convert_dataset
from converters.spec import load_spec
from rdt_data.clock import Clock, measure
from rdt_data.episode import CameraFormat, Episode
from rdt_data.errors import RdtError
from rdt_data.images import encode_png
from rdt_data.layout import GROUPS
from rdt_data.ledger import Ledger, commit
from rdt_data.parts import PartWriter
from rdt_data.store import open_dataset
from stats.lint import lint
from stats.lint_frames import chosen, sampled_steps
from stats.lint_table import CHECKS, as_markdown

HZ, STEPS, EPISODES = 10.0, 40, 6
JOINTS, JOINT_VEL = list(GROUPS["right_arm_joint_pos"][:6]), list(GROUPS["right_arm_joint_vel"][:6])
GRIPPER = GROUPS["right_gripper_open"][0]
POS, LIN_VEL = list(GROUPS["right_eef_pos"]), list(GROUPS["right_eef_lin_vel"])
ROT, ANG_VEL = list(GROUPS["right_eef_ortho6d"]), list(GROUPS["right_eef_ang_vel"])
SIZE = (24, 32)


@dataclass
class Made:
    """An episode to be stored; actions become next states, or commands, when they are not given."""

    state: np.ndarray
    words: str
    hz: float = HZ
    action: np.ndarray | None = None
    mask: np.ndarray | None = None  # (T, 128), where it differs from step to step
    frames: dict[str, list[bytes]] = field(default_factory=dict)
    clock: Clock = field(default_factory=lambda: measure(np.arange(STEPS) / HZ, "s"))


def put_rotation(state: np.ndarray, matrices: np.ndarray) -> None:
    """Orientations and the angular velocities that belong to them, in the world's frame."""
    state[:, ROT] = matrices[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    change = Rotation.from_matrix(matrices[1:] @ matrices[:-1].transpose(0, 2, 1)).as_rotvec() * HZ
    state[:, ANG_VEL] = np.concatenate([change, change[-1:]])


def orientations(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """A hand that points down and turns a little about all axes."""
    sway = 0.25 * np.sin(rng.uniform(0.8, 1.6, 3) * time[:, None] + rng.uniform(0, 6, 3))
    return (Rotation.from_euler("xyz", sway) * Rotation.from_euler("xyz", [2.6, 0.3, 0.4])).as_matrix()


def clean_state(number: int, steps: int = STEPS) -> np.ndarray:
    rng, time = np.random.default_rng(number), np.arange(steps) / HZ
    state = np.zeros((steps, 128), np.float32)
    for position, velocity, scale in ((JOINTS, JOINT_VEL, 0.6), (POS, LIN_VEL, 0.1)):
        rate, phase = rng.uniform(0.8, 1.6, len(position)), rng.uniform(0, 6, len(position))
        state[:, position] = scale * np.sin(rate * time[:, None] + phase)
        state[:, velocity] = scale * rate * np.cos(rate * time[:, None] + phase)
    state[:, GRIPPER] = 0.5 - 0.48 * np.tanh(5 * (time - rng.uniform(1, 2.5)))  # closes once
    put_rotation(state, orientations(rng, time))
    return state


def picture(camera: str, number: int, step: int, shade: int = 0) -> np.ndarray:
    """A warm table with something blue on it that moves."""
    pixels = np.empty((*SIZE, 3), np.uint8)
    pixels[...] = (200, 150 + shade, 90)
    pixels[:8] = (120, 60, 30) if camera == "exterior" else (150, 110, 60)
    pixels[10:16, step % 26 : step % 26 + 5] = (30, 40, 170)
    pixels[20:, number : number + 2] = 250
    return pixels


def clean(episodes: int = EPISODES, cameras: tuple[str, ...] = ()) -> list[Made]:
    words = ("Pick up the cup.", "Open the drawer and put the spoon in.")
    return [
        Made(
            clean_state(number),
            words[number % 2],
            frames={c: [encode_png(picture(c, number, step)) for step in range(STEPS)] for c in cameras},
        )
        for number in range(episodes)
    ]


def commands(state: np.ndarray) -> np.ndarray:
    """Recorded actions: the joints and the gripper as they shall be two steps later."""
    action = np.zeros_like(state)
    action[:, [*JOINTS, GRIPPER]] = np.concatenate([state[2:], state[-1:], state[-1:]])[:, [*JOINTS, GRIPPER]]
    return action


MASK = np.isin(np.arange(128), [*JOINTS, *JOINT_VEL, GRIPPER, *POS, *LIN_VEL, *ROT, *ANG_VEL])


def stored(made: Made, number: int, mode: str) -> Episode:
    return replace(vectors_of(made, number, mode), clock=made.clock)


def vectors_of(made: Made, number: int, mode: str) -> Episode:
    action, mask = made.action, MASK
    if made.mask is not None:
        both = [made.state, np.concatenate([made.state[1:], made.state[-1:]])]
        masks = [made.mask, np.concatenate([made.mask[1:], made.mask[-1:]])]
        return Episode(f"e{number}", f"file#{number}", *both, *masks, made.words, made.words, made.hz)
    if mode == "recorded":
        action = commands(made.state) if action is None else action
        mask = np.isin(np.arange(128), [*JOINTS, GRIPPER])
    elif action is None:
        action = np.concatenate([made.state[1:], made.state[-1:]])
    return Episode(f"e{number}", f"file#{number}", made.state, action, MASK, mask, made.words, made.words, made.hz)


def write(
    dest: Path,
    episodes: list[Made],
    mode: str = "next-state",
    spec: dict[str, Any] | None = None,
    first: int | None = None,
) -> Path:
    """A store of these episodes, the `first` ones in a part of their own."""
    cameras = sorted({camera for one in episodes for camera in one.frames})
    forms = {camera: CameraFormat("png", *SIZE) for camera in cameras}
    header = {
        "dataset": "made_up",
        "control_hz": HZ,
        "cameras": {slot: {name: getattr(form, name) for name in form.__slots__} for slot, form in forms.items()},
        "request": {"action": mode},
        "spec": spec or {},
        "spec_text": "",
    }
    numbered = list(enumerate(episodes))
    parts = [numbered] if first is None else [numbered[:first], numbered[first:]]
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
        for number, part in enumerate(parts):
            writer = PartWriter(ledger.path(number), forms)
            for at, one in part:
                writer.add(stored(one, at, mode), one.frames)
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[len(part), sum(len(one.state) for _, one in part)] for part in parts]})
    return dest


@dataclass(frozen=True)
class Broken:
    """How to break clean episodes, and where the first finding then is: (episode, step, slot or camera)."""

    change: Callable[[list[Made]], Any]
    where: tuple[int | None, int | None, str | None]
    mode: str = "next-state"
    cameras: tuple[str, ...] = ()
    episodes: int = EPISODES
    spec: dict[str, Any] | None = None


def in_state(number: int, steps: Any, slots: Any, value: Callable[[np.ndarray], Any]) -> Callable[[list[Made]], None]:
    def change(made: list[Made]) -> None:
        for one in made if number < 0 else [made[number]]:
            one.state[steps, slots] = value(one.state[steps, slots])

    return change


def say(number: int, words: str) -> Callable[[list[Made]], None]:
    return lambda made: setattr(made[number], "words", words)


def show(number: int, camera: str, change: Callable[[list[np.ndarray]], Any]) -> Callable[[list[Made]], None]:
    """Change the pictures of one episode, given as a list."""

    def act(made: list[Made]) -> None:
        pictures = [picture(camera, number, step) for step in range(STEPS)]
        made[number].frames[camera] = [encode_png(one) for one in change(pictures)]

    return act


def turn(number: int, matrices: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[Made]], None]:
    def change(made: list[Made]) -> None:
        rng = np.random.default_rng(100 + number)
        put_rotation(made[number].state, matrices(orientations(rng, np.arange(STEPS) / HZ)))

    return change


def misread_quaternions(made: list[Made]) -> None:
    for one in made:
        a, b = one.state[:, ROT[:3]], one.state[:, ROT[3:]]
        x, y, z, w = Rotation.from_matrix(np.stack([a, b, np.cross(a, b)], axis=2)).as_quat().T
        wrong = Rotation.from_quat(np.stack([w, x, y, z], axis=1)).as_matrix()
        one.state[:, ROT] = wrong[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


def every_second_step(made: list[Made]) -> None:
    made[5].state = made[5].state[::2].copy()


def wait(number: int, *, at_end: bool) -> Callable[[list[Made]], None]:
    def change(made: list[Made]) -> None:
        still = made[number].state[-1 if at_end else 0].copy()
        still[[*JOINT_VEL, *LIN_VEL, *ANG_VEL]] = 0
        both = [made[number].state, np.tile(still, (25, 1))]
        made[number].state = np.concatenate(both if at_end else both[::-1])

    return change


def spin(matrices: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(np.outer(0.9 * np.arange(STEPS), [0, 0, 1])).as_matrix() @ matrices


def flip(matrices: np.ndarray) -> np.ndarray:
    late = (np.arange(STEPS) >= 20)[:, None, None]
    return np.where(late, Rotation.from_euler("z", 2.0).as_matrix() @ matrices, matrices)


def wrong_action(made: list[Made]) -> None:
    made[2].action = np.concatenate([made[2].state[1:], made[2].state[-1:]])
    made[2].action[11, JOINTS[0]] += 0.01


def opposite_command(made: list[Made]) -> None:
    made[4].action = commands(made[4].state)
    made[4].action[:, GRIPPER] = 1 - made[4].action[:, GRIPPER]


def copy(made: list[Made]) -> None:
    made[5].state = made[2].state.copy()


def copy_with_noise(made: list[Made]) -> None:
    made[5].state = made[2].state.copy()
    made[5].state[:, [*JOINTS, *POS]] += np.random.default_rng(0).normal(0, 2e-4, (STEPS, 9))


def darken(step: int) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda pictures: [one * (at != step) for at, one in enumerate(pictures)]


def constant_joint(made: list[Made]) -> None:
    for one in made:
        one.state[:, JOINTS[5]], one.state[:, JOINT_VEL[5]] = 0.3, 0


def tick(number: int, change: Callable[[np.ndarray], Any]) -> Callable[[list[Made]], None]:
    """Change the times of one episode."""

    def act(made: list[Made]) -> None:
        times = np.arange(STEPS) / HZ
        changed = change(times)
        made[number].clock = measure(times if changed is None else changed, "s")

    return act


def lose_steps(times: np.ndarray) -> None:
    times[18:] += 0.35


def set_back(times: np.ndarray) -> None:
    times[30:] -= 1.0


CLOSED = [{"from": "observation/gripper_closed", "cols": [0, 1], "unit": 1, "to": "right_gripper_open"}]
CAMERA = ("exterior",)

BROKEN = {
    "not_finite": Broken(in_state(2, 7, JOINTS[0], lambda x: np.nan), (2, 6, "action right_arm_joint_0_pos")),
    "unreal_not_zero": Broken(in_state(1, 5, 45, lambda x: 0.5), (1, 4, "action reserved_45")),
    "joint_degrees": Broken(
        in_state(3, slice(None), [JOINTS[0], JOINT_VEL[0]], np.rad2deg), (3, None, "right_arm_joint_0_pos")
    ),
    "joint_turns": Broken(in_state(1, slice(None), JOINTS[2], lambda x: x + 7.5), (1, 0, "right_arm_joint_2_pos")),
    "gripper_range": Broken(in_state(0, slice(None), GRIPPER, lambda x: 2 * x - 1), (0, None, "right_gripper_open")),
    "gripper_metres": Broken(
        in_state(-1, slice(None), GRIPPER, lambda x: 0.08 * x), (None, None, "right_gripper_open")
    ),
    "constant_slot": Broken(constant_joint, (None, None, "right_arm_joint_5_pos")),
    "control_rate": Broken(lambda made: setattr(made[2], "hz", 0.0), (2, None, None)),
    "episode_empty": Broken(lambda made: setattr(made[1], "state", made[1].state[:0]), (1, None, None)),
    "gripper_polarity": Broken(opposite_command, (4, None, "right_gripper_open"), mode="recorded"),
    "gripper_declared": Broken(lambda made: None, (None, None, "right_gripper_open"), spec={"state": CLOSED}),
    "ortho6d": Broken(in_state(1, 9, ROT[:3], lambda x: 1.2 * x), (1, 9, "right_eef_angle_0")),
    "rotation_jump": Broken(turn(2, flip), (2, 19, "right_eef_angle_0")),
    "rotation_beyond_joints": Broken(turn(3, spin), (3, None, "right_eef_ortho6d")),
    "rotation_order": Broken(misread_quaternions, (None, None, "right_eef_ortho6d")),
    "velocity_rate": Broken(every_second_step, (5, None, "right_arm_joint_vel")),
    "velocity_sign": Broken(in_state(1, slice(None), JOINT_VEL[3], lambda x: -x), (1, None, "right_arm_joint_3_vel")),
    "timestamp_rate": Broken(tick(1, lambda times: times / 1.2), (1, None, None)),
    "timestamp_gap": Broken(tick(4, lose_steps), (4, 17, None)),
    "timestamp_order": Broken(tick(2, set_back), (2, 30, None)),
    "next_state": Broken(wrong_action, (2, 11, "action right_arm_joint_0_pos")),
    "jump": Broken(in_state(4, 15, JOINTS[1], lambda x: x + 3), (4, 14, "right_arm_joint_1_pos")),
    "idle_head": Broken(wait(0, at_end=False), (0, 0, None)),
    "idle_tail": Broken(wait(3, at_end=True), (3, STEPS - 1, None)),
    "instruction_missing": Broken(say(2, ""), (2, None, None)),
    "instruction_template": Broken(say(0, "Pick up the {object}."), (0, None, None)),
    "instruction_path": Broken(say(1, "task_3/lang_embed_1.pt."), (1, None, None)),
    "instruction_empty_word": Broken(say(3, "None."), (3, None, None)),
    "instruction_same": Broken(
        lambda made: [setattr(one, "words", "Fold the towel.") for one in made], (None, None, None), episodes=20
    ),
    "duplicate": Broken(copy, (5, None, None)),
    "near_duplicate": Broken(copy_with_noise, (5, None, None)),
    "frame_unreadable": Broken(
        lambda made: made[1].frames.update(exterior=[b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82"] * STEPS),
        (1, sampled_steps(0, 1, STEPS)[0], "exterior"),
        cameras=CAMERA,
    ),
    "camera_black": Broken(
        show(2, "exterior", lambda pictures: [one // 64 for one in pictures]),
        (2, sampled_steps(0, 2, STEPS)[0], "exterior"),
        cameras=CAMERA,
    ),
    "frame_blank": Broken(
        show(3, "exterior", darken(sampled_steps(0, 3, STEPS)[1])),
        (3, sampled_steps(0, 3, STEPS)[1], "exterior"),
        cameras=CAMERA,
    ),
    "camera_frozen": Broken(
        show(4, "exterior", lambda pictures: [*pictures[:10], *[pictures[10]] * 15, *pictures[25:]]),
        (4, 10, "exterior"),
        cameras=CAMERA,
    ),
    "camera_exchanged": Broken(
        show(5, "exterior", lambda pictures: [one[..., ::-1] for one in pictures]),
        (5, None, "exterior"),
        cameras=CAMERA,
    ),
}


def broken_store(folder: Path, name: str) -> Path:
    how = BROKEN[name]
    made = clean(how.episodes, how.cameras)
    how.change(made)
    for one in made:
        one.frames = {camera: frames[: len(one.state)] for camera, frames in one.frames.items()}
    return write(folder / "broken.zarr", made, how.mode, how.spec)


def test_every_check_has_a_broken_store():
    assert BROKEN.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_a_broken_store_is_found_by_its_check_alone_and_where_it_is(tmp_path, name):
    report = lint(str(broken_store(tmp_path, name)))
    assert {finding.check for finding in report.findings} == {name}
    first, (episode, step, where) = report.findings[0], BROKEN[name].where
    assert (first.episode, first.severity) == (episode, CHECKS[name].severity)
    assert {finding.episode for finding in report.findings} == {episode}
    if step is not None:
        assert first.step == step
    assert (first.slot or first.camera) == where
    assert name not in report.not_applicable
    assert "" not in (first.value, first.expected, first.remedy)
    assert f"{name}: " in str(report)
    if episode is not None:
        assert (first.id, first.part, first.row) == (f"e{episode}", "0", episode)


@pytest.mark.parametrize("mode", ["next-state", "recorded"])
def test_clean_data_yields_nothing(tmp_path, mode):
    report = lint(str(write(tmp_path / "clean.zarr", clean(cameras=("exterior", "right_wrist")), mode)))
    assert report.findings == ()
    assert report.checks == tuple(CHECKS)
    assert ("next_state" in report.not_applicable) == (mode == "recorded")
    assert report.count("error") == report.count("warning") == 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, episodes=8)
    return folder


def converted(source: Path, name: str, folder: Path, **options: Any) -> Path:
    convert_dataset(source, folder / "converted.zarr", Request.of(catalog.get(name), **options))
    return folder / "converted.zarr"


@pytest.mark.parametrize("mode", ["next-state", "recorded"])
@pytest.mark.parametrize(("source", "name"), [("demo_aloha", "demo_aloha"), ("rlds", "demo_two_arm")])
def test_demo_data_yields_nothing(demo, tmp_path, source, name, mode):
    assert lint(str(converted(demo / source, name, tmp_path, action=mode))).findings == ()


@pytest.mark.parametrize("mode", ["next-state", "recorded"])
def test_bridge_repeats_its_training_episodes_for_validation_and_nothing_else_is_wrong(shared, tmp_path, mode):
    source = shared / "data/bridge_rlds"
    report = lint(str(converted(source, "bridge_dataset", tmp_path, split="all", action=mode)))
    assert {finding.check for finding in report.findings} == {"duplicate"}
    assert [finding.episode for finding in report.findings] == list(range(25, 50))


@pytest.mark.parametrize("mode", ["next-state", "recorded"])
def test_of_the_simulated_aloha_just_the_two_thinned_recordings_have_another_rate(shared, tmp_path, mode):
    source = shared / "data/aloha_sim/transfer_cube"
    report = lint(str(converted(source, "aloha_sim", tmp_path, action=mode)))
    assert {(finding.check, finding.episode) for finding in report.findings} == {
        ("velocity_rate", 4),
        ("velocity_rate", 5),
    }


def test_the_red_cube_that_looks_blue_is_noticed_when_the_spec_does_not_say_so(shared, tmp_path):
    spec = tmp_path / "undeclared.yaml"
    spec.write_text(catalog.get("aloha_sim").text.replace("channels: bgr", "channels: rgb"))
    request = Request.of(load_spec(spec))
    convert_dataset(shared / "data/aloha_sim/transfer_cube", tmp_path / "blue.zarr", request)
    (finding,) = lint(str(tmp_path / "blue.zarr"), only=["camera_exchanged"]).findings
    assert finding.camera == "exterior"
    assert "name red" in str(finding.value)


def test_masks_that_differ_from_step_to_step_are_kept_to(tmp_path):
    made = clean()
    late = 50 + JOINTS[0]
    made[3].mask = np.tile(MASK, (STEPS, 1))
    made[3].mask[10:, late] = True
    made[3].state[10:, late] = 2 + made[3].state[10:, JOINTS[0]]
    assert lint(str(write(tmp_path / "clean.zarr", made))).findings == ()
    made[3].state[4, late] = 2
    state, action = lint(str(write(tmp_path / "broken.zarr", made))).findings[::-1]
    assert {state.check, action.check} == {"unreal_not_zero"}
    assert (state.step, state.slot) == (4, "left_arm_joint_0_pos")
    assert (action.step, action.slot) == (3, "action left_arm_joint_0_pos")


def test_workers_change_nothing(tmp_path):
    made = clean(cameras=("exterior",))
    for number in (1, 4):
        made[number].state[5, JOINTS[1]] += 3
        made[number].words = ""
    store = str(write(tmp_path / "made.zarr", made, first=2))
    one, two = lint(store), lint(store, workers=2)
    assert one == two
    assert [(f.check, f.episode, f.part, f.row) for f in one.findings] == [
        ("jump", 1, "0", 1),
        ("jump", 4, "1", 2),
        ("instruction_missing", 1, "0", 1),
        ("instruction_missing", 4, "1", 2),
    ]


def test_checks_are_chosen_by_name(tmp_path):
    made = clean()
    made[1].words, made[2].state[3, 50] = "", 1.0
    store = str(write(tmp_path / "made.zarr", made))
    assert {f.check for f in lint(store, only=["instruction_missing", "jump"]).findings} == {"instruction_missing"}
    assert {f.check for f in lint(store, skip=["instruction_missing"]).findings} == {"unreal_not_zero"}
    with pytest.raises(RdtError, match="did you mean 'jump'"):
        lint(store, only=["jmup"])
    with pytest.raises(RdtError, match="did you mean 'duplicate'"):
        lint(store, skip=["duplicates"])
    with pytest.raises(RdtError, match="every check is skipped"):
        lint(store, skip=CHECKS)


def test_the_sample_of_frames_is_stated_grows_with_images_and_depends_on_the_seed_alone(tmp_path):
    store = str(write(tmp_path / "made.zarr", clean(cameras=("exterior", "right_wrist"))))
    dataset = open_dataset(store)
    assert set(chosen(dataset, 2, seed=0)) < set(chosen(dataset, 4, seed=0))
    assert len({tuple(chosen(dataset, 2, seed)) for seed in range(20)}) > 3
    assert "3 frames decoded of each of 2 episodes of exterior, 2 episodes of right_wrist" in str(lint(store, images=2))
    assert "images: none were looked at" in str(lint(store, images=0))
    with pytest.raises(RdtError, match="images -1"):
        lint(store, images=-1)


@pytest.mark.parametrize("length", [1, 2, 3, 40, 1000])
def test_sampled_steps_lie_in_every_third_of_an_episode(length):
    for number in range(30):
        steps = sampled_steps(0, number, length)
        assert len(steps) == min(3, length)
        assert all(0 <= step < length for step in steps)
        if length >= 3:
            assert [(3 * step + 2) // length for step in steps] == [0, 1, 2]


def test_the_command_prints_findings_by_check_and_fails_with_ci_on_errors_only(command, tmp_path):
    made = clean()
    made[1].words = ""
    warned = write(tmp_path / "warned.zarr", made)
    made[3].state[8, JOINTS[0]] = np.inf
    wrong = write(tmp_path / "wrong.zarr", made)
    assert command("lint", warned, "--ci").code == 0
    done = command("lint", wrong)
    assert done.code == 0
    assert "error: not_finite: 2 in 1 of 6 episodes: NaN or infinity in a state or action" in done.out
    assert "episode 3 (e3), step 8, right_arm_joint_0_pos: inf; expected a finite number" in done.out
    assert "fix: find it in the source" in done.out
    assert f"{len(CHECKS)} checks: 2 errors, 1 warning, 0 info" in done.out
    assert command("lint", wrong, "--ci").code == 4
    assert command("lint", wrong, "--ci", "--only", "jump,duplicate").code == 0
    assert command("lint", tmp_path / "nothing.zarr", "--ci").code == 1


def test_json_holds_every_finding(command, tmp_path):
    made = clean()
    for one in made:
        one.words = ""
    done = command("lint", write(tmp_path / "made.zarr", made), "--json", "--skip", "jump, duplicate")
    found = done.json
    assert found["counts"] == {"error": 0, "warning": EPISODES, "info": 0}
    assert "jump" not in found["checks"]
    assert [finding["episode"] for finding in found["findings"]] == list(range(EPISODES))
    assert set(found["findings"][0]) == {
        *("check", "severity", "episode", "id", "part", "row", "step", "slot", "camera"),
        *("value", "expected", "count", "remedy"),
    }


def test_what_does_not_apply_is_said(tmp_path):
    report = lint(str(write(tmp_path / "made.zarr", clean(1))))
    assert report.not_applicable["duplicate"] == "two episodes"
    assert report.not_applicable["camera_black"] == "cameras"
    assert "  gripper_polarity: needs recorded actions with a gripper" in str(report)


def test_the_documented_table_is_the_table():
    page = (Path(__file__).parents[1] / "docs/lint.md").read_text()
    assert as_markdown() in page
    assert f"{len(CHECKS)} checks" in page
