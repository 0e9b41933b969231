"""Which request an answer belongs to. Slow on purpose: every choice is a scan over a list, in the order of the law."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KEPT = 1_024
"""Answered requests, and correlations of early answers, that are remembered."""


@dataclass
class Request:
    """A request as later answers see it. `row` is its own row, which an answer may still change."""

    row: dict[str, Any]
    place: int
    """How many records of the log are before it."""
    author: str | None
    addressees: list[str]
    expects_response: bool
    correlation: str | None


@dataclass
class Links:
    """The requests of one log, and its answers that belong to none."""

    open: list[Request] = field(default_factory=list)
    answered: list[Request] = field(default_factory=list)
    early: list[tuple[str, float]] = field(default_factory=list)
    """The correlation, and the time of the first answer with it."""
    loose: set[str] = field(default_factory=set)
    """Correlations of all answers that belong to no request of this log, however long ago."""

    def ask(self, request: Request) -> None:
        """A request becomes open, or is born answered and uses the early answer up."""
        for early in self.early:
            correlation, time = early
            if correlation == request.correlation:
                self.early.remove(early)
                self.loose.discard(correlation)
                self._is_answered(request, time)
                return
        self.open.append(request)

    def answer(self, author: str | None, correlation: str | None, time: float) -> Request | None:
        """The request that an answer belongs to, marked as answered; else its correlation is kept as early."""
        if correlation is None:
            request = _choice(self.open, author)
            if request is None and self.answered:
                request = self.answered[-1]
        else:
            request = _newest(self.open, correlation) or _newest(self.answered, correlation)
            if request is None:
                request = _choice([r for r in self.open if r.correlation is None], author)
                if request is not None:
                    request.correlation = correlation
                    request.row["correlation_id"] = correlation
            if request is None:
                self._comes_early(correlation, time)
        if request is not None:
            self._is_answered(request, time)
        return request

    def _comes_early(self, correlation: str, time: float) -> None:
        times = [first for early, first in self.early if early == correlation]
        self.early = [early for early in self.early if early[0] != correlation]
        self.early.append((correlation, times[0] if times else time))
        del self.early[:-KEPT]
        self.loose.add(correlation)

    def _is_answered(self, request: Request, time: float) -> None:
        if not request.row["has_response"]:
            request.row["answered_after"] = time - request.row["timestamp"]
        request.row["has_response"] = 1
        self.open = [r for r in self.open if r is not request]
        self.answered = [r for r in self.answered if r is not request]
        self.answered.append(request)
        del self.answered[:-KEPT]


def answer_across(logs: list[Links]) -> None:
    """What is open in its own log has a response where another log holds an answer that is loose there."""
    for log in logs:
        elsewhere = {correlation for other in logs if other is not log for correlation in other.loose}
        for request in log.open:
            if request.correlation in elsewhere:
                request.row["has_response"] = 1


def _newest(requests: list[Request], correlation: str) -> Request | None:
    """Furthest in the log."""
    bearing = [r for r in requests if r.correlation == correlation]
    return max(bearing, key=lambda r: r.place, default=None)


def _choice(requests: list[Request], author: str | None) -> Request | None:
    """Among open requests, in the order of the log, that expect a response."""
    expecting = [r for r in requests if r.expects_response]
    for request in expecting:
        if author is not None and author in request.addressees:
            return request
    for request in expecting:
        if not request.addressees:
            return request
    for request in expecting:
        return request
    return None
