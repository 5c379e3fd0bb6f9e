"""Serve the pages of `rdt-data view` to a browser of this machine.

In: a store, an address of this machine. Out: a server that answers GET until it is stopped. It listens on the loopback
interface only, and refuses requests for another host's name, so that a page from elsewhere that has its own name
resolve to this machine (DNS rebinding) reads nothing. Which port the name comes with does not matter: one that was
forwarded by ssh differs. What is answered is decided in `stats.view_api`.
"""

import ipaddress
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rdt_data.errors import RdtError
from stats.view_api import Answer, View, as_json

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_IDLE = 30.0
"""Seconds after which a connection without a request is closed."""


class Server(ThreadingHTTPServer):
    """Serves one store on the loopback interface. `url` is its address."""

    daemon_threads = True

    def __init__(self, store: str, host: str = "127.0.0.1", port: int = 0) -> None:
        """Open the store and the socket. port: 0 for any free one. Raises StoreError, RdtError."""
        self.address_family = _loopback(host)
        self.host = host
        self.view = View.of(store)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise RdtError(f"{host} port {port}: {error}", remedy="give another --port, or 0 for a free one") from None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.server_address[1]}/"

    @property
    def names(self) -> frozenset[str]:
        """What a request may call this host."""
        return _NAMES | {self.host.lower()}

    def server_close(self) -> None:
        """Free the port, and let lint end."""
        super().server_close()
        self.view.findings.stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in mid-answer is no error; all else is printed."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def serve(store: str, *, host: str = "127.0.0.1", port: int = 0, ready: Callable[[Server], None]) -> None:
    """Serve until interrupted. ready: called once the address is known."""
    with Server(store, host, port) as server:
        ready(server)
        server.serve_forever(poll_interval=0.2)


def _loopback(host: str) -> socket.AddressFamily:
    """The family of an address of this machine. Raises RdtError for one that others can reach."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise RdtError(
            f"--host {host} is not an address of the loopback interface",
            remedy="use 127.0.0.1; from another machine: ssh -L 8000:127.0.0.1:PORT, then http://127.0.0.1:8000/",
        )
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, answers it, keeps the connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "rdt-data", ""
    timeout = _IDLE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer, if it is this host that is asked."""
        hosts = self.headers.get_all("Host", [])
        name = hosts[0].strip().lower() if len(hosts) == 1 else ""
        if _without_port(name) not in self.server.names:
            fix = f"open {self.server.url}"
            self._send(as_json({"error": f"this is not {name[:200] or 'a host without a name'}", "fix": fix}, 403))
            return
        self._send(self.server.view.answer(self.path))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the HTTP machinery itself refuses, as JSON; methods other than GET are 405."""
        known = code != HTTPStatus.NOT_IMPLEMENTED
        self.close_connection = True
        problem = (message or HTTPStatus(code).phrase) if known else f"{self.command[:40]} is not allowed"
        self._send(as_json({"error": problem, "fix": "use GET"}, code if known else HTTPStatus.METHOD_NOT_ALLOWED))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a frame a line would hide the address."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _without_port(host: str) -> str:
    """ "localhost:8000" -> "localhost", "[::1]:8000" -> "[::1]"."""
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() else host
