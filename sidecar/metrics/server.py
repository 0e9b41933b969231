"""The server of `sidecar run --metrics`: one route, for reading, with the rules of `sidecar serve` for who may ask."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any

from sidecar.access import Access, host_name
from sidecar.diagnostics import get_logger

from .exposition import NOT_COUNTED, Exposition

ROUTE = "/metrics"
MOST_CONNECTIONS = 32
"""At a time. Further ones are closed."""
_RULES = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_log = get_logger(__name__)


class MetricsServer(ThreadingHTTPServer):
    """Answers scrapes on a socket that listens already. `serve_forever` runs it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, exposition: Exposition, access: Access) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.exposition = exposition
        self.access = access
        self._free = BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection that ended in the middle of an answer is of no interest."""
        _log.debug("a connection ended with an error", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    protocol_version = "HTTP/1.1"
    timeout = 60.0
    wbufsize = -1  # head and body in one piece: apart, the second would wait for an acknowledgement of the first
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a scrape, or say why not."""
        access, headers = self.server.access, self.headers
        host = headers.get("Host", "")
        if not access.serves(host):
            name = host_name(host)[:200]
            self._say(HTTPStatus.MISDIRECTED_REQUEST, f"this is not served under the name {name!r}: see --allow-host")
        elif self.command not in ("GET", "HEAD"):
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, "this is for reading only: GET", {"Allow": "GET, HEAD"})
        elif headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._say(HTTPStatus.FORBIDDEN, "another site may not read this")
        elif not access.has_login(headers.get("Authorization", "")):
            realm = {"WWW-Authenticate": 'Bearer realm="sidecar"'}
            self._say(HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN", realm)
        elif self.path.partition("?")[0] != ROUTE:
            self._say(HTTPStatus.NOT_FOUND, f"there is nothing here but {ROUTE}")
        elif (answer := self.server.exposition.answer(headers.get("Accept", ""))) is None:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, NOT_COUNTED)
        else:
            self._send(HTTPStatus.OK, *answer)

    def _say(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        # What follows may be the body of a request that was refused.
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)

    def _send(
        self, status: HTTPStatus, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        length = {"Content-Type": content_type, "Content-Length": str(len(body))}
        for name, value in {**length, **_RULES, **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request that is not HTTP, or too long."""
        self._say(HTTPStatus(code), HTTPStatus(code).phrase)

    def version_string(self) -> str:
        """What the header `Server` says."""
        return "sidecar"

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request, for -vv."""
        with suppress(Exception):
            _log.debug("%s: " + format, self.client_address[0], *args)


for _method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)
