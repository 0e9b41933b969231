"""Segments of daily files, written by the worker processes of a bulk load, and merged into daily files.

A segment has rows, but no indexes, journal or sync, and is never read while it is written: what the worker needs to
know of it is in memory. When the open segments of a process take too much memory together, the largest is closed, and
its day continues in another one. So memory is bounded whatever the logs contain, and a day may come up again at any
time.

In a rebuild, the largest segment of a day becomes the daily file, and the rows of the others are copied into it and
renumbered (`merge_segments`). Indexes are built at the end, from sorted values, at a third of the cost of keeping them
up to date. A running sidecar copies segments into a daily file that has its indexes and its readers (`copy_segment`).

A kill leaves nothing of a segment in the index. A daily file of a rebuild counts only once the whole rebuild is swapped
in; a copy into a daily file is one transaction, which is taken back at the next start unless the checkpoint that
follows it was saved. The next start deletes the files of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from peewee import SqliteDatabase

from sidecar.guarded import GuardedFolder
from sidecar.ingest.source import Batch
from sidecar.records import Answered, LogName, Row
from sidecar.store.connection import (
    DAILY,
    count_entries,
    create_name_indexes,
    create_segment,
    finish_tables,
    first_and_last,
    make_small,
    open_segment,
)
from sidecar.store.daily_schema import AT_PLACE, SPAN_IDS
from sidecar.store.database_files import check_to_write, uri

from .dictionary import Dictionary

MAX_REMEMBERED = 400_000
"""Strings and combinations that the open segments of a process remember together, at most; about 120 bytes each."""
MAX_OPEN_SEGMENTS = 64
"""Segments open at once, at most; each has a descriptor and a cache."""
MAX_COMPACTED_BYTES = 1 << 18
"""Bytes of a merged file up to which it is rewritten with small pages (`store.connection.make_small`)."""
_LATE_COLUMNS = "source, byte_offset, correlation, answered_after"
_ADD_LATE = f"INSERT INTO late ({_LATE_COLUMNS}) VALUES (?, ?, ?, ?)"


class Segment:
    """A segment of one day, open for writing."""

    def __init__(self, folder: GuardedFolder, name: str) -> None:
        self._database = create_segment(folder, name)
        self._database.execute_sql("BEGIN")
        self._dictionary = Dictionary(self._database, is_new=True)

    @property
    def remembered(self) -> int:
        """Number of strings and combinations in memory."""
        return self._dictionary.remembered

    def write(self, log: LogName, rows: list[Row], answered: dict[int, Answered]) -> None:
        """Add rows of one log, and note which requests in earlier segments are answered, by their byte offset."""
        self._dictionary.insert(log, rows, answered)
        if answered:
            late = self._dictionary.answers(self._dictionary.place(log, 0).number, answered.values())
            self._database.connection().executemany(_ADD_LATE, late)

    def close(self) -> None:
        """Commit the rows, and close the file, which is closed after an error too."""
        try:
            self._dictionary.flush()
            self._database.execute_sql("COMMIT")
        finally:
            self._database.close()

    def abandon(self) -> None:
        """Close the file without its last rows."""
        self._database.close()


class SegmentWriter:
    """Writes the segments of one process, in a folder that it may share with others."""

    def __init__(self, folder: GuardedFolder, prefix: str = "") -> None:
        """`prefix` begins the names of its files, and no other writer's."""
        self.folder = folder
        self._prefix = prefix
        self._open: dict[int, Segment] = {}
        self._made: defaultdict[int, list[str]] = defaultdict(list)
        self._count = 0
        self._remembered = 0
        """By all open segments together."""

    def write(self, batch: Batch) -> None:
        """Write the rows of a batch into the segments of their days."""
        for one in batch.by_file() if batch.earlier else (batch,):
            for day, (rows, answered) in one.by_day().items():
                segment = self._segment(day)
                before = segment.remembered
                segment.write(one.log, rows, answered)
                self._remembered += segment.remembered - before
        while self._open and self._remembered > MAX_REMEMBERED:
            self._close_largest()

    def _segment(self, day: int) -> Segment:
        segment = self._open.get(day)
        if segment is None:
            if len(self._open) >= MAX_OPEN_SEGMENTS:
                self._close_largest()
            made = self._made[day]
            self._count += 1
            made.append(f"{self._prefix}{day}-{self._count}.part")
            segment = self._open[day] = Segment(self.folder, made[-1])
        return segment

    def _close_largest(self) -> None:
        largest = max(self._open, key=lambda day: self._open[day].remembered)
        segment = self._open.pop(largest)
        self._remembered -= segment.remembered
        segment.close()

    def close(self) -> dict[int, list[str]]:
        """Close all open segments. Returns the segments of each day written since the last call, in the order of their
        rows. More may be written afterwards."""
        while self._open:
            self._open.popitem()[1].close()
        self._remembered = 0
        made, self._made = self._made, defaultdict(list)
        return dict(made)

    def abandon(self) -> None:
        """Close what is still open, without its last rows. To be called when a load fails: else its descriptors and
        caches would live until the garbage collector finds them, and a sidecar loads again and again."""
        while self._open:
            self._open.popitem()[1].abandon()


# ---- merging

# For each table of which a segment and the daily file may have the same row: the condition by which a row `b` of the
# segment is found as a row `a` of the file. The temporary tables `as_…`, made in this order, translate the numbers.
_SAME = {
    "name": "a.text = b.text",
    "correlation": "a.text = b.text",
    "source": (
        "a.folder = (SELECT number FROM as_name WHERE id = b.folder) AND a.stem = b.stem AND a.suffix = b.suffix"
    ),
    "kind": (
        "a.event_type = (SELECT number FROM as_name WHERE id = b.event_type)"
        " AND a.pattern = (SELECT number FROM as_name WHERE id = b.pattern)"
        " AND (a.is_completion, a.is_request, a.has_author, a.addressees, a.self_place)"
        " = (b.is_completion, b.is_request, b.has_author, b.addressees, b.self_place)"
    ),
    "context": (
        "a.session = (SELECT number FROM as_name WHERE id = b.session)"
        " AND a.initiating_agent = (SELECT number FROM as_name WHERE id = b.initiating_agent)"
        " AND a.conversation = (SELECT number FROM as_name WHERE id = b.conversation)"
    ),
    "party": "a.hash = b.hash AND a.agents = b.agents",
    "role_set": "a.hash = b.hash AND a.roles = b.roles",
}
_COPIED = {
    "name": "text",
    "correlation": "text",
    "source": "(SELECT number FROM as_name WHERE id = b.folder), stem, suffix, touched, session",
    "kind": (
        "(SELECT number FROM as_name WHERE id = b.event_type), (SELECT number FROM as_name WHERE id = b.pattern),"
        " is_completion, is_request, has_author, addressees, self_place"
    ),
    "context": (
        "(SELECT number FROM as_name WHERE id = b.session),"
        " (SELECT number FROM as_name WHERE id = b.initiating_agent),"
        " (SELECT number FROM as_name WHERE id = b.conversation)"
    ),
    "party": "agents, hash",
    "role_set": "roles, hash",
}
_ENTRIES = (
    "INSERT INTO main.entry SELECT e.id + ?, s.number, e.line_number, e.byte_offset, e.byte_length, e.checksum,"
    " e.timestamp, k.number, c.number, p.number, o.number, r.number, e.requests_response, e.has_response,"
    " e.answered_after FROM part.entry e"
    " CROSS JOIN as_source s ON s.id = e.source CROSS JOIN as_kind k ON k.id = e.kind"
    " CROSS JOIN as_context c ON c.id = e.context CROSS JOIN as_party p ON p.id = e.party"
    " CROSS JOIN as_role_set o ON o.id = e.roles"
    " LEFT JOIN as_correlation r ON r.id = e.correlation ORDER BY e.id"
)
_SPANS = (
    "INSERT INTO main.span SELECT s.number, p.byte_offset, p.first + ? FROM part.span p"
    " JOIN as_source s ON s.id = p.source"
)
_MEMBERS = (
    "SELECT DISTINCT a.number, p.number FROM part.member m"
    " JOIN as_name a ON a.id = m.agent JOIN as_party p ON p.id = m.party"
)
_LATE = (
    "SELECT s.number AS source, l.byte_offset, r.number AS correlation, l.answered_after FROM part.late l"
    " JOIN as_source s ON s.id = l.source LEFT JOIN as_correlation r ON r.id = l.correlation"
)
_ANSWER = (
    "UPDATE entry SET has_response = 1, correlation = l.correlation, answered_after = l.answered_after FROM {late} l"
    " WHERE entry.id ="
    f" ({AT_PLACE.format(span=SPAN_IDS, source='l.source', offset='l.byte_offset')})"
)


def merge_segments(
    folder: GuardedFolder, parts: Iterable[str], days: GuardedFolder, name: str
) -> tuple[float, float, int]:
    """Merge the segments `parts` of a day, which are in `folder`, into the new daily file `name` in `days`. It is
    durable when this returns, and the segments no longer exist.

    Returns its first and last timestamp, and its number of entries. Raises OSError, or what SQLite raises.
    """
    largest, *others = sorted(parts, key=lambda part: folder.status_of(part).st_size, reverse=True)
    folder.rename(largest, name, days)
    with closing(open_segment(days, name)) as database:
        with database.atomic():
            create_name_indexes(database)
        for part in others:
            with attached(database, folder, part), database.atomic(), _copied(database, _highest(database, "entry")):
                database.execute_sql(f"INSERT INTO main.member (agent, party) {_MEMBERS}")
                database.execute_sql(f"INSERT INTO main.late ({_LATE_COLUMNS}) {_LATE}")
            folder.delete(part)
        with database.atomic():
            database.execute_sql(_ANSWER.format(late="late"))
            database.execute_sql("INSERT INTO party_agent SELECT DISTINCT agent, party FROM member ORDER BY 1, 2")
            # The pages of an index that was filled out of order are a tenth empty.
            if others:
                database.execute_sql("REINDEX correlation_text")
            # The pages of these tables are used again for the indexes.
            for table in ("late", "member"):
                database.execute_sql(f"DROP TABLE {table}")
            next_entry = str(_highest(database, "entry") + 1)
            database.execute_sql("INSERT INTO meta VALUES ('next_entry', ?), ('day', ?)", (next_entry, Path(name).stem))
            finish_tables(database, DAILY)
        if days.status_of(name).st_size <= MAX_COMPACTED_BYTES:
            make_small(database)
        summary = (*first_and_last(database), count_entries(database))
    days.sync_file(name)
    return summary


def copy_segment(database: SqliteDatabase, touched: int, last: int) -> int:
    """Copy the attached segment into a daily file that is open for writing, within a transaction of the caller.

    Rows get ids after `last`; `touched` is the number of the checkpoint that will cover them. Earlier segments of the
    same log must have been copied before, because there may be answers to their requests. Returns the number of rows.
    """
    with _copied(database, last):
        database.execute_sql(f"INSERT OR IGNORE INTO main.party_agent {_MEMBERS}")
        database.execute_sql(_ANSWER.format(late=f"({_LATE})"))
        database.execute_sql(
            "UPDATE main.source SET touched = ? WHERE id IN (SELECT number FROM as_source)", (touched,)
        )
    return int(database.execute_sql("SELECT COUNT(*) FROM part.entry").fetchone()[0])


@contextmanager
def attached(database: SqliteDatabase, folder: GuardedFolder, part: str) -> Iterator[None]:
    """Attach a segment as the schema `part` for the `with` block. SQLite cannot do this within a transaction."""
    check_to_write(folder, part)
    database.execute_sql("ATTACH ? AS part", (uri(folder.path / part, "mode=ro"),))
    try:
        yield
    finally:
        database.execute_sql("DETACH part")


@contextmanager
def _copied(database: SqliteDatabase, last: int) -> Iterator[None]:
    """Copy the rows of the attached segment under new numbers, those of entries after `last`. In the block, temporary
    tables `as_…` translate the old numbers to the new ones."""
    run: Callable[..., Any] = database.execute_sql
    for table, same in _SAME.items():
        highest = _highest(database, table)
        run(f"CREATE TEMP TABLE as_{table} (id INTEGER PRIMARY KEY, number INTEGER NOT NULL)")
        known = f"(SELECT a.id FROM main.{table} a WHERE {same})"
        run(f"INSERT INTO as_{table} SELECT id, COALESCE({known}, id + ?) FROM part.{table} b", (highest,))
        run(
            f"INSERT INTO main.{table} SELECT id + ?1, {_COPIED[table]} FROM part.{table} b"
            f" WHERE (SELECT number FROM as_{table} WHERE id = b.id) > ?1",
            (highest,),
        )
    run(_ENTRIES, (last,))
    run(_SPANS, (last,))
    yield
    for table in _SAME:
        run(f"DROP TABLE as_{table}")


def _highest(database: SqliteDatabase, table: str) -> int:
    return int(database.execute_sql(f"SELECT COALESCE(MAX(id), 0) FROM main.{table}").fetchone()[0])
