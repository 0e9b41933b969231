"""A source's state as the catalog keeps it: JSON, and where that is long, compressed."""

from __future__ import annotations

import zlib
from typing import Any

import orjson

SHORT = 256
"""Bytes up to which compressing saves little, and costs more than all else that is done to save a source."""

LARGEST = 1 << 28
"""Bytes of a state; what is longer was not packed here."""


def pack(state: dict[str, Any]) -> bytes:
    """The bytes of a state."""
    plain = orjson.dumps(state)
    return plain if len(plain) <= SHORT else zlib.compress(plain, 1)


def unpack(packed: bytes) -> dict[str, Any]:
    """The state again; raises ValueError, TypeError or zlib.error for what was not packed here."""
    plain = packed if packed.startswith(b"{") else zlib.decompressobj().decompress(packed, LARGEST)
    state: dict[str, Any] = orjson.loads(plain)
    return state
