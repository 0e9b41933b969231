"""Which request an answer belongs to: the linking rules of the law of derivation (section 6), for one file.

The law says: the newest open request with the answer's correlation; else the newest answered one with it; else an open
request without correlation, which takes it; else none, and the correlation is kept as early. An answer without
correlation belongs to an open request that expects a response, else to the request answered last.

A file may hold a million open requests, so every rule is answered by a lookup and none by a search.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

MAX_REMEMBERED_ANSWERS = 1024
"""So many answered requests, and so many early correlations, are remembered (section 6)."""


_LONGEST_KEPT = 64
"""Characters of an early correlation that are kept as they are."""


class Request(NamedTuple):
    """What must be known of a request for its answers to be derived."""

    byte_offset: int
    """Where it stands in its file, which is also its age."""
    day: int
    correlation: str | None
    author: str | None
    addressees: tuple[str, ...]
    pattern: str
    conversation: str
    expects: bool
    """Expects a response, so that an answer which names no correlation may be taken for its answer."""


def _short(correlation: str) -> str:
    """The correlation, or if it is long a hash of it in its place: all are saved at each checkpoint. A hash is longer
    than whatever is kept as it is, so that no correlation can pass for one."""
    if len(correlation) <= _LONGEST_KEPT:
        return correlation
    return blake2b(correlation.encode(), digest_size=_LONGEST_KEPT // 2 + 1).hexdigest()


class RequestQueue:
    """Open requests, oldest first: a list, because a million of anything larger would not be held in memory. What is
    open no more stays in it until it comes first, or until it is the larger part."""

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
        """One of these is not open any more."""
        self._left -= 1
        if len(self._keys) > 2 * self._left + 32:
            self._keys = [key for key in self._keys[self._start :] if key in open_]
            self._start = 0

    def first(self, open_: Mapping[int, Request]) -> int | None:
        """The oldest that is open."""
        keys = self._keys
        while self._start < len(keys):
            if keys[self._start] in open_:
                return keys[self._start]
            self._start += 1
        return None


class WaitingRequests:
    """Open requests that expect a response, oldest first, by whom they wait for."""

    def __init__(self, open_: Mapping[int, Request], requests: Iterable[Request]) -> None:
        self._open = open_
        self._all = RequestQueue()
        self._to_nobody = RequestQueue()
        self._to_agent: dict[str, RequestQueue] = {}
        for request in requests:
            self.add(request)

    def add(self, request: Request) -> None:
        key = request.byte_offset
        self._all.add(key)
        if not request.addressees:
            self._to_nobody.add(key)
        for agent in request.addressees:
            queue = self._to_agent.get(agent)
            if queue is None:
                queue = self._to_agent[agent] = RequestQueue()
            queue.add(key)

    def remove(self, request: Request) -> None:
        """Of a request that is not open any more."""
        self._all.remove_one(self._open)
        if not request.addressees:
            self._to_nobody.remove_one(self._open)
        for agent in request.addressees:
            queue = self._to_agent[agent]
            queue.remove_one(self._open)
            if not queue:
                del self._to_agent[agent]

    def choose(self, answerer: str | None) -> int | None:
        """The oldest addressed to the answer's author; else the oldest without addressees; else the oldest."""
        mine = self._to_agent.get(answerer) if answerer is not None else None
        return (mine or self._to_nobody or self._all).first(self._open)


class RequestTable:
    """The requests of one file that an answer may still belong to."""

    def __init__(self) -> None:
        self._open: dict[int, Request] = {}
        self._open_with: dict[str, int | dict[int, None]] = {}
        """By correlation: the one that has it, as almost always, or those that do, the newest at the end."""
        self._waiting: WaitingRequests | None = None
        """Those that expect a response: made when an answer is first looked for among them, as in few files."""
        self._waiting_bare: WaitingRequests | None = None
        """Those of them without a correlation of their own."""
        self._answered: OrderedDict[int, Request] = OrderedDict()
        self._answered_with: dict[str, set[int]] = {}
        self._early: OrderedDict[str, None] = OrderedDict()
        self.opened: set[int] = set()
        """Opened since the last `forget_changes`, so that saving the state costs what changed."""
        self.closed: set[int] = set()

    # ---- a request comes

    def ask(self, request: Request) -> bool:
        """Take in a new request; True where an answer came before it, so that it is born answered."""
        if request.correlation is not None and _short(request.correlation) in self._early:
            self._keep_answered(request)
            return True
        self._add_open(request)
        self.opened.add(request.byte_offset)
        return False

    def _add_open(self, request: Request) -> None:
        key = request.byte_offset
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

    # ---- an answer comes

    def answer(self, correlation: str | None, answerer: str | None) -> Request | None:
        """The request that an answer belongs to, answered from now on, with the correlation that it then has."""
        if correlation is None:
            return self._answer_bare(answerer)
        same = self._open_with.get(correlation)
        if same is not None:
            return self._close(same if isinstance(same, int) else next(reversed(same)))
        if kept := self._answered_with.get(correlation):
            return self._keep_answered(self._answered[max(kept)])
        if self._waiting_bare is None:
            bare_ones = (one for one in self._open.values() if one.expects and one.correlation is None)
            self._waiting_bare = WaitingRequests(self._open, bare_ones)
        bare = self._waiting_bare.choose(answerer)
        if bare is not None:
            return self._close(bare, correlation)
        early = _short(correlation)
        self._early[early] = None
        self._early.move_to_end(early)
        if len(self._early) > MAX_REMEMBERED_ANSWERS:
            self._early.popitem(last=False)
        return None

    def _answer_bare(self, answerer: str | None) -> Request | None:
        if self._waiting is None:
            self._waiting = WaitingRequests(self._open, (one for one in self._open.values() if one.expects))
        key = self._waiting.choose(answerer)
        if key is not None:
            return self._close(key)
        if not self._answered:
            return None
        return self._answered[next(reversed(self._answered))]

    def _close(self, key: int, taken: str | None = None) -> Request:
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
        if taken is not None:
            request = request._replace(correlation=taken)
        return self._keep_answered(request)

    def _keep_answered(self, request: Request) -> Request:
        """Make this the request answered last."""
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
            oldest, gone = self._answered.popitem(last=False)
            if gone.correlation is not None:
                kept = self._answered_with[gone.correlation]
                kept.discard(oldest)
                if not kept:
                    del self._answered_with[gone.correlation]
        return request

    # ---- saved and restored

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._open) + len(self._answered) + len(self._early)

    @property
    def open(self) -> dict[int, Request]:
        """Open requests by byte offset, oldest first."""
        return self._open

    @property
    def answered(self) -> Iterator[tuple[int, int]]:
        """Day and byte offset of the answered requests that are remembered, the one answered last at the end."""
        return ((request.day, key) for key, request in self._answered.items())

    @property
    def early(self) -> list[str]:
        """Correlations of answers that came before their request, the latest at the end; long ones as a hash."""
        return list(self._early)

    def forget_changes(self) -> None:
        """All changes so far have been saved."""
        self.opened = set()
        self.closed = set()

    def restore(self, open_: Iterable[Request], answered: Iterable[Request], early: Iterable[str]) -> None:
        """Fill an empty memory with what was saved, in the order in which it was saved."""
        for request in open_:
            self._add_open(request)
        for request in answered:
            self._keep_answered(request)
        for correlation in early:
            self._early[correlation] = None
