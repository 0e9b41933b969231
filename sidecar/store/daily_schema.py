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
    BooleanField,
    CompositeKey,
    FloatField,
    IntegerField,
    Model,
    TextField,
)


class Table(Model):
    class Meta:
        legacy_table_names = False


class Label(Table):
    """A string, once."""

    text = TextField()
    hash = IntegerField(index=True)
    """By which it is found again: an index on the texts would be as large as the texts. See `hash_of`."""


class SourceFile(Table):
    """A log file with entries on this day: its path is folder, stem and suffix."""

    folder = IntegerField()
    stem = TextField()
    suffix = TextField()
    touched = IntegerField(index=True)
    """The number of the checkpoint that will cover what was last written of it: see `index.py`."""

    class Meta:
        table_name = "source"
        indexes = ((("stem", "folder", "suffix"), True),)


class Party(Table):
    """A set of participants with the role of each, once."""

    agents = TextField()
    roles = TextField()
    hash = IntegerField(index=True)


class PartyAgent(Table):
    """From an agent to the sets it is in."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        primary_key = CompositeKey("agent", "party")
        without_rowid = True


class EventKind(Table):
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
        indexes = ((("event_type", "pattern", "is_completion", "is_request", "requests_response", "has_author"), True),)


class Context(Table):
    """Where entries belong: a session, its owner as it was then, and a conversation, once."""

    session = IntegerField()
    initiating_agent = IntegerField()
    conversation = IntegerField(index=True)

    class Meta:
        indexes = ((("session", "initiating_agent", "conversation"), True),)


class EntryRow(Table):
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


class Span(Table):
    """Where the entries of a log file are: those from `byte_offset` on, up to the next span, have ids from `first` on,
    and below `first` + SPAN. It does the work of an index on (source, byte_offset) in a fraction of its bytes, because
    ids grow with offsets."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    first = IntegerField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class DailyMeta(Table):
    """Facts about the file itself."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


class SegmentParticipant(Table):
    """In a segment of a bulk load: what `party_agent` is to hold."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        table_name = "member"


class LateAnswer(Table):
    """In a segment of a bulk load: an answer to a request that was written before."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    correlation = IntegerField(null=True)

    class Meta:
        table_name = "late"


DAILY_TABLES = (Label, SourceFile, Party, PartyAgent, EventKind, Context, EntryRow, Span, DailyMeta)
SEGMENT_TABLES = (*DAILY_TABLES, SegmentParticipant, LateAnswer)

SPAN_IDS = 64
"""Ids that a span covers, and so the rows that are looked at to find one by its place."""

AT_PLACE = (
    "SELECT e.id FROM span p JOIN entry e ON e.id >= p.first AND e.id < p.first + {span} AND e.source = p.source"
    " WHERE p.source = {source} AND p.byte_offset ="
    " (SELECT MAX(byte_offset) FROM span WHERE source = {source} AND byte_offset <= {offset})"
    " AND e.byte_offset = {offset}"
)
"""The id of the entry at a place; `format` it with SPAN and with where source and offset come from."""

CHECKSUM_OFFSET = 1 << 31
"""Taken from a checksum: as a signed number it has four bytes in SQLite, as an unsigned one six."""


def hash_of(*texts: str) -> int:
    """By which a label or a party is found again. Others may have the same."""
    return crc32("".join(texts).encode()) - CHECKSUM_OFFSET


SECOND_OF_DAY = "(CAST(timestamp AS INTEGER) % 86400)"
"""Of the day. Indexes are in its order, because it takes three bytes where the time takes eight; what falls into the
same second is sorted when it is asked for."""

# Each index answers a question of its own; a record's place is found by its span.
ENTRY_INDEXES = (
    f"CREATE INDEX IF NOT EXISTS entry_time ON entry({SECOND_OF_DAY})",
    f"CREATE INDEX IF NOT EXISTS entry_party ON entry(party, {SECOND_OF_DAY})",
    f"CREATE INDEX IF NOT EXISTS entry_context ON entry(context, {SECOND_OF_DAY})",
    "CREATE INDEX IF NOT EXISTS entry_correlation ON entry(correlation) WHERE correlation IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS entry_pending ON entry({SECOND_OF_DAY}) WHERE response = 2",
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
