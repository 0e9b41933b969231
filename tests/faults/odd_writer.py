"""A meddler whose logs are as in the wild: rotated, with last lines without LF, with files made before their lines."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import orjson

from faults.meddler import Meddler
from helpers.corpora import BASE, encode
from helpers.oddities import odd_line
from helpers.rotations import WAYS, parts_of

SETTLED = 120.0
"""Seconds; a log that has not changed for so long has settled."""
ENOUGH = 300
"""Bytes. A log with so many has its first record, which has a time of its own, whatever is done to it."""


class OddWriter(Meddler):
    """Does what `Meddler` does, and what is odd. Each log is rotated in one way. At the end every file is complete, but
    a last line may be without LF."""

    def __init__(self, source: Path, target: Path, chance: random.Random, lines: int) -> None:
        super().__init__(source, target, chance, lines)
        ways = list(WAYS)
        chance.shuffle(ways)
        self._ways = {path: ways[number % len(ways)] for number, path in enumerate(sorted(self.sessions))}
        self._rotations = 0
        self._made_before: dict[Path, int] = {}
        """Where the next line goes in a file that was made before its lines."""
        self._records = 0

    def be_odd(self) -> None:
        """Do one odd thing to one log that is there, if it has been written to for a while."""
        there = [path for path in self._whole if path.exists() and path.stat().st_size > ENOUGH]
        if there:
            odd = self.chance.choice([self._rotate, self._rotate, self._leave, self._glue, self._make_before])
            odd(self.chance.choice(there))

    def settle(self) -> None:
        """All logs look as if nobody had written for a while."""
        for path in self._whole:
            if path.exists():
                moment = time.time() - SETTLED - self.chance.random()
                os.utime(path, (moment, moment))

    def end(self) -> None:
        """Every log that was rotated goes on: without a file with its plain name, its parts are no log."""
        for path in self._whole:
            if not path.exists() and parts_of(path)[:-1]:
                self._add(path, self._record() + b"\n")

    def _rotate(self, path: Path) -> None:
        """Only a file that begins with a time of its own: what has none gets the time of the file, as a sidecar noted
        it when it saw the file first, and nobody knows that at the end."""
        with path.open("rb") as file:
            if b'"timestamp":1' not in file.readline():
                return
        self._fill(path)
        self._rotations += 1
        WAYS[self._ways[path]](path, self._rotations)
        # A log never says again, byte for byte, what its rotated part says: that would be a copy of it. And it begins
        # with a time of its own.
        self._whole[path] = self.sessions[path] = self._record() + b"\n" + self.sessions.get(path, b"")

    def _leave(self, path: Path) -> None:
        """A whole record without LF, which lies still. Whatever follows goes on in its line."""
        self._fill(path)
        self._add(
            path, self.chance.choice([b"\n", b""]) + self._record() + self.chance.choice([b"", b"", b"\0\0", b" "])
        )
        moment = time.time() - SETTLED - self.chance.random()
        os.utime(path, (moment, moment))

    def _glue(self, path: Path) -> None:
        """Records glued together, torn, or with NULs around them, in a line that may end."""
        self._fill(path)
        self._add(path, odd_line(self.chance, self._record) + self.chance.choice([b"\n", b"\n", b""]))

    def _make_before(self, path: Path) -> None:
        """What follows is written over NULs that are there already, as by a writer that maps its file into memory."""
        self._fill(path)
        size = path.stat().st_size
        os.truncate(path, size + self.chance.choice([10, 700, 5_000, 70_000]))
        self._made_before[path] = size

    def _fill(self, path: Path) -> None:
        """No longer write over NULs. They stay."""
        self._made_before.pop(path, None)

    def _add(self, path: Path, data: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(data)

    def _append(self, path: Path, sizes: list[int]) -> None:
        at = self._made_before.get(path)
        if at is None or not path.exists() or path.stat().st_size <= at:
            self._fill(path)
            super()._append(path, sizes)
            return
        size = self.chance.choice(sizes)
        written, rest = self.sessions[path][:size], self.sessions[path][size:]
        status = path.stat()
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), written, at)
        if self.chance.random() < 0.3 and at + size <= status.st_size:
            # The time of a file that is written through memory may change later.
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._made_before[path] = at + len(written)
        self.sessions[path] = rest
        if not rest:
            del self.sessions[path]

    def _begin_another(self, path: Path) -> None:
        self._fill(path)
        super()._begin_another(path)

    def _cut(self, path: Path) -> None:
        """The first record stays whole, or goes."""
        self._fill(path)
        super()._cut(path)
        if path.stat().st_size < ENOUGH:
            os.truncate(path, 0)
            self._begin_another(path)

    def _record(self) -> bytes:
        self._records += 1
        kind = self.chance.choice(["completion:request", "completion:result", "agent:say"])
        data = {"agent_id": self.chance.choice("abc"), "n": self._records}
        record = {"event": kind, "timestamp": BASE + self._records, "data": data}
        if self.chance.random() < 0.5:
            record["correlation_id"] = f"odd{self.chance.randrange(4)}"
        return encode(record) if self.chance.random() < 0.5 else orjson.dumps(record)
