"""The tables of the catalog: offsets, states, and what else holds for all days."""

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
    """A log: how far it was read, how to recognize its file, what its next row depends on, and its byte counts."""

    path = TextField(unique=True)
    layout = TextField()
    stem = TextField()
    """What the ids of its entries begin with: its session, or the stem of its path."""
    first_mtime = FloatField(null=True)
    """The file's modification time when it was first seen, in seconds since 1970: the time of records that have none,
    with none before them (docs/derivation.md, section 5). NULL until the file was read."""
    device = BigIntegerField()
    """The first of the columns, up to `tail`, that hold the cursor (`logs.tail.Cursor`)."""
    inode = BigIntegerField()
    size = BigIntegerField()
    mtime_ns = BigIntegerField()
    offset = BigIntegerField()
    lines = BigIntegerField()
    head = BigIntegerField()
    tail = BigIntegerField()
    indexed = BigIntegerField()
    """The first of the columns, up to `repaired`, that hold the counts (`ingest.source.Counts`)."""
    blank = BigIntegerField()
    rejected = BigIntegerField()
    skipped = BigIntegerField()
    entries = BigIntegerField()
    inherited = BigIntegerField()
    """The first of the columns, up to `unreadable`, that say where the times of the entries came from."""
    undated = BigIntegerField()
    unreadable = BigIntegerField()
    repaired = BigIntegerField()
    """The number of records that were read leniently."""
    status = TextField()
    """`ok`; `missing`; `archived` if all of it is archived and its file is gone; or `resetting` while its old rows are
    being deleted."""
    state = BlobField(null=True)
    """What else the next row depends on, as `codec.encode_state` encodes it. NULL while `resetting`."""

    class Meta:
        table_name = "source"


class PartRow(Table):
    """A file with an earlier part of a rotated log of which something was read. The row of the source is about the file
    with the plain name, but its counts, requests and roles are those of the whole log."""

    source = IntegerField()
    number = IntegerField()
    """The number of the part, from 0; the oldest comes first."""
    path = TextField(index=True)
    device = BigIntegerField()
    """The first of the columns of the cursor, which end with `tail`, as in `source`."""
    inode = BigIntegerField()
    size = BigIntegerField()
    mtime_ns = BigIntegerField()
    offset = BigIntegerField()
    lines = BigIntegerField()
    head = BigIntegerField()
    tail = BigIntegerField()
    base = BigIntegerField()
    """The position in the log at which the part begins: the sum of `offset` of those before it."""

    class Meta:
        table_name = "part"
        primary_key = CompositeKey("source", "number")
        without_rowid = True


class OpenRequest(Table):
    """An open request, with what its answer needs to know of it."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    """The position in the log, earlier parts included."""
    correlation = TextField(null=True)
    author = TextField(null=True)
    addressees = TextField()
    """A JSON array of names; of very many, the bytes that `ingest.crowd.Crowd` packs them in."""
    pattern = TextField()
    conversation = TextField(null=True)
    """NULL if it is the `stem` of the source, as it almost always is in a session file."""
    expects = BooleanField()
    """Whether it expects a response."""
    timestamp = FloatField()
    awaits = TextField(null=True)
    """Its correlation, or a hash if that is long, by which an answer in another log finds it. NULL if only answers in
    its own log count."""

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class LooseAnswer(Table):
    """An answer that belongs to no request of its log. Only for sources with answers across files."""

    correlation = TextField()
    """A hash if it is long."""
    source = IntegerField(index=True)

    class Meta:
        primary_key = CompositeKey("correlation", "source")
        without_rowid = True


class HeldRole(Table):
    """The current role of an agent in a log. A table of its own, because a log may have a million of them."""

    source = IntegerField()
    agent = TextField()
    role = TextField()

    class Meta:
        primary_key = CompositeKey("source", "agent")
        without_rowid = True


class SessionPart(Table):
    """What one source says about a session (docs/derivation.md, section 8)."""

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
    """A line that is not a record."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    """The position in the log, earlier parts included."""
    line_number = BigIntegerField()
    byte_length = BigIntegerField()
    reason = TextField()

    class Meta:
        table_name = "rejected_line"
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class DroppedRow(Table):
    """The number of entries of a log that were dropped, because the bytes that they pointed to are gone. A rebuild
    copies these rows, because the logs no longer tell."""

    path = TextField()
    reason = TextField()
    """What became of the log: one of `records.DROP_REASONS`."""
    entries = IntegerField()

    class Meta:
        table_name = "dropped"
        primary_key = CompositeKey("path", "reason")
        without_rowid = True


class GenerationRow(Table):
    """What has become of a source, for those who copy its rows elsewhere (`hub/`)."""

    source = IntegerField(primary_key=True)
    number = IntegerField()
    """The number of the checkpoint with which its rows began. Another number: the rows that were there before are gone,
    or have other names."""
    checkpoint = IntegerField(index=True)
    """The number of the last checkpoint that saved the source."""

    class Meta:
        table_name = "generation"


class TombstoneRow(Table):
    """A log whose rows were deleted, and that is no source any more, unless it has come again since."""

    path = TextField(primary_key=True)
    checkpoint = IntegerField()
    """The number of the checkpoint with which it went."""

    class Meta:
        table_name = "tombstone"
        without_rowid = True


class DayRow(Table):
    """A day that has entries: their number, and the first and the last timestamp."""

    day = TextField(primary_key=True)
    """`YYYY-MM-DD`."""
    first_timestamp = FloatField()
    last_timestamp = FloatField()
    entries = IntegerField()
    checkpoint = IntegerField()
    """The number of the last checkpoint that wrote this day; 0 if only a rebuild has. If the day's file notes an
    earlier one, it has lost rows."""

    class Meta:
        table_name = "day"
        without_rowid = True


class ArchiveFile(Table):
    """An archive file that some log has bytes in."""

    name = TextField(unique=True)
    """Relative to the archive folder."""


class ArchivedPart(Table):
    """An extent of a log: see `records.Extent`."""

    source = IntegerField()
    start = BigIntegerField()
    """The byte offset in the log at which the extent begins."""
    file = IntegerField()
    """The number of an archive file."""
    at = BigIntegerField()
    size = BigIntegerField()
    lines = BigIntegerField()
    sign = BigIntegerField()

    class Meta:
        table_name = "archived"
        primary_key = CompositeKey("source", "start")
        without_rowid = True


class DayFilter(Table):
    """A block of a day's filter: see `bloom.py`."""

    day = TextField()
    block = IntegerField()
    """The index of the block, from 0."""
    bits = BlobField()

    class Meta:
        primary_key = CompositeKey("day", "block")
        without_rowid = True


class FilteredDay(Table):
    """A day that has a filter. The row is deleted before anything is written on that day, so that a filter never lacks
    a string of its day."""

    day = TextField(primary_key=True)
    blocks = IntegerField()
    """The number of blocks."""
    is_compact = BooleanField()
    """Whether the day's file is a compact copy."""

    class Meta:
        without_rowid = True


class CatalogMeta(Table):
    """Facts about the index as a whole: docs/glossary.md lists them."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


CATALOG_TABLES = (
    *(CatalogSource, PartRow, OpenRequest, LooseAnswer, HeldRole, SessionPart, RejectedLineRow, DroppedRow, DayRow),
    CatalogMeta,
    *(ArchiveFile, ArchivedPart, DayFilter, FilteredDay, GenerationRow, TombstoneRow),
)

# Where several sources speak of one session, its own file comes first, then the one that spoke first, then the first by
# path (docs/derivation.md, section 8).
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
SELECT COALESCE(p.path, s.path) AS source, r.line_number AS line_number,
       r.byte_offset - COALESCE(p.base, (SELECT MAX(q.base + q.offset) FROM part q WHERE q.source = r.source), 0)
           AS byte_offset,
       r.byte_length AS length, r.reason AS reason
FROM rejected_line r JOIN source s ON s.id = r.source
LEFT JOIN part p ON p.source = r.source AND r.byte_offset >= p.base AND r.byte_offset < p.base + p.offset
""",
    "CREATE INDEX IF NOT EXISTS source_stem ON source(stem)",
    "CREATE INDEX IF NOT EXISTS open_request_awaits ON open_request(awaits) WHERE awaits IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS source_inode ON source(inode)",
)
