"""How agents speak in a record, by the same law as the index (section 6 of the design), for those who write it.

The law is told a second time here, because a daemon that writes must not load the indexer. A property test holds the
two together.
"""

from __future__ import annotations

from typing import Any


def detect_communication_pattern(data: object, metadata: object = None) -> str:
    """The pattern_type that the index will give to a record with this `data` and `metadata` that answers nothing.

    Its own `pattern`; else `broadcast` where `data.broadcast` is true, `team` where there is a `team_id`,
    `peer_to_peer` for one addressee, `swarm` for more, `general` for none. Raises on no value: what has the wrong type
    counts as absent.
    """
    of_data, of_metadata = _object(data), _object(metadata)
    own = text(of_data.get("pattern")) or text(of_metadata.get("pattern"))
    if own:
        return own
    if of_data.get("broadcast") is True:
        return "broadcast"
    if text(of_data.get("team_id")) or text(of_metadata.get("team_id")):
        return "team"
    count = len(_addressees(of_data))
    if count == 1:
        return "peer_to_peer"
    return "swarm" if count else "general"


def text(value: object) -> str | None:
    """An id: a non-empty string, or a whole number as its digits; else None."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:  # more digits than Python is willing to write
            return None
    return None


def _addressees(data: dict[str, Any]) -> set[str]:
    routing = _object(data.get("routing"))
    found: set[str] = set()
    for value in (data.get("to_agent"), data.get("to_agents"), routing.get("to_agent"), routing.get("to_agents")):
        each = value if isinstance(value, list | tuple) else (value,)
        found.update(id for item in each if (id := text(item)))
    return found


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
