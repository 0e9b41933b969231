"""The tables of the catalog: offsets, states, and what else is derived once for all days."""

from __future__ import annotations

from peewee import (
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    FloatField,
    IntegerField,
    TextField,
)

from .daily_schema import Table


class CatalogSource(Table):
    """A log file: how far it was read, how to know it again, what its next row depends on, where its bytes went."""

    path = TextField(unique=True)
    layout = TextField()
    stem = TextField()
    first_mtime = FloatField(null=True)
    """The file's modification time when it was first seen: that of records without a time, with none before them
    (`docs/derivation.md`, section 5). Null until the file was read."""
    device = BigIntegerField()
    inode = BigIntegerField()
    size = BigIntegerField()
    mtime_ns = BigIntegerField()
    offset = BigIntegerField()
    lines = BigIntegerField()
    head = BigIntegerField()
    tail = BigIntegerField()
    indexed = BigIntegerField()
    blank = BigIntegerField()
    rejected = BigIntegerField()
    skipped = BigIntegerField()
    entries = BigIntegerField()
    status = TextField()
    """`ok`, `archived` with no file of its own left, `missing`, or `resetting` while old rows are being dropped."""
    state = BlobField(null=True)

    class Meta:
        table_name = "source"


class OpenRequest(Table):
    """A request that waits for its answer: what the next answer in its file needs to know of it."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    correlation = TextField(null=True)
    author = TextField(null=True)
    addressees = TextField()
    pattern = TextField()
    conversation = TextField(null=True)
    """Null where it is the stem of the source, as it almost always is in a session file."""
    expects = BooleanField()
    timestamp = FloatField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class HeldRole(Table):
    """The role that an agent holds in a file as far as it was read. A file may name a million of them."""

    source = IntegerField()
    agent = TextField()
    role = TextField()

    class Meta:
        primary_key = CompositeKey("source", "agent")
        without_rowid = True


class SessionPart(Table):
    """What one source says of a session."""

    session_id = TextField()
    source = IntegerField(index=True)
    initiating_agent = TextField()
    created_at = FloatField()
    pattern_type = TextField()
    is_completed = BooleanField()

    class Meta:
        primary_key = CompositeKey("session_id", "source")
        without_rowid = True


class RejectedLineRow(Table):
    """A line that is no record."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    line_number = BigIntegerField()
    byte_length = BigIntegerField()
    reason = TextField()

    class Meta:
        table_name = "rejected_line"
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class DayRow(Table):
    """A day that has entries, and the first and last of their times."""

    day = TextField(primary_key=True)
    first_timestamp = FloatField()
    last_timestamp = FloatField()
    entries = IntegerField()
    checkpoint = IntegerField()
    """The number of the last one that wrote this day, which its file has to know of; 0: a rebuild."""

    class Meta:
        table_name = "day"
        without_rowid = True


class ArchiveFile(Table):
    """An archive file, by its name below the archive folder."""

    name = TextField(unique=True)


class ArchivedPart(Table):
    """Bytes of a log that lie in the archive, from `start` on."""

    source = IntegerField()
    start = BigIntegerField()
    file = IntegerField()
    at = BigIntegerField()
    size = BigIntegerField()
    lines = BigIntegerField()
    sign = BigIntegerField()

    class Meta:
        table_name = "archived"
        primary_key = CompositeKey("source", "start")
        without_rowid = True


class DayFilter(Table):
    """A block of the filter of a day: see `bloom.py`."""

    day = TextField()
    block = IntegerField()
    bits = BlobField()

    class Meta:
        primary_key = CompositeKey("day", "block")
        without_rowid = True


class FilteredDay(Table):
    """A day that has a filter, which is whole: the row goes before anything is written on that day."""

    day = TextField(primary_key=True)
    blocks = IntegerField()
    is_compact = BooleanField()

    class Meta:
        without_rowid = True


class CatalogMeta(Table):
    """Facts about the index as a whole: `config`, `build`, `checkpoint`."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


CATALOG_TABLES = (
    *(CatalogSource, OpenRequest, HeldRole, SessionPart, RejectedLineRow, DayRow, CatalogMeta),
    *(ArchiveFile, ArchivedPart, DayFilter, FilteredDay),
)

# Of several sources that speak of a session, its own file is heard first, then the one that spoke first.
CATALOG_VIEWS = (
    """
CREATE VIEW IF NOT EXISTS session_registry AS
SELECT session_id, initiating_agent, created_at, pattern_type,
       CASE WHEN any_completed THEN 'completed' ELSE 'active' END AS status
FROM (
    SELECT p.*, MAX(p.is_completed) OVER (PARTITION BY p.session_id) AS any_completed,
           ROW_NUMBER() OVER (
               PARTITION BY p.session_id ORDER BY s.layout <> 'session', p.created_at, s.path
           ) AS place
    FROM session_part p JOIN source s ON s.id = p.source
)
WHERE place = 1
""",
    """
CREATE VIEW IF NOT EXISTS rejected AS
SELECT s.path AS source, r.line_number AS line_number, r.byte_offset AS byte_offset,
       r.byte_length AS length, r.reason AS reason
FROM rejected_line r JOIN source s ON s.id = r.source
""",
    "CREATE INDEX IF NOT EXISTS source_stem ON source(stem)",
)
