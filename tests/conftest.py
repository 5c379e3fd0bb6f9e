"""Fixtures that several test files use."""

import contextlib
import hashlib
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

import cli.data
from converters.demo_data import ALOHA_CAMERAS
from converters.demo_rlds import RLDS_FEATURES, RLDS_NAME, RLDS_VERSION, Shard, rlds_features, rlds_info
from converters.readers.tfrecord import example_proto, write_records
from rdt_data.images import encode_jpeg


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Begun in the background of a script, this process ignores Ctrl-C, and so would every run it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and goldens: RDT_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("RDT_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: real data and goldens are checked only where it is")
    return folder


@dataclass(frozen=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(monkeypatch) -> Callable[..., Done]:
    """Run an `rdt-data` command in this process, through its entry point."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["rdt-data", *map(str, arguments)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.data.main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed `rdt-data`, for what needs a process of its own."""
    return Path(sys.executable).parent / "rdt-data"


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    """Every file below a folder with the digest of its bytes, every folder with none."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def look(folder: Path) -> dict[str, str]:
        paths = sorted(folder.rglob("*"))
        return {path.relative_to(folder).as_posix(): digest(path) if path.is_file() else "" for path in paths}

    return look


def noise(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """An RGB image that no codec makes small."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def rlds_episode(seed: int, steps: int, frames: Sequence[bytes]) -> Any:
    """An episode of the demo_two_arm dataset as a `tf.train.Example`, numbers drawn from `seed`."""
    rng, example = np.random.default_rng(seed), example_proto().Example()
    for key, feature in RLDS_FEATURES.items():
        lists, count = example.features.feature[key], steps if key.startswith("steps/") else 1
        if feature.kind == "float32":
            lists.float_list.value.extend(rng.normal(size=count * math.prod(feature.shape)).tolist())
        elif feature.kind == "bool":
            lists.int64_list.value.extend([1] * count)
        else:
            lists.bytes_list.value.extend(frames if feature.kind == "jpeg" else [b"Push the red block"] * count)
    return example


def write_rlds(folder: Path, shards: Iterable[Sequence[bytes]], split: str = "train") -> Path:
    """A demo_two_arm dataset with these records in its shards; returns its root."""
    root = folder / RLDS_NAME / RLDS_VERSION
    root.mkdir(parents=True, exist_ok=True)
    shards = list(shards)
    table = [Shard(split, n, len(shards), tuple(range(len(records)))) for n, records in enumerate(shards)]
    for shard, records in zip(table, shards, strict=True):
        write_records(root / shard.file_name, records)
    info = rlds_info(table, [sum(map(len, records)) for records in shards])
    (root / "features.json").write_text(json.dumps(rlds_features()))
    (root / "dataset_info.json").write_text(json.dumps(info))
    return root


@pytest.fixture(scope="session")
def rlds_source() -> Callable[..., Path]:
    """Write a small RLDS dataset: 3 shards of 2 episodes; `change` alters the features of episodes, by number."""

    def write(
        folder: Path,
        *,
        shards: Sequence[int] = (2, 2, 2),
        steps: int = 5,
        size: tuple[int, int] = (24, 32),
        change: Mapping[int, Callable[[Any], None]] = MappingProxyType({}),
    ) -> Path:
        records = []
        for number in range(sum(shards)):
            frames = [encode_jpeg(noise(100 * number + step, *size), 90) for step in range(steps)]
            example = rlds_episode(number, steps, frames)
            change.get(number, lambda features: None)(example.features.feature)
            records.append(bytes(example.SerializeToString(deterministic=True)))
        numbered = iter(records)
        return write_rlds(folder, [[next(numbered) for _ in range(count)] for count in shards])

    return write


@pytest.fixture(scope="session")
def aloha_source() -> Callable[..., Path]:
    """Write a small ALOHA recording: 4 files; `change` alters an open file, by number."""

    def write(
        folder: Path,
        *,
        episodes: int = 4,
        steps: int = 6,
        size: tuple[int, int] = (24, 32),
        change: Mapping[int, Callable[[h5py.File], None]] = MappingProxyType({}),
    ) -> Path:
        root = folder / "demo_aloha"
        root.mkdir(parents=True)
        for number in range(episodes):
            rng = np.random.default_rng(number)
            with h5py.File(root / f"episode_{number}.hdf5", "w") as file:
                for key in ("action", "observations/qpos", "observations/qvel"):
                    file[key] = rng.normal(size=(steps, 14)).astype(np.float32)
                for camera in ALOHA_CAMERAS.values():
                    file[f"observations/images/{camera}"] = padded(
                        encode_jpeg(noise(100 * number + step, *size), 90) for step in range(steps)
                    )
                file["instruction"] = "Push the red block"
                change.get(number, lambda file: None)(file)
        return root

    return write


def padded(frames: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Encoded frames as ALOHA keeps them: (T, P) uint8, filled up with zeros."""
    frames = list(frames)
    width = max(map(len, frames)) + 9
    return np.stack([np.frombuffer(frame.ljust(width, b"\0"), np.uint8) for frame in frames])


@pytest.fixture(scope="session")
def big_source(tmp_path_factory) -> Path:
    """An RLDS dataset that makes five parts: 5 shards of about 70 MB, no two episodes alike."""
    frames = [encode_jpeg(noise(step, 240, 320), 95) for step in range(32)]
    records = (
        [
            bytes(rlds_episode(10 * shard + number, len(frames), frames).SerializeToString(deterministic=True))
            for number in range(8)
        ]
        for shard in range(5)
    )
    return write_rlds(tmp_path_factory.mktemp("big"), records)


@pytest.fixture(scope="session")
def seeded_t5(tmp_path_factory) -> Path:
    """A small T5 encoder on disk."""
    from stats.seeded_t5 import write_seeded_t5

    write_seeded_t5(folder := tmp_path_factory.mktemp("models") / "t5")
    return folder


@pytest.fixture(scope="session")
def words_store() -> Callable[..., Path]:
    """Write a finished store without cameras: each episode is the wordings of its instruction, none, or one, or more."""
    from rdt_data.episode import Episode
    from rdt_data.ledger import Ledger, commit
    from rdt_data.parts import PartWriter

    def write(dest: Path, episodes: Sequence[Sequence[str]]) -> Path:
        header = {"dataset": "made_up", "control_hz": 5.0, "cameras": {}, "request": {}, "spec": {}, "spec_text": ""}
        zeros, mask = np.zeros((1, 128), np.float32), np.zeros(128, np.bool_)
        with Ledger(dest, header, [{"sources": ["0"]}]) as ledger:
            writer = PartWriter(ledger.path(0), {})
            for number, (first, *others) in enumerate(words or [""] for words in episodes):
                vectors = (zeros, zeros, mask, mask)
                writer.add(Episode(f"e{number}", "none", *vectors, first, first, 5.0, tuple(others)), {})
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(0), dest, 0)
            ledger.finish({"parts": [[len(episodes), len(episodes)]]})
        return dest

    return write


@pytest.fixture(scope="session")
def frame_store() -> Callable[..., Path]:
    """Write a store of episodes of the given lengths, a part for each list; every number and frame tells where it is from.

    Slot 0 of the state is the step, slot 1 the episode; the action is the next step. `change(number, frames)` may
    replace the frames of an episode.
    """
    from rdt_data.episode import CameraFormat, Episode
    from rdt_data.ledger import Ledger, commit
    from rdt_data.parts import PartWriter

    def write(
        dest: Path,
        parts: Sequence[Sequence[int]],
        *,
        size: tuple[int, int] = (24, 32),
        cameras: Sequence[str] = ("exterior",),
        change: Callable[[int, list[bytes]], list[bytes]] = lambda number, frames: frames,
        complete: bool = True,
    ) -> Path:
        forms = {slot: {"codec": "jpeg", "height": size[0], "width": size[1]} for slot in cameras}
        header = {"dataset": dest.stem, "control_hz": 5.0, "cameras": forms, "request": {}, "spec": {}, "spec_text": ""}
        mask, number = np.arange(128) < 20, 0
        with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
            for part, lengths in enumerate(parts):
                writer = PartWriter(ledger.path(part), {slot: CameraFormat(**form) for slot, form in forms.items()})
                for steps in lengths:
                    rows = np.zeros((steps + 1, 128), np.float32)
                    rows[:, 0], rows[:, 1] = np.arange(steps + 1), number
                    name = f"episode {number}"
                    episode = Episode(name, name, rows[:-1], rows[1:], mask, mask, f"Go to {number}.", "Go.", 5.0)
                    frames = {
                        slot: change(number, [encode_jpeg(noise(1000 * number + step, *size)) for step in range(steps)])
                        for slot in cameras
                    }
                    writer.add(episode, frames)
                    number += 1
                writer.close({"filtered": [], "quarantined": []})
                commit(ledger.path(part), dest, part)
            if complete:
                ledger.finish({"parts": [[len(lengths), sum(lengths)] for lengths in parts]})
        return dest

    return write


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[str]:
    """The address of an S3 server (moto's), a process of its own that ends with the tests."""
    pytest.importorskip("moto", reason="moto[server] is not installed")
    log = (tmp_path_factory.mktemp("s3") / "log").open("w+")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        assert server.poll() is None, Path(log.name).read_text()
        assert time.monotonic() < deadline, "it does not answer"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(10)
    log.close()


@pytest.fixture(scope="session")
def s3(s3_server) -> Iterator[Callable[[], str]]:
    """Make an empty bucket of the S3 server, which this process and those it starts then use; returns its URL."""
    import fsspec

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", s3_server)
        for name, value in {
            "ACCESS_KEY_ID": "test",
            "SECRET_ACCESS_KEY": "test",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(f"AWS_{name}", value)

        def bucket() -> str:
            name = f"bucket-{uuid.uuid4().hex}"
            fsspec.filesystem("s3").mkdir(name)
            return f"s3://{name}"

        yield bucket


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory, seeded_t5) -> Path:
    """Eight demonstrations of the built-in world, converted, measured, embedded and split: what `rdt train` needs."""
    from converters.demo_data import write_demo_data
    from stats.embed import Options, embed
    from stats.measure import measure_stores

    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, episodes=8, formats=("aloha",))
    store = folder / "demo.zarr"
    for command in (
        ["convert", folder / "demo_aloha", store, "--action", "recorded"],
        ["split", store, "--validation", "0.4"],
    ):
        subprocess.run([Path(sys.executable).with_name("rdt-data"), *command], check=True, capture_output=True)
    measure_stores([str(store)])
    embed([str(store)], Options(model=str(seeded_t5)))
    return store
