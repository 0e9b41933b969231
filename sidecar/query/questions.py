"""The reference's questions: what each wants of an entry. Each has SQL of its own, with only its columns and joins,
because whole entries take several times as long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import orjson

from sidecar.records import Entry, PeerInteraction, PendingRequest
from sidecar.store.codec import check_columns, roles_of

from .columns import PATH


class Question(NamedTuple):
    """What is wanted of the entries that match."""

    columns: str
    """SQL for the columns, from the tables that `columns.PLACED` and `joins` join. The joins are outer joins, so that a
    number that leads nowhere is found to be damage and does not hide the entry."""
    joins: str
    decode: Callable[[list[tuple[Any, ...]]], list[Any]]
    """Checks the rows, and returns what is given for each. Raises TypeError or ValueError for values that the sidecar
    never writes."""
    of: Callable[[Entry], Any]
    """What is given for an entry, where entries are all that there is."""


def _checked(rows: list[tuple[Any, ...]], types: tuple[type, ...], kind: Any) -> list[Any]:
    check_columns(list(zip(*rows, strict=True)), [(one,) for one in types])
    # Creates a named tuple at a third of the cost of calling its class.
    return list(map(partial(tuple.__new__, kind), rows))


def _roles(rows: list[tuple[Any, ...]]) -> list[Any]:
    check_columns(list(zip(*rows, strict=True)), [(float,), (str,)])
    sets = {text: roles_of(text) for text in {text for _, text in rows}}
    return [(timestamp, sets[text]) for timestamp, text in rows]


_ID = "COALESCE(s.session, s.stem) || ':' || e.byte_offset"

PEERS = Question(
    f"{_ID}, e.timestamp, {PATH}, e.line_number, p.agents",
    "LEFT JOIN party p ON p.id = e.party",
    partial(_checked, types=(str, float, str, int, str), kind=PeerInteraction),
    lambda entry: PeerInteraction(
        *(entry.id, entry.timestamp, entry.file_path, entry.line_number),
        orjson.dumps(entry.participating_agents).decode(),
    ),
)
"""`Index.find_peer_interactions`: gives a `PeerInteraction` for each entry."""

ROLES = Question(
    "e.timestamp, o.roles",
    "LEFT JOIN role_set o ON o.id = e.roles",
    _roles,
    lambda entry: (entry.timestamp, entry.agent_roles),
)
"""`Index.get_agent_role_history`: gives time and roles by agent. The roles are shared, and must not be changed."""

PENDING = Question(
    f"{_ID}, e.timestamp, i.text, {PATH}",
    "LEFT JOIN context c ON c.id = e.context LEFT JOIN name i ON i.id = c.initiating_agent",
    partial(_checked, types=(str, float, str, str), kind=PendingRequest),
    lambda entry: PendingRequest(entry.id, entry.timestamp, entry.initiating_agent, entry.file_path),
)
"""`Index.find_pending_requests`: gives a `PendingRequest` for each entry."""
