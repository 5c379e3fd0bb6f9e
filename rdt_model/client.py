"""A robot's side of the connection: observations out, chunks of actions back. Imports neither torch nor the policy.

    with PolicyClient("ws://127.0.0.1:8000") as policy:
        answer = policy.infer({"state": …, "state_mask": …, "prompt": …, "images": {"exterior": frame}})
        answer["actions"]  # (H, 128)

Frames given as pixels are shrunk to what the policy sees and sent as JPEG, by default: a 1920 x 1080 frame is 6 MB as
it is, and about 20 kB so. `wire` has the encoding, `messages` the entries; openpi-client speaks the same protocol.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from rdt_data import images
from rdt_data.errors import RdtError
from rdt_model.wire import pack, unpack

FloatArray = npt.NDArray[np.float32]

QUALITY: Final = 95


class ServerError(RdtError):
    """What the server answered in place of actions, or that it answers no more."""


class PolicyClient:
    """See the module. `about`: what the server said of the policy (`PolicyServer.about`).

    token: of the server. wait_s: how long to try until the server is there. longest: pixels of a frame's longer side,
    None: the policy's image size. quality: of the JPEG, None: frames are sent as pixels.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        wait_s: float = 0.0,
        longest: int | None = None,
        quality: int | None = QUALITY,
    ) -> None:
        self.address, self.quality = address, quality
        self._open = ExitStack()
        self._connection = self._open.enter_context(_connected(address, token, time.monotonic() + wait_s))
        self.about = self._received()
        self.longest = longest or self.about.get("image_size")

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an observation: `actions` (H, 128) and more. Raises ServerError with the server's words."""
        message = dict(observation)
        if isinstance(given := message.get("images"), Mapping):
            message["images"] = {camera: self._prepared(frames) for camera, frames in given.items()}
        try:
            self._connection.send(pack(message))
        except ConnectionClosed as error:
            raise self._gone(error) from None
        return self._received()

    def chunk(self, observation: Mapping[str, Any], plan: FloatArray | None = None, committed: int = 0) -> FloatArray:
        """The actions alone, (H, 128), in-painted where there is a plan: what a `ChunkRunner` asks for."""
        asked = {} if plan is None else {"plan": plan, "committed": committed}
        return np.asarray(self.infer({**observation, **asked})["actions"], np.float32)

    def close(self) -> None:
        """Say goodbye."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepared(self, frames: Any) -> Any:
        """A frame, or a list of them, shrunk and encoded; what is encoded already stays."""
        if isinstance(frames, list | tuple):
            return [self._prepared(frame) for frame in frames]
        if not isinstance(frames, np.ndarray) or frames.ndim != 3:
            return frames
        height, width, _ = frames.shape
        small = images.resize(frames, *images.fitted_size(height, width, self.longest))
        return small if self.quality is None else images.encode_jpeg(small, self.quality)

    def _received(self) -> dict[str, Any]:
        try:
            reply = self._connection.recv()
        except ConnectionClosed as error:
            raise self._gone(error) from None
        if isinstance(reply, str):
            problem, _, remedy = reply.partition("\n  fix: ")
            raise ServerError(problem, remedy=remedy or "see the server's output")
        return unpack(reply)

    def _gone(self, error: ConnectionClosed) -> ServerError:
        close = error.rcvd
        why = f"{close.code} {close.reason}".strip() if close is not None else "without a word"
        return ServerError(f"{self.address} has closed the connection: {why}", remedy="connect again")


@contextmanager
def _connected(address: str, token: str | None, until: float) -> Iterator[ClientConnection]:
    headers = {} if token is None else {"Authorization": f"Api-Key {token}"}
    with ExitStack() as opened:
        while True:
            try:
                connecting = connect(address, compression=None, max_size=None, additional_headers=headers)
                connection = opened.enter_context(connecting)
                break
            except (InvalidHandshake, InvalidURI) as error:
                raise ServerError(f"{address}: {error}", remedy="check address and token") from None
            except OSError as error:
                if time.monotonic() >= until:
                    raise ServerError(f"{address}: nobody answers: {error}", remedy="start `rdt serve` first") from None
                time.sleep(0.1)
        yield connection
