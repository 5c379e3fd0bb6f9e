"""The policy server: robots connect by websocket, send observations and get chunks of actions.

The protocol is that of the `openpi-client` package on PyPI (`wire` has its encoding): the server speaks first, a map of
what the policy takes; then each observation is answered by its actions with timings. A text frame is an error and says
what was wrong; the connection stays open and the next observation is as good as any. `messages` has the entries.

On the same port, plain HTTP: /healthz and /metrics. Who may come is decided by `access`, before a message is read.
Told to stop, the server takes no new robots, answers what it has begun, says goodbye (1001) and ends.
"""

import asyncio
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_model.access import Access
from rdt_model.batching import Batched, Batcher
from rdt_model.messages import Message, Request, read_request
from rdt_model.policy import Chunk, Observation
from rdt_model.serve_metrics import CONTENT_TYPE, ServeMetrics
from rdt_model.served_policy import Answered, Asked, Loop, ServedPolicy, checked
from rdt_model.wire import MOST_BYTES, WireError, pack, unpack
from rdt_model.work_thread import WorkThread

PROTOCOL: Final = 1


class Side(Protocol):
    """One robot's own names and units, on the other side of the policy's; one for each connection."""

    def read(self, message: Message) -> Message:
        """The robot's message as `messages` describes it. Raises RdtError."""

    def write(self, chunk: Chunk) -> Mapping[str, Any]:
        """Entries to add to the answer: the chunk as the robot's own commands."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """port: 0 for any free one. steps: denoising steps, None: the network's. rows: robots denoised together at most.

    deadline_s: how long one that is ready waits for others under way. bytes, robots: of a message, connected at once.
    grace_s: how long requests may still take when the server is told to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    steps: int | None = None
    rows: int = 16
    deadline_s: float = 0.005
    bytes: int = MOST_BYTES
    robots: int = 16
    grace_s: float = 10.0


@dataclass(slots=True)
class _Robot:
    loop: Loop
    side: Side | None
    last_total_s: float | None = None


class PolicyServer:
    """See the module. Made within a running event loop; `side` makes what translates a robot's own messages."""

    def __init__(
        self,
        policy: ServedPolicy,
        access: Access,
        options: ServeOptions,
        *,
        side: Callable[[], Side] | None = None,
    ) -> None:
        self.policy, self.access, self.options, self.side = policy, access, options, side
        self.metrics = ServeMetrics()
        self.thread = WorkThread("network")
        work = partial(policy.answer, steps=options.steps)
        self.batcher = Batcher[Asked, Answered](self.thread, work, most=options.rows, deadline=options.deadline_s)
        self._stopping = asyncio.Event()
        self._busy, self._idle = 0, asyncio.Event()
        self._idle.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        """Serve until `stop`; `ready` is told the address. Raises RdtError when the address cannot be had."""
        await self.thread.run(self._warm_up)
        limits: dict[str, Any] = {"max_size": self.options.bytes, "max_queue": 1, "compression": None}
        serving = serve(
            self._robot,
            self.options.host,
            self.options.port,
            origins=[None],  # a browser's page says where it is from; robots do not
            process_request=self._http,
            server_header=None,
            **limits,
        )
        try:
            server = await serving
        except OSError as error:
            raise RdtError(
                f"{self.options.host}:{self.options.port} cannot be listened on: {error.strerror}",
                remedy="choose another --port (0: any free one), or an address of this machine",
            ) from None
        port = next(iter(server.sockets)).getsockname()[1]
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        ready(f"ws://{host}:{port}")
        await self._stopping.wait()
        await self._end(server)

    def stop(self) -> None:
        """End `run` gracefully; from the event loop's thread."""
        self._stopping.set()

    async def _end(self, server: Server) -> None:
        server.close(close_connections=False)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.options.grace_s)
        await asyncio.gather(*(robot.close(1001, "the server is stopping") for robot in server.connections))
        await server.wait_closed()
        await asyncio.to_thread(self.thread.close)

    def _http(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """The answer to what is no websocket of a robot; None lets it in."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "ok\n")
        if not self.access.allows(request.headers.get_all("Authorization")):
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "give the server's token: Api-Key TOKEN\n")
            response.headers["WWW-Authenticate"] = "Api-Key"
            return response
        if path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self.metrics.page())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "there are /, /healthz and /metrics\n")
        if self.metrics.connections >= self.options.robots:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.options.robots} robots are connected\n")
        return None

    async def _robot(self, connection: ServerConnection) -> None:
        self.metrics.connections += 1
        try:
            loop, _ = await self.thread.run(self.policy.new_loop)
            robot = _Robot(loop, None if self.side is None else self.side())
            await connection.send(pack(self.about()))
            async for message in connection:
                await self._one(connection, robot, message)
                if self._stopping.is_set():
                    break
        except ConnectionClosed:  # the robot went without a word; its next connection is a new one
            return
        finally:
            self.metrics.connections -= 1

    async def _one(self, connection: ServerConnection, robot: _Robot, message: str | bytes) -> None:
        self._busy += 1
        self._idle.clear()
        try:
            await connection.send(await self._answer(robot, message))
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _answer(self, robot: _Robot, message: str | bytes) -> str | bytes:
        """Bytes with actions, or the text of an error."""
        began = time.perf_counter()
        try:
            with self.batcher.expecting():
                request, decode_s = await self._understood(robot, message)
            batched = await self.batcher(Asked(robot.loop, request.observation, request.plan))
            answer = self._actions(robot, batched)
        except RdtError as error:
            self.metrics.count("refused")
            return str(error)
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:  # torch's and NumPy's, of one request
            self.metrics.count("failed")
            traceback.print_exc()
            return f"the server failed: {type(error).__name__}\n  fix: its own output says more"
        stages = {"decode": decode_s, "encode": batched.result.encode_s, "denoise": batched.result.denoise_s}
        total = time.perf_counter() - began
        stages |= {"wait": max(0.0, total - sum(stages.values())), "total": total}
        self.metrics.count("ok")
        self.metrics.time(stages)
        self.metrics.rows.add(batched.rows)
        timing = {f"{stage}_ms": 1e3 * seconds for stage, seconds in stages.items()}
        timing["infer_ms"] = timing["encode_ms"] + timing["denoise_ms"]
        if robot.last_total_s is not None:
            timing["prev_total_ms"] = 1e3 * robot.last_total_s
        robot.last_total_s = total
        return pack({**answer, "server_timing": timing})

    async def _understood(self, robot: _Robot, message: str | bytes) -> tuple[Request, float]:
        """The request, and the seconds it took to read; alone, without the detour through a thread."""
        least = self.policy.images.form.size
        if self.metrics.connections == 1:
            return _read(robot.side, message, least)
        return await asyncio.to_thread(_read, robot.side, message, least)

    def _actions(self, robot: _Robot, batched: Batched[Answered]) -> dict[str, Any]:
        """openpi's brokers take a step of every array of an answer: so each has the horizon as its first axis."""
        if isinstance(outcome := batched.result.outcome, Exception):
            raise outcome
        chunk = checked(outcome)
        mask = np.broadcast_to(chunk.mask, chunk.actions.shape)
        own = {} if robot.side is None else robot.side.write(chunk)
        return {"actions": chunk.actions, "action_mask": mask, "batch_rows": batched.rows, **own}

    def about(self) -> dict[str, Any]:
        """What the server says first."""
        config, network = self.policy.config, self.policy.net.config
        return {
            "server": "rdt",
            "protocol": PROTOCOL,
            "dataset": config.dataset,
            "robot_keys": self.side is not None,
            "control_hz": config.control_hz,
            "horizon": network.pred_horizon,
            "cameras": list(config.cameras),
            "history": config.history,
            "image_size": self.policy.images.form.size,
            "state_slots": None if config.state_slots is None else list(config.state_slots),
            "action_slots": None if config.action_slots is None else list(config.action_slots),
            "takes_text": self.policy.language is not None,
            "language_width": network.lang_token_dim,
            "most_bytes": self.options.bytes,
        }

    def _warm_up(self) -> None:
        """The first call is slow: let it be ours."""
        config = self.policy.config
        mask = np.zeros(layout.DIM, np.bool_) if config.state_mask is None else config.state_mask
        words = np.zeros((1, self.policy.net.config.lang_token_dim), np.float32)
        seen = Observation(np.zeros(layout.DIM, np.float32), mask, words, action_mask=config.action_mask)
        self.policy.act([self.policy.prepare(self.policy.new_loop(), seen)], self.options.steps)


def _read(side: Side | None, message: str | bytes, least: int) -> tuple[Request, float]:
    """The request, and the seconds it took."""
    began = time.perf_counter()
    if isinstance(message, str):
        raise WireError("a text frame", remedy="send a binary one, msgpack")
    values = unpack(message)
    request = read_request(values if side is None else side.read(values), least)
    return request, time.perf_counter() - began


def serve_policy(
    policy: ServedPolicy,
    access: Access,
    options: ServeOptions,
    *,
    ready: Callable[[str], None],
    side: Callable[[], Side] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one is as if there were no server."""
    asyncio.run(_until_signalled(partial(PolicyServer, policy, access, options, side=side), ready))


async def _until_signalled(make: Callable[[], PolicyServer], ready: Callable[[str], None]) -> None:
    server, loop = make(), asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        server.stop()

    for number in signals:
        loop.add_signal_handler(number, stop)
    await server.run(ready)
