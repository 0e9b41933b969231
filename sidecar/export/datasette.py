"""Metadata for Datasette, so that a daily file opens as one table with facets and ready questions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_COLUMNS = {
    "id": "The name of the log and the byte offset in it; `sidecar show ID` prints the record",
    "timestamp": "Seconds since 1970, UTC",
    "session_id": "Empty if the record belongs to no session",
    "file_path": "The log, relative to the root",
    "line_number": "In the log, from 1",
    "byte_offset": "In the log, from 0",
    "initiating_agent": "The owner of the session",
    "participating_agents": "Author, addressees, members; for an answer also who had asked",
    "agent_roles": "The role of each participant that has one, after this record",
    "pattern_type": "Such as peer_to_peer, broadcast, team, tool",
    "correlation_id": "Shared by a request and its answers",
    "requests_response": "Whether an answer is expected",
    "has_response": "Whether it has been answered",
}
_HIDDEN = ("name", "correlation", "source", "party", "role_set", "party_agent", "kind", "context", "entry", "span")
_MOMENT = "datetime(timestamp, 'unixepoch') AS time"
_QUERIES = {
    "waiting": {
        "title": "Requests without an answer",
        "sql": f"SELECT id, {_MOMENT}, event_type, participating_agents, conversation_id FROM ksi_index"
        " WHERE requests_response = 1 AND has_response = 0 ORDER BY timestamp",
    },
    "agent": {
        "title": "What an agent took part in",
        "sql": f"SELECT id, {_MOMENT}, event_type, participating_agents, conversation_id FROM ksi_index"
        " WHERE participating_agents LIKE '%\"' || :agent || '\"%' ORDER BY timestamp",
    },
    "conversation": {
        "title": "A conversation",
        "sql": f"SELECT id, {_MOMENT}, event_type, participating_agents, agent_roles FROM ksi_index"
        " WHERE conversation_id = :conversation ORDER BY timestamp",
    },
}


def metadata(days: Iterable[str]) -> dict[str, Any]:
    """Metadata for the daily files of these days (`YYYY-MM-DD`), in the form of `metadata.json`."""
    return {"title": "What the agents did", "databases": {day: _day(day) for day in days}}


def _day(day: str) -> dict[str, Any]:
    entries = {
        "description": f"Every record of {day} (UTC), as the reference names its columns",
        "columns": _COLUMNS,
        "facets": ["event_type", "pattern_type", {"array": "participating_agents"}],
        "sort_desc": "timestamp",
        "size": 50,
    }
    return {"tables": {"ksi_index": entries, **{name: {"hidden": True} for name in _HIDDEN}}, "queries": _QUERIES}
