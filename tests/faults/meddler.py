"""A writer that does to its logs what a sidecar must withstand: torn lines; files cut, emptied, replaced, deleted."""

from __future__ import annotations

import random
from pathlib import Path

from helpers.corpora import random_log
from helpers.trees import FIRST, Copier


class Meddler(Copier):
    """Writes a tree as `Copier` does, and meddles with what it has written. At the end every file is complete."""

    def __init__(self, source: Path, target: Path, chance: random.Random, lines: int) -> None:
        super().__init__(source, target, chance)
        self._lines = lines
        self._whole = dict(self.sessions)

    def meddle(self) -> None:
        """Do one bad thing to one session that is there."""
        there = [path for path in self._whole if path.exists()]
        if there:
            self.chance.choice([self._cut, self._empty, self._replace, self._delete])(self.chance.choice(there))

    def _cut(self, path: Path) -> None:
        """Some of the last bytes disappear, and come back, or others do."""
        now = path.stat().st_size
        size = self.chance.choice([self.chance.randint(0, now), max(0, now - self.chance.randint(1, 300))])
        with path.open("r+b") as file:
            file.truncate(size)
        if self.chance.random() < 0.5:
            self._whole[path] = self._whole[path][:size] + random_log(self.chance.getrandbits(32), self._lines)
        self.sessions[path] = self._whole[path][size:]

    def _empty(self, path: Path) -> None:
        """In place: other lines follow, and half of the time there are more bytes than before by the next look."""
        self._begin_another(path)
        with path.open("wb") as file:
            file.write(self._some(path))

    def _replace(self, path: Path) -> None:
        """By rename, as a rotation does."""
        self._begin_another(path)
        other = path.with_suffix(".other")
        other.write_bytes(self._some(path))
        other.replace(path)

    def _delete(self, path: Path) -> None:
        self._begin_another(path)
        path.unlink()

    def _begin_another(self, path: Path) -> None:
        content = FIRST + random_log(self.chance.getrandbits(32), self.chance.randint(1, self._lines))
        self._whole[path] = self.sessions[path] = content

    def _some(self, path: Path) -> bytes:
        size = self.chance.choice([0, 10, 1_000, 1 << 20])
        written, self.sessions[path] = self._whole[path][:size], self._whole[path][size:]
        if not self.sessions[path]:
            del self.sessions[path]
        return written
