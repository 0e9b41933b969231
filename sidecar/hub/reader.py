"""`HubIndex`: the questions of `Index`, answered by a hub, for one machine or for all."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.errors import AmbiguousId, EntryNotFound
from sidecar.query.arguments import as_indexed, checked_entry, checked_status
from sidecar.query.filters import Filter
from sidecar.query.index import Index, split_id
from sidecar.query.pages import FIRST_PAGE
from sidecar.query.questions import Question
from sidecar.query.search import Unreadable, hits_by_reading
from sidecar.records import AgentSummary, Entry, RejectedLine, Session
from sidecar.said import said
from sidecar.search.hit import Hit
from sidecar.search.wanted import Wanted

from . import values
from .link import connect, errors_named
from .pages import ROW, Pages, place_of
from .records import RecordFetcher

if TYPE_CHECKING:
    import psycopg

LARGEST = 8192
"""Entries of a page, at most, and those of its last time."""
MAX_REMEMBERED = 200_000
"""Entries returned last by `follow` that are recognized when a log is sent again."""


class HubIndex(Index):
    """The index of many machines. `Index("postgresql://HOST/DATABASE")` makes one.

    Its methods are those of `Index`, and each entry has its `node` too. `node` restricts it to one machine.
    """

    def __init__(self, root: str, archive: object = None, index: object = None, *, node: str | None = None) -> None:  # noqa: ARG002
        self.url, self.node = root, node
        self.root = Path("/nonexistent")
        self._db: psycopg.Connection[Any] | None = None
        self._fetcher = RecordFetcher()
        self._pages = Pages(self._ask)
        self._connection()

    def close(self) -> None:
        """Close the connection. It is opened again when the index is next used."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._fetcher.close()

    @property
    def backend(self) -> int:
        """The process of the server that serves this connection."""
        return int(self._connection().info.backend_pid)

    def _connection(self) -> psycopg.Connection[Any]:
        if self._db is None or self._db.closed:
            self._db = connect(self.url, read_only=True)
            # Nobody analyzes a partitioned table, and days differ: without statistics, indexes are right.
            self._db.execute("SET jit = off; SET enable_seqscan = off")
            self._pages = Pages(self._ask)
        return self._db

    def _ask(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with errors_named(self.url):
            return self._connection().execute(sql, arguments).fetchall()

    # ---- many entries

    def _entries(
        self, wanted: Filter, reverse: bool = False, limit: int | None = None, names: Sequence[str] | None = None
    ) -> Iterator[Any]:
        # A page ends with all entries of its last time, so that the next one begins with another.
        size = FIRST_PAGE if limit is None else max(1, min(FIRST_PAGE, limit))
        sign, way = ("<", " DESC") if reverse else (">", "")
        last: float | None = None
        while (asked := self._pages.condition(wanted, self.node)) is not None:
            terms, arguments = [*asked.terms], [*asked.arguments]
            if last is not None:
                terms.append(f'"timestamp" {sign} %s::float8')
                arguments.append(last)
            where = " AND ".join(terms) or "true"
            order = f'"timestamp"{" + 0" if asked.is_narrow else ""}{way}'
            sql = f"SELECT {ROW} FROM hub.entry WHERE {where} ORDER BY {order} FETCH FIRST {size} ROWS WITH TIES"
            rows = self._ask(sql, *arguments)
            found = self._pages.entries(rows)
            found.sort(key=place_of, reverse=reverse)
            for entry in found:
                yield entry if names is None else tuple(getattr(entry, name) for name in names)
            if len(rows) < size:
                return
            last = rows[-1][0]
            size = min(LARGEST, size * 4)

    def _hits(self, asked: Filter, wanted: Wanted, context: int, unreadable: Unreadable | None) -> Iterator[Hit]:
        # The logs are elsewhere, so that nothing can be ruled out without reading.
        entries = self._entries(asked, reverse=True)
        return hits_by_reading(entries, self.read, self.text, wanted, context, unreadable)

    def _of(self, sql: str, *arguments: Any) -> list[Entry]:
        """The entries of a statement that selects `ROW`, in their order in time."""
        return sorted(self._pages.entries(self._ask(sql, *arguments)), key=place_of)

    def pending_everywhere(self) -> Iterator[Entry]:
        """Requests that wait, and that no machine has an answer to, the oldest first. One without a correlation can
        only be answered in its own log."""
        places = (
            "SELECT node_id, source_id, byte_offset FROM hub.pending_everywhere WHERE %s::text IS NULL OR node = %s"
        )
        sql = f"SELECT {ROW} FROM hub.entry WHERE (node, source, byte_offset) IN ({places})"
        return iter(self._of(sql, self.node, self.node))

    # ---- new entries

    def _news(self, wanted: Filter, stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
        return self._heard(wanted, self._marks(), stop, poll)

    def _marks(self) -> dict[int, int]:
        sql = "SELECT id, turn FROM hub.node" + (" WHERE name = %s" if self.node is not None else "")
        return {int(node): int(turn) for node, turn in self._ask(sql, *([self.node] if self.node is not None else []))}

    def _heard(self, wanted: Filter, marks: dict[int, int], stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
        given: OrderedDict[int, None] = OrderedDict()
        with connect(self.url) as listening:
            listening.execute("LISTEN hub_pushed")
            looked = 0.0
            while not stop():
                with errors_named(self.url):
                    heard = list(listening.notifies(timeout=max(poll, 0.01), stop_after=1))
                if not heard and time.monotonic() - looked < 1.0:
                    continue
                looked = time.monotonic()
                for node, turn in self._marks().items():
                    if turn > marks.get(node, 0):
                        yield from self._of_turns(wanted, node, marks.get(node, 0), turn, given)
                        marks[node] = turn

    def _of_turns(
        self, wanted: Filter, node: int, after: int, last: int, given: OrderedDict[int, None]
    ) -> Iterator[Entry]:
        asked = self._pages.condition(wanted, self.node)
        if asked is None:
            return
        where = " AND ".join(["node = %s", "source = %s", "byte_offset >= %s", "byte_offset < %s", *asked.terms])
        sql = f"SELECT {ROW} FROM hub.entry WHERE {where} ORDER BY byte_offset"
        ranges = (
            "SELECT source, first, last FROM hub.pushed WHERE node = %s AND turn > %s AND turn <= %s"
            " ORDER BY turn, source, first"
        )
        for source, first, end in self._ask(ranges, node, after, last):
            for entry in self._pages.entries(self._ask(sql, node, source, first, end, *asked.arguments)):
                key = hash((node, entry.file_path, entry.byte_offset, entry.timestamp, entry.checksum))
                if key in given:
                    continue
                given[key] = None
                if len(given) > MAX_REMEMBERED:
                    given.popitem(last=False)
                yield entry

    # ---- one entry

    def get(self, id: str) -> Entry:
        """As `Index.get`; an id or a place may begin with `<node>/`, where several machines have it."""
        place = split_id(as_indexed(id, "id"))
        if place is None:
            raise EntryNotFound(f"no entry has the id {id!r}")
        name, number = place
        node, _, rest = name.partition("/")
        sql = (
            "SELECT node_id, source_id FROM hub.files WHERE (stem = %s OR path = %s OR node = %s AND (stem = %s OR"
            " path = %s)) AND (%s::text IS NULL OR node = %s) LIMIT 1000"
        )
        whole = values.name(name)
        files = self._ask(sql, whole, whole, node, rest, rest, self.node, self.node)
        found = []
        for node_id, source in files:
            one = f"SELECT {ROW} FROM hub.entry WHERE node = %s AND source = %s AND byte_offset = %s"
            found += self._of(one, node_id, source, number)
        exact = [entry for entry in found if entry.file_path == name or f"{entry.node}/{entry.file_path}" == name]
        found = exact or found
        if len(found) > 1:
            places = ", ".join(sorted(f"{entry.node}/{entry.file_path}:{entry.byte_offset}" for entry in found))
            raise AmbiguousId(f"{id!r} is the id of {places}", hint="give one of these, or --node NAME")
        if not found:
            raise EntryNotFound(f"no entry has the id {id!r}")
        return found[0]

    def read_bytes(self, entry: Entry) -> bytes:
        """The bytes of the record behind an entry, from where its machine's records can be read. They are the bytes
        that were indexed, by length and CRC-32, which are checked here.

        Raises SourceElsewhere if they can only be read on the machine itself, and the errors of `Index.read_bytes`.
        """
        sql = (
            "SELECT f.node, f.read_from, e.byte_length, e.checksum FROM hub.files f JOIN hub.entry e"
            " ON (e.node, e.source) = (f.node_id, f.source_id) WHERE f.path = %s AND (%s::text IS NULL OR f.node = %s)"
            ' AND e.byte_offset = %s AND e."timestamp" = %s'
        )
        node = checked_entry(entry).node or self.node
        rows = self._ask(sql, values.name(entry.file_path), node, node, entry.byte_offset, entry.timestamp)
        return self._fetcher.read(entry, rows)

    def text(self, entry: Entry) -> str:
        """As `Index.text`. Where the machine's formats cannot be asked, the text at the usual places."""
        return said(self.read(entry), None)

    def names_text(self, entry: Entry) -> bool:  # noqa: ARG002
        """Whether the format of an entry's log names the places of what was said: not known here."""
        return False

    # ---- what the catalogs know

    def sessions(self, status: str | None = None) -> Iterator[Session]:
        """The sessions in the order of their creation. One that several machines have is listed once, as where it
        began; it is completed if any of them says so."""
        sql = (
            "SELECT session_id, initiating_agent, created_at, pattern_type, status, lives_in FROM hub.sessions"
            ' WHERE %s::text IS NULL OR node = %s ORDER BY created_at, session_id COLLATE "C", node COLLATE "C"'
        )
        found: dict[str, Session] = {}
        for session, *more in self._ask(sql, self.node, self.node):
            before = found.get(session)
            if before is None:
                found[session] = Session(session, *more)
            elif more[3] == "completed" != before.status:
                old = (before.initiating_agent, before.created_at, before.pattern_type)
                found[session] = Session(session, *old, "completed", before.lives_in)
        wanted = checked_status(status)
        return iter([one for one in found.values() if wanted in (None, one.status)])

    def rejected(self) -> Iterator[RejectedLine]:
        """The lines that are not records, in the order of file path and byte offset."""
        sql = (
            "SELECT file_path, line_number, byte_offset, byte_length, reason FROM hub.rejected"
            ' WHERE %s::text IS NULL OR node = %s ORDER BY file_path COLLATE "C", byte_offset, node'
        )
        return iter([RejectedLine(*row) for row in self._ask(sql, self.node, self.node)])

    def agents(self) -> list[AgentSummary]:
        """Every agent that is a participant of any entry, sorted by name, with its number of entries."""
        sql = (
            "SELECT agent, SUM(entries)::bigint, MIN(first_timestamp), MAX(last_timestamp) FROM hub.agents"
            " WHERE %s::text IS NULL OR node = %s GROUP BY agent"
        )
        return sorted((AgentSummary(*row) for row in self._ask(sql, self.node, self.node)), key=lambda one: one.agent)

    def _answers(self, question: Question, wanted: Filter) -> list[Any]:
        return [question.of(entry) for entry in self._entries(wanted)]

    def get_session_participants(self, session_id: str) -> list[str]:
        """The participants of all entries of a session, sorted by name."""
        asked = self._pages.condition(Filter(session=as_indexed(session_id, "session_id")), self.node)
        if asked is None:
            return []
        sql = f"SELECT DISTINCT node, party FROM hub.entry WHERE {' AND '.join(asked.terms)}"
        return sorted(self._pages.agents_of(self._ask(sql, *asked.arguments)))
