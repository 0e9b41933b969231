"""The tables: peewee models, and the SQL that peewee has no words for.

A daily file holds each string once (`label`), each log file once (`source`), each set of participants with their roles
once (`party`, with `party_agent` from agent to set), and one row of small integers a record (`entry`). The view on top
has the reference's 17 columns. The catalog holds offsets, states and what else is derived once for all days.

The models are bound to no database: databases come and go here, one a day.
"""

from __future__ import annotations

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

    text = TextField(unique=True)


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

    class Meta:
        indexes = ((("agents", "roles"), True),)


class PartyAgent(_Table):
    """From an agent to the sets it is in."""

    agent = IntegerField()
    party = IntegerField()

    class Meta:
        primary_key = CompositeKey("agent", "party")
        without_rowid = True


class EntryRow(_Table):
    """One record: labels by number, and its place. `id` grows with every row written and is never used again."""

    source = IntegerField()
    line_number = IntegerField()
    byte_offset = BigIntegerField()
    byte_length = IntegerField()
    checksum = IntegerField()
    timestamp = FloatField()
    event_type = IntegerField()
    session = IntegerField()
    author = IntegerField(null=True)
    initiating_agent = IntegerField()
    party = IntegerField()
    pattern = IntegerField()
    conversation = IntegerField()
    correlation = IntegerField(null=True)
    is_completion = BooleanField()
    is_request = BooleanField()
    has_response = BooleanField()
    requests_response = BooleanField()

    class Meta:
        table_name = "entry"


class DailyMeta(_Table):
    """Facts about the file itself."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
        without_rowid = True


DAILY_TABLES = (Label, SourceFile, Party, PartyAgent, EntryRow, DailyMeta)

# Each index answers a question of its own; none is unique but the first, which is a record's identity.
ENTRY_INDEXES = (
    "CREATE UNIQUE INDEX IF NOT EXISTS entry_place ON entry(source, byte_offset)",
    "CREATE INDEX IF NOT EXISTS entry_time ON entry(timestamp)",
    "CREATE INDEX IF NOT EXISTS entry_party ON entry(party, timestamp)",
    "CREATE INDEX IF NOT EXISTS entry_session ON entry(session, timestamp)",
    "CREATE INDEX IF NOT EXISTS entry_conversation ON entry(conversation, timestamp)"
    " WHERE conversation <> session",
    "CREATE INDEX IF NOT EXISTS entry_correlation ON entry(correlation) WHERE correlation IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS entry_pending ON entry(timestamp) WHERE requests_response = 1 AND has_response = 0",
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
    c.text AS conversation_id,
    r.text AS correlation_id,
    e.is_completion AS is_completion,
    e.is_request AS is_request,
    e.has_response AS has_response,
    e.requests_response AS requests_response
FROM entry e
JOIN source s ON s.id = e.source
JOIN label f ON f.id = s.folder
JOIN label t ON t.id = e.event_type
JOIN label n ON n.id = e.session
JOIN label i ON i.id = e.initiating_agent
JOIN party p ON p.id = e.party
JOIN label a ON a.id = e.pattern
JOIN label c ON c.id = e.conversation
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
    checkpoint = IntegerField()
    """The number of the last one that wrote this day, which its file has to know of; 0: a rebuild."""

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
