"""Search, as server-sent events: each hit when it is found."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import orjson

from sidecar.analyze.requests import extent
from sidecar.errors import SidecarError
from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.search.hit import Hit
from sidecar.times import SECONDS_PER_DAY

from .answers import SCHEMA_VERSION
from .desks import OpenIndex
from .entries import said
from .spans import BadParameter, needed, number, span_of

MOST_HITS = 200
MOST_SCANNED = 5_000_000
CONTEXT = 160
"""Characters before and after a match."""
LONGEST_MATCH = 400
MOST_WAITING = 100
"""Hits that wait to be sent: a reader that is slow slows the search."""


@dataclass(frozen=True, slots=True)
class SearchWanted:
    """What is looked for."""

    text: str
    regex: bool
    filters: Mapping[str, str]
    limit: int
    """Hits."""
    scan_limit: int
    """Entries: the search ends after the day with which it has looked at so many."""

    @classmethod
    def of(cls, params: Mapping[str, str]) -> SearchWanted:
        """Raises BadParameter."""
        text = needed(params, "q")
        regex = params.get("regex", "") not in ("", "0", "false")
        if regex:
            try:
                re.compile(text)
            except re.error as error:
                raise BadParameter(f"q: not a regular expression: {error}") from None
        names = ("agent", "session", "conversation", "correlation", "event_type", "pattern")
        filters = {name: params[name] for name in names if params.get(name)}
        limit = number(params, "limit", MOST_HITS, 1_000)
        return cls(text, regex, filters, limit, number(params, "scan_limit", MOST_SCANNED, 1_000_000_000))


async def events(
    open_index: OpenIndex, wanted: SearchWanted, params: Mapping[str, str], is_over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """A hit in each unnamed event; `progress` after each day; at last `end` or `failed`. The thread that searches ends
    when nobody reads any more."""
    loop = asyncio.get_running_loop()
    mailbox: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
    stop = Event()

    def send(message: bytes | None) -> bool:
        if stop.is_set() or is_over():
            return False
        try:
            asyncio.run_coroutine_threadsafe(mailbox.put(message), loop).result()
        except (RuntimeError, asyncio.CancelledError):
            return False
        return not stop.is_set()

    def run() -> None:
        try:
            with open_index() as index:
                _search(index, wanted, params, send)
        except SidecarError as error:
            send(_event("failed", {"error": str(error), "hint": error.hint}))
        except BadParameter as error:
            send(_event("failed", {"error": str(error)}))
        send(None)

    thread = Thread(target=run, name="sidecar-web-search")
    thread.start()
    try:
        while True:
            try:
                message = await asyncio.wait_for(mailbox.get(), 1.0)
            except TimeoutError:
                if is_over():
                    return
                yield b": searching\n\n"
                continue
            if message is None:
                return
            yield message
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for room in the mailbox
            while not mailbox.empty():
                mailbox.get_nowait()
            await asyncio.sleep(0.01)


def _search(
    index: Index, wanted: SearchWanted, params: Mapping[str, str], send: Callable[[bytes | None], bool]
) -> None:
    """Search the days of the span, the latest first."""
    span = span_of(params, extent(index), whole=True)
    found = scanned = 0
    is_complete = True
    for day, begin, entries in reversed(of_each_day(index, _day, span.since, span.until)):
        if found >= wanted.limit or scanned >= wanted.scan_limit:
            is_complete = False
            break
        since, until = max(begin, span.since), min(begin + SECONDS_PER_DAY, span.until)
        unreadable: list[SidecarError] = []
        hits = index.search(
            wanted.text,
            since,
            until,
            **wanted.filters,
            limit=wanted.limit - found,
            regex=wanted.regex,
            context=CONTEXT,
            unreadable=unreadable.append,
        )
        for hit in hits:
            found += 1
            if not send(_event(None, _hit(hit))):
                return
        scanned += entries
        progress = {"day": day, "found": found, "scanned": scanned, "unreadable": len(unreadable)}
        if not send(_event("progress", progress)):
            return
    ends = {**span.ends(), "found": found, "scanned": scanned, "complete": is_complete and found < wanted.limit}
    send(_event("end", ends))


def _day(day: DayFacts) -> tuple[str, float, int]:
    """The name of a day, its begin, and the number of its entries in the span."""
    ends = day.extent()
    begin = ends[0] - ends[0] % SECONDS_PER_DAY if ends else 0.0
    return day.day, begin, sum(entries for _, entries in day.counts("e.kind"))


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        **said(hit),
        "conversation": hit.conversation_id,
        "session": hit.session_id,
        "file": hit.file_path,
        "line": hit.line_number,
        "place": hit.place,
        "before": hit.before,
        "match": hit.match[:LONGEST_MATCH],
        "after": hit.after,
    }


def _event(name: str | None, value: Mapping[str, Any]) -> bytes:
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + orjson.dumps({"schema_version": SCHEMA_VERSION, **value}) + b"\n\n"
