"""The tables of a daily file and its view, `ksi_index`: peewee models, and the SQL that peewee has no words for.

A daily file holds each name once (`name`), each correlation once (`correlation`), each log file once (`source`), each
list of participants once (`party`, with `party_agent` from agent to list), each set of roles once (`role_set`), what
else rows have in common once (`kind`, `context`), and one row of small integers a record (`entry`). The view on top has
the reference's 17 columns. The catalog holds offsets, states and what else is derived once for all days.

The view is for people with a shell, so its questions must be quick too. Texts are unique, and so found by an index;
what a question compares with a constant (the time, both flags of a waiting request) stands in `entry` as it is; joins
to `name` are outer joins, which SQLite leaves out where nobody asks for the text, and turns round where somebody
compares it; and the statistics, written by hand (`STATISTICS`), tell SQLite what such a file looks like.

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

from sidecar.times import SECONDS_PER_DAY


class Table(Model):
    class Meta:
        legacy_table_names = False


class Name(Table):
    """A session, agent, event type, pattern, conversation or folder, once."""

    text = TextField(unique=True)


class Correlation(Table):
    """A correlation id, once. Not among the names: there may be as many as entries."""

    text = TextField(unique=True)


class SourceFile(Table):
    """A log file with entries on this day: its path is folder, stem and suffix."""

    folder = IntegerField()
    stem = TextField()
    suffix = TextField()
    touched = IntegerField(index=True)
    """The number of the checkpoint that will cover what was last written of it: see `indexer/day_files.py`."""

    class Meta:
        table_name = "source"
        indexes = ((("stem", "folder", "suffix"), True),)


class Party(Table):
    """A list of participants, once. Apart from their roles: there are a third as many lists as pairs of both."""

    agents = TextField()
    """JSON, an array of names."""
    hash = IntegerField(index=True)
    """By which it is found again: an index on its text would be as large as that. See `hash_of`."""


class RoleSet(Table):
    """The roles of some participants, once."""

    roles = TextField()
    """JSON, an object from agent to role."""
    hash = IntegerField(index=True)

    class Meta:
        table_name = "role_set"


class PartyAgent(Table):
    """From an agent to the lists it is in."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        primary_key = CompositeKey("agent", "party")
        without_rowid = True


_KIND_NUMBERS = ("is_completion", "is_request", "has_author", "addressees", "self_place")


class EventKind(Table):
    """What entries of a kind have in common, once."""

    event_type = IntegerField()
    pattern = IntegerField()
    is_completion = BooleanField()
    is_request = BooleanField()
    has_author = BooleanField()
    """The first participant is the author."""
    addressees = IntegerField()
    """How many participants behind the author, or from the first where there is none, are the addressees."""
    self_place = IntegerField()
    """Where the author stands among the addressees, which it then does beside those, counted from 1; 0: nowhere."""

    class Meta:
        table_name = "kind"
        indexes = ((("event_type", "pattern", *_KIND_NUMBERS), True),)


class Context(Table):
    """Where entries belong: a session, its owner as it was then, and a conversation, once."""

    session = IntegerField()
    initiating_agent = IntegerField(index=True)
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
    roles = IntegerField()
    correlation = IntegerField(null=True)
    requests_response = BooleanField()
    has_response = BooleanField()
    answered_after = FloatField(null=True)
    """Seconds from a request to its first answer in file order."""

    class Meta:
        table_name = "entry"


class Span(Table):
    """Where the entries of a log file are: those from `byte_offset` on, up to the next span, have ids from `first` on,
    and below `first` + SPAN_IDS. It does the work of an index on (source, byte_offset) in a fraction of its bytes,
    because ids grow with offsets."""

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
    answered_after = FloatField()

    class Meta:
        table_name = "late"


DAILY_TABLES = (
    Name,
    Correlation,
    SourceFile,
    Party,
    RoleSet,
    PartyAgent,
    EventKind,
    Context,
    EntryRow,
    Span,
    DailyMeta,
)
SEGMENT_TABLES = (*DAILY_TABLES, SegmentParticipant, LateAnswer)

SPAN_IDS = 64
"""Ids that a span covers, and so the rows that are looked at to find one by its place."""

AT_PLACE = (
    "SELECT e.id FROM span p JOIN entry e ON e.id >= p.first AND e.id < p.first + {span} AND e.source = p.source"
    " WHERE p.source = {source} AND p.byte_offset ="
    " (SELECT MAX(byte_offset) FROM span WHERE source = {source} AND byte_offset <= {offset})"
    " AND e.byte_offset = {offset}"
)
"""The id of the entry at a place; `format` it with SPAN_IDS and with where source and offset come from."""

CHECKSUM_OFFSET = 1 << 31
"""Taken from a checksum: as a signed number it has four bytes in SQLite, as an unsigned one six."""


def slot_of(moment: float) -> int:
    """The slot of its day that a time falls into, as `SLOT_OF_DAY` has it."""
    return int(moment) % SECONDS_PER_DAY // SLOT_SECONDS


def hash_of(*texts: str) -> int:
    """By which a party or a set of roles is found again. Others may have the same."""
    return crc32("".join(texts).encode()) - CHECKSUM_OFFSET


SLOT_SECONDS = 3
SLOT_OF_DAY = f"(CAST(timestamp AS INTEGER) % 86400 / {SLOT_SECONDS})"
"""Of an entry: which three seconds of the day it falls into, from 0 on. Two indexes are in its order, because it takes
two bytes where the time takes eight; what falls into the same slot is sorted when it is asked for."""

WAITS = "requests_response = 1 AND has_response = 0"
"""Of an entry: a request that waits for its answer, as a condition that the index `entry_pending` serves."""

# Each index answers a question of its own; a record's place is found by its span.
ENTRY_INDEXES = (
    "CREATE INDEX IF NOT EXISTS entry_time ON entry(timestamp)",
    f"CREATE INDEX IF NOT EXISTS entry_party ON entry(party, {SLOT_OF_DAY})",
    f"CREATE INDEX IF NOT EXISTS entry_context ON entry(context, {SLOT_OF_DAY})",
    "CREATE INDEX IF NOT EXISTS entry_correlation ON entry(correlation) WHERE correlation IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS entry_pending ON entry(timestamp) WHERE {WAITS}",
)

# What ANALYZE would find in a day of a million entries: how many rows an index has, and how many of them have the same
# first column, the same first two, and so on. Written by hand, because ANALYZE itself, run on a small day or an odd
# one, leads to plans that are slow on another, and because it would have to be run again as a day grows.
STATISTICS = (
    "ANALYZE sqlite_schema",
    "DELETE FROM sqlite_stat1",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES"
    " ('entry', 'entry_time', '1000000 1'),"
    " ('entry', 'entry_party', '1000000 1000 1'),"
    " ('entry', 'entry_context', '1000000 500 1'),"
    " ('entry', 'entry_correlation', '1000000 2'),"
    " ('entry', 'entry_pending', '26000 1'),"
    " ('party', 'party_hash', '10000 1')",
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
    o.roles AS agent_roles,
    a.text AS pattern_type,
    v.text AS conversation_id,
    r.text AS correlation_id,
    k.is_completion AS is_completion,
    k.is_request AS is_request,
    e.has_response AS has_response,
    e.requests_response AS requests_response
FROM entry e
JOIN party p ON p.id = e.party
JOIN context c ON c.id = e.context
JOIN kind k ON k.id = e.kind
JOIN source s ON s.id = e.source
LEFT JOIN role_set o ON o.id = e.roles
LEFT JOIN name n ON n.id = c.session
LEFT JOIN name i ON i.id = c.initiating_agent
LEFT JOIN name v ON v.id = c.conversation
LEFT JOIN name t ON t.id = k.event_type
LEFT JOIN name a ON a.id = k.pattern
LEFT JOIN name f ON f.id = s.folder
LEFT JOIN correlation r ON r.id = e.correlation
"""
