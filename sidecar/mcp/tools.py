"""The ten tools, as plain methods. Each opens the index anew, so that one that was rebuilt meanwhile is no matter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import Field

from sidecar import analyze
from sidecar.errors import SourceError
from sidecar.health.status import Status
from sidecar.query.index import Index
from sidecar.query.names import find_entry, resolve
from sidecar.query.pages import entries_behind
from sidecar.records import Entry

from . import answers
from .answers import MAX_NAMES, MAX_ROWS, MAX_TEXT

MOST_COUNTED = 10_000
"""Waiting requests that are counted for `total`."""

T = TypeVar("T")

Name = Annotated[str, Field(min_length=1, max_length=2_000)]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Since = Annotated[
    str, Field(max_length=40, description="How far back: an age such as 30m, 2h, 7d; or a time in ISO 8601.")
]
WithText = Annotated[bool, Field(description="False leaves out what agents wrote.")]


class Tools:
    """What the tools do. Their docstrings are for agents."""

    def __init__(self, open_index: Callable[[], Index], status_of_root: Callable[[], tuple[str, Status]]) -> None:
        self._open = open_index
        self._status = status_of_root

    def who_waits_for_me(
        self, agent: Name, max_age: Since | None = None, limit: Limit = 20, with_text: WithText = True
    ) -> answers.Unanswered:
        """Requests to an agent that nobody has answered yet, the oldest first. Give your own agent id as `agent`."""
        return self._waiting(agent, "to", max_age, limit, with_text)

    def whom_do_i_wait_for(
        self, agent: Name, max_age: Since | None = None, limit: Limit = 20, with_text: WithText = True
    ) -> answers.Unanswered:
        """Requests of an agent that nobody has answered yet, the oldest first. Give your own agent id as `agent`."""
        return self._waiting(agent, "by", max_age, limit, with_text)

    def _waiting(self, agent: str, side: str, max_age: str | None, limit: int, with_text: bool) -> answers.Unanswered:
        now = time.time()
        with self._open() as index:
            given: dict[str, Any] = {side: resolve(index, "agent", agent)}
            found = list(islice(index.waiting(since=max_age, **given), MOST_COUNTED))
            rows = [
                answers.UnansweredRequest(
                    id=one.id,
                    age_seconds=round(now - one.timestamp, 1),
                    from_agent=one.author,
                    to_agents=list(one.addressees[:MAX_NAMES]),
                    event_type=one.event_type,
                    conversation_id=one.conversation_id,
                    text=_text(index, one) if with_text else None,
                )
                for one in found[:limit]
            ]
        return answers.Unanswered(waiting=rows, total=len(found), truncated=len(found) > limit)

    def conversation(
        self, id: Name, after: Name | None = None, limit: Limit = 50, with_text: WithText = True
    ) -> answers.Transcript:
        """What was said in a conversation, from its beginning, or after the entry that `next` of an answer named."""
        with self._open() as index:
            name = resolve(index, "conversation", id)
            last = None if after is None else find_entry(index, after)
            entries: Iterator[Entry] = index.timeline(conversation=name, since=None if last is None else last.timestamp)
            if last is not None:
                entries = entries_behind(last, entries)
            found, more = _some(entries, limit)
            rows = [
                answers.Message(
                    id=one.id,
                    time=one.timestamp,
                    **{"from": one.author},
                    to=list(one.addressees[:MAX_NAMES]),
                    event=one.event_type,
                    text=_text(index, one) if with_text else None,
                )
                for one in found
            ]
        return answers.Transcript(conversation_id=name, rows=rows, next=found[-1].id if more else None)

    def who_talks_with(self, agent: Name, since: Since = "7d", limit: Limit = 50) -> answers.Peers:
        """Whom an agent talks with: messages in both directions, its requests, and how fast they were answered."""
        sent: Counter[str] = Counter()
        received: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        times: dict[str, list[float]] = {}
        names = ("author", "addressees", "requests_response", "has_response", "answered_after")
        with self._open() as index:
            name = resolve(index, "agent", agent)
            for author, addressees, requests, has_response, seconds in index.timeline(since, agent=name, columns=names):
                if author is not None and author != name and name in addressees:
                    received[author] += 1
                for other in addressees if author == name else ():
                    sent[other] += 1
                    asked[other] += requests
                    answered[other] += requests and has_response
                    if seconds is not None:
                        times.setdefault(other, []).append(seconds)
        peers = [
            answers.Peer(
                agent=other,
                sent=sent[other],
                received=received[other],
                asked=asked[other],
                answered=answered[other],
                median_seconds=median(times[other]) if other in times else None,
            )
            for other, _ in (sent + received).most_common(limit)
        ]
        return answers.Peers(peers=peers, truncated=len(sent + received) > limit)

    def roles(self, session: Name, agent: Name | None = None, limit: Limit = 50) -> answers.AgentRoles:
        """Who held which role in a session, when, and for how long."""
        held: list[answers.AgentRole] = []
        current: dict[str, answers.AgentRole] = {}
        with self._open() as index:
            name = resolve(index, "session", session)
            wanted = None if agent is None else resolve(index, "agent", agent)
            for moment, roles in index.timeline(session=name, agent=wanted, columns=("timestamp", "agent_roles")):
                for who, role in roles.items():
                    one = current.get(who)
                    if one is not None:
                        one.seconds = moment - one.since
                    if one is None or one.role != role:
                        one = current[who] = answers.AgentRole(agent=who, role=role, since=moment, seconds=0, entries=0)
                        if wanted in (None, who):
                            held.append(one)
                    one.entries += 1
        return answers.AgentRoles(session_id=name, roles=held[:limit], truncated=len(held) > limit)

    def agents(self, since: Since = "1d", limit: Limit = 50) -> answers.KnownAgents:
        """The agents that took part in anything lately, their last roles, and how many requests wait for each."""
        seen: dict[str, float] = {}
        roles: dict[str, str] = {}
        columns = ("timestamp", "participating_agents", "agent_roles")
        with self._open() as index:
            for moment, names, held in index.timeline(since, columns=columns):
                seen.update(dict.fromkeys(names, moment))
                roles.update(held)
            waiting = Counter(name for one in index.waiting() for name in one.addressees if name in seen)
        latest = sorted(seen, key=lambda name: (-seen[name], name))
        rows = [
            answers.KnownAgent(id=name, role=roles.get(name), last_seen=seen[name], waiting=waiting[name])
            for name in latest[:limit]
        ]
        return answers.KnownAgents(agents=rows, truncated=len(latest) > limit)

    def am_i_in_a_loop(self, agent: Name, since: Since = "1h", limit: Limit = 20) -> answers.Circles:
        """Whether an agent goes in circles: two to five agents that passed messages round and round in the same order.
        Give your own agent id. If there is a loop, stop, and tell a person what you were trying to do."""
        with self._open() as index:
            name = resolve(index, "agent", agent)
            found = [one for one in analyze.loops(index, since) if name in one.agents]
        rows = [
            answers.Circle(
                agents=list(one.agents),
                rounds=one.rounds,
                messages=one.messages,
                since=one.since,
                until=one.until,
                conversation_id=one.conversation,
            )
            for one in found[:limit]
        ]
        return answers.Circles(loops=rows)

    def search(
        self,
        text: Annotated[str, Field(min_length=1, max_length=1_000)],
        agent: Name | None = None,
        conversation: Name | None = None,
        since: Since = "7d",
        limit: Limit = 20,
        with_text: WithText = True,
    ) -> answers.FoundTexts:
        """Find records that have a text, whatever its case, the latest first."""
        unreadable: list[SourceError] = []
        with self._open() as index:
            names: dict[str, Any] = {"agent": agent and resolve(index, "agent", agent)}
            names["conversation"] = conversation and resolve(index, "conversation", conversation)
            hits = index.search(text, since, **names, context=200, unreadable=unreadable.append)
            found, more = _some(hits, limit)
        rows = [
            answers.FoundText(
                id=one.id,
                time=one.timestamp,
                **{"from": one.author},
                to=list(one.addressees[:MAX_NAMES]),
                event=one.event_type,
                conversation_id=one.conversation_id,
                place=_cut(one.place),
                text=_cut(f"{one.before}{one.match}{one.after}") if with_text else None,
            )
            for one in found
        ]
        return answers.FoundTexts(hits=rows, truncated=more, unreadable_logs=len(unreadable))

    def read(self, id: Name, with_text: WithText = True) -> answers.ReadRecord:
        """The record behind an entry, by its id."""
        with self._open() as index:
            one = find_entry(index, id)
            record = orjson.dumps(index.read(one)).decode()
            text = index.text(one)
        return answers.ReadRecord(
            id=one.id,
            time=one.timestamp,
            event=one.event_type,
            file=one.file_path,
            line=one.line_number,
            byte_offset=one.byte_offset,
            text=_cut(text) if with_text else None,
            record=_cut(record) if with_text else None,
            truncated=len(record) > MAX_TEXT or len(text) > MAX_TEXT,
        )

    def status(self) -> answers.Health:
        """Whether the index is complete and up to date, and which logs it is of."""
        root, found = self._status()
        return answers.Health(
            healthy=found.healthy,
            reasons=[_cut(reason) for reason in found.reasons[:20]],
            entries=found.entries,
            sources=found.sources,
            days=found.days,
            lag_seconds=found.lag_seconds,
            running=found.running is not None,
            root=root,
        )


def _some(found: Iterator[T], limit: int) -> tuple[list[T], bool]:
    """Up to `limit` of what is found, and whether there is more."""
    some = list(islice(found, limit + 1))
    return some[:limit], len(some) > limit


def _text(index: Index, entry: Entry) -> str | None:
    """What was said; None if the record cannot be read."""
    try:
        return _cut(index.text(entry))
    except SourceError:
        return None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
