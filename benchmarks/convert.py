"""How fast `rdt-data convert` is, as ratios against peers measured in the same run on the same data.

    python benchmarks/convert.py [--out bench-out] [--gigabytes 2] [--no-peers] [--json]

Every figure is the median wall time of whole processes, warm page cache, start-up included. Peers: `cp -r`; a bare
loop that reads, checks CRCs, parses and writes the frames out; a bare encode loop with the same encoder;
tensorflow-datasets on TensorFlow and LeRobot 0.4.4, each in a venv of its own under --out (made on the first run).
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import data

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
REPEATS = 5
PEERS = {"tensorflow": ["tensorflow-cpu", "tensorflow-datasets>=4.9.7"], "lerobot": ["lerobot==0.4.4", "h5py"]}


def timed(command: list[str], fresh: list[Path], repeats: int = REPEATS) -> float:
    """Median wall seconds of a command; what it writes is removed before each run."""
    seconds = []
    for _ in range(repeats):
        for path in fresh:
            shutil.rmtree(path, ignore_errors=True)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    for path in fresh:
        shutil.rmtree(path, ignore_errors=True)
    return statistics.median(seconds)


def convert(source: Path, dest: Path, *options: str) -> list[str]:
    return [str(BIN / "rdt-data"), "convert", str(source), str(dest), *options]


def peer(out: Path, name: str, *arguments: str) -> float:
    """Steps per second that a peer prints, run in its own venv."""
    venv = out / f"venv-{name}"
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        (venv / "ready").touch()
    command = [str(venv / "bin/python"), str(HERE / f"peer_{name}.py"), *arguments]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def rlds(source: Path, out: Path, episodes: int, peers: bool) -> dict[str, float]:
    """An RLDS directory against cp, a bare loop, two workers, and tensorflow-datasets over `episodes` of it."""
    steps, dest, copy = rlds_steps(source), out / "o.zarr", out / "copy"
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)  # warm the page cache
    cp = timed(["cp", "-r", str(source), str(copy)], [copy])
    bare = timed([sys.executable, str(HERE / "bare_loop.py"), str(source), str(copy)], [copy])
    one = timed(convert(source, dest), [dest])
    two = timed(convert(source, dest, "--workers", "2"), [dest])
    found = {
        "cp -r, s": cp,
        "bare loop, s": bare,
        "convert, 1 worker, s": one,
        "convert, 2 workers, s": two,
        "steps/s, 1 worker": steps / one,
        "convert / cp (at most 5)": one / cp,
        "bare loop / cp": bare / cp,
        "2 workers / 1 (at least 1.6)": one / two,
    }
    if peers:
        rate = peer(out, "tensorflow", str(source), str(episodes))
        found |= {
            "tensorflow-datasets, steps/s": rate,
            "convert / tensorflow-datasets (at least 100)": steps / one / rate,
        }
    return found


def aloha_jpeg(out: Path, peers: bool) -> dict[str, float]:
    source, dest = data.make_aloha_jpeg(out / "aloha-jpeg", 500_000_000), out / "o.zarr"
    steps = 400 * len(list(source.glob("*.hdf5")))
    one = timed(convert(source, dest, "--spec", str(HERE / "one_camera.yaml")), [dest])
    found = {"convert, 1 worker, s": one, "steps/s, 1 worker": steps / one}
    if peers:
        rate = peer(out, "lerobot", str(source / "episode_0.hdf5"), str(out / "lerobot-out"))
        found |= {"LeRobot 0.4.4, steps/s": rate, "convert / LeRobot (at least 20)": steps / one / rate}
    return found


def aloha_raw(out: Path) -> dict[str, float]:
    source, dest = data.make_aloha_raw(out / "aloha-raw", 1500, 2), out / "o.zarr"
    bare = timed([sys.executable, str(HERE / "bare_encode.py"), str(source)], [], repeats=3)
    one = timed(convert(source, dest, "--spec", str(HERE / "one_camera.yaml")), [dest], repeats=3)
    return {
        "bare encode loop, s": bare,
        "convert, 1 worker, s": one,
        "steps/s, 1 worker": 3000 / one,
        "speed against the bare loop (at least 0.8)": bare / one,
    }


def memory(out: Path) -> dict[str, float]:
    """Peak memory of a process that converts one 2,000-step episode of three raw cameras (5.5 GB of pixels)."""
    cameras = ("cam_high", "cam_right_wrist", "cam_left_wrist")
    source, dest = data.make_aloha_raw(out / "aloha-long", 2000, 1, cameras), out / "o.zarr"
    timed(convert(source, dest, "--dataset", "aloha_static"), [dest], repeats=1)
    return {
        "largest process of this run, MB (at most 600)": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    }


def startup() -> dict[str, float]:
    found = {}
    for name in ("rdt-data", "rdt"):
        found[f"{name} --help, s (below 0.4)"] = timed([str(BIN / name), "--help"], [])
    return found


def rlds_steps(source: Path) -> int:
    """Steps of an RLDS directory, counted by the conversion's own plan."""
    done = subprocess.run(
        [*convert(source, source / "no.zarr"), "--dry-run", "--json"], capture_output=True, check=True
    )
    return int(json.loads(done.stdout)["steps"])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "an unknown CPU")
    cores = len(os.sched_getaffinity(0))
    used = ", ".join(f"{name} {version(name)}" for name in ("zarr", "h5py", "simplejpeg", "numpy"))
    return f"{cores} cores of {model}, Python {platform.python_version()}, {used}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of each RLDS directory")
    parser.add_argument("--no-peers", action="store_true", help="without TensorFlow and LeRobot")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    peers = not options.no_peers
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "start-up": startup,
        "memory": lambda: memory(options.out),  # before the peers: it reads the largest process so far
        "RLDS, three 480x640 JPEG cameras": lambda: rlds(large, options.out, 3, peers),
        "RLDS as BridgeData's, four 64x64 JPEG cameras, one used": lambda: rlds(small, options.out, 50, peers),
        "ALOHA HDF5, one 480x640 JPEG camera": lambda: aloha_jpeg(options.out, peers),
        "ALOHA HDF5, one raw 480x640 camera": lambda: aloha_raw(options.out),
    }
    size = int(options.gigabytes * 1e9)
    large = data.make_rlds(options.out / f"rlds-{options.gigabytes:g}", size)
    small = data.make_bridge(options.out / f"bridge-{options.gigabytes:g}", size)
    results: dict[str, object] = {"machine": machine()}
    for title, measure in parts.items():
        results[title] = measured = measure()
        if not options.json:
            print(title, *(f"  {name:48} {value:10.2f}" for name, value in measured.items()), sep="\n", flush=True)
    print(json.dumps(results, indent=1) if options.json else results["machine"])


if __name__ == "__main__":
    main()
