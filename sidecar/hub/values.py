"""What a value of a node becomes at the hub: PostgreSQL has texts without NUL, and indexes of at most 2,704 bytes."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sidecar.ids import short_id

MAX_NAME_BYTES = 2000
"""A longer name stands at the hub in the shortened form of the law, which other names have from 1,024 characters on."""


def clean(text: str) -> str:
    """A text as PostgreSQL can hold it."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()


def name(text: str) -> str:
    """A name, an id or a path as the hub has it."""
    text = clean(text)
    return text if len(text) <= MAX_NAME_BYTES // 4 or len(text.encode()) <= MAX_NAME_BYTES else short_id(text)


def hash_of(*values: object) -> int:
    """What a combination is looked up by. Not unique, so the values are compared too."""
    digest = hashlib.blake2b("\x1f".join(map(str, values)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class KindValue(NamedTuple):
    """A row of `kind`, without its numbers."""

    event_type: str
    pattern: str
    is_completion: bool
    is_request: bool
    requests_response: bool
    has_author: bool
    addressees: int
    self_place: int


class ContextValue(NamedTuple):
    """A row of `context`, without its numbers."""

    session: str
    initiating_agent: str
    conversation: str


class PartyValue(NamedTuple):
    """A row of `party`, without its numbers: two JSON texts."""

    agents: str
    roles: str


class FeedRow(NamedTuple):
    """A row of a node, as the hub has it."""

    timestamp: float
    byte_offset: int
    answered_after: float | None
    line_number: int
    byte_length: int
    checksum: int
    """Less 2^31."""
    response: int
    """As `hub.entry.response`."""
    correlation: str | None
    kind: KindValue
    context: ContextValue
    party: PartyValue


NONE, ANSWERED, WAITING, OPEN, ANSWERED_ELSEWHERE, NEVER_OPEN = range(6)
"""The values of `response`."""
