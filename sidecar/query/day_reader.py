"""One daily file, read: SQL in, entries out; and the filter that says which entries are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from sidecar.errors import IndexDamaged
from sidecar.fs import split_path
from sidecar.records import Entry
from sidecar.store.bloom import PENDING
from sidecar.store.codec import agents_of, checked_columns, checked_row, checked_seconds, decode_entry, speakers
from sidecar.store.connection import DAILY, OpenDatabase
from sidecar.store.daily_schema import AT_PLACE, CHECKSUM_OFFSET, SLOT_OF_DAY, SLOT_SECONDS, SPAN_IDS, slot_of
from sidecar.times import SECONDS_PER_DAY, day_number, day_of


class Position(NamedTuple):
    """Where an entry stands in the order of time."""

    timestamp: float
    file_path: str
    byte_offset: int

    @classmethod
    def of(cls, entry: Entry) -> Position:
        """The place of an entry."""
        return cls(entry.timestamp, entry.file_path, entry.byte_offset)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted. None fits everything."""

    since: float | None = None
    """From this moment on."""
    until: float | None = None
    """Before this moment."""
    agent: str | None = None
    session: str | None = None
    event_type: str | None = None
    pattern: str | None = None
    conversation: str | None = None
    correlation: str | None = None
    after: float | None = None
    """After this moment, and not at it, as the reference's questions have it."""
    pending: bool = False
    """Requests that wait for a response."""

    def texts(self) -> list[str]:
        """The strings that a day must have to have an entry that fits."""
        # What is on the fewest days comes first.
        wanted = (self.correlation, self.session, self.conversation, self.agent, self.event_type, self.pattern)
        return [text for text in (*wanted, PENDING if self.pending else None) if text is not None]

    def may_lie_on(self, day: str) -> bool:
        """Whether an entry of this day can fit; a day's file is named after its UTC date."""
        since = max((moment for moment in (self.since, self.after) if moment is not None), default=None)
        return (since is None or day_of(since) <= day) and (self.until is None or day_of(self.until) >= day)


_SLOT = SLOT_OF_DAY.replace("timestamp", "e.timestamp")
_PATH = "f.text || s.stem || s.suffix"
# CROSS JOIN is SQLite's word for a join that it shall not turn round.
_PLACED = "CROSS JOIN source s ON s.id = e.source CROSS JOIN name f ON f.id = s.folder"
_CHOSEN = f"SELECT e.*, COALESCE(s.session, s.stem) AS log, {_PATH} AS path FROM entry e {{hint}} {_PLACED} WHERE "
_NAMED = (
    "SELECT e.log || ':' || e.byte_offset, e.timestamp, t.text, n.text, e.path, e.line_number, e.byte_offset,"
    " i.text, p.agents, o.roles, a.text, v.text, r.text,"
    " k.is_completion, k.is_request, e.has_response, e.requests_response, k.has_author, k.addressees, k.self_place,"
    " e.answered_after, e.checksum FROM ({chosen}) e"
    " LEFT JOIN kind k ON k.id = e.kind LEFT JOIN name t ON t.id = k.event_type LEFT JOIN name a ON a.id = k.pattern"
    " LEFT JOIN context c ON c.id = e.context LEFT JOIN name n ON n.id = c.session"
    " LEFT JOIN name i ON i.id = c.initiating_agent LEFT JOIN name v ON v.id = c.conversation"
    " LEFT JOIN party p ON p.id = e.party LEFT JOIN role_set o ON o.id = e.roles"
    " LEFT JOIN correlation r ON r.id = e.correlation ORDER BY {order}"
)
"""Outer joins, so that a number that leads nowhere is seen as damage, and not as an entry less."""

_PARTIES = "SELECT party FROM party_agent WHERE agent = ?"


@dataclass(slots=True)
class _Where:
    """A condition on `entry e`."""

    terms: list[str]
    values: list[Any]
    is_in_runs: bool = False
    """What is asked for lies in several runs of an index, each in the order of time."""
    index: str = ""
    """The index in the order of time that is to be walked, where nothing narrower is asked for. With none, entries are
    found in the order of the slots of the day."""

    def add(self, term: str, *values: Any) -> None:
        self.terms.append(term)
        self.values += values


def _spoken(row: tuple[Any, ...]) -> tuple[tuple[str, int], tuple[Any, ...]]:
    """The place of an entry, and its author, addressees and `answered_after`."""
    path, offset, agents, has_author, addressees, self_place, answered_after = row
    author, addressees = speakers(tuple(agents_of(agents)), has_author, addressees, self_place)
    return (path, offset), (author, addressees, checked_seconds(answered_after))


class DayReader(OpenDatabase):
    """One daily file, open for reading."""

    kind = DAILY

    def page(self, wanted: Filter, after: Position | None, size: int, reverse: bool) -> list[Entry]:
        """The next entries that fit, behind a place, in the order of time; `size` of them unless there are no more."""
        asked = self._asked(wanted)
        if asked is None:
            return []
        terms, values = asked.terms, asked.values
        ahead, up_to = ("<", ">=") if reverse else (">", "<=")
        begin = self._begin(wanted, after, reverse)
        if begin is not None and not asked.index:
            terms.append(f"{_SLOT} {ahead}= ?")
            values.append(begin)
        if asked.is_in_runs:
            # Entries that lie in several runs of an index are in the order of time within each. To name and sort all
            # of them for one page would cost a whole day, so each run is cut where enough have come: what follows the
            # slot in which the page begins is counted, in the index alone where it can be.
            where = " AND ".join([*terms, f"{_SLOT} {ahead} ?"])
            sql = f"SELECT {_SLOT}, e.id FROM entry e WHERE {where} ORDER BY 1{' DESC' if reverse else ''} LIMIT ?"
            most = (SECONDS_PER_DAY if reverse else -1) if begin is None else begin
            rows = self._all(sql, *values, most, size)
            if len(rows) == size:
                terms.append(f"{_SLOT} {up_to} ?")
                values.append(rows[-1][0])
            elif begin is None:  # these are all
                asked = _Where([f"e.id IN ({', '.join('?' * len(rows))})"], [id_ for _, id_ in rows])
                terms, values = asked.terms, asked.values
        limits = [(">=", wanted.since), ("<", wanted.until), (">", wanted.after)]
        if after is not None:
            limits.append((f"{ahead}=", after.timestamp))
        for comparison, moment in limits:
            if moment is not None:
                # `+` keeps SQLite from walking the day by its time where something narrower is asked for.
                terms.append(f"{'' if asked.index else '+'}e.timestamp {comparison} ?")
                values.append(moment)
        if after is not None:
            terms.append(f"(e.timestamp, {_PATH}, e.byte_offset) {ahead} (?, ?, ?)")
            values += after
        return self._entries(asked, size, reverse)

    def _begin(self, wanted: Filter, after: Position | None, reverse: bool) -> int | None:
        """The slot of this day that a page begins in, if it is not the first, or the last, of the day."""
        limits = (after and after.timestamp, *((wanted.until,) if reverse else (wanted.since, wanted.after)))
        slots = [slot_of(moment) for moment in limits if moment is not None and self._is_of(moment)]
        return (min if reverse else max)(slots, default=None)

    def _is_of(self, moment: float) -> bool:
        return day_of(moment) == self.path.stem

    def news(self, wanted: Filter, after: int, size: int) -> tuple[int, list[Entry]]:
        """Entries that fit and were written after the one numbered `after`, and the number of the last looked at."""
        # The end first: what is written between the two queries is left for the next call.
        last = self.last_number()
        if last <= after:
            return after, []
        last = min(last, after + size)
        asked = self._asked(wanted)
        if asked is None:
            return last, []
        # Walks along the numbers, whatever else is asked for.
        where = " AND ".join(["e.id > ?", "e.id <= ?", *asked.terms])
        chosen = f"{_CHOSEN.format(hint='NOT INDEXED')}{where} ORDER BY e.id LIMIT ?"
        sql = _NAMED.format(chosen=chosen, order="e.id")
        return last, self._decoded(decode_entry, sql, after, last, *asked.values, size)

    def last_number(self) -> int:
        """The number of the entry written last; numbers only grow."""
        rows = self._all("SELECT MAX(id) FROM entry")
        return int(rows[0][0] or 0)

    def furthest(self) -> dict[str, int]:
        """For each log file, the byte offset of its last entry on this day."""
        sql = (
            f"SELECT {_PATH}, MAX(e.byte_offset) FROM"
            " (SELECT source, MAX(byte_offset), first FROM span GROUP BY source) p"
            f" JOIN entry e ON e.id >= p.first AND e.id < p.first + {SPAN_IDS} AND e.source = p.source {_PLACED}"
            " GROUP BY p.source"
        )
        return dict(self._typed((str, int), sql))

    def reached(self, checkpoint: int) -> dict[str, int]:
        """For each log file of which something was written here that this checkpoint does not cover, the byte behind
        the last of its records on this day."""
        sql = (
            f"SELECT {_PATH}, MAX(e.byte_offset + e.byte_length) FROM (SELECT source, MAX(byte_offset), first FROM span"
            " WHERE source IN (SELECT id FROM source WHERE touched > ?) GROUP BY source) p"
            f" JOIN entry e ON e.id >= p.first AND e.id < p.first + {SPAN_IDS} AND e.source = p.source {_PLACED}"
            " GROUP BY p.source"
        )
        return dict(self._typed((str, int), sql, checkpoint))

    def at(self, name: str, byte_offset: int) -> list[Entry]:
        """Entries at an offset in a log file, which is given by its path, or by what its ids begin with."""
        at_place = AT_PLACE.format(span=SPAN_IDS, source="o.id", offset="?1")
        found = (
            f"e.id IN (SELECT ({at_place}) FROM ("
            "SELECT s.id FROM source s JOIN name f ON f.id = s.folder WHERE s.stem IN (?2, ?3)"
            f" AND (s.stem = ?2 AND s.session IS NULL OR {_PATH} = ?2)"
            " UNION SELECT id FROM source WHERE session = ?2) o)"
        )
        return self._entries(_Where([found], [byte_offset, name, split_path(name)[1]]), 100, reverse=False)

    def place(self, path: str, byte_offset: int) -> tuple[int, int] | None:
        """Length and checksum of the record at a place; None where no entry points there."""
        at_place = AT_PLACE.format(span=SPAN_IDS, source="s.id", offset="?4")
        sql = (
            "SELECT e.byte_length, e.checksum FROM source s JOIN name f ON f.id = s.folder"
            f" JOIN entry e ON e.id = ({at_place}) WHERE f.text = ?1 AND s.stem = ?2 AND s.suffix = ?3"
        )
        rows = self._typed((int, int), sql, *split_path(path), byte_offset)
        return (rows[0][0], rows[0][1] + CHECKSUM_OFFSET) if rows else None

    def places(self) -> Iterator[tuple[Any, ...]]:
        """Path, byte offset, length and checksum of every entry, in the order of path and offset."""
        columns = f"{_PATH}, e.byte_offset, e.byte_length, e.checksum + {CHECKSUM_OFFSET}"
        sql = f"SELECT {columns} FROM entry e {_PLACED} ORDER BY 1, 2"
        return self._each(lambda row: checked_row(row, (str, int, int, int)), sql)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The view `ksi_index`, whole, in the order of path and offset; behind its columns the author, the addressees
        and `answered_after` of each entry. Raises IndexDamaged also where the view and the tables do not agree."""
        columns = f"{_PATH}, e.byte_offset, p.agents, k.has_author, k.addressees, k.self_place, e.answered_after"
        tables = f"entry e {_PLACED} CROSS JOIN party p ON p.id = e.party CROSS JOIN kind k ON k.id = e.kind"
        others = f"SELECT {columns} FROM {tables} ORDER BY 1, 2"
        view = self._each(checked_columns, "SELECT * FROM ksi_index ORDER BY file_path, byte_offset")
        self._all("BEGIN")  # both see the same moment
        try:
            for row, other in zip_longest(view, self._each(_spoken, others)):
                place, said = other or (None, ())
                if row is None or (row[4], row[6]) != place:
                    raise IndexDamaged(f"{self.path}: the view ksi_index does not have what the tables have")
                yield (*row, *said)
        finally:
            self._all("COMMIT")

    def facts(self) -> dict[str, str]:
        """What the file says of itself: its `day`, and the `checkpoint` that last wrote it."""
        return dict(self._typed((str, str), "SELECT key, value FROM meta"))

    def agents(self) -> list[tuple[str, int, int, int]]:
        """Who took part in anything on this day: the agent, its entries, and the first and last slot of the day."""
        sql = (
            "SELECT n.text, SUM(x.entries), MIN(x.first), MAX(x.last) FROM (SELECT party, COUNT(*) AS entries,"
            f" MIN({SLOT_OF_DAY}) AS first, MAX({SLOT_OF_DAY}) AS last FROM entry GROUP BY party) x"
            " JOIN party_agent m ON m.party = x.party JOIN name n ON n.id = m.agent GROUP BY m.agent"
        )
        return self._typed((str, int, int, int), sql)

    def moments(self, agent: str, slot: int) -> tuple[float, float]:
        """The first and the last timestamp of an agent's entries in a slot of the day."""
        begin = float(day_number(self.path.stem) * SECONDS_PER_DAY + slot * SLOT_SECONDS)
        sql = (
            "SELECT COALESCE(MIN(e.timestamp), ?1), COALESCE(MAX(e.timestamp), ?1) FROM party_agent m"
            f" JOIN entry e ON e.party = m.party AND {_SLOT} = ?2 WHERE m.agent = ?3"
        )
        ((first, last),) = self._typed((float, float), sql, begin, slot, self._number("name", agent))
        return first, last

    def participants(self, session: str) -> set[str]:
        """Who took part in a session on this day."""
        sql = (
            "SELECT agents FROM party WHERE id IN"
            " (SELECT party FROM entry WHERE context IN (SELECT id FROM context WHERE session = ?))"
        )
        sets = self._decoded(lambda row: agents_of(*row), sql, self._number("name", session))
        return {agent for agents in sets for agent in agents}

    # ---- how it is asked

    def _asked(self, wanted: Filter) -> _Where | None:
        """What is asked for besides the time, as SQL; None where a string is wanted that this day does not have."""
        names = [wanted.agent, wanted.session, wanted.conversation]
        numbers = [None if text is None else self._number("name", text) for text in names]
        if any(number is None for text, number in zip(names, numbers, strict=True) if text is not None):
            return None
        agent, session, conversation = numbers
        correlation = None if wanted.correlation is None else self._number("correlation", wanted.correlation)
        if correlation is None and wanted.correlation is not None:
            return None
        asked = _Where([], [])
        # The first of these names the index; `+` keeps the others from being taken for it.
        if correlation is not None:
            asked.add("e.correlation = ?", correlation)
        if wanted.pending:
            first = "+" if asked.terms else ""
            asked.add(f"{first}e.requests_response = 1 AND {first}e.has_response = 0")
            asked.index = "" if first else "entry_pending"
        if session is not None or conversation is not None:
            columns = {"session": session, "conversation": conversation}
            given = {column: number for column, number in columns.items() if number is not None}
            where = " AND ".join(f"{column} = ?" for column in given)
            sql = f"SELECT id FROM context WHERE {where}"
            some = self._all(f"{sql} LIMIT 2", *given.values())
            first = "+" if asked.terms else ""
            if len(some) == 1:
                asked.add(f"{first}e.context = ?", *some[0])
            else:
                asked.is_in_runs = not first
                asked.add(f"{first}e.context IN ({sql})", *given.values())
        if agent is not None:
            if asked.terms:
                asked.add("EXISTS (SELECT 1 FROM party_agent m WHERE m.agent = ? AND m.party = e.party)", agent)
            else:
                asked.add(f"e.party IN ({_PARTIES})", agent)
                asked.is_in_runs = True
        if not asked.terms:
            asked.index = "entry_time"
        kinds = self._kinds(wanted)
        if kinds == []:
            return None
        if kinds is not None:
            asked.terms.append(f"+e.kind IN ({', '.join(map(str, kinds))})")
        return asked

    def _kinds(self, wanted: Filter) -> list[int] | None:
        """The kinds of entry that fit; None where all do."""
        texts = {"event_type": wanted.event_type, "pattern": wanted.pattern}
        given = {column: text for column, text in texts.items() if text is not None}
        if not given:
            return None
        where = " AND ".join(f"{column} = ?" for column in given)
        numbers = [self._number("name", text) for text in given.values()]
        return [int(row[0]) for row in self._all(f"SELECT id FROM kind WHERE {where}", *numbers)]

    def _number(self, table: str, text: str) -> int | None:
        """The number of a name or a correlation, if this day has it."""
        rows = self._all(f"SELECT id FROM {table} WHERE text = ?", text)
        return int(rows[0][0]) if rows else None

    def _entries(self, asked: _Where, size: int, reverse: bool) -> list[Entry]:
        way = " DESC" if reverse else ""
        # Chosen and cut first, named afterwards: names cost a lookup each.
        slot = "" if asked.index else f"{_SLOT}{way}, "
        order = f"{slot}e.timestamp{way}, {_PATH}{way}, e.byte_offset{way}"
        hint = f"INDEXED BY {asked.index}" if asked.index else ""
        chosen = f"{_CHOSEN.format(hint=hint)}{' AND '.join(asked.terms) or '1'} ORDER BY {order} LIMIT ?"
        order = f"e.timestamp{way}, e.path{way}, e.byte_offset{way}"
        return self._decoded(decode_entry, _NAMED.format(chosen=chosen, order=order), *asked.values, size)
