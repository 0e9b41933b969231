"""Pushes to a hub in tests, and the proof that it has what the node has."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from helpers.support import Stepped, indexed
from sidecar.config.settings import Settings
from sidecar.hub import values
from sidecar.hub.push import Pusher


def _settings(where: Settings | Stepped) -> Settings:
    return where.settings if isinstance(where, Stepped) else where


def pushed(hub: Any, where: Settings | Stepped, node: str = "n1", role: str = "admin", **options: Any) -> int:
    """Push an index once. Returns the number of rows."""
    with closing(Pusher(_settings(where).index_folder, hub.of(role), node, **options)) as pusher:
        return pusher.once()


_ROWS = (
    "SELECT id, timestamp, event_type, session_id, file_path, line_number, byte_offset, initiating_agent,"
    " participating_agents, agent_roles, pattern_type, conversation_id, correlation_id, is_completion::int,"
    " is_request::int, has_response::int, requests_response::int, answered_after FROM hub.entries WHERE node = '{}'"
)
_TEXTS = (0, 2, 3, 4, 7, 10, 11, 12)


def equal(hub: Any, where: Settings | Stepped, node: str = "n1") -> None:
    """Row by row, the hub has what the node has."""
    from sidecar.store.codec import agents_of, roles_of

    there = [(*row[:8], agents_of(row[8]), roles_of(row[9]), *row[10:]) for row in hub.ask(_ROWS.format(node))]
    here = []
    for row in indexed(_settings(where).root):
        cells: list[Any] = [*row[:17], row[19]]
        for place in _TEXTS:
            cells[place] = cells[place] and values.name(cells[place])
        cells[0] = f"{values.name(row[0].rpartition(':')[0])}:{row[6]}"
        cells[8], cells[9] = agents_of(values.clean(row[8])), roles_of(values.clean(row[9]))
        here.append(tuple(cells))
    there.sort(key=lambda one: (one[4], one[6]))
    here.sort(key=lambda one: (one[4], one[6]))
    assert there == here, ([one for one in there if one not in here], [one for one in here if one not in there])
    counted = hub.ask(
        "SELECT SUM(entries) FROM hub.source s JOIN hub.node n ON n.id = s.node WHERE name = '" + node + "'"
    )
    assert counted[0][0] in (len(here), None)
