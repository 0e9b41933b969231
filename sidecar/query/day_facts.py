"""What `sidecar.analyze` reads of one day: rows of numbers, and what their numbers stand for.

An `Entry` for each row would cost twenty times as much as the row. So rows stay numbers, and what they have in common
is decoded once a day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sidecar.store.codec import agents_of, checked_seconds, roles_of, speakers
from sidecar.store.connection import invalid_values_as_damage
from sidecar.times import YEAR_10000, Time, moment_of

from .columns import PATH
from .day_reader import DayReader
from .filters import Filter

if TYPE_CHECKING:
    from .index import Index

T = TypeVar("T")

_NUMBERS = "e.timestamp, e.source, e.byte_offset, e.kind, e.context, e.party, e.roles, e.byte_length"
_FLAGS = "e.requests_response, e.has_response, e.answered_after"
_TYPES = (float, *(int,) * 9)


class Step(NamedTuple):
    """One entry, as numbers of its day."""

    timestamp: float
    """Seconds since 1970, UTC."""
    source: int
    byte_offset: int
    kind: int
    context: int
    party: int
    roles: int
    byte_length: int
    asks: int
    """1 if it expects a response."""
    has_response: int
    answered_after: float | None
    """Seconds to the first answer; None unless it asks and was answered."""


class DayFacts:
    """The entries of one day from `since` on and before `until` (seconds since 1970; None for no limit).

    To be used only in the call that it was made for: see `of_each_day`.
    """

    def __init__(self, day: DayReader, since: float | None, until: float | None) -> None:
        self.day = day.path.stem
        """`YYYY-MM-DD`."""
        self._day = day
        terms = [(">=", since)] if since is not None else []
        terms += [("<", until)] if until is not None else []
        self._when = " AND ".join(f"e.timestamp {comparison} ?" for comparison, _ in terms) or "1"
        self._limits = [moment for _, moment in terms]
        self._speaking: dict[tuple[int, int], tuple[str | None, tuple[str, ...]]] = {}
        self._tables: dict[str, dict[int, Any]] = {}

    # ---- rows

    def steps(self, asking: bool = False) -> Iterator[Step]:
        """The entries in the order of time, those of the same time in the order of path and offset; or only those that
        ask for a response."""
        held: list[Step] = []
        for step in self._rows("e.requests_response = 1" if asking else "1"):
            if held and step[0] != held[0][0]:
                yield from self._sorted(held)
                held.clear()
            held.append(step)
        yield from self._sorted(held)

    def _rows(self, term: str) -> Iterator[Step]:
        sql = f"SELECT {_NUMBERS}, {_FLAGS} FROM entry e WHERE {term} AND {self._when} ORDER BY e.timestamp"
        return self._day._each(_step, sql, *self._limits)

    def _sorted(self, steps: list[Step]) -> list[Step]:
        if len(steps) > 1:
            paths = self._paths
            steps.sort(key=lambda step: (paths[step.source][0], step.byte_offset))
        return steps

    def counts(self) -> Iterator[tuple[int, int, int]]:
        """How many entries there are of each kind and list of participants: kind, list, entries."""
        sql = f"SELECT e.kind, e.party, COUNT(*) FROM entry e WHERE {self._when} GROUP BY 1, 2"
        return iter(self._day._typed((int, int, int), sql, *self._limits))

    def participants(self) -> Iterator[tuple[int, int, int]]:
        """How many entries there are of each context and list of participants: context, list, entries."""
        sql = f"SELECT e.context, e.party, COUNT(*) FROM entry e WHERE {self._when} GROUP BY 1, 2"
        return iter(self._day._typed((int, int, int), sql, *self._limits))

    def lengths(self) -> Iterator[tuple[int, int, int, int]]:
        """How many entries there are of each kind, list of participants and length: kind, list, bytes, entries."""
        sql = f"SELECT e.kind, e.party, e.byte_length, COUNT(*) FROM entry e WHERE {self._when} GROUP BY 1, 2, 3"
        return iter(self._day._typed((int,) * 4, sql, *self._limits))

    def last_times(self) -> Iterator[tuple[int, int, float]]:
        """The time of the last entry of each kind and list of participants: kind, list, time."""
        sql = f"SELECT e.kind, e.party, MAX(e.timestamp) FROM entry e WHERE {self._when} GROUP BY 1, 2"
        return iter(self._day._typed((int, int, float), sql, *self._limits))

    def slices(self, seconds: float) -> Iterator[tuple[int, int, int, int, int, int]]:
        """How many entries there are in each slice of time, of each kind and list of participants: the number of the
        slice, counted from 1970, kind, list, entries, those that ask for a response, and those that wait for one."""
        sql = (
            "SELECT CAST(e.timestamp / ? AS INTEGER), e.kind, e.party, COUNT(*), SUM(e.requests_response),"
            f" SUM(e.requests_response AND NOT e.has_response) FROM entry e WHERE {self._when} GROUP BY 1, 2, 3"
        )
        return iter(self._day._typed((int,) * 6, sql, float(seconds), *self._limits))

    def errors(self) -> Iterator[tuple[int, int, int]]:
        """The requests whose first answer, on the same day, is an error: kind, list of participants, set of roles."""
        kinds = [kind for kind, (event, *_) in self._kinds.items() if is_error(event)]
        sql = (
            "SELECT q.kind, q.party, q.roles FROM entry q WHERE q.id IN (SELECT q.id FROM entry a CROSS JOIN entry q"
            f" ON q.correlation = a.correlation WHERE a.kind IN ({', '.join(map(str, kinds))}) AND a.correlation"
            " IS NOT NULL AND q.requests_response = 1 AND q.has_response = 1"
            " AND ABS(q.timestamp + q.answered_after - a.timestamp) < 0.00001)"
            f" AND {self._when.replace('e.', 'q.')}"
        )
        return iter(self._day._typed((int, int, int), sql, *self._limits) if kinds else ())

    def extent(self) -> tuple[float, float] | None:
        """The times of the first and the last entry; None if there is none."""
        # Two statements, so that each reads one end of the index on time.
        first, last = (
            self._day._all(f"SELECT {end}(e.timestamp) FROM entry e WHERE {self._when}", *self._limits)[0][0]
            for end in ("MIN", "MAX")
        )
        return None if first is None else (first, last)

    # ---- what the numbers stand for

    def speakers(self, kind: int, party: int) -> tuple[str | None, tuple[str, ...]]:
        """The author (or None) and the addressees of entries of this kind with this list of participants."""
        known = self._speaking.get((kind, party))
        if known is None:
            with invalid_values_as_damage(self._day.path):
                known = speakers(self.parties[party], *self._kinds[kind][1:])
            self._speaking[kind, party] = known
        return known

    def event_type(self, kind: int) -> str:
        """The event type of a kind."""
        event: str = self._kinds[kind][0]
        return event

    @property
    def parties(self) -> dict[int, tuple[str, ...]]:
        """The participants in each list."""
        return self._table("party", "SELECT id, agents FROM party", lambda row: (row[0], tuple(agents_of(row[1]))))

    @property
    def roles(self) -> dict[int, dict[str, str]]:
        """The roles in each set of roles, by agent."""
        return self._table("roles", "SELECT id, roles FROM role_set", lambda row: (row[0], roles_of(row[1])))

    @property
    def contexts(self) -> dict[int, tuple[str, str]]:
        """Session and conversation of each context."""
        sql = (
            "SELECT x.id, n.text, v.text FROM context x JOIN name n ON n.id = x.session"
            " JOIN name v ON v.id = x.conversation"
        )
        return self._table("context", sql, lambda row: (row[0], (_text(row[1]), _text(row[2]))))

    def place(self, source: int, byte_offset: int) -> tuple[str, str]:
        """The place of an entry, `<file path>:<byte offset>`, and its id."""
        path, ids_begin = self._paths[source]
        return f"{path}:{byte_offset}", f"{ids_begin}:{byte_offset}"

    def ids_begin(self, source: int) -> str:
        """What comes before the byte offset in the ids of a log's entries."""
        return self._paths[source][1]

    @property
    def _paths(self) -> dict[int, tuple[str, str]]:
        sql = f"SELECT s.id, {PATH}, COALESCE(s.session, s.stem) FROM source s JOIN name f ON f.id = s.folder"
        return self._table("source", sql, lambda row: (row[0], (_text(row[1]), _text(row[2]))))

    @property
    def _kinds(self) -> dict[int, tuple[Any, ...]]:
        sql = (
            "SELECT k.id, t.text, k.has_author, k.addressees, k.self_place FROM kind k JOIN name t"
            " ON t.id = k.event_type"
        )
        return self._table("kind", sql, lambda row: (row[0], (_text(row[1]), *row[2:])))

    def _table(self, name: str, sql: str, decode: Any) -> dict[int, Any]:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = dict(self._day._decoded(decode, sql))
        return table


def of_each_day(
    index: Index, question: Callable[[DayFacts], T], since: Time | None = None, until: Time | None = None
) -> list[T]:
    """The answers to a question about the entries of each day from `since` on and before `until`, in the order of the
    days, all from one index. Raises BadTime, and the errors of `Index`."""
    now = time.time()
    span = [None if moment is None else moment_of(moment, now) for moment in (since, until)]
    wanted = Filter(since=span[0], until=span[1])
    files = index._files

    def ask(day: DayReader) -> T:
        with day.in_one_state():
            return question(DayFacts(day, wanted.since, wanted.until))

    def answer() -> list[tuple[T]]:
        names = [name for name in files.names() if wanted.may_lie_on(name.removesuffix(".db"))]
        return [(found,) for name in names if (found := files.ask(name, ask, alone=False)) is not None]

    return [found for (found,) in files.whole(answer)]


_ERRORS = frozenset(("error", "failed", "failure", "cancelled", "cancel", "aborted", "abort", "turn_aborted"))
_ANSWERS = _ERRORS | frozenset(
    # The last segments of the event types that the packaged formats take for answers.
    (
        *("result", "response", "reply", "interrupted", "agent_message", "task_complete", "turn_complete"),
        *("function_call_output", "custom_tool_call_output", "assistant.message", "tool.execution_complete"),
        *("subagent.completed", "subagent.failed", "permission.completed", "user_input.completed"),
        *("elicitation.completed", "exit_plan_mode.completed"),
        *("AgentErrorEvent", "ObservationEvent", "UserRejectObservation"),
    )
)


def is_answer(event_type: str) -> bool:
    """Whether entries of this type are answers, by the last segment of the type, as in the packaged formats."""
    return event_type.rpartition(":")[2] in _ANSWERS


def is_error(event_type: str) -> bool:
    """Whether entries of this type are answers that something went wrong."""
    return event_type.rpartition(":")[2] in _ERRORS


def _step(row: tuple[Any, ...]) -> Step:
    if tuple(map(type, row[:10])) != _TYPES or not 0.0 <= row[0] <= YEAR_10000:
        raise TypeError(f"a row of {', '.join(type(value).__name__ for value in row)}")
    checked_seconds(row[10])
    return Step._make(row)


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise TypeError(f"a name of {type(value).__name__}")
    text: str = value
    return text
