"""The tables of a hub, as peewee models. `entry`, which is partitioned by day, is SQL (`schema.py`).

Every key contains the node, so that the rows of a node lie together on whatever server has them. Numbers of
dictionaries (`kind`, `context`, `party`) are given by the node's one pusher, each node its own.
"""

from __future__ import annotations

from peewee import (
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DateField,
    DateTimeField,
    DoubleField,
    IntegerField,
    Model,
    TextField,
)


class HubTable(Model):
    class Meta:
        schema = "hub"
        legacy_table_names = False


class HubNode(HubTable):
    """A machine with an index."""

    id = IntegerField(primary_key=True)
    name = TextField(unique=True)
    role = TextField(null=True, unique=True)
    """The database role that may write its rows; NULL if only the owner of the hub may."""
    read_from = TextField(null=True)
    """Where its records can be read: a folder, or the address of its `sidecar serve`."""
    epoch = TextField(default="")
    """Of the index that its rows come from."""
    checkpoint = BigIntegerField(default=0)
    """The last checkpoint of its catalog that is here as a whole."""
    checkpoint_at = DoubleField(null=True)
    """When that checkpoint was seen, in seconds since 1970."""
    pushed_at = DateTimeField(null=True)
    claim = TextField(default="")
    """The token of the one pusher that may speak for the node (`claim.py`)."""
    turn = BigIntegerField(default=0)
    """The number of transactions that have changed rows of the node: whoever remembers another one remembers nothing
    that holds."""
    retries = BigIntegerField(default=0)
    last_error = TextField(null=True)

    class Meta:
        table_name = "node"


class HubSource(HubTable):
    """A file with rows: the cursor. An earlier part of a rotated log has a row of its own."""

    node = IntegerField()
    id = IntegerField()
    path = TextField()
    log = IntegerField()
    """The id of the file with the plain name; its own id, if this is that file."""
    stem = TextField()
    """What the ids of its entries begin with."""
    layout = TextField()
    generation = BigIntegerField()
    """Of the log: another one if the rows that were here are gone at the node; -1 if they have to be sent again."""
    offset = BigIntegerField()
    """Rows of the bytes before it are here, each once, and none of those behind it."""
    entries = BigIntegerField()
    """The number of its rows that are here."""
    closed = BigIntegerField(default=0)
    """The number of its rows on days that are closed: they were dropped, or never brought here."""
    status = TextField()
    counts = TextField()
    """What became of its bytes, as a JSON object; of the log, in the row of the file with the plain name."""

    class Meta:
        table_name = "source"
        primary_key = CompositeKey("node", "id")
        indexes = ((("node", "path"), True), (("node", "log"), False))


class HubKind(HubTable):
    """Event type, pattern, flags, and which participants are author and addressees."""

    node = IntegerField()
    id = IntegerField()
    event_type = TextField()
    pattern = TextField()
    is_completion = BooleanField()
    is_request = BooleanField()
    requests_response = BooleanField()
    has_author = BooleanField()
    addressees = IntegerField()
    self_place = IntegerField()
    hash = BigIntegerField()
    """Finds a combination by its values; `context` and `party` likewise."""

    class Meta:
        table_name = "kind"
        primary_key = CompositeKey("node", "id")
        indexes = ((("node", "hash"), False),)


class HubContext(HubTable):
    """Session, initiating agent and conversation."""

    node = IntegerField()
    id = IntegerField()
    session = TextField()
    initiating_agent = TextField()
    conversation = TextField()
    hash = BigIntegerField()

    class Meta:
        table_name = "context"
        primary_key = CompositeKey("node", "id")
        indexes = (
            (("node", "hash"), False),
            (("session", "node", "id"), False),
            (("conversation", "node", "id"), False),
        )


class HubParty(HubTable):
    """Participants and their roles, each as JSON."""

    node = IntegerField()
    id = IntegerField()
    agents = TextField()
    roles = TextField()
    hash = BigIntegerField()

    class Meta:
        table_name = "party"
        primary_key = CompositeKey("node", "id")
        indexes = ((("node", "hash"), False),)


class HubPartyAgent(HubTable):
    """From an agent to the parties that it is in."""

    node = IntegerField()
    party = IntegerField()
    agent = TextField()

    class Meta:
        table_name = "party_agent"
        primary_key = CompositeKey("agent", "node", "party")


class HubSessionPart(HubTable):
    """What one log says of a session, as in the catalog."""

    node = IntegerField()
    session_id = TextField()
    source = IntegerField()
    initiating_agent = TextField()
    created_at = DoubleField()
    pattern_type = TextField()
    is_completed = BooleanField()

    class Meta:
        table_name = "session_part"
        primary_key = CompositeKey("session_id", "node", "source")
        indexes = ((("node", "source"), False),)


class HubRejectedLine(HubTable):
    """A line that is not a record."""

    node = IntegerField()
    source = IntegerField()
    byte_offset = BigIntegerField()
    line_number = BigIntegerField()
    byte_length = BigIntegerField()
    reason = TextField()

    class Meta:
        table_name = "rejected_line"
        primary_key = CompositeKey("node", "source", "byte_offset")


class HubDropped(HubTable):
    """The number of entries of a log whose bytes are gone, as in the catalog."""

    node = IntegerField()
    path = TextField()
    reason = TextField()
    entries = BigIntegerField()

    class Meta:
        table_name = "dropped"
        primary_key = CompositeKey("node", "path", "reason")


class HubClosed(HubTable):
    """A day whose rows were dropped. Nothing comes to it any more."""

    day = DateField(primary_key=True)
    entries = BigIntegerField()
    exported = TextField(default="")
    """Where they were exported to."""

    class Meta:
        table_name = "closed"


class HubPushed(HubTable):
    """What a transaction has brought, for those who follow. Kept for an hour."""

    node = IntegerField()
    turn = BigIntegerField()
    source = IntegerField()
    first = BigIntegerField()
    """The byte from which on rows are new."""
    last = BigIntegerField()
    """The byte before which they are."""
    at = DateTimeField()

    class Meta:
        table_name = "pushed"
        primary_key = CompositeKey("node", "turn", "source", "first")


class HubFact(HubTable):
    """Facts about the hub: `version`."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"


OF_NODES = (
    *(HubSource, HubKind, HubContext, HubParty, HubPartyAgent),
    *(HubSessionPart, HubRejectedLine, HubDropped, HubPushed),
)
"""The tables, beside `entry`, whose rows belong to a node, under the name `node`."""
ALL = (HubNode, *OF_NODES, HubClosed, HubFact)
