"""Dictionary coding: rows become small integers, and a daily file stores each string and each combination once.

Numbers that were handed out are remembered. In a daily file that existed before, a string or combination that is not
remembered is looked up before it gets a new number; a segment of a bulk load (`segment.py`) begins empty, so nothing is
ever looked up in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from peewee import SqliteDatabase

from sidecar.fs import split_path
from sidecar.records import Answered, LogName, Row
from sidecar.store.daily_schema import CHECKSUM_OFFSET, SPAN_IDS, hash_of

Participants = tuple[str, ...]
Roles = tuple[tuple[str, str], ...]
Values = tuple[Any, ...]
Kind = tuple[str, str, bool, bool, bool, int, int]
"""The columns of `kind`, with texts in place of the numbers of names."""

CHARACTERS_PER_ITEM = 160
"""Characters that count as much as one string or combination (`Dictionary.remembered`)."""

_INSERTS = {
    "name": "INSERT INTO name (id, text) VALUES (?, ?)",
    "correlation": "INSERT INTO correlation (id, text) VALUES (?, ?)",
    "source": "INSERT INTO source (id, folder, stem, suffix, touched, session) VALUES (?, ?, ?, ?, ?, ?)",
    "party": "INSERT INTO party (id, agents, hash) VALUES (?, ?, ?)",
    "role_set": "INSERT INTO role_set (id, roles, hash) VALUES (?, ?, ?)",
    "party_agent": "INSERT INTO party_agent (agent, party) VALUES (?, ?)",
    "member": "INSERT INTO member (agent, party) VALUES (?, ?)",
    "kind": (
        "INSERT INTO kind (id, event_type, pattern, is_completion, is_request, has_author, addressees, self_place)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    "context": "INSERT INTO context (id, session, initiating_agent, conversation) VALUES (?, ?, ?, ?)",
    "span": "INSERT INTO span (source, byte_offset, first) VALUES (?, ?, ?)",
}
_ENTRY = (
    "INSERT INTO entry (id, source, line_number, byte_offset, byte_length, checksum, timestamp, kind, context, party,"
    " roles, correlation, requests_response, has_response, answered_after) VALUES "
)
_COLUMNS = 15
_ROWS_PER_STATEMENT = 40
"""Rows of one INSERT, which costs a third less than one INSERT per row."""
_MANY_ENTRIES = _ENTRY + ", ".join([f"({', '.join('?' * _COLUMNS)})"] * _ROWS_PER_STATEMENT)
_ONE_ENTRY = f"{_ENTRY}({', '.join('?' * _COLUMNS)})"
_MAX_PENDING_ROWS = 1_000
"""Rows, of all logs together, that are collected before they are written."""
_MAX_PENDING_CHARACTERS = 4_000_000
"""Characters of lists of participants and sets of roles that are collected before they are written."""
_MAX_PLAIN_ITEMS = 32
"""Agents of a list, or of a set of roles, up to which it is remembered as it is, and else by a hash."""


@dataclass(slots=True)
class SourceRow:
    """A log in a daily file."""

    number: int
    touched: int
    """As in `daily_schema.SourceFile`."""
    first: int = -SPAN_IDS
    """The first id of its last offset range. By default so low that the next row begins a new range."""


class Dictionary:
    """The numbers of strings and combinations in one database file. After an error they are void: make another one."""

    def __init__(self, database: SqliteDatabase, *, is_new: bool = False) -> None:
        self._database = database
        self._is_new = is_new
        self._names: dict[str, int] = {}
        self._correlations: dict[str, int] = {}
        self._parties: dict[Participants, int] = {}
        self._role_sets: dict[Roles, int] = {}
        self._large: dict[tuple[str, bytes], int] = {}
        """Lists of participants and sets of roles that are too large to remember as they are, by table and hash."""
        self._kinds: dict[Kind, int] = {}
        self._contexts: dict[tuple[str, str, str], int] = {}
        self._places: dict[str, SourceRow] = {}
        self._caches: tuple[dict[Any, Any], ...] = (
            *(self._names, self._correlations),
            *(self._parties, self._role_sets, self._large, self._kinds, self._contexts, self._places),
        )
        self._characters = 0
        """Characters of the strings that are remembered; an agent of a list counts as 8, a role as 16."""
        self._pending = 0
        """Characters of the lists and sets that are not written yet."""
        self._new: dict[str, list[Values]] = {table: [] for table in _INSERTS}
        """Rows that have a number and are not written yet, by table."""
        self._rows: list[object] = []
        """The values of entries that are not written yet, one entry after the other."""
        # A segment has a table without a key in place of `party_agent`; merging sorts what is in it.
        self._new_members = self._new["member" if is_new else "party_agent"]
        self._next = dict.fromkeys(
            ("name", "correlation", "source", "party", "role_set", "kind", "context", "entry"), 1
        )
        if not is_new:
            for table in self._next:
                self._next[table] = int(self._one(f"SELECT COALESCE(MAX(id), 0) + 1 FROM {table}")[0])

    @property
    def remembered(self) -> int:
        """The number of strings and combinations that are remembered. Long ones count more, because a log may contain
        names of any length."""
        return sum(map(len, self._caches)) + self._characters // CHARACTERS_PER_ITEM

    @property
    def next_entry(self) -> int:
        """The id of the next entry. Ids only grow."""
        return self._next["entry"]

    def begin_at(self, entry: int) -> None:
        """Give the next entry this id, or the one that it has already if that is higher."""
        self._next["entry"] = max(self._next["entry"], entry)

    def forget(self) -> None:
        """Write what is pending, and forget all numbers: they are looked up when they are needed again."""
        self.flush()
        for cache in self._caches:
            cache.clear()
        self._characters = 0

    # ---- rows

    def insert(self, log: LogName, rows: Iterable[Row], answered: dict[int, Answered], touched: int = 0) -> None:
        """Add rows of one log, in the order of its bytes and after those added before. `flush` writes them, which is
        called here as well once many are pending.

        `answered` has requests that have been answered, by their byte offset. Those among `rows` are written as
        answered and removed from it. `touched` is the number of the checkpoint that will cover the rows.
        """
        place = self.place(log, touched)
        source, first = place.number, place.first
        kinds, contexts, correlations = self._kinds, self._contexts, self._correlations
        parties, role_sets = self._parties, self._role_sets
        spans = self._new["span"]
        number = self._next["entry"]
        values = self._rows
        for row in rows:
            # Unpacked by position, which costs a third of as many attribute lookups. fmt: off
            (
                _,
                line_number,
                byte_offset,
                byte_length,
                checksum,
                timestamp,
                event_type,
                session,
                author,
                addressees,
                initiator,
                agents,
                roles,
                pattern,
                conversation,
                correlation,
                is_completion,
                is_request,
                requests_response,
                has_response,
                answered_after,
            ) = row
            # fmt: on
            if answered and (answer := answered.pop(byte_offset, None)):
                _, _, correlation, answered_after = answer
                has_response = True
            if number - first >= SPAN_IDS:
                first = number
                spans.append((source, byte_offset, number))
            if author in addressees:
                speech = (True, len(addressees) - 1, addressees.index(author) + 1)
            else:
                speech = (author is not None, len(addressees), 0)
            kind = (event_type, pattern, is_completion, is_request, *speech)
            context = (session, initiator, conversation)
            values += (
                number,
                source,
                line_number,
                byte_offset,
                byte_length,
                checksum - CHECKSUM_OFFSET,
                timestamp,
                kinds.get(kind) or self._kind(kind),
                contexts.get(context) or self._context(context),
                parties.get(agents) or self._party(agents),
                role_sets.get(roles) or self._role_set(roles),
                None if correlation is None else correlations.get(correlation) or self.correlation(correlation),
                requests_response,
                has_response,
                answered_after,
            )
            number += 1
        place.first = first
        self._next["entry"] = number
        if len(values) > _COLUMNS * _MAX_PENDING_ROWS:
            self.flush()

    def answers(self, source: int, answered: Iterable[Answered]) -> list[Values]:
        """For each answered request of the log with the number `source`: that number, the byte offset, the number of
        the correlation or None, and `answered_after`."""
        return [
            (source, offset, None if correlation is None else self.correlation(correlation), answered_after)
            for _, offset, correlation, answered_after in answered
        ]

    def flush(self) -> None:
        """Write the pending entries, and the strings and combinations that have got numbers, within the transaction of
        the caller."""
        connection = self._database.connection()
        for table, new in self._new.items():
            if new:
                connection.executemany(_INSERTS[table], new)
                new.clear()
        values = self._rows
        size = _COLUMNS * _ROWS_PER_STATEMENT
        whole = len(values) - len(values) % size
        for start in range(0, whole, size):
            connection.execute(_MANY_ENTRIES, values[start : start + size])
        for start in range(whole, len(values), _COLUMNS):
            connection.execute(_ONE_ENTRY, values[start : start + _COLUMNS])
        values.clear()
        self._pending = 0

    # ---- numbers

    def name(self, text: str) -> int:
        """The number of a name, which gets one if it has none."""
        return self._names.get(text) or self._text("name", self._names, text)

    def correlation(self, text: str) -> int:
        """The number of a correlation, which gets one if it has none."""
        return self._correlations.get(text) or self._text("correlation", self._correlations, text)

    def _text(self, table: str, remembered: dict[str, int], text: str) -> int:
        number = self._find(f"SELECT id FROM {table} WHERE text = ?", (text,)) or self._add(table, (text,))
        remembered[text] = number
        self._characters += len(text)
        return number

    def place(self, log: LogName, touched: int) -> SourceRow:
        """The row of a log, which is added if there is none. `touched` is saved in it: the number of the checkpoint
        that will cover what is written of the log now."""
        place = self._places.get(log.path)
        if place is None:
            folder, stem, suffix = split_path(log.path)
            session = None if log.ids_begin == stem else log.ids_begin
            names = (self.name(folder), stem, suffix)
            row = None
            if not self._is_new:
                sql = "SELECT id, touched FROM source WHERE folder = ? AND stem = ? AND suffix = ?"
                row = self._database.execute_sql(sql, names).fetchone()
            if row:
                place = SourceRow(*map(int, row))
            else:
                place = SourceRow(self._add("source", (*names, touched, session)), touched)
            self._places[log.path] = place
        if place.touched != touched:
            self._database.execute_sql("UPDATE source SET touched = ? WHERE id = ?", (touched, place.number))
            place.touched = touched
        return place

    def _kind(self, kind: Kind) -> int:
        event_type, pattern, *numbers = kind
        values = (self.name(event_type), self.name(pattern), *numbers)
        sql = (
            "SELECT id FROM kind WHERE event_type = ? AND pattern = ? AND is_completion = ? AND is_request = ?"
            " AND has_author = ? AND addressees = ? AND self_place = ?"
        )
        number = self._kinds[kind] = self._find(sql, values) or self._add("kind", values)
        return number

    def _context(self, context: tuple[str, str, str]) -> int:
        values = tuple(map(self.name, context))
        sql = "SELECT id FROM context WHERE session = ? AND initiating_agent = ? AND conversation = ?"
        number = self._contexts[context] = self._find(sql, values) or self._add("context", values)
        return number

    def _party(self, agents: Participants) -> int:
        text = orjson.dumps(agents).decode()
        number = self._large_known("party", text) if len(agents) > _MAX_PLAIN_ITEMS else None
        if number is not None:
            return number
        values = (text, hash_of(text))
        number = self._find("SELECT id FROM party WHERE agents = ? AND hash = ?", values)
        if number is None:
            number = self._add("party", values)
            self._new_members.extend([(self.name(agent), number) for agent in agents])
            self._note_pending(text, len(agents))
        if len(agents) > _MAX_PLAIN_ITEMS:
            self._large["party", _digest(text)] = number
        else:
            self._parties[agents] = number
            self._characters += 8 * len(agents)
        return number

    def _role_set(self, roles: Roles) -> int:
        text = orjson.dumps(dict(roles)).decode()
        number = self._large_known("role_set", text) if len(roles) > _MAX_PLAIN_ITEMS else None
        if number is not None:
            return number
        values = (text, hash_of(text))
        number = self._find("SELECT id FROM role_set WHERE roles = ? AND hash = ?", values)
        if number is None:
            number = self._add("role_set", values)
            self._note_pending(text, 0)
        if len(roles) > _MAX_PLAIN_ITEMS:
            self._large["role_set", _digest(text)] = number
        else:
            self._role_sets[roles] = number
            self._characters += 16 * len(roles)
        return number

    def _large_known(self, table: str, text: str) -> int | None:
        return self._large.get((table, _digest(text)))

    def _note_pending(self, text: str, members: int) -> None:
        """Count what has got a number, and write it once it is much: a single row may be megabytes."""
        self._pending += len(text) + 16 * members
        if self._pending > _MAX_PENDING_CHARACTERS:
            self.flush()

    def _find(self, sql: str, values: Values) -> int | None:
        """The number that a row of the file has; None if there is no such row."""
        if self._is_new:
            return None
        row = self._database.execute_sql(sql, values).fetchone()
        return int(row[0]) if row else None

    def _add(self, table: str, values: Values) -> int:
        """The number of a new row, which `flush` writes."""
        number = self._next[table]
        self._next[table] = number + 1
        self._new[table].append((number, *values))
        return number

    def _one(self, sql: str) -> Values:
        row: Values = self._database.execute_sql(sql).fetchone()
        return row


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
