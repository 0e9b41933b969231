"""One writer of the stress test, which writes to many sessions, acknowledges what it has written, and may die any time.

    python stress_writer.py ROOT NAME MODE SESSIONS SEED

`NAME` is this process's alone. To `ROOT/../acks/NAME` goes a line for each record once it is in the log, in one
`write`: id, begin and end of its writing in nanoseconds of the machine's clock, path, line number and byte offset.
SIGTERM ends it in good order. Now and then it dies by its own hand while a record is half written, holding the
session's lock: a kill that hits `write` itself does the same, but seldom.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sidecar.errors import SessionLocked, WriterError
from sidecar.writer import Place, ResponseLogWriter, SessionWriter, write_event
from sidecar.writer.record import encode

HELD = 20
"""Sessions that a process keeps open at most, so that every session changes hands again and again."""

DEATHS = 1 / 700
"""By one's own hand, a record."""


class Writer:
    """What both kinds have in common."""

    def __init__(self, root: Path, name: str, sessions: int, seed: int) -> None:
        self.root = root
        self.name = name
        self.random = Random(seed)
        self.sessions = sessions
        self.number = 0
        self.is_over = False
        self._acks = os.open(root.parent / "acks" / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, _number: int, _frame: object) -> None:
        self.is_over = True

    def session(self) -> str:
        return f"sess_{self.random.randrange(self.sessions):03}"

    def record(self, session_id: str) -> dict[str, Any]:
        """The next one; most are short, a few are so long that a kill may hit their writing."""
        self.number += 1
        size = 2_000_000 if self.random.random() < 0.002 else self.random.choice((10, 300, 3_000))
        data = {"agent_id": self.name, "session_id": session_id, "number": self.number, "text": "x" * size}
        begun = time.monotonic_ns()
        return {"event": "stress:record", "data": data, "correlation_id": f"{self.name}:{self.number}", "begun": begun}

    def acknowledge(self, record: dict[str, Any], place: Place) -> None:
        told = (record["correlation_id"], record["begun"], time.monotonic_ns(), *place)
        os.write(self._acks, " ".join(map(str, told)).encode() + b"\n")

    def event(self) -> None:
        record = self.record("")
        self.acknowledge(record, write_event(self.root, record))

    def die_in_mid_record(self, session_id: str) -> None:
        """Only in a session that this process holds; nothing happens where it does not."""
        try:
            SessionWriter(self.root, session_id, self.name).close()
            return
        except SessionLocked as error:
            if f"(pid {os.getpid()} " not in str(error):
                return
        line = encode(self.record(session_id))
        fd = os.open(self.root / "responses" / "sessions" / f"{session_id}.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, line[: self.random.randrange(1, len(line))])
        os.kill(os.getpid(), signal.SIGKILL)


def write_one_by_one(writer: Writer) -> None:
    """With SessionWriter."""
    held: OrderedDict[str, SessionWriter] = OrderedDict()
    while not writer.is_over:
        session_id = writer.session()
        if session_id not in held:
            with suppress(SessionLocked):
                held[session_id] = SessionWriter(writer.root, session_id, writer.name)
            if len(held) > HELD:
                held.popitem(last=False)[1].close()
        for _ in range(writer.random.randint(1, 10) if session_id in held else 0):
            record = writer.record(session_id)
            writer.acknowledge(record, held[session_id].append(record))
            if writer.random.random() < DEATHS:
                writer.die_in_mid_record(session_id)
        if writer.random.random() < 0.02:
            writer.event()
        time.sleep(0.001)
    for session in held.values():
        session.close()


async def write_in_groups(writer: Writer) -> None:
    """With ResponseLogWriter."""
    async with ResponseLogWriter(writer.root, writer.name, open_sessions=HELD, queue_size=500) as responses:
        while not writer.is_over:
            session_id = writer.session()
            records = [writer.record(session_id) for _ in range(writer.random.randint(1, 30))]
            futures = [await responses.queue_completion_event(record) for record in records]
            for record, future in zip(records, futures, strict=True):
                future.add_done_callback(partial(_acknowledged, writer, record))
            if writer.random.random() < 0.02:
                writer.event()
            if writer.random.random() < DEATHS * 15:
                (outcome,) = await asyncio.gather(futures[-1], return_exceptions=True)
                if isinstance(outcome, Place):  # and nothing else is queued now
                    writer.die_in_mid_record(session_id)
            await asyncio.sleep(0.002)


def _acknowledged(writer: Writer, record: dict[str, Any], done: asyncio.Future[Place]) -> None:
    error = done.exception()
    if error is None:
        writer.acknowledge(record, done.result())
    elif not isinstance(error, SessionLocked):
        raise error


def main() -> None:
    root, name, mode, sessions, seed = sys.argv[1:]
    writer = Writer(Path(root), name, int(sessions), int(seed))
    try:
        if mode == "sync":
            write_one_by_one(writer)
        else:
            asyncio.run(write_in_groups(writer))
    except WriterError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
