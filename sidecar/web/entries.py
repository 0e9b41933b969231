"""What the answers say of an entry, and of the agents in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.records import Entry, whom

MOST_NAMES = 50
"""Names of agents of one entry."""


def said(entry: Entry) -> dict[str, Any]:
    """What every list of entries says of each."""
    return {
        "id": entry.id,
        "t": entry.timestamp,
        "type": entry.event_type,
        "from": entry.author,
        "to": list(whom(entry.author, entry.addressees, entry.participating_agents)[:MOST_NAMES]),
    }


def agents_of(rows: Iterable[Mapping[str, Any]], roles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The agents of such rows, with their roles."""
    names = dict.fromkeys(name for row in rows for name in (row["from"], *row["to"]) if name)
    return [{"id": name, "role": roles.get(name)} for name in names]


def place(entry: Entry) -> str:
    """`<file path>:<byte offset>`: what names an entry, whatever other files are called."""
    return f"{entry.file_path}:{entry.byte_offset}"
