"""The tables of a daily file and its view `ksi_index`, as peewee models, and the SQL that peewee cannot express.

A daily file stores each name once (`name`), each correlation once (`correlation`), each log once (`source`), each list
of participants once (`party`, with `party_agent` from an agent to its lists), each set of roles once (`role_set`), what
else rows have in common once (`kind`, `context`), and one row of small integers per record (`entry`). The view
`ksi_index` joins them into the reference's 17 columns.

The view is for people with an SQL shell, so queries through it must be fast too. Texts are unique, so an index finds
them. What a query compares with a constant (the time, and both flags of a waiting request) is stored in `entry` itself.
Joins to `name` are outer joins: SQLite omits them if the text is not selected, and reverses them if it is compared. And
the statistics, which are written by hand (`STATISTICS`), tell SQLite what a large file looks like.

The models are not bound to a database, because there is one per day.
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
    """A session, agent, event type, pattern, conversation, or folder of a log. Each text is stored once."""

    text = TextField(unique=True)


class Correlation(Table):
    """A correlation, stored once. Not among the names, because there may be as many as there are entries."""

    text = TextField(unique=True)


class SourceFile(Table):
    """A log that has, or has had, entries on this day. Its path is folder, stem and suffix, joined."""

    folder = IntegerField()
    """The number of a name: "" or a path that ends with `/`."""
    stem = TextField()
    suffix = TextField()
    touched = IntegerField(index=True)
    """The number of the checkpoint that covers what was last written of this log (`indexer/day_files.py`)."""
    session = TextField(null=True)
    """What the ids of its entries begin with, where that is the session in its path and not the stem."""

    class Meta:
        table_name = "source"
        indexes = ((("stem", "folder", "suffix"), True),)


class Party(Table):
    """A list of participants, stored once. Their roles are stored apart: there are three times as many pairs of a list
    and roles as there are lists."""

    agents = TextField()
    """A JSON array of names."""
    hash = IntegerField(index=True)
    """Finds a list by its text; an index on the text itself would be as large as the texts. See `hash_of`."""


class RoleSet(Table):
    """The roles of some participants, stored once."""

    roles = TextField()
    """A JSON object from agent to role."""
    hash = IntegerField(index=True)
    """As in `Party`."""

    class Meta:
        table_name = "role_set"


class PartyAgent(Table):
    """For each agent, the lists of participants that it is in."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        primary_key = CompositeKey("agent", "party")
        without_rowid = True


_KIND_NUMBERS = ("is_completion", "is_request", "has_author", "addressees", "self_place")


class EventKind(Table):
    """Event type, pattern, flags, and which participants are author and addressees. Each combination is stored once."""

    event_type = IntegerField()
    """The number of a name; `pattern` likewise."""
    pattern = IntegerField()
    is_completion = BooleanField()
    is_request = BooleanField()
    has_author = BooleanField()
    """Whether the first participant is the author."""
    addressees = IntegerField()
    """The number of participants that are addressees: those after the author, or from the first one if there is no
    author. An author that is an addressee as well is not counted."""
    self_place = IntegerField()
    """The place of the author among the addressees, counted from 1; 0 if it is not one of them."""

    class Meta:
        table_name = "kind"
        indexes = ((("event_type", "pattern", *_KIND_NUMBERS), True),)


class Context(Table):
    """Session, initiating agent and conversation. Each combination is stored once."""

    session = IntegerField()
    """The number of a name; the other columns likewise."""
    initiating_agent = IntegerField(index=True)
    conversation = IntegerField(index=True)

    class Meta:
        indexes = ((("session", "initiating_agent", "conversation"), True),)


class EntryRow(Table):
    """One record: its place, and the numbers of what it has in common with other records.

    `id` grows with every row that is written, and is never used again.
    """

    source = IntegerField()
    line_number = IntegerField()
    """1-based."""
    byte_offset = BigIntegerField()
    byte_length = IntegerField()
    """Without the line end."""
    checksum = IntegerField()
    """CRC-32 of the record's bytes, less `CHECKSUM_OFFSET`."""
    timestamp = FloatField()
    """Seconds since 1970, UTC."""
    kind = IntegerField()
    context = IntegerField()
    party = IntegerField()
    roles = IntegerField()
    correlation = IntegerField(null=True)
    requests_response = BooleanField()
    has_response = BooleanField()
    answered_after = FloatField(null=True)
    """Of an answered request: seconds from it to its first answer in file order. Else NULL."""

    class Meta:
        table_name = "entry"


class Span(Table):
    """An offset range of a log. The entries from `byte_offset` on, up to the log's next range, have ids from `first` on
    and below `first + SPAN_IDS`. As ids grow with offsets, this does the work of an index on (source, byte_offset), at
    a fraction of its size."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    first = IntegerField()

    class Meta:
        primary_key = CompositeKey("source", "byte_offset")
        without_rowid = True


class DailyMeta(Table):
    """Facts about the file itself: docs/glossary.md lists them."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


class SegmentParticipant(Table):
    """In segments only: rows for `party_agent`, in the order in which they came."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        table_name = "member"


class LateAnswer(Table):
    """In segments only: a request in an earlier segment of the day that has been answered since."""

    source = IntegerField()
    byte_offset = BigIntegerField()
    """Of the request; so are the other columns."""
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
"""Ids that an offset range covers. So many rows at most are read to find one by its place."""

AT_PLACE = (
    "SELECT e.id FROM span p JOIN entry e ON e.id >= p.first AND e.id < p.first + {span} AND e.source = p.source"
    " WHERE p.source = {source} AND p.byte_offset ="
    " (SELECT MAX(byte_offset) FROM span WHERE source = {source} AND byte_offset <= {offset})"
    " AND e.byte_offset = {offset}"
)
"""Selects the id of the entry at a place. To be formatted with `span` (`SPAN_IDS`), and with SQL for the `source` (its
number) and the `offset`."""

CHECKSUM_OFFSET = 1 << 31
"""Subtracted from a CRC-32 that is stored: SQLite stores a signed 32-bit number in four bytes, an unsigned one in six.
"""


def slot_of(moment: float) -> int:
    """The slot of its day that a time (seconds since 1970) is in: `SLOT_OF_DAY` in Python."""
    return int(moment) % SECONDS_PER_DAY // SLOT_SECONDS


def hash_of(*texts: str) -> int:
    """A hash that finds a list of participants or a set of roles. It is not unique, so the text is compared as well."""
    return crc32("".join(texts).encode()) - CHECKSUM_OFFSET


SLOT_SECONDS = 3
SLOT_OF_DAY = f"(CAST(timestamp AS INTEGER) % 86400 / {SLOT_SECONDS})"
"""SQL for the slot of an entry: the number, from 0, of the three seconds of the day that it is in. Two indexes are in
the order of slots, because a slot takes two bytes and a time eight; a query sorts the entries within a slot."""

WAITS = "requests_response = 1 AND has_response = 0"
"""SQL that is true for a waiting request. In these words the index `entry_pending` serves it."""

# Each index serves a query of its own. Places are found by offset ranges.
ENTRY_INDEXES = (
    "CREATE INDEX IF NOT EXISTS entry_time ON entry(timestamp)",
    f"CREATE INDEX IF NOT EXISTS entry_party ON entry(party, {SLOT_OF_DAY})",
    f"CREATE INDEX IF NOT EXISTS entry_context ON entry(context, {SLOT_OF_DAY})",
    "CREATE INDEX IF NOT EXISTS entry_correlation ON entry(correlation) WHERE correlation IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS entry_pending ON entry(timestamp) WHERE {WAITS}",
    "CREATE INDEX IF NOT EXISTS source_session ON source(session) WHERE session IS NOT NULL",
)

# What ANALYZE would find in a day of a million entries: the number of rows in an index, and how many of them on average
# have the same first column, the same first two columns, and so on. Written by hand, because ANALYZE on a small or
# unusual day leads to plans that are slow on others, and would have to be run again as a day grows.
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

# The reference's table as a view, with its name, its columns and their order.
KSI_INDEX = """
CREATE VIEW IF NOT EXISTS ksi_index AS SELECT
    COALESCE(s.session, s.stem) || ':' || e.byte_offset AS id,
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
