"""How long a robot waits for its actions, and how much of that is not the policy's own time.

In: a policy's directory, or a size for an untrained one. A server is started as a process of its own, robots send it
frames as JPEG over loopback, and the same observations go to the same policy in this process, ready decoded, in turns.
Out: percentiles of each stage, of the whole way, of the direct call, and what the server adds to it.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_data.images import decode, encode_jpeg, resize
from rdt_model.access import Access
from rdt_model.client import PolicyClient
from rdt_model.config import config_of_size
from rdt_model.encoders import KEYPOINTS, load_image_encoder
from rdt_model.keypoints import KeypointConfig
from rdt_model.network import RDT
from rdt_model.policy import Observation
from rdt_model.policy_files import PolicyConfig, write_policy
from rdt_model.serve_metrics import STAGES
from rdt_model.served_policy import ServedPolicy
from rdt_model.server import ServeOptions, serve_policy

Progress = Callable[[int, int], None]
Message = Mapping[str, Any]

WARM_UP: Final = 10
TURN: Final = 20
"""Calls in a row of several robots, so that they meet. One robot takes turns with the direct call, one by one."""

PAUSE_S: Final = 0.01
"""Before every turn: threads of one process spin for a while after its work, in the way of the other."""

DIFFERENT: Final = 16
"""Observations; each differs from the one before in every frame."""

WORDS: Final = 8
"""Tokens of the instruction."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds that half, 95 % and 99 % of the calls took at most."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles":
        """From seconds of single calls."""
        return cls(*(float(value) for value in np.percentile(1e3 * np.asarray(seconds), (50, 95, 99))))


@dataclass(frozen=True, slots=True)
class ServeBench:
    """stages: the server's (`STAGES`). whole: what a robot waits. direct: the policy alone, called in this process.

    added_ms: the median of how much longer a call took than the direct one after it, of one robot; with more None.
    per_s: answers of all robots together.
    """

    policy: str
    device: str
    robots: int
    calls: int
    cameras: int
    image_size: int
    message_kb: float
    stages: dict[str, Percentiles]
    whole: Percentiles
    direct: Percentiles
    added_ms: float | None
    mean_rows: float
    per_s: float


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """calls: of each robot. image_size: pixels of the frames' side. steps: denoising steps, None: the network's."""

    calls: int = 300
    robots: int = 1
    image_size: int = 224
    steps: int | None = None
    device: str = "auto"


@dataclass(slots=True)
class _Measured:
    whole: list[float]
    answers: list[dict[str, Any]]


def bench_serve(
    checkpoint: str | Path | None, size: str, options: BenchOptions, progress: Progress = lambda done, total: None
) -> ServeBench:
    """Measure a policy's directory, or without one an untrained network of `size`. Raises RdtError as a policy does."""
    if options.calls < 1 or options.robots < 1:
        raise RdtError(f"{options.calls} calls of {options.robots} robots", remedy="ask for at least one of each")
    with ExitStack() as opened:
        if checkpoint is None:
            checkpoint = Path(opened.enter_context(tempfile.TemporaryDirectory())) / size
            write_untrained(checkpoint, size)
        policy = ServedPolicy.load(checkpoint, device=options.device)
        address = opened.enter_context(_server(str(checkpoint), options))
        clients = [opened.enter_context(PolicyClient(address)) for _ in range(options.robots)]
        messages = _messages(policy, options.image_size)
        sent, direct, seconds = _measure(policy, clients, messages, options, progress)
    whole = Percentiles.of([took for one in sent for took in one.whole])
    alone = Percentiles.of(direct)
    timings = [answer for one in sent for answer in one.answers]
    frames = messages[0]["images"]
    return ServeBench(
        policy=f"untrained {size}" if Path(checkpoint).name == size else str(checkpoint),
        device=str(policy.net.device),
        robots=options.robots,
        calls=len(timings),
        cameras=len(frames),
        image_size=options.image_size,
        message_kb=sum(map(len, frames.values())) / 1e3,
        stages={
            stage: Percentiles.of([1e-3 * row["server_timing"][f"{stage}_ms"] for row in timings]) for stage in STAGES
        },
        whole=whole,
        direct=alone,
        added_ms=1e3 * float(np.median(np.subtract(sent[0].whole, direct))) if options.robots == 1 else None,
        mean_rows=float(np.mean([row["batch_rows"] for row in timings])),
        per_s=len(timings) / seconds,
    )


def write_untrained(folder: Path, size: str) -> None:
    """An untrained policy of a size of the table, with the keypoint encoder and three cameras of one frame each."""
    sizes = KeypointConfig()
    tokens = {"img_token_dim": sizes.token_dim, "frames": 1, "cameras": len(layout.CAMERAS), "patches": sizes.keypoints}
    torch.manual_seed(0)
    net = RDT(config_of_size(size, lang_token_dim=64, max_lang_cond_len=64, **tokens))
    config = PolicyConfig(
        dataset="untrained",
        spec_text="",
        control_hz=10.0,
        state_slots=None,
        action_slots=None,
        history=1,
        image_encoder=KEYPOINTS,
        keypoints=sizes,
    )
    write_policy(folder, config, net, load_image_encoder(KEYPOINTS, keypoints=sizes))


def serve_alone(checkpoint: str, steps: str, device: str) -> None:
    """What the server's process does: serve on any free port, print the address, end with SIGTERM."""
    policy = ServedPolicy.load(checkpoint, device=device)
    options = ServeOptions(port=0, steps=int(steps) or None, robots=1024, rows=64)
    serve_policy(policy, Access(None), options, ready=lambda address: print(address, flush=True))


@contextmanager
def _server(checkpoint: str, options: BenchOptions) -> Iterator[str]:
    code = f"import sys; from {__name__} import serve_alone; serve_alone(*sys.argv[1:])"
    arguments = [checkpoint, str(options.steps or 0), options.device]
    with subprocess.Popen([sys.executable, "-P", "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise RdtError("the server did not start", remedy="its own words are above")
            yield address
        finally:
            process.terminate()
            process.wait()


def _messages(policy: ServedPolicy, image_size: int) -> list[Message]:
    """Observations with smooth frames, which are as large in JPEG as those of cameras."""
    rng = np.random.default_rng(0)
    mask = np.arange(layout.DIM) < 10 if policy.config.state_mask is None else policy.config.state_mask
    words = rng.normal(size=(WORDS, policy.net.config.lang_token_dim)).astype(np.float32)
    messages = list[Message]()
    for _ in range(DIFFERENT):
        frames = {}
        for camera in policy.config.cameras:
            coarse = rng.integers(0, 256, (image_size // 8 or 1, image_size // 8 or 1, 3), np.uint8)
            frames[camera] = encode_jpeg(resize(coarse, image_size, image_size))
        state = np.where(mask, rng.normal(size=layout.DIM), 0).astype(np.float32)
        messages.append({"state": state, "state_mask": mask, "prompt": words, "images": frames})
    return messages


def _measure(
    policy: ServedPolicy,
    clients: Sequence[PolicyClient],
    messages: Sequence[Message],
    options: BenchOptions,
    progress: Progress,
) -> tuple[list[_Measured], list[float], float]:
    """What each robot saw, seconds of direct calls, and how long all robots' calls took."""
    _turn(clients, messages, range(WARM_UP))
    _direct(policy, messages, range(WARM_UP), options.steps)
    sent, direct, seconds = [_Measured([], []) for _ in clients], list[float](), 0.0
    turn = TURN if len(clients) > 1 else 1
    for done in range(0, options.calls, turn):
        numbers = range(done, min(done + turn, options.calls))
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        for one, more in zip(sent, _turn(clients, messages, numbers), strict=True):
            one.whole += more.whole
            one.answers += more.answers
        seconds += time.perf_counter() - began
        time.sleep(PAUSE_S)
        direct += _direct(policy, messages, numbers, options.steps)
        progress(numbers.stop, options.calls)
    return sent, direct, seconds


def _turn(clients: Sequence[PolicyClient], messages: Sequence[Message], numbers: range) -> list[_Measured]:
    """All robots at once, each with these calls in a row."""
    sent = [_Measured([], []) for _ in clients]

    def drive(client: PolicyClient, one: _Measured) -> None:
        for number in numbers:
            began = time.perf_counter()
            answer = client.infer(messages[number % len(messages)])
            one.whole.append(time.perf_counter() - began)
            one.answers.append({name: answer[name] for name in ("server_timing", "batch_rows")})

    threads = [threading.Thread(target=drive, args=pair) for pair in zip(clients, sent, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent


def _direct(policy: ServedPolicy, messages: Sequence[Message], numbers: range, steps: int | None) -> list[float]:
    took, least = [], policy.images.form.size
    for number in numbers:
        message = messages[number % len(messages)]
        seen = Observation(message["state"], message["state_mask"], message["prompt"])
        seen = replace(seen, images={camera: [decode(jpeg, least=least)] for camera, jpeg in message["images"].items()})
        began = time.perf_counter()
        policy(seen, steps=steps)
        took.append(time.perf_counter() - began)
    return took
