"""What stands in a record, and what counts as something."""

from __future__ import annotations

import hashlib
from typing import Any

LONGEST = 1_024


def at(record: dict[str, Any], path: str) -> Any:
    """What stands at a dotted path, or None."""
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def text(value: Any) -> str | None:
    """A non-empty string, or an integer as its decimal string; anything else is absent. One too long is shortened."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    if len(value) > LONGEST:
        return value[:64] + "…" + hashlib.blake2b(value.encode(), digest_size=16).hexdigest()
    return value


def first_of(record: dict[str, Any], *paths: str) -> str | None:
    """The first of the places that holds an id."""
    for path in paths:
        value = text(at(record, path))
        if value is not None:
            return value
    return None


def add(names: list[str], name: str | None) -> None:
    """Append a name, unless it is none or there already."""
    if name is not None and name not in names:
        names.append(name)
