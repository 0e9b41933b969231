"""What somebody reads in the logs of an agent tool, without the package: who asks, who answers, what waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A record: the path of its log below the root, and its line."""

    path: str
    line: int


@dataclass
class Reading:
    """A plain reading of all logs of a tool."""

    sessions: set[str] = field(default_factory=set)
    asked: set[Place] = field(default_factory=set)
    """Prompts, calls, delegations and permissions that somebody has to answer."""
    answered: set[Place] = field(default_factory=set)
    spoke: dict[Place, tuple[str, frozenset[str]]] = field(default_factory=dict)
    """Who says something to whom, where the record tells it."""

    @property
    def waiting(self) -> set[Place]:
        """What nobody has answered."""
        return self.asked - self.answered

    def ask(self, place: Place, speaker: str, *hearers: str) -> None:
        """A request at a place."""
        self.asked.add(place)
        self.say(place, speaker, *hearers)

    def say(self, place: Place, speaker: str, *hearers: str) -> None:
        """Something that is said at a place."""
        self.spoke[place] = (speaker, frozenset(hearers) - {speaker})


def records_of(root: Path, path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The records of a log, each with its place."""
    name = path.relative_to(root).as_posix()
    if path.suffix == ".json":
        yield Place(name, 1), json.loads(path.read_text())
        return
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.strip():
            yield Place(name, number), json.loads(line)
