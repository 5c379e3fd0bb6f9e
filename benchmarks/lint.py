"""How long the checks of `rdt-data lint` take over a million steps of vectors, against one NumPy pass over the same.

    python benchmarks/lint.py [--steps 1000000] [--json]

The pass is `x.sum()` over state and action, (N, 128) float32 each: the least that reading every number costs. Checks
share the columns of the real slots, their steps and their ranges: those are `shared`; a check's own figure is what it
adds to them. `all` is everything from the bare arrays on, as lint does it; the last line divides it by the checks that
need a pass (whose own figure is above 0.1). Words, attributes and reading the store are left out. Every figure is the
best of five.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from rdt_data.layout import DIM, GROUPS
from stats.lint import measure_rows
from stats.lint_rows import ROWS, Rows, Vectors
from stats.lint_table import CHECKS
from stats.lint_words import WORDS

LENGTH = 125  # steps of an episode
HZ = 10.0
ROBOTS = {
    "two arms: joints, grippers, velocities": ("arm_joint_pos", "arm_joint_vel", "gripper_open"),
    "two arms: also end-effector pose and velocity": (
        *("arm_joint_pos", "arm_joint_vel", "gripper_open"),
        *("eef_pos", "eef_ortho6d", "eef_lin_vel", "eef_ang_vel"),
    ),
}
REPEATS = 5


def smooth(rng: np.random.Generator, steps: int, scale: float) -> np.ndarray:
    """A walk that turns slowly and stays within a few `scale`."""
    phase = np.cumsum(rng.uniform(0, 0.12, steps).astype(np.float32))
    return scale * np.sin(phase)


def vectors(steps: int, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States, next-state actions and the mask of a robot with these groups on each side."""
    rng = np.random.default_rng(0)
    state = np.zeros((steps, DIM), np.float32)
    for side in ("right", "left"):
        for group in groups:
            if not group.endswith(("vel", "ortho6d")):
                for slot in GROUPS[f"{side}_{group}"][:7]:
                    state[:, slot] = smooth(rng, steps, 0.4) + 0.5
        for position, velocity in (("arm_joint_pos", "arm_joint_vel"), ("eef_pos", "eef_lin_vel")):
            if velocity in groups:
                of, to = (list(GROUPS[f"{side}_{name}"][:7]) for name in (position, velocity))
                state[:, to] = np.gradient(state[:, of], axis=0) * HZ
        if "eef_ortho6d" in groups:
            yaw, first = smooth(rng, steps, 1.0), GROUPS[f"{side}_eef_ortho6d"][0]
            state[:, first], state[:, first + 1] = np.cos(yaw), np.sin(yaw)
            state[:, first + 3], state[:, first + 4] = -np.sin(yaw), np.cos(yaw)
            state[:, GROUPS[f"{side}_eef_ang_vel"][2]] = np.gradient(yaw) * HZ
    mask = state.any(axis=0)
    for side in ("right", "left"):
        mask[list(GROUPS[f"{side}_eef_ortho6d"])] = "eef_ortho6d" in groups
        mask[list(GROUPS[f"{side}_eef_ang_vel"])] = "eef_ang_vel" in groups
    action = np.roll(state, -1, axis=0)
    action[LENGTH - 1 :: LENGTH] = state[LENGTH - 1 :: LENGTH]
    return state, action, mask


def cut(state: np.ndarray, action: np.ndarray, mask: np.ndarray, next_state: bool) -> list[Rows]:
    """The same arrays as blocks of whole episodes, nothing computed yet."""
    size, blocks = ROWS // LENGTH * LENGTH, []
    for at in range(0, len(state), size):
        starts = np.arange(0, len(state[at : at + size]), LENGTH)
        both = [
            Vectors(name, values[at : at + size], np.tile(mask, (len(starts), 1)), starts)
            for name, values in (("state", state), ("action", action))
        ]
        numbers = list(range(at // LENGTH, at // LENGTH + len(starts)))
        words = ["Pick up the cup."] * len(starts)
        blocks.append(Rows(numbers, [str(n) for n in numbers], np.full(len(starts), HZ), words, *both, next_state))
    return blocks


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of REPEATS calls."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(steps: int, groups: tuple[str, ...], next_state: bool) -> dict[str, float]:
    """Name of a check -> its time in passes; and what is not a check."""
    state, action, mask = vectors(steps, groups)
    one_pass = fastest(lambda: (state.sum(), action.sum()))
    checks = [check for check in CHECKS.values() if check.subject == "rows" and check not in WORDS]

    shared = fastest(lambda: [share(rows) for rows in cut(state, action, mask, next_state)]) / one_pass
    ready = cut(state, action, mask, next_state)
    for rows in ready:
        share(rows)
    own = {
        check.name: fastest(lambda check=check: [measure_rows(rows, [check]) for rows in ready]) / one_pass
        for check in checks
    }
    together = fastest(lambda: [measure_rows(rows, checks) for rows in cut(state, action, mask, next_state)]) / one_pass
    needing = sum(passes > 0.1 for passes in own.values())
    return {
        "the pass, ms": 1e3 * one_pass,
        "shared": shared,
        **own,
        "all": together,
        f"all / {needing} checks that need a pass": together / needing,
    }


def share(rows: Rows) -> None:
    """Compute what several checks need."""
    _ = rows.state.steps  # cached properties: asking computes them
    for vectors in rows.vectors:
        _ = vectors.columns, vectors.low, vectors.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {
        f"{robot}; {'next-state' if next_state else 'recorded'} actions": measure(arguments.steps, groups, next_state)
        for robot, groups in ROBOTS.items()
        for next_state in (True, False)
    }
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for title, figures in found.items():
        print(f"{title}, {arguments.steps} steps")
        for name, value in figures.items():
            print(f"  {name:52} {value:8.2f}")


if __name__ == "__main__":
    main()
