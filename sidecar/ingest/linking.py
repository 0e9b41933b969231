"""Find the request that an answer belongs to: the linking rules of `docs/derivation.md`, section 6, for one file.

An answer with a correlation belongs to the newest open request with that correlation; else to the newest answered
request with it; else to an open request that expects a response and has no correlation, which takes it; else to none,
and the correlation is remembered as one of an early answer, until a request uses it up. An answer without a correlation
belongs to an open request that expects a response, else to the request answered last.

A file may hold a million open requests, so every rule is a lookup and none is a search.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from .crowd import MAX_LISTED, Crowd, Crowds

MAX_REMEMBERED_ANSWERS = 1024
"""How many answered requests are remembered, and how many correlations of early answers."""


BYTES_PER_REQUEST = 500
"""Bytes of crowds that count as much as one request."""


_MAX_PLAIN_CHARACTERS = 64
"""Characters up to which an early correlation is kept as it is; a longer one is kept as a hash."""


_new = tuple.__new__
"""Creates a named tuple at a third of the cost of calling its class."""


class Request(NamedTuple):
    """What the rows of a request's answers depend on."""

    byte_offset: int
    """Its position in the log, earlier parts included, and so its age relative to other requests."""
    day: int
    correlation: str | None
    author: str | None
    addressees: tuple[str, ...] | Crowd
    """Empty once it is answered, and where nothing depends on them."""
    pattern: str
    conversation: str
    expects: bool
    """Whether it expects a response, so that an answer without a correlation may belong to it."""
    timestamp: float
    """Its time, in seconds since 1970."""
    answered_after: float | None = None
    """Seconds from the request to its first answer in file order, by their timestamps, so it may be negative; None
    while the request is open."""


def correlation_key(correlation: str) -> str:
    """The correlation, or a hash if it is long, because all of these are saved at each checkpoint. A hash is longer
    than any correlation that is kept as it is, so no correlation can be mistaken for a hash."""
    if len(correlation) <= _MAX_PLAIN_CHARACTERS:
        return correlation
    return blake2b(correlation.encode(), digest_size=_MAX_PLAIN_CHARACTERS // 2 + 1).hexdigest()


class RequestQueue:
    """Open requests, oldest first, as a list of byte offsets, so that a million of them fit in memory. Requests that
    are no longer open are dropped lazily: when they come first, or when they are the majority."""

    __slots__ = ("_keys", "_left", "_start")

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._start = 0
        self._left = 0

    def __bool__(self) -> bool:
        return self._left > 0

    def add(self, key: int) -> None:
        self._keys.append(key)
        self._left += 1

    def remove_one(self, open_: Mapping[int, Request]) -> None:
        """Note that one request in this queue is no longer open."""
        self._left -= 1
        if len(self._keys) > 2 * self._left + 32:
            self._keys = [key for key in self._keys[self._start :] if key in open_]
            self._start = 0

    def first(self, open_: Mapping[int, Request]) -> int | None:
        """The oldest open request; None if there is none."""
        keys = self._keys
        while self._start < len(keys):
            if keys[self._start] in open_:
                return keys[self._start]
            self._start += 1
        return None


class WaitingRequests:
    """Open requests that expect a response, oldest first, by addressee."""

    def __init__(self, open_: Mapping[int, Request], requests: Iterable[Request]) -> None:
        self._open = open_
        self._all = RequestQueue()
        self._to_nobody = RequestQueue()
        self._to_agent: dict[str, RequestQueue] = {}
        self._to_crowds: Crowds | None = None
        """Built when first needed."""
        for request in requests:
            self.add(request)

    def add(self, request: Request) -> None:
        key = request.byte_offset
        self._all.add(key)
        if not request.addressees:
            self._to_nobody.add(key)
        if isinstance(request.addressees, Crowd):
            if self._to_crowds is None:
                self._to_crowds = Crowds(self._open)
            self._to_crowds.add(key, request.addressees)
            return
        for agent in request.addressees:
            queue = self._to_agent.get(agent)
            if queue is None:
                queue = self._to_agent[agent] = RequestQueue()
            queue.add(key)

    def remove(self, request: Request) -> None:
        """Remove a request that is no longer open."""
        self._all.remove_one(self._open)
        if not request.addressees:
            self._to_nobody.remove_one(self._open)
        if isinstance(request.addressees, Crowd):
            assert self._to_crowds is not None
            self._to_crowds.remove(request.addressees)
            return
        for agent in request.addressees:
            queue = self._to_agent[agent]
            queue.remove_one(self._open)
            if not queue:
                del self._to_agent[agent]

    def choose(self, answerer: str | None) -> int | None:
        """The oldest request addressed to the answer's author; else the oldest without addressees; else the oldest."""
        addressed = self._addressed(answerer) if answerer is not None else None
        return (self._to_nobody or self._all).first(self._open) if addressed is None else addressed

    def _addressed(self, agent: str) -> int | None:
        queue = self._to_agent.get(agent)
        found = queue.first(self._open) if queue is not None else None
        if self._to_crowds is None:
            return found
        among_many = self._to_crowds.first(agent)
        return min((key for key in (found, among_many) if key is not None), default=None)


class RequestTable:
    """The requests of one file that a later answer may belong to."""

    def __init__(self) -> None:
        self._open: dict[int, Request] = {}
        self._open_with: dict[str, int | dict[int, None]] = {}
        """By correlation: the one request that has it (the usual case), or all requests that have it, newest last."""
        self._waiting: WaitingRequests | None = None
        """The open requests that expect a response. Built when first needed, which few files do."""
        self._waiting_bare: WaitingRequests | None = None
        """Those among them that have no correlation. Built when first needed."""
        self._answered: OrderedDict[int, Request] = OrderedDict()
        self._answered_with: dict[str, set[int]] = {}
        self._crowd_bytes = 0
        """Of the crowds that open requests are addressed to, packed."""
        self._early: OrderedDict[str, float] = OrderedDict()
        """By correlation, the time of the first of the early answers that have it."""
        self.opened: set[int] = set()
        """The requests opened since the last `forget_changes`, so that a save takes no longer than what changed.
        `closed` likewise."""
        self.closed: set[int] = set()
        self.loose: dict[str, bool] | None = None
        """For a source with answers across files: the correlations of answers that belong to no request of this file,
        each with whether there still is such an answer, as far as that has changed since the last `forget_changes`.
        Else None."""

    # ---- requests

    def add_request(self, request: Request) -> float | None:
        """Add a new request. Returns None if it is open. If its answer came before it, the request is answered from the
        start and uses that answer up; then returns the seconds from the request to the answer, which are not positive
        unless the log's times go back."""
        if request.correlation is not None and self._early:
            key = correlation_key(request.correlation)
            answer_time = self._early.pop(key, None)
            if answer_time is not None:
                if self.loose is not None:
                    self.loose[key] = False
                answered_after = answer_time - request.timestamp
                self._keep_answered(request._replace(answered_after=answered_after))
                return answered_after
        self._add_open(request)
        self.opened.add(request.byte_offset)
        return None

    def _add_open(self, request: Request) -> None:
        key = request.byte_offset
        if len(request.addressees) > MAX_LISTED:
            request = self._with_crowd(request)
        self._open[key] = request
        if request.correlation is not None:
            same = self._open_with.get(request.correlation)
            if same is None:
                self._open_with[request.correlation] = key
            elif isinstance(same, int):
                self._open_with[request.correlation] = {same: None, key: None}
            else:
                same[key] = None
        if request.expects:
            if self._waiting is not None:
                self._waiting.add(request)
            if self._waiting_bare is not None and request.correlation is None:
                self._waiting_bare.add(request)

    def _with_crowd(self, request: Request) -> Request:
        """A request to very many, with its addressees packed, if anything depends on them."""
        to = request.addressees
        if request.expects and not isinstance(to, Crowd):
            to = Crowd.of(to)
        if isinstance(to, Crowd):
            self._crowd_bytes += len(to.packed)
        return request._replace(addressees=to if request.expects else ())

    # ---- answers

    def match_answer(self, correlation: str | None, answerer: str | None, timestamp: float) -> Request | None:
        """The request that an answer belongs to, now marked as answered and with the correlation that it has from then
        on; None if there is no such request."""
        if correlation is None:
            return self._answer_bare(answerer, timestamp)
        same = self._open_with.get(correlation)
        if same is not None:
            return self._close(same if isinstance(same, int) else next(reversed(same)), timestamp)
        if answered := self._answered_with.get(correlation):
            return self._keep_answered(self._answered[max(answered)])
        if self._waiting_bare is None:
            bare = (one for one in self._open.values() if one.expects and one.correlation is None)
            self._waiting_bare = WaitingRequests(self._open, bare)
        key = self._waiting_bare.choose(answerer)
        if key is not None:
            return self._close(key, timestamp, correlation)
        early = correlation_key(correlation)
        self._early.setdefault(early, timestamp)
        self._early.move_to_end(early)
        if self.loose is not None:
            self.loose[early] = True
        if len(self._early) > MAX_REMEMBERED_ANSWERS:
            self._early.popitem(last=False)
        return None

    def _answer_bare(self, answerer: str | None, timestamp: float) -> Request | None:
        if self._waiting is None:
            self._waiting = WaitingRequests(self._open, (one for one in self._open.values() if one.expects))
        key = self._waiting.choose(answerer)
        if key is not None:
            return self._close(key, timestamp)
        if not self._answered:
            return None
        return self._answered[next(reversed(self._answered))]

    def _close(self, key: int, timestamp: float, new_correlation: str | None = None) -> Request:
        """Mark the open request `key` as answered by a record with this time."""
        request = self._open.pop(key)
        if request.correlation is not None:
            same = self._open_with[request.correlation]
            if not isinstance(same, int):
                del same[key]
            if isinstance(same, int) or not same:
                del self._open_with[request.correlation]
        if request.expects:
            if self._waiting is not None:
                self._waiting.remove(request)
            if self._waiting_bare is not None and request.correlation is None:
                self._waiting_bare.remove(request)
        if key in self.opened:
            self.opened.discard(key)
        else:
            self.closed.add(key)
        if request.addressees:
            if isinstance(request.addressees, Crowd):
                self._crowd_bytes -= len(request.addressees.packed)
            request = request._replace(addressees=())
        request = _new(Request, (*request[:-1], timestamp - request.timestamp))
        if new_correlation is not None:
            request = request._replace(correlation=new_correlation)
        return self._keep_answered(request)

    def _keep_answered(self, request: Request) -> Request:
        """Remember a request as the one answered last."""
        key = request.byte_offset
        if key in self._answered:
            self._answered.move_to_end(key)
            return request
        self._answered[key] = request
        if request.correlation is not None:
            same = self._answered_with.get(request.correlation)
            if same is None:
                self._answered_with[request.correlation] = {key}
            else:
                same.add(key)
        if len(self._answered) > MAX_REMEMBERED_ANSWERS:
            oldest, forgotten = self._answered.popitem(last=False)
            if forgotten.correlation is not None:
                remaining = self._answered_with[forgotten.correlation]
                remaining.discard(oldest)
                if not remaining:
                    del self._answered_with[forgotten.correlation]
        return request

    # ---- save and restore

    @property
    def cost(self) -> int:
        """The number of requests and early correlations in memory; crowds count by their size."""
        return len(self._open) + len(self._answered) + len(self._early) + self._crowd_bytes // BYTES_PER_REQUEST

    @property
    def open(self) -> dict[int, Request]:
        """Open requests by byte offset, oldest first."""
        return self._open

    @property
    def answered(self) -> Iterator[tuple[int, int]]:
        """The days and byte offsets of the answered requests that are remembered, in the order in which they were
        answered."""
        return ((request.day, key) for key, request in self._answered.items())

    @property
    def early(self) -> list[tuple[str, float]]:
        """The correlations of answers that came before their request, latest last, each with the time of its first
        answer. A long correlation is given as a hash."""
        return list(self._early.items())

    def forget_changes(self) -> None:
        """Reset `opened` and `closed`: all changes so far have been saved."""
        self.opened = set()
        self.closed = set()
        if self.loose is not None:
            self.loose = {}

    def restore(
        self, open_: Iterable[Request], answered: Iterable[Request], early: Iterable[tuple[str, float]]
    ) -> None:
        """Fill an empty table with saved requests and correlations, in the order in which they were saved."""
        for request in open_:
            self._add_open(request)
        for request in answered:
            self._keep_answered(request)
        self._early.update(early)
