"""All agents of an index, with their numbers of entries and the times when they were first and last seen."""

from __future__ import annotations

from itertools import starmap
from typing import NamedTuple

from sidecar.errors import IndexMissing
from sidecar.records import AgentSummary

from .day_reader import DayReader
from .snapshot import Snapshot

MAX_LOOKED_UP = 1000
"""Up to this many agents, their first and last times are looked up one by one."""


class _Agent(NamedTuple):
    """The number of an agent's entries, and the daily file and slot (`SLOT_OF_DAY`) of the first and the last."""

    entries: int
    first: tuple[str, int]
    last: tuple[str, int]


def all_agents(files: Snapshot) -> list[AgentSummary]:
    """All agents, sorted by name. To be called within `Snapshot.whole`.

    First, entries and slots are counted in an index of each day. If there are few agents, their times are looked up
    then, two for each. If there are many, every entry is read instead, because one record may name a million agents.
    """
    known: dict[str, _Agent] = {}
    for name in files.names():
        for agent, entries, first, last in files.ask(name, DayReader.agents, alone=False) or ():
            before = known.get(agent)
            began = (name, first) if before is None else before.first
            known[agent] = _Agent(entries + (before.entries if before else 0), began, (name, last))
    if len(known) > MAX_LOOKED_UP:
        return _from_all_entries(files)
    return [
        AgentSummary(agent, one.entries, _moments(files, agent, one.first)[0], _moments(files, agent, one.last)[1])
        for agent, one in sorted(known.items())
    ]


def _from_all_entries(files: Snapshot) -> list[AgentSummary]:
    known: dict[str, AgentSummary] = {}
    for name in files.names():
        for one in starmap(AgentSummary, files.ask(name, lambda day: day.agents(exactly=True), alone=False) or ()):
            before = known.get(one.agent)
            if before is not None:
                entries = before.entries + one.entries
                one = AgentSummary(one.agent, entries, before.first_timestamp, one.last_timestamp)
            known[one.agent] = one
    return [known[agent] for agent in sorted(known)]


def _moments(files: Snapshot, agent: str, place: tuple[str, int]) -> tuple[float, float]:
    name, slot = place
    moments = files.ask(name, lambda day: day.moments(agent, slot), alone=False)
    if moments is None:
        raise IndexMissing(f"the index of {name} was removed while it was read")
    return moments
