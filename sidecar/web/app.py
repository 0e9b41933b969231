"""The routes: which request gets which answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sidecar.access import Access
from sidecar.analyze.requests import extent
from sidecar.analyze.values import Anomalies
from sidecar.config.settings import Settings
from sidecar.errors import MissingExtra, SidecarError
from sidecar.metrics.keeper import Keeper
from sidecar.query.index import Index

from . import overview, reading, searching
from .answers import encoded, failure, failure_of, json_response
from .desks import GRACE_SECONDS, THREAD, Desk, Kept, OpenIndex, Stamp, stamp
from .guard import Guard
from .live import Live
from .pieces import Pieces
from .record_bytes import STATUS, record_bytes
from .spans import BadParameter, TimeSpan, span_of
from .sums import Sums

STATIC = Path(__file__).parent / "static"
KEPT_BYTES = 32 << 20
"""Of whole answers."""
PAGES = ("/", "/timeline", "/graph", "/conversation", "/pending", "/sessions", "/search", "/agent/{id:path}")

UNREADY = "unready"
"""The key of the lists of an answer that are still being made: whoever asks again gets them."""
_LISTS_OF_STATUS = ("reasons", "odd_times", "dropped_list")

Answer = Callable[[Index, Mapping[str, str], TimeSpan], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: the index, and who may ask."""

    settings: Settings
    open_index: OpenIndex
    access: Access = field(default_factory=Access)
    is_over: Callable[[], bool] = lambda: False
    """Whether the server is about to stop: streams end then."""
    metrics_agents: int = 0
    """How many agents the metrics name."""


class Site:
    """One served index."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._folder = served.settings.index_folder
        self._sums = Sums(self._folder)
        self._quick = Desk("quick", served.open_index)
        self._slow = Desk("slow", served.open_index)
        self._pieces = Pieces(self._folder, served.open_index)
        self._kept = Kept(KEPT_BYTES)
        self._running: dict[Hashable, asyncio.Task[bytes]] = {}
        """Answers that are being made: who asks for the same waits for the same."""
        self._live = Live(served.open_index)
        self._keeper = Keeper(
            served.settings, served.open_index, agents=served.metrics_agents, thread=f"{THREAD}metrics-"
        )

    def app(self) -> Guard:
        """The application."""
        routes = [
            Route("/api/overview", self._api(self._overview, self._slow, ("spark", "agents", "teams", "anomalies"))),
            Route("/api/lanes", self._api(self._lanes, self._slow, ("marks", "cells"))),
            Route("/api/graph", self._api(self._graph, self._slow, ("edges", "nodes"))),
            Route("/api/agent", self._api(self._agent, self._slow, ("peers", "latest"))),
            Route(
                "/api/conversation",
                self._api(self._conversation, self._quick, ("rows",)),
            ),
            Route(
                "/api/entry",
                self._api(lambda index, params, _: reading.record(index, params), self._quick, (), keep=False),
            ),
            Route("/api/pending", self._api(self._pending, self._quick, ("rows",))),
            Route("/api/sessions", self._api(self._sessions, self._quick, ("rows",), whole=True)),
            Route(
                "/api/status",
                self._api(self._status, self._quick, _LISTS_OF_STATUS, keep=False, needs_index=False),
            ),
            Route("/api/live", self._stream),
            Route("/api/search", self._search),
            Route("/v1/bytes", self._bytes),
            Route("/metrics", self._metrics),
            *(Route(path, self._page) for path in PAGES),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        inner = Starlette(
            routes=routes,
            exception_handlers={
                HTTPException: _http_failure,
                SidecarError: _failure,
                BadParameter: _bad,
                Exception: _fault,
            },
            lifespan=self._lifespan,
        )
        return Guard(inner, self._served.access)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._pieces.warm()
        try:
            yield
        finally:
            await self._live.close()
            await asyncio.to_thread(self._keeper.close, GRACE_SECONDS)
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for one in (self._quick, self._slow, self._pieces):
            one.close()

    # ---- answers

    def _overview(self, index: Index, _params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        anomalies, teams = self._pieces.anomalies(span), self._pieces.teams(span)
        found = overview.overview(index, self._sums, span, anomalies or Anomalies(), teams or ())
        missing = [name for name, piece in (("anomalies", anomalies), ("teams", teams)) if piece is None]
        return {**found, UNREADY: missing} if missing else found

    def _lanes(self, index: Index, _params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        anomalies = self._pieces.anomalies(span)
        found = overview.lanes(index, self._sums, span, anomalies or Anomalies())
        return {**found, UNREADY: ["anomalies"]} if anomalies is None else found

    def _graph(self, index: Index, _params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        return overview.graph(index, self._sums, span)

    def _agent(self, index: Index, params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        return reading.agent(index, self._sums, params, span)

    def _conversation(self, index: Index, params: Mapping[str, str], _span: TimeSpan) -> Mapping[str, Any]:
        return reading.conversation(index, self._sums, params)

    def _pending(self, index: Index, params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        return reading.pending(index, self._sums, params, span)

    def _sessions(self, index: Index, params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        return reading.sessions(index, self._sums, params, span)

    def _status(self, _index: Index, _params: Mapping[str, str], span: TimeSpan) -> Mapping[str, Any]:
        from sidecar.health.status import status_of

        values = asdict(status_of(self._served.settings))
        del values["source_list"]
        return {**span.ends(), **values}

    # ---- requests

    def _api(
        self,
        answer: Answer,
        desk: Desk,
        lists: tuple[str, ...],
        *,
        whole: bool = False,
        keep: bool = True,
        needs_index: bool = True,
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route whose answer is made at a desk. `whole`: its span is the whole log by default; `keep`: the answer is
        the same as long as the index is; `needs_index`: there is no answer without one."""

        async def respond(request: Request) -> Response:
            params = dict(request.query_params)
            key = (request.url.path, *sorted(params.items()))

            def make(index: Index) -> bytes:
                state = stamp(self._folder)
                span = span_of(params, self._extent(index, state) if needs_index else None, whole=whole)
                kept = self._kept.get((*key, span), state) if keep else None
                if kept is not None:
                    return bytes(kept)
                value = answer(index, params, span)
                body = encoded(value, lists)
                if keep and UNREADY not in value:
                    self._kept.put((*key, span), state, body, len(body))
                return body

            task = self._running.get(key)
            if task is None:
                task = self._running[key] = asyncio.create_task(desk.ask(make))
                task.add_done_callback(lambda done: self._ended(key, done))
            return json_response(await asyncio.shield(task))

        return respond

    def _extent(self, index: Index, state: Stamp) -> tuple[float, float] | None:
        """The times of the first and the last entry. Every answer needs them, and every day is asked for them."""
        found: tuple[float, float] | None = self._kept.get("extent", state)
        if found is None and (found := extent(index)) is not None:
            self._kept.put("extent", state, found, sys.getsizeof(found))
        return found

    def _ended(self, key: Hashable, done: asyncio.Task[bytes]) -> None:
        self._running.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever asked may be gone: asyncio need not complain that nobody looked

    async def _stream(self, _request: Request) -> Response:
        return StreamingResponse(self._live.watch(self._served.is_over), media_type="text/event-stream")

    async def _search(self, request: Request) -> Response:
        params = dict(request.query_params)
        wanted = searching.SearchWanted.of(params)
        span_of(params, None)  # refused now, not in the middle of the stream
        hits = searching.events(self._served.open_index, wanted, params, self._served.is_over)
        return StreamingResponse(hits, media_type="text/event-stream")

    async def _bytes(self, request: Request) -> Response:
        params = dict(request.query_params)
        try:
            data = await self._quick.ask(lambda index: record_bytes(index, params))
        except tuple(STATUS) as error:
            status = next(number for kind, number in STATUS.items() if isinstance(error, kind))
            return failure(status, str(error), error.hint)
        return Response(data, media_type="application/octet-stream")

    async def _metrics(self, request: Request) -> Response:
        try:
            from sidecar.metrics.exposition import NOT_COUNTED, Exposition
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "prometheus_client":
                raise
            return failure(501, str(MissingExtra("metrics", "prometheus_client")))
        accept = request.headers.get("accept", "")
        exposition = Exposition(self._keeper)
        # Elsewhere only if it has to wait: beside threads that compute, each step to another one takes milliseconds.
        is_ready = self._keeper.is_ready
        answer = exposition.answer(accept) if is_ready else await asyncio.to_thread(exposition.answer, accept)
        if answer is None:
            return failure(503, NOT_COUNTED)
        content_type, body = answer
        return Response(body, headers={"Content-Type": content_type})

    async def _page(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


async def _failure(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SidecarError)
    return failure_of(error)


async def _bad(_request: Request, error: Exception) -> Response:
    return failure(400, str(error))


async def _fault(_request: Request, error: Exception) -> Response:
    return failure(500, f"{type(error).__name__}: {error}", "this is a fault of the sidecar; its log says more")


async def _http_failure(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failure(error.status_code, error.detail)
