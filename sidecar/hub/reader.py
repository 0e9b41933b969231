"""`HubIndex`: the questions of `Index`, answered by a hub, for one machine or for all."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.errors import AmbiguousId, EntryNotFound
from sidecar.query.filters import Filter
from sidecar.query.index import Index
from sidecar.query.pages import FIRST_PAGE, LARGEST_PAGE
from sidecar.query.search import Unreadable, hits_by_reading
from sidecar.records import AgentSummary, Entry, PeerInteraction, PendingRequest, RejectedLine, Session
from sidecar.search.hit import Hit
from sidecar.search.wanted import Wanted
from sidecar.store.codec import agents_of, roles_of, speakers
from sidecar.store.daily_schema import CHECKSUM_OFFSET
from sidecar.times import duration

from . import values
from .link import connect, errors_named
from .records import RecordFetcher
from .schema import WAITS

if TYPE_CHECKING:
    import psycopg

_SELECTED = (
    'id, "timestamp", event_type, session_id, file_path, line_number, byte_offset, initiating_agent,'
    " participating_agents, agent_roles, pattern_type, conversation_id, correlation_id, is_completion, is_request,"
    " has_response, requests_response, has_author, addressees, self_place, answered_after, checksum, node"
)
# As a node has it, whatever the locale of the hub; and entries of several machines at one place by their names.
_PLACE = '"timestamp"{0}, file_path COLLATE "C"{0}, byte_offset{0}, node COLLATE "C"{0}'
_GIVEN = {
    "agent": "agent",
    "session": "session_id",
    "event_type": "event_type",
    "pattern": "pattern_type",
    "conversation": "conversation_id",
    "correlation": "correlation_id",
}
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
        self._connection()

    def close(self) -> None:
        """Close the connection. It is opened again when the index is next used."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._fetcher.close()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._db is None or self._db.closed:
            self._db = connect(self.url, read_only=True)
            # Rows that are asked for by a limit come by indexes, and not by a sort of all.
            self._db.execute("SET jit = off")
        return self._db

    def _ask(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with errors_named(self.url):
            return self._connection().execute(sql, arguments).fetchall()

    # ---- many entries

    def _entries(
        self, wanted: Filter, reverse: bool = False, limit: int | None = None, names: Sequence[str] | None = None
    ) -> Iterator[Any]:
        after: tuple[Any, ...] | None = None
        size = FIRST_PAGE if limit is None else max(1, min(FIRST_PAGE, limit))
        way = " DESC" if reverse else ""
        while True:
            source, terms, arguments = self._asked(wanted)
            if after is not None:
                sign = "<" if reverse else ">"
                columns = _PLACE.format("")
                terms += [f'"timestamp" {sign}= %s', f"({columns}) {sign} (%s, %s, %s, %s)"]
                arguments += [after[0], *after]
            where = " AND ".join(terms) or "true"
            sql = f"SELECT {_SELECTED} FROM {source} WHERE {where} ORDER BY {_PLACE.format(way)} LIMIT {size}"
            page = self._ask(sql, *arguments)
            for row in page:
                yield _entry(row) if names is None else _columns(row, names)
            if len(page) < size:
                return
            last = page[-1]
            after = (last[1], last[4], last[6], last[22])
            size = min(LARGEST_PAGE, size * 2)

    def _hits(self, asked: Filter, wanted: Wanted, context: int, unreadable: Unreadable | None) -> Iterator[Hit]:
        # The logs are elsewhere, so that nothing can be ruled out without reading.
        entries = self._entries(asked, reverse=True)
        return hits_by_reading(entries, self.read, self.text, wanted, context, unreadable)

    def _asked(self, wanted: Filter) -> tuple[str, list[str], list[Any]]:
        """The view that has the entries, and the conditions with their arguments."""
        terms: list[str] = []
        arguments: list[Any] = []
        for comparison, moment in ((">=", wanted.since), ("<", wanted.until), (">", wanted.after)):
            if moment is not None:
                terms.append(f'"timestamp" {comparison} %s::float8')
                arguments.append(moment)
        for what, column in _GIVEN.items():
            given = getattr(wanted, what)
            if given is not None:
                terms.append(f"{column} = %s")
                arguments.append(values.name(given))
        if wanted.pending:
            terms.append(WAITS)
        if self.node is not None:
            terms.append("node = %s")
            arguments.append(self.node)
        return "hub.entries" if wanted.agent is None else "hub.entries_of_agent", terms, arguments

    def pending_everywhere(self) -> Iterator[Entry]:
        """Requests that wait, and that no machine has an answer to, the oldest first. One without a correlation can
        only be answered in its own log."""
        node = "" if self.node is None else "WHERE node = %s"
        arguments = () if self.node is None else (self.node,)
        sql = f"SELECT {_SELECTED} FROM hub.pending_everywhere {node} ORDER BY {_PLACE.format('')}"
        return map(_entry, self._ask(sql, *arguments))

    # ---- new entries

    def follow(
        self,
        agent: str | None = None,
        session: str | None = None,
        event_type: str | None = None,
        pattern: str | None = None,
        conversation: str | None = None,
        correlation: str | None = None,
        stop: Callable[[], bool] | None = None,
        poll: float = 0.02,
    ) -> Iterator[Entry]:
        """Entries that come to the hub after this call, each once. The arguments are those of `Index.follow`."""
        wanted = Filter(None, None, agent, session, event_type, pattern, conversation, correlation)
        marks = self._marks()
        return self._news(wanted, marks, stop or (lambda: False), poll)

    def _marks(self) -> dict[int, int]:
        sql = "SELECT id, turn FROM hub.node" + (" WHERE name = %s" if self.node is not None else "")
        return {int(node): int(turn) for node, turn in self._ask(sql, *([self.node] if self.node is not None else []))}

    def _news(self, wanted: Filter, marks: dict[int, int], stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
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
        view, terms, arguments = self._asked(wanted)
        where = " AND ".join(["node_id = %s", "source_id = %s", "byte_offset >= %s", "byte_offset < %s", *terms])
        sql = f"SELECT {_SELECTED} FROM {view} WHERE {where} ORDER BY byte_offset"
        ranges = (
            "SELECT source, first, last FROM hub.pushed WHERE node = %s AND turn > %s AND turn <= %s"
            " ORDER BY turn, source, first"
        )
        for source, first, end in self._ask(ranges, node, after, last):
            for entry in map(_entry, self._ask(sql, node, source, first, end, *arguments)):
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
        name, _, number = id.rpartition(":")
        if not (name and number.isascii() and number.isdigit() and len(number) < 19):
            raise EntryNotFound(f"no entry has the id {id!r}")
        node, _, rest = name.partition("/")
        sql = (
            f"SELECT {_SELECTED} FROM hub.entries WHERE byte_offset = %s AND (node_id, source_id) IN"
            " (SELECT node_id, source_id FROM hub.files WHERE (stem = ANY(%s) OR path = ANY(%s)"
            " OR node = %s AND (stem = %s OR path = %s)) AND (%s::text IS NULL OR node = %s)) LIMIT 100"
        )
        names = [values.name(name)]
        rows = self._ask(sql, int(number), names, names, node, rest, rest, self.node, self.node)
        found = [_entry(row) for row in rows]
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
            "SELECT e.node, f.read_from, e.byte_length, e.checksum FROM hub.entries e JOIN hub.files f"
            " ON (f.node_id, f.source_id) = (e.node_id, e.source_id) WHERE (e.node_id, e.source_id) IN"
            " (SELECT node_id, source_id FROM hub.files WHERE path = %s AND (%s::text IS NULL OR node = %s))"
            ' AND e.byte_offset = %s AND e."timestamp" = %s'
        )
        node = entry.node or self.node
        rows = self._ask(sql, values.name(entry.file_path), node, node, entry.byte_offset, entry.timestamp)
        return self._fetcher.read(entry, rows)

    def text(self, entry: Entry) -> str:
        """As `Index.text`. Where the machine's formats cannot be asked, the text at the usual places."""
        from sidecar.said import said

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
        return iter([one for one in found.values() if status in (None, one.status)])

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

    def find_peer_interactions(self, agent_id: str, time_window: float | str) -> list[PeerInteraction]:
        """As `Index.find_peer_interactions`."""
        wanted = Filter(after=time.time() - duration(time_window), agent=agent_id, pattern="peer_to_peer")
        columns = ("id", "timestamp", "file_path", "line_number", "participants")
        return [PeerInteraction(*row) for row in self._entries(wanted, names=columns)]

    def get_agent_role_history(self, agent_id: str, session_id: str) -> list[dict[str, Any]]:
        """As `Index.get_agent_role_history`."""
        rows = self._entries(Filter(agent=agent_id, session=session_id), names=("timestamp", "agent_roles"))
        return [{"timestamp": timestamp, "role": roles[agent_id]} for timestamp, roles in rows if agent_id in roles]

    def find_pending_requests(self, time_limit: float | str | None = 300) -> list[PendingRequest]:
        """As `Index.find_pending_requests`."""
        after = None if time_limit is None else time.time() - duration(time_limit)
        columns = ("id", "timestamp", "initiating_agent", "file_path")
        return [PendingRequest(*row) for row in self._entries(Filter(after=after, pending=True), names=columns)]

    def get_session_participants(self, session_id: str) -> list[str]:
        """The participants of all entries of a session, sorted by name."""
        sql = "SELECT agents FROM hub.session_agents WHERE session_id = %s AND (%s::text IS NULL OR node = %s)"
        rows = self._ask(sql, values.name(session_id), self.node, self.node)
        return sorted({agent for (agents,) in rows for agent in agents_of(agents)})


def _entry(row: tuple[Any, ...]) -> Entry:
    agents = tuple(agents_of(row[8]))
    author, addressees = speakers(agents, int(row[17]), row[18], row[19])
    told = (*row[:8], agents, roles_of(row[9]), *row[10:17], author, addressees, row[20])
    entry = Entry(*told)
    object.__setattr__(entry, "checksum", row[21] + CHECKSUM_OFFSET)
    object.__setattr__(entry, "node", row[22])
    return entry


def _columns(row: tuple[Any, ...], names: Sequence[str]) -> tuple[Any, ...]:
    entry = _entry(row)
    return tuple(row[8] if name == "participants" else getattr(entry, name) for name in names)
