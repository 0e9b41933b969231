"""What a question wants of each entry, where it does not want the whole: less to look up, and less to make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from sidecar.store.codec import checked_row, roles_of


class Projection(NamedTuple):
    """Columns of the entries that match, and the joins that these need."""

    columns: str
    """Of `e`, an entry with its `log` and `path`, and of what is joined."""
    joins: str
    decode: Callable[[Any], tuple[Any, ...]]
    """Checks a row, and gives what it says. Raises TypeError or ValueError for values that the sidecar never writes."""


def _roles(row: Any) -> tuple[float, Mapping[str, str]]:
    timestamp, roles = checked_row(row, (float, str))
    return timestamp, roles_of(roles)


_ID = "e.log || ':' || e.byte_offset"

PEERS = Projection(
    f"{_ID}, e.timestamp, e.path, e.line_number, p.agents",
    "LEFT JOIN party p ON p.id = e.party",
    partial(checked_row, types=(str, float, str, int, str)),
)
"""Of `Index.find_peer_interactions`: id, time, path, line number, participants as JSON."""

ROLES = Projection("e.timestamp, o.roles", "LEFT JOIN role_set o ON o.id = e.roles", _roles)
"""Of `Index.get_agent_role_history`: time, roles by agent."""

PENDING = Projection(
    f"{_ID}, e.timestamp, i.text, e.path",
    "LEFT JOIN context c ON c.id = e.context LEFT JOIN name i ON i.id = c.initiating_agent",
    partial(checked_row, types=(str, float, str, str)),
)
"""Of `Index.find_pending_requests`: id, time, owner, path."""
