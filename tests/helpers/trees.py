"""A log tree that is written piece by piece, as a daemon would write it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import orjson

from helpers.corpora import BASE, write_tree

# The first record of a session has a time of its own; without one it would take the file's modification time, which a
# file that is still being written changes.
FIRST = orjson.dumps({"event": "agent:spawn", "timestamp": BASE}) + b"\n"


def tree(folder: Path, seed: int, sessions: int = 12, lines: int = 150, events: int = 40) -> None:
    """A tree to copy from."""
    write_tree(folder, seed, sessions, lines, events)
    for number, log in enumerate(sorted((folder / "responses/sessions").iterdir())):
        mark = b"\xef\xbb\xbf" if number % 5 == 4 else b""
        log.write_bytes(mark + FIRST + log.read_bytes())


class Copier:
    """Writes a tree as a daemon would: sessions in appends of any size, event files renamed into place or not."""

    def __init__(self, source: Path, target: Path, chance: random.Random) -> None:
        self.target = target
        self.chance = chance
        self.sessions = {
            target / path.relative_to(source): path.read_bytes() for path in source.glob("responses/**/*.jsonl")
        }
        self.events = [(path, target / path.relative_to(source)) for path in source.glob("events/*/*.json")]
        chance.shuffle(self.events)

    def write_some(self, *, torn: bool = False) -> bool:
        """One write of any kind. Returns False if all is written. With `torn`, small writes that rarely end a line."""
        if self.events and (not self.sessions or self.chance.random() < 0.3):
            self._write_event(*self.events.pop())
        elif self.sessions:
            sizes = [1, 50, 300, 1_500] if torn else [1, 100, 1_000, 10_000]
            self._append(self.chance.choice(list(self.sessions)), sizes)
        return bool(self.events or self.sessions)

    def _append(self, path: Path, sizes: list[int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rest = self.sessions[path]
        size = self.chance.choice(sizes)
        with path.open("ab", buffering=0) as file:
            file.write(rest[:size])
        self.sessions[path] = rest[size:]
        if not self.sessions[path]:
            del self.sessions[path]

    def _write_event(self, source: Path, path: Path) -> None:
        """It has its modification time from the beginning, because a record may have no other time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        shutil.copy2(source, temporary)
        temporary.replace(path)
