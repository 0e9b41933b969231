"""One daily file, open for reading: entries that match a filter, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sidecar.errors import IndexDamaged
from sidecar.fs import split_path
from sidecar.records import Entry
from sidecar.store.codec import agents_of, checked_columns, checked_row, checked_seconds, speakers
from sidecar.store.connection import DAILY, invalid_values_as_damage
from sidecar.store.daily_schema import AT_PLACE, CHECKSUM_OFFSET, SLOT_OF_DAY, SLOT_SECONDS, SPAN_IDS, slot_of
from sidecar.store.open_database import OpenDatabase
from sidecar.times import SECONDS_PER_DAY, day_number, day_of

from .columns import PATH, PLACED, Columns
from .filters import CHOSEN, SLOT, Filter, Where, numbers_of
from .known import Known
from .pages import PAGE_CHARACTERS, Page, Position
from .questions import Question

_SEEN = (
    "SELECT n.text, y.entries, y.first, y.last FROM (SELECT m.agent, SUM(x.entries) AS entries, MIN(x.first) AS first,"
    " MAX(x.last) AS last FROM party_agent m JOIN (SELECT party, COUNT(*) AS entries, MIN({moment}) AS first,"
    " MAX({moment}) AS last FROM entry GROUP BY party) x ON x.party = m.party GROUP BY m.agent) y"
    " JOIN name n ON n.id = y.agent"
)
"""Selects what `DayReader.agents` returns. The names last: grouped by number the rows need no sorting."""

_LISTS = frozenset(("participating_agents", "agent_roles", "author", "addressees"))
"""Columns for which lists of participants or sets of roles are read."""
KEPT_AGENTS = 1000
"""Up to this many agents of a day are kept for the next question about all agents."""
_PARTIES = "SELECT party FROM party_agent WHERE agent = ?"


def _spoken(row: tuple[Any, ...]) -> tuple[tuple[str, int], tuple[Any, ...]]:
    """From a row of `DayReader.rows`: path and byte offset; and author, addressees and `answered_after`."""
    path, offset, agents, has_author, addressees, self_place, answered_after = row
    author, addressees = speakers(tuple(agents_of(agents)), has_author, addressees, self_place)
    return (path, offset), (author, addressees, checked_seconds(answered_after))


class DayReader(OpenDatabase):
    """One daily file, open for reading."""

    kind = DAILY

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._known = Known(self._all, self._unchecked)
        self._agents: tuple[int, list[tuple[Any, ...]]] | None = None
        """What `agents` returned last, and `_version` at that time."""

    def page(
        self,
        wanted: Filter,
        after: Position | None,
        size: int,
        reverse: bool,
        columns: Sequence[str] | None = None,
    ) -> Page:
        """The next entries that match, or `columns` of them, after a position or from the start, in the order of time
        or in reverse. There are `size` of them, or fewer if these are the last or the page ended early."""
        numbers = self._numbers(wanted)
        if numbers is None:
            return Page([], is_whole=True)
        with self.in_one_state():
            asked = self._asked(wanted, numbers)
            if asked is None:
                return Page([], is_whole=True)
            self._narrow(asked, wanted, after, size, reverse)
            return self._page(f"{asked.chosen()} ORDER BY {asked.order(reverse)} LIMIT ?", asked.values, size, columns)

    def _narrow(self, asked: Where, wanted: Filter, after: Position | None, size: int, reverse: bool) -> None:
        """Add the limits of a page to a condition."""
        ahead, up_to = ("<", ">=") if reverse else (">", "<=")
        begin = self._begin(wanted, after, reverse)
        if begin is not None and not asked.index:
            asked.add(f"{SLOT} {ahead}= ?", begin)
        if asked.is_in_runs:
            # Entries in several runs of an index are in the order of time only within each run. To place and sort all
            # of them for one page would cost as much as the whole day. So the slot up to which the page can reach is
            # found first, if possible in the index alone: that of the entry `size` entries after the slot it begins in.
            where = " AND ".join([*asked.terms, f"{SLOT} {ahead} ?"])
            sql = f"SELECT {SLOT}, e.id FROM entry e WHERE {where} ORDER BY 1{' DESC' if reverse else ''} LIMIT ?"
            most = (SECONDS_PER_DAY if reverse else -1) if begin is None else begin
            rows = self._all(sql, *asked.values, most, size)
            if len(rows) == size:
                asked.add(f"{SLOT} {up_to} ?", rows[-1][0])
            elif begin is None:  # these are all
                asked.terms, asked.values = [f"e.id IN ({', '.join('?' * len(rows))})"], [id_ for _, id_ in rows]
        asked.add_times(wanted)
        if after is not None:
            asked.add_time(f"{ahead}=", after.timestamp)
            asked.add(f"(e.timestamp, {PATH}, e.byte_offset) {ahead} (?, ?, ?)", *after)

    def answers(self, question: Question, wanted: Filter) -> list[Any]:
        """What a question wants of all entries that match, in the order of time."""
        numbers = self._numbers(wanted)
        asked = None if numbers is None else self._asked(wanted, numbers)
        if asked is None:
            return []
        begin = self._begin(wanted, None, reverse=False)
        if begin is not None and not asked.index:
            asked.add(f"{SLOT} >= ?", begin)
        asked.add_times(wanted)
        sql = f"{asked.chosen(question.columns, question.joins)} ORDER BY {asked.order()}"
        rows = self._all(sql, *asked.values)
        with invalid_values_as_damage(self.path):
            return question.decode(rows)

    def count_after(self, moment: float) -> int:
        """The number of entries that are later than this time."""
        return int(self._all("SELECT COUNT(*) FROM entry WHERE timestamp > ?", moment)[0][0])

    def chosen(self, wanted: Filter, what: str, types: tuple[type, ...], tail: str, *values: Any) -> list[Any]:
        """SQL expressions of `entry e`, with values of these types, for the entries that match. `tail` is the SQL
        behind the condition, with its parameters."""
        numbers = self._numbers(wanted)
        if numbers is None:
            return []
        with self.in_one_state():
            asked = self._asked(wanted, numbers)
            if asked is None:
                return []
            asked.add_times(wanted)
            hint = f"INDEXED BY {asked.index}" if asked.index else ""
            where = " AND ".join(asked.terms) or "1"
            return self._typed(types, f"SELECT {what} FROM entry e {hint} WHERE {where} {tail}", *asked.values, *values)

    def typed_rows(self, types: tuple[type, ...], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement, with values of these types."""
        return self._typed(types, sql, *values)

    def numbered(self, numbers: Sequence[int]) -> Page:
        """The entries with these numbers, in the order of the numbers; or the first of them, if the page ended early.
        Those that do not exist are left out."""
        with self.in_one_state():
            where = "e.id IN (SELECT value FROM json_each(?)) ORDER BY e.id LIMIT ?"
            return self._page(f"{CHOSEN.format(hint='')}{where}", [f"[{','.join(map(str, numbers))}]"], len(numbers))

    def _begin(self, wanted: Filter, after: Position | None, reverse: bool) -> int | None:
        """The slot of this day that a page begins in; None if that is the first slot, or in reverse the last."""
        limits = (after and after.timestamp, *((wanted.until,) if reverse else (wanted.since, wanted.after)))
        slots = [slot_of(moment) for moment in limits if moment is not None and self._is_on_this_day(moment)]
        return (min if reverse else max)(slots, default=None)

    def _is_on_this_day(self, moment: float) -> bool:
        return day_of(moment) == self.path.stem

    def news(self, wanted: Filter, after: int, size: int) -> tuple[int, list[Entry]]:
        """Looks at up to `size` entries that were written after the one with the number `after`, in the order in which
        they were written; at fewer where they are large. Returns the number of the last one, and those that match."""
        # The end first: what is written between the two queries is left for the next call.
        last = self.last_number()
        if last <= after:
            return after, []
        last = min(last, after + size)
        numbers = self._numbers(wanted)
        if numbers is None:
            return last, []
        with self.in_one_state():
            asked = self._asked(wanted, numbers)
            if asked is None:
                return last, []
            # In the order of the numbers, whatever else is asked for.
            where = " AND ".join(["e.id > ?", "e.id <= ?", *asked.terms])
            chosen = f"{CHOSEN.format(hint='NOT INDEXED')}{where} ORDER BY e.id LIMIT ?"
            page = self._page(chosen, (after, last, *asked.values), size)
        return last if page.is_whole else page.last_number, page.entries

    def last_number(self) -> int:
        """The number of the entry that was written last, 0 if there is none. Numbers only grow."""
        rows = self._all("SELECT MAX(id) FROM entry")
        return int(rows[0][0] or 0)

    def furthest(self) -> dict[str, int]:
        """For each log, the byte offset of its last entry on this day."""
        return self._of_last_entries("e.byte_offset", touched_after=-1)

    def reached(self, checkpoint: int) -> dict[str, int]:
        """For each log of which something was written here that this checkpoint does not cover, the byte offset of the
        end of its last record on this day."""
        return self._of_last_entries("e.byte_offset + e.byte_length", touched_after=checkpoint)

    def _of_last_entries(self, what: str, touched_after: int) -> dict[str, int]:
        """For each log that was touched after a checkpoint, the highest value of an expression in its last span."""
        sql = (
            f"SELECT {PATH}, MAX({what}) FROM (SELECT source, MAX(byte_offset), first FROM span"
            " WHERE source IN (SELECT id FROM source WHERE touched > ?) GROUP BY source) p"
            f" JOIN entry e ON e.id >= p.first AND e.id < p.first + {SPAN_IDS} AND e.source = p.source {PLACED}"
            " GROUP BY p.source"
        )
        return dict(self._typed((str, int), sql, touched_after))

    def at(self, name: str, byte_offset: int) -> list[tuple[str, int]]:
        """The entries at a byte offset in the log with this path, or in all logs whose ids begin with this name: the
        path of each, and its number."""
        at_place = AT_PLACE.format(span=SPAN_IDS, source="o.id", offset="?1")
        sql = (
            f"SELECT {PATH}, e.id FROM entry e {PLACED} WHERE e.id IN (SELECT ({at_place}) FROM ("
            "SELECT s.id FROM source s JOIN name f ON f.id = s.folder WHERE s.stem IN (?2, ?3)"
            f" AND (s.stem = ?2 AND s.session IS NULL OR {PATH} = ?2)"
            " UNION SELECT id FROM source WHERE session = ?2) o) ORDER BY 1 LIMIT 100"
        )
        return self._typed((str, int), sql, byte_offset, name, split_path(name)[1])

    def entry(self, number: int) -> Entry | None:
        """The entry with this number; None if there is none."""
        with self.in_one_state():
            entries = self._page(f"{CHOSEN.format(hint='')}e.id = ? LIMIT ?", [number], 1).entries
        return entries[0] if entries else None

    def place(self, path: str, byte_offset: int) -> tuple[int, int] | None:
        """Length (bytes) and checksum (CRC-32) of the record at a byte offset of a log; None if there is no entry."""
        at_place = AT_PLACE.format(span=SPAN_IDS, source="s.id", offset="?4")
        sql = (
            "SELECT e.byte_length, e.checksum FROM source s JOIN name f ON f.id = s.folder"
            f" JOIN entry e ON e.id = ({at_place}) WHERE f.text = ?1 AND s.stem = ?2 AND s.suffix = ?3"
        )
        rows = self._typed((int, int), sql, *split_path(path), byte_offset)
        return (rows[0][0], rows[0][1] + CHECKSUM_OFFSET) if rows else None

    def places(self) -> Iterator[tuple[Any, ...]]:
        """Path, byte offset, length (bytes) and checksum (CRC-32) of every entry, in the order of path and offset."""
        columns = f"{PATH}, e.byte_offset, e.byte_length, e.checksum + {CHECKSUM_OFFSET}"
        sql = f"SELECT {columns} FROM entry e {PLACED} ORDER BY 1, 2"
        return self._each(lambda row: checked_row(row, (str, int, int, int)), sql)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Every row of the view `ksi_index`, in the order of path and offset: its 17 columns, then author, addressees
        and `answered_after`. Raises IndexDamaged also if the view and the tables do not agree."""
        columns = f"{PATH}, e.byte_offset, p.agents, k.has_author, k.addressees, k.self_place, e.answered_after"
        tables = f"entry e {PLACED} CROSS JOIN party p ON p.id = e.party CROSS JOIN kind k ON k.id = e.kind"
        others = f"SELECT {columns} FROM {tables} ORDER BY 1, 2"
        view = self._each(checked_columns, "SELECT * FROM ksi_index ORDER BY file_path, byte_offset")
        with self.in_one_state():
            for row, other in zip_longest(view, self._each(_spoken, others)):
                place, said = other or (None, ())
                if row is None or (row[4], row[6]) != place:
                    raise IndexDamaged(f"{self.path}: the view ksi_index does not have what the tables have")
                yield (*row, *said)

    def facts(self) -> dict[str, str]:
        """The facts that the file notes about itself: its `day`, the `checkpoint` that last wrote it, and `next_entry`,
        each as text."""
        return dict(self._typed((str, str), "SELECT key, value FROM meta"))

    def agents(self, exactly: bool = False) -> list[tuple[Any, ...]]:
        """Every agent that took part in anything on this day: its name, its number of entries, and the first and the
        last slot with one; or `exactly`, the first and the last timestamp, for which every entry is read."""
        if exactly:
            return self._typed((str, int, float, float), _SEEN.format(moment="timestamp"))
        version = self._version()
        if self._agents is None or self._agents[0] != version:
            found = self._typed((str, int, int, int), _SEEN.format(moment=SLOT_OF_DAY))
            if len(found) > KEPT_AGENTS:
                return found
            self._agents = version, found
        return self._agents[1]

    def moments(self, agent: str, slot: int) -> tuple[float, float]:
        """The first and the last timestamp of an agent's entries in a slot of the day; if there are none, twice the
        begin of the slot."""
        begin = float(day_number(self.path.stem) * SECONDS_PER_DAY + slot * SLOT_SECONDS)
        sql = (
            "SELECT COALESCE(MIN(e.timestamp), ?1), COALESCE(MAX(e.timestamp), ?1) FROM party_agent m"
            f" JOIN entry e ON e.party = m.party AND {SLOT} = ?2 WHERE m.agent = ?3"
        )
        ((first, last),) = self._typed((float, float), sql, begin, slot, self._number("name", agent))
        return first, last

    def participants(self, session: str) -> set[str]:
        """The agents that took part in a session on this day."""
        sql = (
            "SELECT agents FROM party WHERE id IN"
            " (SELECT party FROM entry WHERE context IN (SELECT id FROM context WHERE session = ?))"
        )
        number = self._number("name", session)
        sets = [] if number is None else self._decoded(lambda row: agents_of(*row), sql, number)
        return {agent for agents in sets for agent in agents}

    # ---- from a filter to SQL

    def _asked(self, wanted: Filter, numbers: dict[str, int]) -> Where | None:
        """The condition for everything but the time; None if this day certainly has no matching entry. `numbers` is
        what `_numbers` returned."""
        agent, session, conversation = (numbers.get(what) for what in ("agent", "session", "conversation"))
        correlation = numbers.get("correlation")
        asked = Where([], [])
        # The first term chooses the index; `+` keeps SQLite from using one for the others.
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
            if asked.index:  # Every waiting request is looked at, so the agent's lists are gathered once for all.
                asked.add(f"+e.party IN ({_PARTIES})", agent)
            elif asked.terms:
                asked.add("EXISTS (SELECT 1 FROM party_agent m WHERE m.agent = ? AND m.party = e.party)", agent)
            else:
                asked.add(f"e.party IN ({_PARTIES})", agent)
                asked.is_in_runs = True
        if not asked.terms:
            asked.index = "entry_time"
        kinds = self._kinds(numbers)
        if kinds == []:
            return None
        if kinds is not None:
            asked.terms.append(f"+e.kind IN ({', '.join(map(str, kinds))})")
        return asked

    def _numbers(self, wanted: Filter) -> dict[str, int] | None:
        """The numbers of the strings that are asked for; None if this day does not have one of them. There is one
        statement for all, because most queries find nothing on most days."""
        given, sql, texts = numbers_of(wanted)
        if not given:
            return {}
        numbers = dict(zip(given, self._all(sql, *texts)[0], strict=True))
        return None if None in numbers.values() else numbers

    def _kinds(self, numbers: dict[str, int]) -> list[int] | None:
        """The numbers of the kinds that match; None if all do."""
        given = {column: numbers[column] for column in ("event_type", "pattern") if column in numbers}
        if not given:
            return None
        where = " AND ".join(f"{column} = ?" for column in given)
        return [int(row[0]) for row in self._all(f"SELECT id FROM kind WHERE {where}", *given.values())]

    def _number(self, table: str, text: str) -> int | None:
        """The number of a name or a correlation; None if this day does not have it."""
        rows = self._all(f"SELECT id FROM {table} WHERE text = ?", text)
        return int(rows[0][0]) if rows else None

    # ---- From rows to entries

    def _page(self, sql: str, values: Sequence[Any], size: int, columns: Sequence[str] | None = None) -> Page:
        """The entries of rows that are selected with `ROW`, or their columns."""
        rows = self._all(sql, *values, size)
        if not rows:
            return Page([], is_whole=True)
        is_bounded = columns is None or not _LISTS.isdisjoint(columns)
        with invalid_values_as_damage(self.path), self._known_now() as known:
            found = Columns(rows, known, PAGE_CHARACTERS if is_bounded else None)
            number, last = found.last()
            entries = found.entries() if columns is None else found.tuples(columns)
        return Page(entries, len(found.rows) == len(rows), last, number)

    @contextmanager
    def _known_now(self) -> Iterator[Known]:
        """What the numbers of rows stand for. To be used in the transaction in which the rows were read."""
        self._known.begin(self._version())
        try:
            yield self._known
        finally:
            self._known.end()

    def _version(self) -> int:
        """A number that changes with every write of others to the file."""
        return int(self._all("PRAGMA data_version")[0][0])

    def _unchecked(self, sql: str, value: str) -> Iterator[Any]:
        """The rows of a statement, one by one, their types unchecked."""
        return self._each(tuple, sql, value)
