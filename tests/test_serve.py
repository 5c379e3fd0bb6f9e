"""`rdt serve`: openpi-client drives it through a thousand requests, bad ones between; who may come, sizes, metrics, ends."""

import asyncio
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from rdt_data.errors import RdtError
from rdt_data.images import encode_jpeg, encode_png
from rdt_data.layout import resolve
from rdt_model import RDT, config_of_size
from rdt_model.access import Access
from rdt_model.async_execution import ChunkRunner, Pace
from rdt_model.batching import Batcher
from rdt_model.client import PolicyClient, ServerError
from rdt_model.encoders import load_image_encoder
from rdt_model.inpaint import Plan
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy import Observation, Policy
from rdt_model.policy_files import PolicyConfig, slots_of, write_policy
from rdt_model.served_policy import ServedPolicy
from rdt_model.server import PolicyServer, ServeOptions, serve_policy
from rdt_model.wire import pack, unpack
from rdt_model.work_thread import WorkThread

SIZES = KeypointConfig(image_size=16, keypoints=4, token_dim=8, channels=(8, 8))
MASK = np.isin(np.arange(128), resolve("right_arm_joint_pos", None)[:6])
HORIZON, WIDTH = 6, 12
OPENPI = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
"""openpi-client calls websockets in a way that websockets is about to leave."""

TOKEN = "0123456789abcdef-a-token"
SPEC = """
title: Six joints in degrees
reader: hdf5
control_hz: 10
instruction: {text: Go.}
cameras: {exterior: cam/front}
state:
  - {from: joints, unit: deg, cols: [0, 6], ops: [deg_to_rad], to: right_arm_joint_pos}
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained policy's directory."""
    folder = tmp_path_factory.mktemp("serve") / "policy"
    torch.manual_seed(0)
    sizes = {"pred_horizon": HORIZON, "lang_token_dim": WIDTH, "img_token_dim": 8, "max_lang_cond_len": 16}
    net = RDT(config_of_size("tiny", **sizes, depth=2, frames=2, cameras=3, patches=4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    config = PolicyConfig(
        dataset="six_joints",
        spec_text=SPEC,
        control_hz=10.0,
        state_slots=slots_of(MASK),
        action_slots=slots_of(MASK),
        image_encoder="keypoints",
        keypoints=SIZES,
    )
    write_policy(folder, config, net, load_image_encoder("keypoints", keypoints=SIZES))
    return folder


@contextmanager
def serving(checkpoint: Path, *options: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The real command in a process of its own: its address, and the process."""
    program = Path(sys.executable).parent / "rdt"
    command = [program, "serve", "--checkpoint", checkpoint, "--port", "0", "--device", "cpu", "--json", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*map(str, command)], **pipes, env=environment) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            assert lines[0], process.stderr.read()
            yield json.loads("".join(lines))["address"], process
        finally:
            process.kill()


@contextmanager
def serving_here(checkpoint: Path, **options: object) -> Iterator[str]:
    """The same in a thread of this process, which starts at once."""
    address, made = queue.Queue[str](), []

    async def run():
        policy = ServedPolicy.load(checkpoint, device="cpu")
        made.append((PolicyServer(policy, Access(None), ServeOptions(port=0, **options)), asyncio.get_running_loop()))
        await made[0][0].run(address.put)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield address.get(timeout=30)
    finally:
        made[0][1].call_soon_threadsafe(made[0][0].stop)
        thread.join()


@pytest.fixture(scope="module")
def server(checkpoint):
    with serving(checkpoint, "--message-mb", "0.5") as (address, process):
        yield address
        assert process.poll() is None, "the server is still there after all of this file"


def frame(seed, height=12, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def message(seed=0, **changes):
    rng = np.random.default_rng(seed)
    seen = {
        "state": np.where(MASK, rng.normal(size=128), 0).astype(np.float32),
        "state_mask": MASK,
        "prompt": np.random.default_rng(99).normal(size=(3, WIDTH)).astype(np.float32),
        "images": {"exterior": [frame(seed), frame(seed + 1)], "left_wrist": encode_png(frame(seed + 100))},
    }
    return {**seen, **changes}


def observation(seed=0):
    seen = message(seed)
    images = {"exterior": [frame(seed), frame(seed + 1)], "left_wrist": [frame(seed + 100)]}
    return Observation(seen["state"], MASK, seen["prompt"], images)


def get(address, path, **headers):
    connection = http.client.HTTPConnection(address.removeprefix("ws://"), timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode(), response.headers


BAD = [
    b"",
    b"\x81",
    msgpack.packb([1, 2, 3]),
    msgpack.packb({"x": msgpack.ExtType(3, b"")}),
    pack({"state": np.zeros(128)}),
    pack(message(state=np.zeros(14))),
    pack(message(state=np.full(128, np.nan))),
    pack(message(state_mask=np.ones(128, np.bool_))),
    pack(message(prompt="text, and the policy has no language encoder")),
    pack(message(prompt=np.zeros((3, WIDTH + 1)))),
    pack(message(prompt=np.zeros((17, WIDTH)))),
    pack(message(images={"exterior": encode_jpeg(frame(0))[:-9]})),
    pack(message(images={"exterior": [frame(0)] * 3})),
    pack(message(images={"front": frame(0)})),
    pack(message(plan=np.zeros((HORIZON + 1, 128)), committed=1)),
    pack(message(plan=np.zeros((2, 128)), committed=3)),
    pack(message(plan=np.full((2, 128), np.inf), committed=2)),
    "a text frame",
]


@OPENPI
def test_openpi_client_drives_it_through_a_thousand_requests_with_bad_ones_between(server, checkpoint):
    theirs = pytest.importorskip("openpi_client.websocket_client_policy", reason="needs openpi-client: docs/serve.md")
    host, port = server.removeprefix("ws://").split(":")
    robot = theirs.WebsocketClientPolicy(host, int(port))
    assert robot.get_server_metadata()["horizon"] == HORIZON
    policy, answered, refused = Policy.load(checkpoint, device="cpu"), 0, 0
    for number in range(1000):
        if number % 4 == 3:
            robot._ws.send(BAD[number // 4 % len(BAD)])
            reply = robot._ws.recv()
            assert isinstance(reply, str), "an error is a text frame"
            assert "\n  fix: " in reply
            refused += 1
            continue
        found = robot.infer(message(number % 50))
        assert found["actions"].shape == (HORIZON, 128)
        if number % 100 == 0:
            expected = policy(observation(number % 50), index=answered).actions
            np.testing.assert_allclose(found["actions"], expected, atol=1e-5)
        answered += 1
    with pytest.raises(RuntimeError, match="no entry of an observation is called 'joints'"):
        robot.infer({"joints": np.zeros(6)})
    assert (answered, refused) == (750, 250)


@OPENPI
def test_openpi_brokers_take_the_answer_apart_step_by_step(server):
    broker = pytest.importorskip("openpi_client.action_chunk_broker", reason="needs openpi-client: docs/serve.md")
    theirs = pytest.importorskip("openpi_client.websocket_client_policy", reason="needs openpi-client: docs/serve.md")
    host, port = server.removeprefix("ws://").split(":")
    robot = broker.ActionChunkBroker(theirs.WebsocketClientPolicy(host, int(port)), action_horizon=HORIZON)
    steps = [robot.infer(message()) for _ in range(HORIZON)]
    assert all(step["actions"].shape == step["action_mask"].shape == (128,) for step in steps)
    assert all(step["action_mask"][MASK].all() and not step["action_mask"][~MASK].any() for step in steps)


def test_our_client_shrinks_frames_and_speaks_of_errors(server, checkpoint):
    with PolicyClient(server) as robot:
        assert robot.about["cameras"] == ["exterior", "right_wrist", "left_wrist"]
        large = frame(3, 480, 640)
        small = robot._prepared(large)
        assert len(small) < 3000, "a JPEG of 16 x 12 pixels, not the megabyte it was"
        assert robot.infer(message(images={"exterior": large}))["actions"].shape == (HORIZON, 128)
        with pytest.raises(ServerError, match="state has shape") as caught:
            robot.infer(message(state=np.zeros(3)))
        assert caught.value.remedy == "send (128,)"
    with PolicyClient(server, quality=None) as robot:
        answer = robot.infer(message(7, images={"exterior": [frame(7, 12, 16), frame(8, 12, 16)]}))
    seen = Observation(
        message(7)["state"], MASK, message(7)["prompt"], {"exterior": [frame(7, 12, 16), frame(8, 12, 16)]}
    )
    expected = Policy.load(checkpoint, device="cpu")(seen)
    np.testing.assert_allclose(answer["actions"], expected.actions, atol=1e-5)


def test_a_plan_is_in_painted_and_its_committed_actions_come_back(server):
    with PolicyClient(server) as robot:
        old = robot.infer(message(1))["actions"]
        new = robot.infer(message(2, plan=old[2:], committed=3))["actions"]
    np.testing.assert_array_equal(new[:3], old[2:5])
    assert Plan(old[2:], 3).weights[3] == 0.5


def test_chunks_run_while_the_next_one_is_computed_far_away(server):
    asked = []

    def infer(observation, plan, committed):
        step, seen = observation
        actions = robot.chunk(seen, plan, committed)
        asked.append((step, committed, actions))
        return actions

    pace = Pace(every=2, control_hz=50.0, blend=1)
    with PolicyClient(server) as robot, ChunkRunner(infer, pace) as runner:
        done = []
        for step in range(20):
            done.append(runner.step(lambda step=step: (step, message(step))))
            time.sleep(1 / pace.control_hz)
    assert [count for _, count, _ in asked] == runner.report.committed
    assert asked[0][1] == 0
    assert all(count >= 1 for _, count, _ in asked[1:-1])
    for step, count, actions in asked:
        expected = done[step : step + count]
        np.testing.assert_array_equal(actions[: len(expected)], np.reshape(expected, (-1, 128)))


def test_timings_add_up(server):
    with PolicyClient(server) as robot:
        first, second = robot.infer(message(1)), robot.infer(message(2))
    timing = second["server_timing"]
    parts = sum(timing[f"{stage}_ms"] for stage in ("decode", "encode", "denoise", "wait"))
    assert parts == pytest.approx(timing["total_ms"])
    assert timing["prev_total_ms"] == first["server_timing"]["total_ms"]
    assert all(value >= 0 for value in timing.values())


def test_a_message_beyond_the_limit_ends_its_connection_and_no_other(server):
    with PolicyClient(server) as bystander:
        with connect(server, max_size=None) as robot:
            robot.recv()
            robot.send(b"\0" * (2**19 + 1))
            with pytest.raises(ConnectionClosedError, match="1009"):
                robot.recv()
        assert bystander.infer(message())["actions"].shape == (HORIZON, 128)


def test_a_robot_that_vanishes_in_the_middle_disturbs_nobody(server):
    for _ in range(3):
        with connect(server) as robot:
            robot.recv()
            robot.send(pack(message()))
            robot.socket.shutdown(socket.SHUT_RDWR)
    with PolicyClient(server) as robot:
        assert robot.infer(message())["actions"].shape == (HORIZON, 128)


def test_health_and_metrics_are_on_the_same_port(server):
    assert get(server, "/healthz")[:2] == (200, "ok\n")
    before = metrics(server)
    with PolicyClient(server) as robot:
        assert metrics(server)["rdt_serve_connections"] == before["rdt_serve_connections"] + 1
        robot.infer(message())
        with pytest.raises(ServerError):
            robot.infer({})
    after = metrics(server)
    for name in ('requests_total{outcome="ok"}', 'requests_total{outcome="refused"}', "batch_rows_count"):
        assert after[f"rdt_serve_{name}"] == before[f"rdt_serve_{name}"] + 1
    whole, last = (
        after[f'rdt_serve_stage_seconds_{part}{{stage="total"{le}}}']
        for part, le in (("count", ""), ("bucket", ',le="+Inf"'))
    )
    assert whole == last > 0
    assert get(server, "/metrics")[2]["Content-Type"].startswith("text/plain; version=0.0.4")
    assert get(server, "/else")[0] == 404
    assert get(server, "/")[0] == 426, "a browser is told to upgrade"


def metrics(address, **headers):
    status, text, _ = get(address, "/metrics", **headers)
    assert status == 200
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_pages_of_a_browser_are_not_let_in(server):
    with pytest.raises(InvalidStatus, match="403"), connect(server, origin="http://evil.example"):
        pass


def test_with_a_token_only_who_brings_it_is_let_in_and_may_speak_its_own_names_and_units(checkpoint, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    options = ("--host", "0.0.0.0", "--token-file", tmp_path / "token", "--robot-keys")
    with serving(checkpoint, *options) as (address, process):
        address = address.replace("0.0.0.0", "127.0.0.1")
        for wrong in (None, TOKEN[:-1], TOKEN + "x", ""):
            with pytest.raises(ServerError, match="401"):
                PolicyClient(address, token=wrong)
        assert get(address, "/healthz")[0] == 200
        assert get(address, "/metrics")[0] == 401
        assert metrics(address, Authorization=f"Bearer {TOKEN}")["rdt_serve_connections"] == 0
        with PolicyClient(address, token=TOKEN, quality=None, longest=20) as robot:
            speak_in_degrees(robot, checkpoint)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def speak_in_degrees(robot, checkpoint):
    degrees = np.linspace(-50, 50, 6)
    seen = {"joints": degrees, "cam/front": frame(1), "prompt": message()["prompt"]}
    answer = robot.infer(seen)
    for change, words in (({"joint": degrees}, "did you mean 'joints'"), ({"joints": "many"}, "joints is a str")):
        with pytest.raises(ServerError, match=words):
            robot.infer({**seen, **change})
    with pytest.raises(ServerError, match="joints"):
        robot.infer({"prompt": seen["prompt"]})
    state = np.zeros(128, np.float32)
    state[MASK] = np.deg2rad(degrees)
    expected = Policy.load(checkpoint, device="cpu")(Observation(state, MASK, seen["prompt"], {"exterior": [frame(1)]}))
    np.testing.assert_allclose(answer["actions"], expected.actions, atol=1e-5)
    np.testing.assert_allclose(answer["commands"]["joints"], np.rad2deg(expected.actions[:, MASK]), atol=1e-3)


def test_beyond_loopback_there_is_no_server_without_a_token(checkpoint, tmp_path):
    with pytest.raises(RdtError, match=r"0\.0\.0\.0 can be reached from other machines"):
        Access.of("0.0.0.0", None)
    for text in ("secret", "a token of many words is not one", "", "ä" * 20):
        (tmp_path / "token").write_text(text)
        with pytest.raises(RdtError, match="token") as caught:
            Access.of("127.0.0.1", tmp_path / "token")
        assert not text or text not in str(caught.value), "what is secret is not printed"
    assert [Access.of(host, None).token for host in ("127.0.0.1", "::1", "localhost")] == [None] * 3
    assert TOKEN not in repr(Access(TOKEN))
    assert not Access(TOKEN).allows([f"Basic {TOKEN}"])
    assert not Access(TOKEN).allows([f"Bearer {TOKEN}"] * 2)


def test_told_to_stop_it_answers_what_it_has_begun_and_says_goodbye(checkpoint):
    with serving(checkpoint, "--steps", "200") as (address, process):
        with connect(address) as robot, connect(address) as idle:
            robot.recv(), idle.recv()
            robot.send(pack(message()))
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert unpack(robot.recv())["actions"].shape == (HORIZON, 128)
            with pytest.raises(ConnectionClosed, match="1001"):
                idle.recv(timeout=20)
            with pytest.raises(ConnectionClosed):
                robot.recv(timeout=20)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_robots_that_call_together_are_denoised_together_and_get_what_they_would_get_alone(checkpoint):
    with serving_here(checkpoint, deadline_s=0.2, robots=5) as address:
        robots = [PolicyClient(address, quality=None, longest=20) for _ in range(5)]
        with pytest.raises(ServerError, match="503"):
            PolicyClient(address)
        found: dict[int, list[dict[str, object]]] = {}

        def drive(number):
            found[number] = [robots[number].infer(message(10 * number + call)) for call in range(8)]

        threads = [threading.Thread(target=drive, args=(number,)) for number in range(5)]
        for step in (threading.Thread.start, threading.Thread.join):
            for thread in threads:
                step(thread)
        for robot in robots:
            robot.close()
        rows = [answer["batch_rows"] for answers in found.values() for answer in answers]
        assert max(rows) > 1
        policy = Policy.load(checkpoint, device="cpu")
        for number, answers in found.items():
            for call, answer in enumerate(answers):
                expected = policy(observation(10 * number + call), index=call).actions
                np.testing.assert_allclose(answer["actions"], expected, atol=2e-5)


def test_a_batch_waits_for_what_is_under_way_until_its_deadline_and_alone_for_nothing():
    async def run(deadline, slow):
        thread, sizes = WorkThread("test"), []
        batcher = Batcher(
            thread, lambda rows: sizes.append(len(rows)) or [row + 1 for row in rows], most=4, deadline=deadline
        )

        async def one(row, ready_in):
            with batcher.expecting():
                await asyncio.sleep(ready_in)
            return await batcher(row)

        began = time.perf_counter()
        results = await asyncio.gather(one(1, 0), one(2, slow))
        took = time.perf_counter() - began
        thread.close()
        return [result.result for result in results], sizes, took

    assert asyncio.run(run(5.0, 0.05))[:2] == ([2, 3], [2])
    assert asyncio.run(run(0.02, 0.4))[:2] == ([2, 3], [1, 1])
    assert asyncio.run(run(5.0, 0.0))[2] < 2.0


def test_a_batch_that_fails_fails_for_its_rows_and_the_next_one_does_not():
    def work(rows):
        time.sleep(0.05)
        return [1 / row for row in rows]

    async def run():
        thread = WorkThread("test")
        batcher = Batcher(thread, work, most=4, deadline=0.0)
        outcomes = await asyncio.gather(batcher(4), batcher(0), batcher(2), return_exceptions=True)
        good = await batcher(8)
        thread.close()
        return outcomes, good.result

    (alone, *together), good = asyncio.run(run())
    assert (alone.result, good) == (0.25, 0.125)
    assert [type(outcome) for outcome in together] == [ZeroDivisionError] * 2


def test_a_port_that_is_taken_is_an_error_in_words(server, checkpoint):
    port = int(server.rpartition(":")[2])
    policy = ServedPolicy.load(checkpoint, device="cpu")
    with pytest.raises(RdtError, match=f"127.0.0.1:{port} cannot be listened on"):
        serve_policy(policy, Access(None), ServeOptions(port=port), ready=print)


def test_the_robots_side_needs_no_torch():
    code = "import rdt_model.client, rdt_model.async_execution, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_bench_serve_tells_what_the_server_adds(checkpoint):
    program = Path(sys.executable).parent / "rdt"
    options = ["--checkpoint", checkpoint, "--calls", "25", "--image-size", "64", "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, "bench", "serve", *options], env=environment, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert (found["calls"], found["cameras"], found["robots"], found["mean_rows"]) == (25, 3, 1, 1.0)
    stages = found["stages"]
    assert stages.keys() == {"decode", "encode", "denoise", "wait", "total"}
    assert stages["total"]["p50"] < found["whole"]["p50"], "the way there and back takes time too"
    assert found["direct"]["p50"] > 0
    assert abs(found["added_ms"]) < found["whole"]["p99"] + found["direct"]["p99"]
    assert all(row["p50"] <= row["p95"] <= row["p99"] for row in (*stages.values(), found["whole"], found["direct"]))
