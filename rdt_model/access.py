"""Who may use a server: everyone of this machine, or whoever knows the token.

In: where it listens, a file with the token, a request's Authorization headers. Out: yes or no. On loopback a token may
be left out; elsewhere a server without one does not start. A token is compared in constant time, so that answers do not
tell how much of it was right.

What the token and the frames travel in is not encrypted here: put a proxy with TLS before it on a network you do not
trust. Knows nothing of messages.
"""

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from rdt_data.errors import RdtError

SHORTEST: Final = 16
"""Characters of a token."""

_SCHEMES: Final = ("api-key", "bearer")
"""openpi-client sends `Authorization: Api-Key TOKEN`; `Bearer` is what other clients know, Prometheus too."""


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """token: what a request must bring; None: nothing."""

    token: str | None

    @classmethod
    def of(cls, host: str, token_file: str | Path | None) -> Self:
        """The rule for a server on `host`. Raises RdtError without a token beyond loopback, or for one unfit."""
        if token_file is not None:
            return cls(read_token(token_file))
        if not is_loopback(host):
            raise RdtError(
                f"--host {host} can be reached from other machines, and there is no token",
                remedy="give --token-file FILE (openssl rand -hex 32 > FILE), or use --host 127.0.0.1",
            )
        return cls(None)

    def allows(self, authorization: Sequence[str]) -> bool:
        """Whether a request with these Authorization headers brings the token, in the one it has."""
        if self.token is None:
            return True
        scheme, _, token = (authorization[0] if len(authorization) == 1 else "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(errors="surrogateescape"), self.token.encode())
        return same and scheme.lower() in _SCHEMES


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: str | Path) -> str:
    """The token in a file, without the space around it. Raises RdtError that names the file, never what it holds."""
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RdtError(f"{path}: no token can be read: {error}", remedy="openssl rand -hex 32 > FILE") from None
    if len(token) < SHORTEST or not token.isascii() or any(letter.isspace() for letter in token):
        raise RdtError(
            f"{path}: the token is too short, or has spaces or letters beyond ASCII",
            remedy=f"write at least {SHORTEST} letters and digits: openssl rand -hex 32 > FILE",
        )
    return token
