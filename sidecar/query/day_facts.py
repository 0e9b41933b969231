"""What `sidecar.analyze` reads of one day: rows of numbers, and what their numbers stand for.

An `Entry` for each row would cost twenty times as much as the row. So rows stay numbers, and what they have in common
is decoded once a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import eq, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.errors import SidecarError
from sidecar.store.codec import agents_of, check_columns, roles_of, speakers
from sidecar.store.connection import invalid_values_as_damage
from sidecar.store.daily_schema import WAITS
from sidecar.times import SECONDS_PER_DAY, Time, day_number

from .columns import PATH
from .day_reader import DayReader
from .filters import Filter
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .index import Index

T = TypeVar("T")

Row = tuple[Any, ...]
_FLOATS = {"timestamp": (float,), "answered_after": (float, type(None))}
"""The columns of the table `entry` that are no integers."""
_CHUNK = 4096
"""Rows that are read and checked at a time."""
MAX_SORTED = 500_000
"""Entries of a day up to which they are sorted in memory."""
ASKS = "e.requests_response = 1"
"""SQL that is true for entries that expect a response."""


class DayFacts:
    """The entries of one day from `since` on and before `until` (seconds since 1970; None for no limit).

    To be used only in the call that it was made for: see `of_each_day`.
    """

    def __init__(self, day: DayReader, since: float | None, until: float | None) -> None:
        self.day = day.path.stem
        """`YYYY-MM-DD`."""
        self.path = day.path
        """Of the daily file."""
        self.is_whole = since is None and until is None
        """Whether these are all entries of the day."""
        self._day = day
        terms = [(">=", since)] if since is not None else []
        terms += [("<", until)] if until is not None else []
        # `+` keeps SQLite from looking up each row of the index on time: most of a day is wanted, or little is left.
        self._when = " AND ".join(f"+e.timestamp {comparison} ?" for comparison, _ in terms) or "1"
        self._limits = [moment for _, moment in terms]
        self._speaking: dict[tuple[int, int], tuple[str | None, tuple[str, ...]]] = {}
        self._tables: dict[str, dict[int, Any]] = {}

    # ---- rows

    def rows(self, *columns: str, term: str = "1") -> Iterator[Row]:
        """These columns of the table `entry`, in any order; only of the entries `e` for which an SQL `term` is true."""
        listed = ", ".join(f"e.{column}" for column in columns)
        types = [_FLOATS.get(column, (int,)) for column in columns]
        for chunk in self._checked(types, f"SELECT {listed} FROM entry e WHERE {term} AND {self._when}"):
            yield from chunk

    def steps(self, *columns: str) -> Iterator[Row]:
        """Timestamp, source and byte offset of every entry, and these columns, in the order of time; those of the same
        time in the order of path and offset."""
        names = ("timestamp", "source", "byte_offset", *columns)
        types = [_FLOATS.get(column, (int,)) for column in names]
        sql = f"SELECT {', '.join(f'e.{name}' for name in names)} FROM entry e WHERE {self._when.replace('+', '')}"
        if self.is_whole and self._day.last_number() <= MAX_SORTED:
            # Read from end to end and sorted here: in the order of the index, each row would be looked up by itself.
            unsorted = [row for chunk in self._checked(types, sql) for row in chunk]
            unsorted.sort(key=itemgetter(0))
            yield from self._in_order(unsorted)
            return
        held: list[Row] = []
        for chunk in self._checked(types, f"{sql} ORDER BY e.timestamp"):
            rows = [*held, *chunk]
            # Those of the last moment may go on in the next chunk.
            end = len(rows) - 1
            while end and rows[end - 1][0] == rows[end][0]:
                end -= 1
            held = rows[end:]
            yield from self._in_order(rows[:end])
        yield from self._in_order(held)

    def _in_order(self, rows: list[Row]) -> list[Row]:
        """Rows in the order of time, in the order of path and offset too."""
        times = [row[0] for row in rows]
        if any(map(eq, times, times[1:])):
            paths = self._paths
            rows.sort(key=lambda row: (row[0], paths[row[1]][0], row[2]))
        return rows

    def _checked(self, types: list[tuple[type, ...]], sql: str) -> Iterator[list[Row]]:
        for chunk in self._day._chunks(_CHUNK, sql, *self._limits):
            self._check(chunk, types)
            yield chunk

    def _check(self, rows: list[Row], types: list[tuple[type, ...]]) -> None:
        """Raise IndexDamaged for values that the sidecar never writes."""
        with invalid_values_as_damage(self._day.path):
            check_columns(list(zip(*rows, strict=True)), types)

    def counts(self, *columns: str, what: str = "COUNT(*)", moment: bool = False) -> Iterator[Row]:
        """The number of entries of each combination of these columns (SQL over `e`, integers); or another aggregate,
        which is a time if `moment`."""
        sql = f"SELECT {', '.join(columns)}, {what} FROM entry e WHERE {self._when} GROUP BY {', '.join(columns)}"
        types: list[tuple[type, ...]] = [*((int,) for _ in columns), (float,) if moment else (int,)]
        for chunk in self._day._chunks(_CHUNK, sql, *self._limits):
            self._check(chunk, types)
            yield from chunk

    def errors(self) -> Iterator[Row]:
        """The requests whose first answer, on the same day, is an error: kind, list of participants, set of roles."""
        kinds = [kind for kind, (event, *_) in self._kinds.items() if is_error(event)]
        if kinds:
            sql = (
                "SELECT q.id FROM entry a CROSS JOIN entry q ON q.correlation = a.correlation"
                f" WHERE a.kind IN ({', '.join(map(str, kinds))}) AND q.requests_response = 1 AND q.has_response = 1"
                " AND ABS(q.timestamp + q.answered_after - a.timestamp) < 0.00001"
            )
            yield from self.rows("kind", "party", "roles", term=f"e.id IN ({sql})")

    def waiting(self) -> int:
        """The number of requests that wait for a response."""
        rows = self._day._typed((int,), f"SELECT COUNT(*) FROM entry e WHERE {WAITS} AND {self._when}", *self._limits)
        count: int = rows[0][0]
        return count

    def extent(self) -> tuple[float, float] | None:
        """The times of the first and the last entry; None if there is none."""
        # Two statements, so that each reads one end of the index on time.
        when = self._when.replace("+", "")
        first, last = (
            self._day._all(f"SELECT {end}(e.timestamp) FROM entry e WHERE {when}", *self._limits)[0][0]
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

    def _table(self, name: str, sql: str, decode: Callable[[Row], tuple[int, T]]) -> dict[int, T]:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = dict(self._day._decoded(decode, sql))
        return table


def index_folder(index: Index) -> Path:
    """The index folder that an index is read from. Raises SidecarError for the index of a hub."""
    _files_of(index)
    return index._index_folder


def _files_of(index: Index) -> Snapshot:
    """The files of an index. The index of a hub, which is one too, has none."""
    files: Snapshot | None = getattr(index, "_files", None)
    if files is None:
        raise SidecarError(
            "the analysis reads the daily files of one machine, and a hub has none",
            hint="ask on each machine, without --hub",
        )
    return files


def of_each_day(
    index: Index, question: Callable[[DayFacts], T], since: Time | None = None, until: Time | None = None
) -> list[T]:
    """The answers to a question about the entries of each day from `since` on and before `until`, in the order of the
    days, all from one index. Raises BadTime, and the errors of `Index`."""
    wanted = Filter.of(since, until)
    files = _files_of(index)

    def ask(day: DayReader) -> T:
        # A limit that the whole day keeps is none.
        begin = float(day_number(day.path.stem) * SECONDS_PER_DAY)
        first = wanted.since if wanted.since is not None and wanted.since > begin else None
        end = wanted.until if wanted.until is not None and wanted.until < begin + SECONDS_PER_DAY else None
        with day.in_one_state():
            return question(DayFacts(day, first, end))

    def answer() -> list[tuple[T]]:
        names = [name for name in files.names() if wanted.may_lie_on(name.removesuffix(".db"))]
        return [(found,) for name in names if (found := files.ask(name, ask, alone=False)) is not None]

    return [found for (found,) in files.whole(answer)]


_ERRORS = frozenset(("error", "failed", "failure", "cancelled", "cancel", "aborted", "abort", "turn_aborted"))
_ANSWERS = _ERRORS | frozenset(
    # The last segments of the event types that the packaged formats take for answers.
    (
        *("result", "response", "reply", "interrupted", "agent_message", "task_complete", "turn_complete"),
        *(
            "function_call_output",
            "custom_tool_call_output",
            "tool_search_output",
            "assistant.message",
            "tool.execution_complete",
        ),
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


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise TypeError(f"a name of {type(value).__name__}")
    text: str = value
    return text
