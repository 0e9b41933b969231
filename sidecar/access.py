"""Who may ask over HTTP: addresses to listen on, the names that requests may use, and a token for other machines."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from sidecar.errors import ConfigError, SidecarError

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
SHORTEST_TOKEN = 16
"""Characters. A shorter token can be guessed."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask."""

    names: frozenset[str] = LOOPBACK
    """The host names under which this is served."""
    any_address: bool = False
    """Whether every IP address is one too: where requests come from other machines. Rebinding needs a name."""
    token: str | None = None

    @classmethod
    def of(cls, host: str, names: Iterable[str] = (), token: str | None = None) -> Access:
        """Access to a server on this address, also known by these names."""
        known = {*LOOPBACK, host.lower(), *(name.lower() for name in names)}
        return cls(frozenset(known - {"", "0.0.0.0", "::"}), not is_loopback(host), token)

    def serves(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = host_name(host)
        return name in self.names or (self.any_address and _is_address(name))

    def knows(self, given: str) -> bool:
        """Whether this is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @property
    def cookie(self) -> str:
        """What the cookie of a login holds: not the token, but what only its owner can have had made."""
        return hmac.new((self.token or "").encode(), b"sidecar serve: login", hashlib.sha256).hexdigest()

    def has_login(self, authorization: str, cookie: str = "") -> bool:
        """Whether the header `Authorization` or the cookie of a login shows the token; true if none is needed."""
        if self.token is None:
            return True
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and self.knows(given.strip()):
            return True
        return hmac.compare_digest(cookie.encode(), self.cookie.encode())


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    name = host.lower().strip("[]")
    return name in LOOPBACK or (_is_address(name) and ip_address(name).is_loopback)


def host_name(header: str) -> str:
    """The name in a `Host` header, without its port."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rsplit(":", 1)[0] if text.count(":") == 1 else text


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def read_token(file: Path) -> str:
    """The token in a file, without white space around it. Raises ConfigError."""
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token from {file}: {error}") from None
    if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"{file}: a token of at least {SHORTEST_TOKEN} visible ASCII characters is expected",
            hint=f"make one: python3 -c 'import secrets; print(secrets.token_urlsafe())' > {file}",
        )
    return text


def check_host(host: str, has_token: bool, what: str = "the page shows what agents wrote") -> None:
    """Raises ConfigError for an address that other machines reach, unless a token is asked for."""
    if not is_loopback(host) and not has_token:
        raise ConfigError(
            f"{host} is reached from other machines, and {what}: --token-file is required",
            hint="give --token-file FILE, or serve this machine alone, on 127.0.0.1",
        )


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens on an address, which an option names. Raises SidecarError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=128)
        # Connections inherit it. Otherwise the second piece of an answer waits 40 ms for an acknowledgement of the
        # first one, which the other side delays.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        hint = f"choose another port with {option}"
        raise SidecarError(f"cannot listen on {host}, port {port}: {error.strerror or error}", hint=hint) from None


def address(listener: socket.socket) -> str:
    """The URL of a server on a socket."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def access_to(host: str, more: Iterable[str], token: str | None) -> Access:
    """Access to a server on an address, also known by the names of this machine if others reach it, and by `more`."""
    own = () if is_loopback(host) else (socket.gethostname(), socket.getfqdn())
    return Access.of(host, (*own, *more), token)
