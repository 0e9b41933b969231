"""Who may ask, and what a browser may do with the answer.

The page shows what agents wrote, and nothing that they wrote may become more than text. So a browser gets rules with
every answer (no script, style or connection but from here, no strings made into markup), and requests that a foreign
page could have caused are refused: those under another name (DNS rebinding), those from another site, and all that
are not reads. Beyond the machine itself a token is asked for.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.access import Access, host_name

from .answers import failure

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_NAMES = frozenset(name for name, _ in HEADERS)
COOKIE = "sidecar_login"
LARGEST_LOGIN = 4096
"""Bytes of a login form, at most."""


class Guard:
    """Refuses what is not a read of our own, and adds the rules for browsers to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_rules(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in _NAMES]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        request = Request(scope, receive)
        answer = self._refusal(request)
        if answer is None and self._access.token is not None:
            answer = await self._login(request)
        await (self._app if answer is None else answer)(scope, receive, with_rules)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._access.serves(host):
            return failure(421, f"this is not served under the name {host_name(host)[:200]!r}", "see --allow-host")
        may_post = self._access.token is not None and request.url.path == "/login"
        if request.method not in ("GET", "HEAD") and not (may_post and request.method == "POST"):
            return failure(405, "this is for reading only: GET", headers={"Allow": "GET, HEAD"})
        site = request.headers.get("sec-fetch-site", "none")
        path = request.url.path
        if (path.startswith("/api") or path == "/metrics" or request.method == "POST") and site not in (
            "none",
            "same-origin",
        ):
            return failure(403, "another site may not read this")
        return None

    async def _login(self, request: Request) -> Response | None:
        """The answer to who has not logged in, and to a login; None for who may go on."""
        path = request.url.path
        if path == "/login" and request.method == "POST":
            return await self._checked(request)
        if path.startswith("/static/") or (path != "/login" and self._has_login(request)):
            return None
        if path != "/login" and (path.startswith("/api") or path == "/metrics"):
            headers = {"WWW-Authenticate": 'Bearer realm="sidecar"'}
            return failure(401, "a token is needed", "Authorization: Bearer TOKEN, or log in at /login", headers)
        return _form(200 if path == "/login" else 401, "")

    def _has_login(self, request: Request) -> bool:
        headers = request.headers
        return self._access.has_login(headers.get("authorization", ""), request.cookies.get(COOKIE, ""))

    async def _checked(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_LOGIN:
                return _form(413, "That is too long for a token.")
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not self._access.knows(given):
            return _form(401, "That is not the token.")
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, self._access.cookie, httponly=True, samesite="strict", secure=secure, path="/")
        return answer


def _form(status: int, message: str) -> Response:
    note = f'<p role="alert" class="down">{escape(message)}</p>' if message else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sidecar: log in</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="stylesheet" href="/static/app.css"></head><body><main class="login"><form class="card"'
        ' method="post" action="/login"><h1>sidecar</h1><label>Token<input type="password" name="token"'
        f' autocomplete="current-password" autofocus required></label>{note}<button class="btn">Log in</button>'
        '<p class="muted">The token is in the file that was given with --token-file.</p></form></main></body></html>',
        status,
    )
