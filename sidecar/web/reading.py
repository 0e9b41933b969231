"""The answers that are entries: conversations, records, what waits, sessions, and one agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from sidecar.analyze.circles import loops
from sidecar.errors import EntryNotFound, SidecarError, SourceError, UnknownName
from sidecar.query.index import Index
from sidecar.query.pages import entries_behind
from sidecar.records import SESSION_STATUSES, Entry
from sidecar.times import SECONDS_PER_DAY

from .entries import agents_of, place, said
from .overview import Series, loop_object, slice_of
from .spans import BadParameter, TimeSpan, needed, number
from .sums import Exchange, Sums

PAGE = 400
"""Entries of a conversation in one answer."""
MOST_TEXT = 4_000
"""Characters of what was said in one message."""
PAGE_TEXT = 150_000
"""Characters of what was said in one answer: the page ends after the message that exceeds it."""
MOST_DAYS = 7
"""Days of a conversation, at most, that are asked for roles."""
MOST_BYTES = 100_000
"""Bytes of a record that are shown."""
AGES = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (21600, "6 h"), (86400, "1 day"), (7 * 86400, "7 days"))
"""Ends of the classes of ages, in seconds."""


def conversation(index: Index, sums: Sums, params: Mapping[str, str]) -> dict[str, Any]:
    """A page of a conversation, with what was said; or with `session`, of a session. `after` is the `next` of the page
    before, or the id of an entry."""
    session = params.get("session")
    id_ = session or needed(params, "id")
    rows: list[Entry] = []
    texts: list[tuple[str | None, str | None]] = []
    left = PAGE_TEXT
    is_more = False
    for entry in _after(index, None if session else id_, session, params.get("after")):
        if len(rows) == PAGE or left <= 0:
            is_more = True
            break
        rows.append(entry)
        texts.append(_text(index, entry))
        left -= len(texts[-1][0] or "")
    if not rows and not params.get("after"):
        what = "session" if session else "conversation"
        raise UnknownName(f"there is no {what} {id_!r}", hint="GET /api/sessions lists the sessions")
    shown = {entry.id for entry in rows}
    agents = dict.fromkeys(name for entry in rows for name in entry.participating_agents)
    begin, end = (rows[0].timestamp, rows[-1].timestamp) if rows else (0.0, 0.0)
    roles = _usual_roles(index, sums, begin, end)
    for entry in rows:
        roles.update(entry.agent_roles)
    found = loops(index, begin, end + 1) if len(rows) >= 12 else ()
    return {
        "from": begin,
        "to": end,
        "id": id_,
        "agents": [{"id": name, "role": roles.get(name)} for name in agents],
        "rows": _rows(rows, texts),
        "loops": [
            {**loop_object(one), "ids": list(one.ids[: PAGE * 2])}
            for one in found
            if one.conversation == id_ or (session and shown.issuperset(one.ids))
        ],
        "next": place(rows[-1]) if is_more else None,
    }


def _usual_roles(index: Index, sums: Sums, begin: float, end: float) -> dict[str, str]:
    """The main roles on the days of a conversation, for agents that have none in it."""
    if end - begin > MOST_DAYS * SECONDS_PER_DAY:
        return {}
    return sums.main_roles(index, TimeSpan(begin, end + 1, None))


def _after(index: Index, conversation: str | None, session: str | None, after: str | None) -> Iterator[Entry]:
    if not after:
        return index.timeline(conversation=conversation, session=session)
    last = index.get(after)
    return entries_behind(last, index.timeline(since=last.timestamp, conversation=conversation, session=session))


def _text(index: Index, entry: Entry) -> tuple[str | None, str | None]:
    """What was said, and if it cannot be read, why."""
    try:
        text = index.text(entry)
    except SidecarError as error:
        return None, type(error).__name__
    return (text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"), None


def _rows(entries: list[Entry], texts: list[tuple[str | None, str | None]]) -> list[dict[str, Any]]:
    asked: dict[str, float] = {}
    due: dict[float, float] = {}
    """Moments at which requests without a correlation were answered, and how long they had waited."""
    rows = []
    for entry, (text, gone) in zip(entries, texts, strict=True):
        after = None
        if entry.requests_response or entry.is_request:
            if entry.correlation_id:
                asked[entry.correlation_id] = entry.timestamp
            elif entry.answered_after is not None:
                due[round(entry.timestamp + entry.answered_after, 4)] = entry.answered_after
        elif entry.correlation_id in asked:
            after = round(entry.timestamp - asked[entry.correlation_id], 3)
        elif (moment := round(entry.timestamp, 4)) in due:
            after = round(due.pop(moment), 3)
        rows.append(
            {
                **said(entry),
                "roles": {name: entry.agent_roles[name] for name in list(entry.agent_roles)[:50]},
                "corr": entry.correlation_id,
                "request": entry.is_request or entry.requests_response,
                "waits": entry.requests_response and not entry.has_response,
                "after": after,
                "text": text,
                "gone": gone,
                "file": entry.file_path,
                "line": entry.line_number,
                "offset": entry.byte_offset,
            }
        )
    return rows


def record(index: Index, params: Mapping[str, str]) -> dict[str, Any]:
    """A record: what the index says of it, its place in the log, and its bytes, read just now."""
    entry = index.get(needed(params, "id"))
    raw, gone, why = b"", None, None
    try:
        raw = index.read_bytes(entry)
    except SourceError as error:
        gone, why = type(error).__name__, f"{error}. {error.hint}"
    return {
        "from": entry.timestamp,
        "to": entry.timestamp,
        "id": entry.id,
        "t": entry.timestamp,
        "type": entry.event_type,
        "author": entry.author,
        "to_agents": list(entry.addressees[:200]),
        "agents": list(entry.participating_agents[:200]),
        "roles": dict(list(entry.agent_roles.items())[:200]),
        "conversation": entry.conversation_id,
        "session": entry.session_id,
        "corr": entry.correlation_id,
        "pattern": entry.pattern_type,
        "waits": entry.requests_response and not entry.has_response,
        "answered_after": entry.answered_after,
        "file": entry.file_path,
        "line": entry.line_number,
        "offset": entry.byte_offset,
        "raw": None if gone else raw[:MOST_BYTES].decode("utf-8", "replace"),
        "bytes": len(raw),
        "cut": len(raw) > MOST_BYTES,
        "checksum": None if gone == "SourceMissing" else gone is None,
        "gone": gone,
        "why": why,
    }


def pending(index: Index, sums: Sums, params: Mapping[str, str], span: TimeSpan) -> dict[str, Any]:
    """Requests that wait, the oldest first; of one `agent`, if it is named: those to it and by it."""
    limit = number(params, "limit", 80, 500)
    agent = params.get("agent")
    moments = [one.timestamp for one in index.find_pending_requests(None) if span.since <= one.timestamp < span.until]
    entries = index.waiting(since=span.since, until=span.until)
    if agent:
        chosen = [one for one in entries if agent in (one.author, *one.addressees)]
        moments = [one.timestamp for one in chosen]
        entries = iter(chosen)
    after = params.get("after")
    if after:
        entries = entries_behind(index.get(after), entries)
    found = list(islice(entries, limit + 1))
    rows = [
        {**said(one), "age": round(span.until - one.timestamp, 3), "conversation": one.conversation_id}
        for one in found[:limit]
    ]
    return {
        **span.ends(),
        "n": len(moments),
        "ages": _ages(moments, span.until),
        "agents": agents_of(rows, sums.main_roles(index, span)),
        "rows": rows,
        "next": place(found[limit - 1]) if len(found) > limit else None,
    }


def _ages(moments: list[float], now: float) -> list[dict[str, Any]]:
    """How many wait how long: classes of ages, each up to `under` seconds (null: older)."""
    counts = [0] * (len(AGES) + 1)
    for moment in moments:
        age = now - moment
        counts[next((place for place, (end, _) in enumerate(AGES) if age < end), len(AGES))] += 1
    names = [*(f"up to {name}" for _, name in AGES), "longer"]
    ends = [*(end for end, _ in AGES), None]
    return [{"name": name, "under": end, "n": n} for name, end, n in zip(names, ends, counts, strict=True)]


def sessions(index: Index, sums: Sums, params: Mapping[str, str], span: TimeSpan) -> dict[str, Any]:
    """The sessions, the latest first; `after` is the `next` of the page before, which is a session id."""
    limit = number(params, "limit", 100, 500)
    words = params.get("q", "").casefold()
    status = params.get("status")
    if status and status not in SESSION_STATUSES:
        raise BadParameter("status: `active` or `completed` is expected")
    found = [
        one
        for one in reversed(list(index.sessions(status or None)))
        if span.since <= one.created_at < span.until
        and (not words or words in one.session_id.casefold() or words in one.initiating_agent.casefold())
    ]
    begin = 0
    if after := params.get("after"):
        begin = 1 + next((place for place, one in enumerate(found) if one.session_id == after), len(found))
    page = found[begin : begin + limit]
    # Of the days of this page alone: the span is the whole log by default.
    moments = [one.created_at for one in page] or [span.since]
    roles = _usual_roles(index, sums, min(moments), max(moments))
    return {
        **span.ends(),
        "n": len(found),
        "rows": [
            {
                "id": one.session_id,
                "agent": one.initiating_agent,
                "created": one.created_at,
                "pattern": one.pattern_type,
                "status": one.status,
                "lives_in": one.lives_in,
            }
            for one in page
        ],
        "agents": agents_of(({"from": one.initiating_agent, "to": ()} for one in page), roles),
        "next": page[-1].session_id if begin + limit < len(found) else None,
    }


def agent(index: Index, sums: Sums, params: Mapping[str, str], span: TimeSpan) -> dict[str, Any]:
    """One agent: how much it said, with whom, and its latest entries."""
    id_ = needed(params, "id")
    seconds = slice_of(span, 200)
    series = Series(span, seconds)
    for slice_, author, *counts in sums.slices(index, span, seconds):
        if author == id_:
            series.add(slice_, counts)
    latest = list(index.timeline(span.since, span.until, agent=id_, limit=50, reverse=True))
    if not latest and next(index.timeline(agent=id_, limit=1), None) is None:
        raise EntryNotFound(f"there is no agent {id_!r}", hint="names are given whole, as the pages show them")
    peers: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    to_it = Exchange()
    for (author, addressee), one in sums.pairs(index, span)[0].items():
        if author == id_:
            known = peers[addressee]
            known[0] += one.count
            known[2] += one.asked
            known[3] += one.answered
        if addressee == id_:
            peers[author][1] += one.count
            to_it.asked += one.asked
            to_it.answered += one.answered
    roles = sums.main_roles(index, span)
    rows = [{**said(one), "conversation": one.conversation_id} for one in latest]
    names = sorted((name for name in peers if name), key=lambda name: (-sum(peers[name][:2]), name))
    return {
        **span.ends(),
        "id": id_,
        "role": roles.get(id_),
        **series.values(),
        "messages": series.totals()["messages"],
        "asked_n": to_it.asked,
        "answered": to_it.answered,
        "pending": to_it.asked - to_it.answered,
        "peers": [
            dict(zip(("id", "to", "from", "asked", "answered"), (name, *peers[name]), strict=True))
            for name in names[:100]
        ],
        "latest": rows,
        "agents": agents_of([*rows, {"from": id_, "to": names[:100]}], roles),
    }
