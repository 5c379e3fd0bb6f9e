"""How long statistics take, against reading the same arrays through zarr and taking one NumPy mean.

    python benchmarks/measure.py [--steps 10000000] [--folder DIR]

Writes a store as `rdt-data convert` does (state and action, 128 wide, 14 slots real, 400-step episodes) and measures
whole processes, one worker and two; prints seconds, ratios and the peak memory of a worker. The store is removed again.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BASELINE = """
import sys, zarr
total = 0.0
for part in zarr.open_group(sys.argv[1], mode="r")["parts"].group_values():
    for name in ("state", "action"):
        array = part[name]
        for start in range(0, array.shape[0], 65536):
            total += array[start : start + 65536].mean()
"""
EPISODE, PART = 400, 400_000
SLOTS = [*range(7), 10, *range(50, 56)]


def write_store(dest: Path, steps: int) -> None:
    """A store of about so many steps: random walks, as joints make, and a gripper."""
    from rdt_data.episode import Episode
    from rdt_data.ledger import Ledger, commit
    from rdt_data.parts import PartWriter

    header = {"dataset": "made", "control_hz": 50.0, "cameras": {}, "request": {}, "spec": {}, "spec_text": ""}
    mask = np.isin(np.arange(128), SLOTS)
    parts = max(steps // PART, 1)
    per_part = min(steps, PART) // EPISODE
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(parts)]) as ledger:
        for number in range(parts):
            rng = np.random.default_rng(number)
            writer = PartWriter(ledger.path(number), {})
            for row in range(per_part):
                rows = np.zeros((EPISODE + 1, 128), np.float32)
                rows[:, SLOTS] = np.cumsum(rng.normal(size=(EPISODE + 1, len(SLOTS))) * 0.01, axis=0)
                rows[:, 10] = rows[:, 10] > 0
                name = f"{number}/{row}"
                writer.add(Episode(name, name, rows[:-1], rows[1:], mask, mask, "Go.", "Go.", 50.0), {})
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[per_part, per_part * EPISODE]] * parts})


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        store = folder / "made.zarr"
        write_store(store, arguments.steps)
        result: dict[str, float] = {}
        timed([sys.executable, "-c", BASELINE, str(store)])  # the page cache is warm for all
        result["baseline_s"] = timed([sys.executable, "-c", BASELINE, str(store)])
        program = str(Path(sys.executable).parent / "rdt-data")
        for workers in (1, 2):
            shutil.rmtree(store / "stats", ignore_errors=True)
            result[f"stats_{workers}_s"] = timed([program, "stats", str(store), "--workers", str(workers)])
            result[f"ratio_{workers}"] = result[f"stats_{workers}_s"] / result["baseline_s"]
        result["again_s"] = timed([program, "stats", str(store)])
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        print(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
