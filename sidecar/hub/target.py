"""The hub as a pusher sees it: the transaction that brings rows and moves cursors.

COPY into a table with row security is refused by PostgreSQL, so rows are copied to a temporary table and inserted from
there, which costs a quarter more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any

from sidecar.errors import HubUnavailable, SidecarError

from . import schema, values
from .batch import FileRows, HubCursor, LogRows, PushBatch
from .codes import Codes
from .link import connect, errors_named

ENTRY_COLUMNS = (
    '"timestamp"',
    *("byte_offset", "answered_after", "node", "source", "line_number", "byte_length", "checksum", "context"),
    *("party", "kind", "response", "correlation"),
)
_CURSOR = 'id, log, path, generation, "offset", entries, closed'
_KEPT = "1 hour"
"""How long those who follow can fall behind."""


class Raced(SidecarError):
    """What was read does not hold any more. It is read again."""


class HubTarget:
    """A connection to the hub, for the one pusher of a node. After any error it is closed, and another one made."""

    def __init__(self, url: str, node: str, on_stage: Callable[[str], None]) -> None:
        self.url, self.name, self._on_stage = url, node, on_stage
        self._db = connect(url)
        try:
            with errors_named(url):
                row = self._db.execute("SELECT hub.join_as(%s)", (node,)).fetchone()
                assert row is not None
                self.node = int(row[0])
                self._load()
        except BaseException:
            self._db.close()
            raise

    def _load(self) -> None:
        sql = "SELECT epoch, checkpoint, turn, claim FROM hub.node WHERE id = %s"
        self.epoch, self.checkpoint, self.turn, self.claim = self._one(sql, self.node)
        self._next_source = 1 + self._one("SELECT COALESCE(MAX(id), 0) FROM hub.source WHERE node = %s", self.node)[0]
        self.closed = self._closed()
        self._codes = Codes(self._db, self.node)
        self._days: set[str] = set()
        for table in ("entry", "party_agent", "session_part", "rejected_line"):
            self._db.execute(f"CREATE TEMP TABLE new_{table} (LIKE hub.{table}) ON COMMIT DELETE ROWS")

    @property
    def backend(self) -> int:
        """The process of the server that serves this connection."""
        return int(self._db.info.backend_pid)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _one(self, sql: str, *arguments: Any) -> Any:
        row = self._db.execute(sql, arguments).fetchone()
        if row is None:
            raise SidecarError(f"the node {self.name} is gone from the hub")
        return row

    def _closed(self) -> set[str]:
        return {str(day) for (day,) in self._db.execute("SELECT day FROM hub.closed")}

    # ---- what the hub has

    def cursors(self, paths: Sequence[str]) -> dict[str, list[HubCursor]]:
        """For each of some logs that the hub has, its files, that with the plain name first."""
        sql = (
            f"SELECT {_CURSOR} FROM hub.source WHERE node = %s AND log IN"
            " (SELECT id FROM hub.source WHERE node = %s AND path = ANY(%s) AND log = id) ORDER BY log, id <> log, id"
        )
        found: dict[int, list[HubCursor]] = {}
        with errors_named(self.url):
            for row in self._db.execute(sql, (self.node, self.node, list(paths))):
                found.setdefault(row[1], []).append(HubCursor(*row))
        return {files[0].path: files for files in found.values() if files[0].id == files[0].log}

    def all_logs(self) -> list[str]:
        """The paths of all logs that the hub has of this node."""
        sql = "SELECT path FROM hub.source WHERE node = %s AND log = id"
        with errors_named(self.url):
            return [path for (path,) in self._db.execute(sql, (self.node,))]

    def opens(self, sources: Sequence[int]) -> dict[int, dict[int, tuple[float, int]]]:
        """The open requests of some files: by source and byte offset, the timestamp and the response."""
        sql = (
            'SELECT source, byte_offset, "timestamp", response FROM hub.entry'
            f" WHERE node = %s AND source = ANY(%s) AND {schema.IS_OPEN}"
        )
        found: dict[int, dict[int, tuple[float, int]]] = {}
        with errors_named(self.url):
            for source, offset, at, response in self._db.execute(sql, (self.node, list(sources))):
                found.setdefault(source, {})[offset] = (at, response)
        return found

    def timestamp_at(self, source: int, offset: int) -> tuple[float, int] | None:
        """The timestamp and the response of the row at a place."""
        sql = 'SELECT "timestamp", response FROM hub.entry WHERE node = %s AND source = %s AND byte_offset = %s'
        with errors_named(self.url):
            return self._db.execute(sql, (self.node, source, offset)).fetchone()

    def sums(self, sources: Sequence[int], words: str) -> list[tuple[int, str, int, int]]:
        """For each of some files and day: the number of rows, and the sum of their checksums over `words`."""
        sql = (
            "SELECT e.source, to_char(to_timestamp(floor(e.\"timestamp\" / 86400) * 86400), 'YYYY-MM-DD'), count(*),"
            f" sum(('x' || substr(md5({words}), 1, 8))::bit(32)::bigint)::bigint FROM hub.entry e"
            " JOIN hub.kind k ON (k.node, k.id) = (e.node, e.kind)"
            " JOIN hub.context c ON (c.node, c.id) = (e.node, e.context)"
            " JOIN hub.party p ON (p.node, p.id) = (e.node, e.party)"
            " WHERE e.node = %s AND e.source = ANY(%s) GROUP BY 1, 2"
        )
        with errors_named(self.url):
            return list(self._db.execute(sql, (self.node, list(sources))))

    # ---- the transaction

    def write(self, batch: PushBatch, done: tuple[str, int, float] | None = None) -> None:
        """Bring a batch, and move the cursors. `done` is the epoch, the checkpoint and the time at which it was seen,
        if the hub has all of it then. Raises Raced, HubUnavailable."""
        import psycopg

        try:
            self._write(batch, done)
        except HubUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.CheckViolation):
                raise Raced("a day was closed") from error
            raise

    def _write(self, batch: PushBatch, done: tuple[str, int, float] | None) -> None:
        with errors_named(self.url):
            self._make_days(batch)
            with self._db.transaction():
                self._lock()
                brought = [(one, self._files_of(one)) for one in batch.logs]
                self._write_rows(brought)
                self._on_stage("rows")
                for one, files in brought:
                    self._update(one)
                    for source, file in files:
                        self._move(one, source, file)
                self._note_pushed(brought)
                self._finish(done)
                self._on_stage("cursor")
            self.turn += 1
            if done is not None:
                self.epoch, self.checkpoint = done[:2]

    def mark(self, generations: dict[int, int], gone: Iterable[HubCursor]) -> None:
        """Set the generations of some logs, by the ids of their files with the plain name, and delete others."""
        with errors_named(self.url):
            with self._db.transaction():
                self._lock()
                for log, generation in generations.items():
                    sql = "UPDATE hub.source SET generation = %s WHERE node = %s AND log = %s"
                    self._db.execute(sql, (generation, self.node, log))
                self._delete(list(gone))
                self._finish(None)
            self.turn += 1

    def note_dropped(self, rows: list[tuple[Any, ...]]) -> None:
        """Replace what the hub has of the entries that were dropped."""
        wanted = [(values.name(path), reason, entries) for path, reason, entries in rows]
        sql = "SELECT path, reason, entries FROM hub.dropped WHERE node = %s"
        with errors_named(self.url):
            if sorted(self._db.execute(sql, (self.node,))) == sorted(wanted):
                return
            with self._db.transaction(), self._db.cursor() as cursor:
                cursor.execute("DELETE FROM hub.dropped WHERE node = %s", (self.node,))
                insert = "INSERT INTO hub.dropped (node, path, reason, entries) VALUES (%s, %s, %s, %s)"
                cursor.executemany(insert, [(self.node, *row) for row in wanted])

    def set(self, **columns: Any) -> None:
        """Set columns of the node."""
        terms = ", ".join(f"{name} = %s" for name in columns)
        with errors_named(self.url):
            self._db.execute(f"UPDATE hub.node SET {terms} WHERE id = %s", (*columns.values(), self.node))

    def take_claim(self, old: Sequence[str], new: str) -> bool:
        """Replace the claim, if it is one of `old` or empty. Returns whether it was."""
        sql = "UPDATE hub.node SET claim = %s WHERE id = %s AND (claim = '' OR claim = ANY(%s))"
        with errors_named(self.url):
            taken = self._db.execute(sql, (new, self.node, list(old))).rowcount == 1
        if taken:
            self.claim = new
        return taken

    def _lock(self) -> None:
        """One pusher at a time, and only one that knows all that was pushed before."""
        import psycopg

        try:
            sql = "SELECT turn, claim FROM hub.node WHERE id = %s FOR UPDATE NOWAIT"
            turn, claim = self._one(sql, self.node)
        except psycopg.errors.LockNotAvailable:
            raise Raced(f"another pusher is at work for {self.name}") from None
        if (turn, claim) != (self.turn, self.claim):
            raise Raced(f"another pusher has been at work for {self.name}")

    def _make_days(self, batch: PushBatch) -> None:
        for day in sorted(batch.days - self._days):
            if not self._one("SELECT hub.make_day(%s)", date.fromisoformat(day))[0]:
                self.closed = self._closed()
                raise Raced(f"the day {day} was closed")
            self._days.add(day)

    def _files_of(self, one: LogRows) -> list[tuple[int, FileRows]]:
        """The new rows by the ids of their files, which are made for new ones. What has to go first is gone then."""
        if one.begins:
            self._delete(one.old)
        taken = [file.path for file in one.files if one.begins or file.cursor is None]
        if taken:
            # A file that was another log's, or a log: that one begins again too.
            sql = f"SELECT {_CURSOR} FROM hub.source WHERE node = %s AND path = ANY(%s)"
            strangers = [HubCursor(*row) for row in self._db.execute(sql, (self.node, taken))]
            self._delete(strangers)
            sql = "UPDATE hub.source SET generation = -1 WHERE node = %s AND log = ANY(%s)"
            self._db.execute(sql, (self.node, [file.log for file in strangers]))
        ids = {}
        for file in one.files:
            if one.begins or file.cursor is None:
                ids[file.path], self._next_source = self._next_source, self._next_source + 1
            else:
                ids[file.path] = file.cursor.id
        log = ids.get(one.path) or one.old[0].id
        insert = (
            'INSERT INTO hub.source (node, id, path, log, stem, layout, generation, "offset", entries, closed, status,'
            " counts) VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, 0, %s, '{}')"
        )
        for file in one.files:
            if one.begins or file.cursor is None:
                kept = (one.log.layout, one.log.generation, one.log.status)
                self._db.execute(insert, (self.node, ids[file.path], file.path, log, file.stem, *kept))
        return [(ids[file.path], file) for file in one.files]

    def _delete(self, files: Sequence[HubCursor]) -> None:
        if files:
            ids = [file.id for file in files]
            for table, column in (("entry", "source"), ("rejected_line", "source"), ("session_part", "source")):
                self._db.execute(f"DELETE FROM hub.{table} WHERE node = %s AND {column} = ANY(%s)", (self.node, ids))
            self._db.execute("DELETE FROM hub.source WHERE node = %s AND id = ANY(%s)", (self.node, ids))

    def _write_rows(self, brought: list[tuple[LogRows, list[tuple[int, FileRows]]]]) -> None:
        files = [(source, file) for _, its in brought for source, file in its]
        rows = [row for _, file in files for row in file.rows]
        kinds = self._codes.numbers("kind", (row.kind for row in rows))
        contexts = self._codes.numbers("context", (row.context for row in rows))
        parties = self._codes.numbers("party", (row.party for row in rows))
        self.bring("party_agent", ("node", "party", "agent"), self._codes.take_agents())
        self._on_stage("dict")
        self.bring(
            "entry",
            ENTRY_COLUMNS,
            (
                (
                    *(row.timestamp, row.byte_offset, row.answered_after, self.node, source, row.line_number),
                    *(row.byte_length, row.checksum, contexts[row.context], parties[row.party], kinds[row.kind]),
                    *(row.response, row.correlation),
                )
                for source, file in files
                for row in file.rows
            ),
        )
        columns = ("node", "source", "byte_offset", "line_number", "byte_length", "reason")
        self.bring(
            "rejected_line",
            columns,
            ((self.node, source, *rejected) for source, file in files for rejected in file.rejected),
        )
        sessions = [
            (self.node, values.name(session), its[-1][0] if its else one.old[0].id, values.name(owner), created,
             values.name(pattern), bool(completed))
            for one, its in brought
            for session, owner, created, pattern, completed in one.sessions
        ]  # fmt: skip
        self.bring(
            "session_part",
            ("node", "session_id", "source", "initiating_agent", "created_at", "pattern_type", "is_completed"),
            sessions,
            " ON CONFLICT (session_id, node, source) DO UPDATE SET initiating_agent = excluded.initiating_agent,"
            " created_at = excluded.created_at, pattern_type = excluded.pattern_type,"
            " is_completed = excluded.is_completed",
        )

    def bring(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]], more: str = "") -> None:
        """Insert rows by way of the temporary table."""
        named = ", ".join(columns)
        count = 0
        with self._db.cursor() as cursor:
            with cursor.copy(f"COPY new_{table} ({named}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
                    count += 1
            if count:
                cursor.execute(f"INSERT INTO hub.{table} ({named}) SELECT {named} FROM new_{table}{more}")
                cursor.execute(f"TRUNCATE new_{table}")

    def _update(self, one: LogRows) -> None:
        """Write what has become of requests that the hub has."""
        if not one.updates:
            return
        source, offset, at, response, correlation, after = map(list, zip(*one.updates, strict=True))
        sql = (
            "UPDATE hub.entry e SET response = u.response, correlation = u.correlation, answered_after = u.after"
            " FROM unnest(%s::int[], %s::bigint[], %s::float8[], %s::smallint[], %s::text[], %s::float8[])"
            " u(source, byte_offset, at, response, correlation, after) WHERE e.node = %s AND e.source = u.source"
            ' AND e.byte_offset = u.byte_offset AND e."timestamp" = u.at AND e."timestamp" BETWEEN %s AND %s'
        )
        arguments = (source, offset, at, response, correlation, after, self.node, min(at), max(at))
        count = self._db.execute(sql, arguments).rowcount
        if count != len(one.updates):
            raise Raced(f"{one.path}: {count} of {len(one.updates)} requests are at the hub")

    def _move(self, one: LogRows, source: int, file: FileRows) -> None:
        """Move a cursor, from the very place where it was."""
        begin = 0 if one.begins or file.cursor is None else file.cursor.offset
        sql = (
            'UPDATE hub.source SET "offset" = %s, entries = entries + %s, closed = closed + %s, status = %s,'
            " counts = %s"
            ' WHERE node = %s AND id = %s AND generation = %s AND "offset" = %s'
        )
        changes = (file.last, len(file.rows), file.closed, one.log.status, one.log.counts)
        where = (self.node, source, one.log.generation, begin)
        if self._db.execute(sql, (*changes, *where)).rowcount != 1:
            raise Raced(f"the cursor of {file.path} was moved")

    def _note_pushed(self, brought: list[tuple[LogRows, list[tuple[int, FileRows]]]]) -> None:
        new = [
            (self.node, self.turn + 1, source, file.first, file.last)
            for _, files in brought
            for source, file in files
            if file.rows
        ]
        if new:
            sql = 'INSERT INTO hub.pushed (node, turn, source, first, last, "at") VALUES (%s, %s, %s, %s, %s, now())'
            with self._db.cursor() as cursor:
                cursor.executemany(sql, new)
            self._db.execute("SELECT pg_notify('hub_pushed', %s)", (str(self.node),))
        if self.turn % 100 == 0:
            sql = f"DELETE FROM hub.pushed WHERE node = %s AND \"at\" < now() - interval '{_KEPT}'"
            self._db.execute(sql, (self.node,))

    def _finish(self, done: tuple[str, int, float] | None) -> None:
        terms = ", epoch = %s, checkpoint = %s, checkpoint_at = %s, last_error = NULL" if done else ""
        sql = f"UPDATE hub.node SET turn = turn + 1, pushed_at = now(){terms} WHERE id = %s"
        self._db.execute(sql, (*(done or ()), self.node))
