"""The tables: peewee models, and the SQL that peewee has no words for.

A daily file holds each string once (`label`), each log file once (`source`), each set of participants with their roles
once (`party`, with `party_agent` from agent to set), what else rows have in common once (`kind`, `context`), and one
row of small integers a record (`entry`). The view on top has the reference's 17 columns. The catalog holds offsets,
states and what else is derived once for all days.

The models are bound to no database: databases come and go here, one a day.
"""

from __future__ import annotations

from zlib import crc32

from peewee import (
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    FloatField,
    IntegerField,
    Model,
    TextField,
)


class _Table(Model):
    class Meta:
        legacy_table_names = False


# ---- a daily file


class Label(_Table):
    """A string, once."""

    text = TextField()
    hash = IntegerField(index=True)
    """By which it is found again: an index on the texts would be as large as the texts. See `hash_of`."""


class SourceFile(_Table):
    """A log file with entries on this day: its path is folder, stem and suffix."""

    folder = IntegerField()
    stem = TextField()
    suffix = TextField()
    touched = IntegerField(index=True)
    """The number of the checkpoint that will cover what was last written of it: see `index.py`."""

    class Meta:
        table_name = "source"
        indexes = ((("stem", "folder", "suffix"), True),)


class Party(_Table):
    """A set of participants with the role of each, once."""

    agents = TextField()
    roles = TextField()
    hash = IntegerField(index=True)


class PartyAgent(_Table):
    """From an agent to the sets it is in."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        primary_key = CompositeKey("agent", "party")
        without_rowid = True


class EventKind(_Table):
    """What entries of a kind have in common, once."""

    event_type = IntegerField()
    pattern = IntegerField()
    is_completion = BooleanField()
    is_request = BooleanField()
    requests_response = BooleanField()
    has_author = BooleanField()
    """The first participant is the author."""

    class Meta:
        table_name = "kind"
        indexes = (
            (("event_type", "pattern", "is_completion", "is_request", "requests_response", "has_author"), True),
        )


class Context(_Table):
    """Where entries belong: a session, its owner as it was then, and a conversation, once."""

    session = IntegerField()
    initiating_agent = IntegerField()
    conversation = IntegerField(index=True)

    class Meta:
        indexes = ((("session", "initiating_agent", "conversation"), True),)


class EntryRow(_Table):
    """One record: what it has in common with others by number, and its place.

    `id` grows with every row written and is never used again.
    """

    source = IntegerField()
    line_number = IntegerField()
    byte_offset = BigIntegerField()
    byte_length = IntegerField()
    checksum = IntegerField()
    """CRC-32 less 2**31, which takes four bytes and not six."""
    timestamp = FloatField()
    kind = IntegerField()
    context = IntegerField()
    party = IntegerField()
    correlation = IntegerField(null=True)
    response = IntegerField()
    """0: has none and waits for none; 1: has one; 2: waits for one."""

    class Meta:
        table_name = "entry"


class Span(_Table):
    """Where the entries of a log file are: those from `byte_offset` on, up to the next span, have ids from `first` on,
    and below `first` + SPAN. It does the work of an index on (source, byte_offset) in a fraction of its bytes, because
    ids grow with offsets."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    first = IntegerField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class DailyMeta(_Table):
    """Facts about the file itself."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


class Member(_Table):
    """In a part of a bulk load: what `party_agent` is to hold."""

    agent = IntegerField()
    party = IntegerField()


class LateAnswer(_Table):
    """In a part of a bulk load: an answer to a request that was written before."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    correlation = IntegerField(null=True)

    class Meta:
        table_name = "late"


DAILY_TABLES = (Label, SourceFile, Party, PartyAgent, EventKind, Context, EntryRow, Span, DailyMeta)
PART_TABLES = (*DAILY_TABLES, Member, LateAnswer)

SPAN = 64
"""Ids that a span covers, and so the rows that are looked at to find one by its place."""

AT_PLACE = (
    "SELECT e.id FROM span p JOIN entry e ON e.id >= p.first AND e.id < p.first + {span} AND e.source = p.source"
    " WHERE p.source = {source} AND p.byte_offset ="
    " (SELECT MAX(byte_offset) FROM span WHERE source = {source} AND byte_offset <= {offset})"
    " AND e.byte_offset = {offset}"
)
"""The id of the entry at a place; `format` it with SPAN and with where source and offset come from."""

SIGN = 1 << 31
"""Taken from a checksum: as a signed number it has four bytes in SQLite, as an unsigned one six."""



def hash_of(*texts: str) -> int:
    """By which a label or a party is found again. Others may have the same."""
    return crc32("".join(texts).encode()) - SIGN


SECOND = "(CAST(timestamp AS INTEGER) % 86400)"
"""Of the day. Indexes are in its order, because it takes three bytes where the time takes eight; what falls into the
same second is sorted when it is asked for."""

# Each index answers a question of its own; a record's place is found by its span.
ENTRY_INDEXES = (
    f"CREATE INDEX IF NOT EXISTS entry_time ON entry({SECOND})",
    f"CREATE INDEX IF NOT EXISTS entry_party ON entry(party, {SECOND})",
    f"CREATE INDEX IF NOT EXISTS entry_context ON entry(context, {SECOND})",
    "CREATE INDEX IF NOT EXISTS entry_correlation ON entry(correlation) WHERE correlation IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS entry_pending ON entry({SECOND}) WHERE response = 2",
)

# The reference's table, under its name, with its columns in its order.
KSI_INDEX = """
CREATE VIEW IF NOT EXISTS ksi_index AS SELECT
    s.stem || ':' || e.byte_offset AS id,
    e.timestamp AS timestamp,
    t.text AS event_type,
    n.text AS session_id,
    f.text || s.stem || s.suffix AS file_path,
    e.line_number AS line_number,
    e.byte_offset AS byte_offset,
    i.text AS initiating_agent,
    p.agents AS participating_agents,
    p.roles AS agent_roles,
    a.text AS pattern_type,
    v.text AS conversation_id,
    r.text AS correlation_id,
    k.is_completion AS is_completion,
    k.is_request AS is_request,
    e.response = 1 AS has_response,
    k.requests_response AS requests_response
FROM entry e
JOIN source s ON s.id = e.source
JOIN label f ON f.id = s.folder
JOIN kind k ON k.id = e.kind
JOIN label t ON t.id = k.event_type
JOIN label a ON a.id = k.pattern
JOIN context c ON c.id = e.context
JOIN label n ON n.id = c.session
JOIN label i ON i.id = c.initiating_agent
JOIN label v ON v.id = c.conversation
JOIN party p ON p.id = e.party
LEFT JOIN label r ON r.id = e.correlation
"""


# ---- the catalog


class CatalogSource(_Table):
    """A log file: how far it was read, how to know it again, what its next row depends on, where its bytes went."""

    path = TextField(unique=True)
    layout = TextField()
    stem = TextField()
    first_mtime = FloatField(null=True)
    """The note of section 6: the time of records that bear none, with none before them. Null until there is a look."""
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
    """`ok`, `missing`, or `resetting` while old rows are being dropped."""
    state = BlobField(null=True)

    class Meta:
        table_name = "source"


class OpenRequest(_Table):
    """A request that waits for its answer: what the next answer in its file needs to know of it."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    day = IntegerField()
    correlation = TextField(null=True)
    author = TextField(null=True)
    addressees = TextField()
    pattern = TextField()
    conversation = TextField()
    expects = BooleanField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class HeldRole(_Table):
    """The role that an agent holds in a file as far as it was read. A file may name a million of them."""

    source = IntegerField()
    agent = TextField()
    role = TextField()

    class Meta:
        primary_key = CompositeKey("source", "agent")
        without_rowid = True


class SessionPart(_Table):
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


class RejectedLine(_Table):
    """A line that is no record."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    line_number = BigIntegerField()
    byte_length = BigIntegerField()
    reason = TextField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class Day(_Table):
    """A day that has entries, and the first and last of their times."""

    day = TextField(primary_key=True)
    first_timestamp = FloatField()
    last_timestamp = FloatField()
    entries = IntegerField()

    class Meta:
        without_rowid = True


class CatalogMeta(_Table):
    """Facts about the index as a whole: `config`, `build`, `checkpoint`."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


CATALOG_TABLES = (CatalogSource, OpenRequest, HeldRole, SessionPart, RejectedLine, Day, CatalogMeta)

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
