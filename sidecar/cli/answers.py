"""Answers that are computed from several entries, for tables and JSON alike."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.errors import UnsafePath
from sidecar.fs import path_under
from sidecar.records import AgentSummary, Entry, RejectedLine

if TYPE_CHECKING:
    from sidecar.query.index import Index


class Participant(NamedTuple):
    """An agent in a session."""

    agent: str
    role: str | None
    """Its last role; None if it had none."""
    entries: int
    """The number of entries that it takes part in."""
    first_timestamp: float
    """In seconds since 1970, as is `last_timestamp`."""
    last_timestamp: float


def participants_of(entries: Iterable[Entry]) -> list[Participant]:
    """The participants of some entries, sorted by name."""
    seen: dict[str, Participant] = {}
    for entry in entries:
        for name in entry.participating_agents:
            before = seen.get(name)
            role = entry.agent_roles.get(name, before.role if before else None)
            first = before.first_timestamp if before else entry.timestamp
            seen[name] = Participant(name, role, (before.entries if before else 0) + 1, first, entry.timestamp)
    return sorted(seen.values())


def agents_in(entries: Iterable[Entry]) -> list[AgentSummary]:
    """The agents that take part in some entries, sorted by name."""
    found = participants_of(entries)
    return [AgentSummary(one.agent, one.entries, one.first_timestamp, one.last_timestamp) for one in found]


class RoleHeld(NamedTuple):
    """A role that an agent had for a while."""

    role: str
    since: float
    """The time of the first entry with this role, in seconds since 1970."""
    seconds: float
    """The time from then to the first entry with the next role; for the last role, to its last entry."""
    entries: int


def roles_held(history: Sequence[Mapping[str, Any]]) -> list[RoleHeld]:
    """The roles that an agent had, one after the other. `history` has an object for each of its entries with a role, in
    time order, with the keys `timestamp` and `role`."""
    held = [(role, list(group)) for role, group in groupby(history, key=lambda one: str(one["role"]))]
    found = []
    for i, (role, group) in enumerate(held):
        first, last = group[0]["timestamp"], group[-1]["timestamp"]
        until = held[i + 1][1][0]["timestamp"] if i + 1 < len(held) else last
        found.append(RoleHeld(role, first, until - first, len(group)))
    return found


def rejected_in(index: Index, is_wanted: Callable[[float], bool]) -> Iterator[RejectedLine]:
    """The rejected lines for whose time, in seconds since 1970, `is_wanted` is true.

    A line that is not a record has no time of its own. As for records without a time (docs/derivation.md), the time of
    the record before it in the file counts; before the first record, the file's modification time.
    """
    lines = list(index.rejected())
    paths = {line.file_path for line in lines}
    places: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for entry in index.timeline() if paths else ():
        if entry.file_path in paths:
            places[entry.file_path].append((entry.byte_offset, entry.timestamp))
    for known in places.values():
        known.sort()
    for line in lines:
        known = places[line.file_path]
        before = bisect_left(known, (line.byte_offset,))
        try:
            moment = known[before - 1][1] if before else os.lstat(path_under(index.root, line.file_path)).st_mtime
        except (OSError, UnsafePath):
            # The log is gone, and with it the time.
            continue
        if is_wanted(moment):
            yield line
