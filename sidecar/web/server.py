"""`sidecar serve`: listens, answers until it is stopped, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from .app import Served, Site

GRACE_SECONDS = 2
"""How long open connections may take to end when the server stops."""


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
