"""`sidecar serve`: listens, answers until it is stopped, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from sidecar.errors import ConfigError, SidecarError

from .app import Served, Site
from .guard import is_loopback

SHORTEST_TOKEN = 16
"""Characters. A shorter token can be guessed."""
GRACE_SECONDS = 2
"""How long open connections may take to end when the server stops."""


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


def check_host(host: str, has_token: bool) -> None:
    """Raises ConfigError for an address that other machines reach, unless a token is asked for."""
    if not is_loopback(host) and not has_token:
        raise ConfigError(
            f"{host} is reached from other machines, and the page shows what agents wrote: --token-file is required",
            hint="give --token-file FILE, or leave out --host to serve this machine alone",
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address. Raises SidecarError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise SidecarError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}", hint="choose another --port"
        ) from None


def address(listener: socket.socket) -> str:
    """Where the page is."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


class _Stopping(uvicorn.Server):
    """Ends on a signal as any command does: uvicorn would raise the signal again after it has shut down."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Server:
    """A server on a socket. `run` serves until a signal."""

    def __init__(self, make: Callable[[Callable[[], bool]], Served]) -> None:
        """`make` is given a function that tells whether the server is about to stop."""
        page = Site(make(lambda: self._server.should_exit))
        self._server = _Stopping(
            uvicorn.Config(
                page.app(),
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="on",
                http="h11",
                ws="none",
                timeout_graceful_shutdown=GRACE_SECONDS,
                limit_concurrency=200,
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Serve until stopped."""
        self._server.run(sockets=[listener])
