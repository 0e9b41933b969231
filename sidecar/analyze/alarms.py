"""Who has stopped answering, who is flooded with requests, and everything that needs somebody now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.query.day_facts import ASKS, DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import SECONDS_PER_DAY, Time

from .circles import loops
from .repeats import duplicates
from .requests import extent
from .statistics import odds, poisson_tail
from .values import Anomalies, Silent, Storm

SILENT_ODDS = 1e-3
"""An agent is silent if its silence is less likely than this."""
LEAST_HISTORY = 20
"""Requests before an agent's last word that make a history."""
LEAST_UNANSWERED = 2
"""Requests since its last word. One alone may be a moment old."""
STORM_SECONDS = 600.0
LEAST_STORM = 8
"""Unanswered requests within `STORM_SECONDS` that make a storm."""
STORM_ODDS = 1e-6
RECENT_SECONDS = 2 * SECONDS_PER_DAY
"""How far back `anomalies` looks for what happens now."""
HISTORY_SECONDS = 31 * SECONDS_PER_DAY
"""How far back `anomalies` looks for what is usual."""

_Request = tuple[float, int]
"""Its time, and whether it has a response."""


@dataclass(slots=True)
class _Day:
    requests: dict[str, list[_Request]]
    """By addressee, in the order of time."""
    last_words: dict[str, float]
    """The time of the last entry of each author."""


def _day_requests(day: DayFacts) -> _Day:
    requests: defaultdict[str, list[_Request]] = defaultdict(list)
    for moment, kind, party, has_response in day.rows("timestamp", "kind", "party", "has_response", term=ASKS):
        for one in day.speakers(kind, party)[1]:
            requests[one].append((moment, has_response))
    for asked in requests.values():
        asked.sort()
    last_words: dict[str, float] = {}
    for kind, party, last in day.counts("e.kind", "e.party", what="MAX(e.timestamp)", moment=True):
        author, _ = day.speakers(kind, party)
        if author is not None:
            last_words[author] = max(last, last_words.get(author, 0.0))
    return _Day(dict(requests), last_words)


def _merged(index: Index, since: Time | None, until: Time | None) -> _Day:
    requests: defaultdict[str, list[_Request]] = defaultdict(list)
    last_words: dict[str, float] = {}
    for day in of_each_day(index, _day_requests, since, until):
        for agent, asked in day.requests.items():
            requests[agent] += asked
        last_words.update(day.last_words)
    return _Day(dict(requests), last_words)


def silent(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[Silent, ...]:
    """Agents that have stopped answering: of the n requests since an agent's last word (at least 2) none was answered,
    and with r, the share of requests that it answered before (at least 20), `(1 - r) ** n` is below 10^-3. The least
    likely first, then those with the most requests.

    Raises BadTime, and the errors of `Index`.
    """
    return _silent(_merged(index, since, until))


def _silent(day: _Day) -> tuple[Silent, ...]:
    found = []
    for agent, asked in day.requests.items():
        last = day.last_words.get(agent)
        if last is None:
            continue
        before = [answered for moment, answered in asked if moment <= last]
        after = [answered for moment, answered in asked if moment > last]
        if len(before) < LEAST_HISTORY or len(after) < LEAST_UNANSWERED or any(after):
            continue
        share = sum(map(bool, before)) / len(before)
        likely = (1 - share) ** len(after)
        if likely < SILENT_ODDS:
            found.append(Silent(agent, len(after), last, odds(likely), share))
    return tuple(sorted(found, key=lambda one: (one.odds, -one.requests, one.agent)))


def storms(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[Storm, ...]:
    """Many requests to one agent that nobody answered: at least 8 within ten minutes, if so many are less likely than
    10^-6 by the rate of its unanswered requests (a Poisson tail). The latest first, then by agent.

    Raises BadTime, and the errors of `Index`.
    """
    return _storms(_merged(index, since, until))


def _storms(day: _Day) -> tuple[Storm, ...]:
    found = [storm for agent, asked in day.requests.items() for storm in _storms_of(agent, asked)]
    return tuple(sorted(found, key=lambda one: (-one.until, one.agent)))


def _storms_of(agent: str, asked: list[_Request]) -> Iterable[Storm]:
    """Windows of ten minutes with too many requests; those that overlap are one storm."""
    waiting = [moment for moment, answered in asked if not answered]
    if len(waiting) < LEAST_STORM:
        return
    seconds = max(float(SECONDS_PER_DAY), asked[-1][0] - asked[0][0])
    mean = len(waiting) / seconds * STORM_SECONDS
    begin = 0
    storm: tuple[int, int, int] | None = None
    """The places of its first and last request, and its peak."""
    for end, moment in enumerate(waiting):
        while waiting[begin] < moment - STORM_SECONDS:
            begin += 1
        count = end - begin + 1
        if count < LEAST_STORM or poisson_tail(count, mean) >= STORM_ODDS:
            continue
        if storm is not None and begin <= storm[1]:
            storm = (storm[0], end, max(count, storm[2]))
        else:
            if storm is not None:
                yield _storm(agent, waiting, storm, mean)
            storm = (begin, end, count)
    if storm is not None:
        yield _storm(agent, waiting, storm, mean)


def _storm(agent: str, waiting: list[float], storm: tuple[int, int, int], mean: float) -> Storm:
    first, last, peak = storm
    return Storm(agent, last - first + 1, peak, waiting[first], waiting[last], odds(poisson_tail(peak, mean)))


def anomalies(index: Index, since: Time | None = None, until: Time | None = None) -> Anomalies:
    """What needs somebody now: agents that are silent, storms, loops and duplicates from `since` on.

    `until` is the end of the index by default, `since` two days before the last entry: "now" is the last entry of the
    log, so that old logs have something to show. Silence and storms are judged by the 31 days before the last entry.
    Duplicates that are part of a loop are left out.

    Raises BadTime, and the errors of `Index`.
    """
    ends = extent(index, since, until)
    if ends is None:
        return Anomalies()
    begin = ends[1] - RECENT_SECONDS if since is None else ends[0]
    history = _merged(index, ends[1] - HISTORY_SECONDS, until)
    lately = {agent: [moment for moment, _ in asked if moment >= begin] for agent, asked in history.requests.items()}
    circles = loops(index, begin, until)
    in_circles = {id_ for one in circles for id_ in one.ids}
    return Anomalies(
        tuple(one for one in _silent(history) if lately[one.agent] and lately[one.agent][-1] > one.since),
        tuple(one for one in _storms(history) if one.until >= begin),
        circles,
        tuple(one for one in duplicates(index, begin, until) if not in_circles.issuperset(one.ids)),
    )
