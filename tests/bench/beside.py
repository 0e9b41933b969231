"""The KSI daemon's own index, made its way, beside ours following the same events; each under two readers.

Its way, as its source has it: a line into `events/<day>/events.jsonl` under a lock (opened, written and closed by a
thread of a pool), then a connection of the event's own, one INSERT and a commit, through aiosqlite (where that is not
installed, through sqlite3 in a thread, which is faster, and the note says so); an error is logged, and the row is lost.
WAL; the connection has SQLite's default timeout and `synchronous`. The row goes into the reference's `ksi_index` with
its indexes. As many events come in at once as `AT_ONCE` says.

Ours: the same lines are written as fast as they can be, and `sidecar run` follows.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import load
import orjson
from bench_writer import REFERENCE_SCHEMA
from measure import Figure, Goal, Plan, entries, following, python, until

from sidecar import Index, SidecarError

try:
    import aiosqlite
except ImportError:
    aiosqlite = None

AT_ONCE = 16
READERS = 2
DAY = "2025-01-01"
PATIENCE = 120
INSERT = f"INSERT INTO ksi_index VALUES ({', '.join('?' * 17)})"


def measure(plan: Plan) -> Iterator[Figure]:
    rounds = [(_ours(plan, plan.sized(100_000)), _theirs(plan, plan.sized(7000))) for _ in plan.rounds(3)]
    ours, theirs = (sorted(side, key=lambda one: one["rate"])[len(side) // 2] for side in zip(*rounds, strict=True))
    ratio = median(mine["rate"] / other["rate"] for mine, other in rounds)
    lost = [sum(one["lost"] for one in side) for side in zip(*rounds, strict=True)]
    way = "aiosqlite" if aiosqlite else "sqlite3 in threads, as aiosqlite is not installed"
    note = f"{ours['count']:,} events against {theirs['count']:,} through {way}; {READERS} readers"
    goal = Goal(100, "ratio", least=True)
    yield Figure("beside the KSI daemon, rate", ours["rate"], "/s", "its index", theirs["rate"], ratio, goal, note)
    yield Figure("beside the KSI daemon, lost", lost[0], "", "its index", lost[1], None, Goal(0), theirs["why"])
    asked = "of the readers, meanwhile"
    yield Figure("beside the KSI daemon, answers", ours["answers"], "/s", "its index", theirs["answers"], note=asked)


def _events(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        kind = ("completion:async", "completion:result", "agent:send_message")[number % 3]
        data = {
            "agent_id": f"agent_{number % 20}",
            "_agent_id": f"agent_{number % 7}",
            "request_id": f"req_{number // 3:012x}",
            "session_id": f"sess_{number % 50}",
            "prompt": load.TEXT,
        }
        yield {"timestamp": 1_735_700_000 + number * 0.01, "event_name": kind, "data": data}


def _append(log: Path, event: dict[str, Any]) -> None:
    with log.open("ab") as file:
        file.write(orjson.dumps(event) + b"\n")


def _trial(
    plan: Plan, way: str, count: int, job: Callable[[Path, Path, ExitStack], Callable[[], None]]
) -> dict[str, Any]:
    """Let a way be prepared, then be timed beside its readers."""
    root = Path(tempfile.mkdtemp(dir=plan.folder))
    log = root / "events" / DAY / "events.jsonl"
    log.parent.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            work = job(root, log, stack)
            readers = [stack.enter_context(load.child(python("beside.py", way, root))) for _ in range(READERS)]
            began = time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            for reader in readers:
                assert reader.stdin is not None
                reader.stdin.close()
            answers = sum(load.outcome(reader)["answers"] for reader in readers)
        return {"count": count, "rate": count / seconds, "answers": answers / seconds}
    finally:
        shutil.rmtree(root, ignore_errors=True)


# ---- ours


def _ours(plan: Plan, count: int) -> dict[str, Any]:
    seen = 0

    def job(root: Path, log: Path, stack: ExitStack) -> Callable[[], None]:
        stack.enter_context(following(root, "--preset", "ksi-daemon"))
        events = list(_events(count))

        def work() -> None:
            nonlocal seen
            for event in events:
                _append(log, event)
            try:
                until(lambda: entries(root) == count, PATIENCE)
            finally:
                seen = entries(root)

        return work

    return _trial(plan, "ours", count, job) | {"lost": count - seen}


def _ask_ours(root: str) -> Callable[[], object]:
    index = Index(root)

    def ask() -> object:
        try:
            return list(index.timeline(limit=100, reverse=True)), list(index.timeline(session="sess_7", limit=100))
        except SidecarError:
            return None

    return ask


# ---- the daemon's own


def _theirs(plan: Plan, count: int) -> dict[str, Any]:
    errors: list[str] = []
    indexed = 0

    def job(root: Path, log: Path, stack: ExitStack) -> Callable[[], None]:  # noqa: ARG001
        database = root / "index.db"
        with closing(sqlite3.connect(database)) as db:
            db.executescript(REFERENCE_SCHEMA)

        def work() -> None:
            nonlocal indexed
            asyncio.run(_daemon(database, log, count, errors))
            with closing(sqlite3.connect(database)) as db:
                indexed = db.execute("SELECT COUNT(*) FROM ksi_index").fetchone()[0]

        return work

    found = _trial(plan, "theirs", count, job)
    why = f"its: {errors[0]}" if errors else ""
    return found | {"lost": count - indexed, "why": why}


async def _daemon(database: Path, log: Path, count: int, errors: list[str]) -> None:
    """Take events in, and index each of them."""
    events = _events(count)
    guard = asyncio.Lock()

    async def take() -> None:
        for event in events:
            async with guard:
                offset = log.stat().st_size if log.exists() else 0
                await asyncio.to_thread(_append, log, event)
            try:
                await _insert(database, _row(event, log, offset))
            except sqlite3.Error as error:
                errors.append(str(error))

    await asyncio.gather(*(take() for _ in range(AT_ONCE)))


async def _insert(database: Path, row: tuple[Any, ...]) -> None:
    if aiosqlite is None:
        await asyncio.to_thread(_insert_plainly, database, row)
        return
    async with aiosqlite.connect(database) as db:
        await db.execute(INSERT, row)
        await db.commit()


def _insert_plainly(database: Path, row: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.execute(INSERT, row)
        db.commit()


def _row(event: dict[str, Any], log: Path, offset: int) -> tuple[Any, ...]:
    data, kind = event["data"], event["event_name"]
    agents = orjson.dumps([data["_agent_id"], data["agent_id"]]).decode()
    place = (f"{DAY}:{offset}", event["timestamp"], kind, data["session_id"], str(log), None, offset)
    links = (data["_agent_id"], agents, "{}", "general", data["session_id"], data["request_id"])
    return (*place, *links, kind.startswith("completion:"), kind == "completion:async", 0, kind == "completion:async")


def _ask_theirs(root: str) -> Callable[[], object]:
    def ask() -> object:
        try:
            with closing(sqlite3.connect(f"{root}/index.db")) as db:
                latest = db.execute("SELECT * FROM ksi_index ORDER BY timestamp DESC LIMIT 100").fetchall()
                session = "SELECT * FROM ksi_index WHERE session_id = ? ORDER BY timestamp LIMIT 100"
                return latest, db.execute(session, ("sess_7",)).fetchall()
        except sqlite3.Error:
            return None

    return ask


def _read(way: str, root: str) -> dict[str, int]:
    """A reader: asks two questions every ten milliseconds, until its input ends."""
    ask = {"ours": _ask_ours, "theirs": _ask_theirs}[way](root)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    answers = 0
    while not ended.wait(0.01):
        answers += ask() is not None
    return {"answers": answers}


if __name__ == "__main__":
    print(orjson.dumps(_read(*sys.argv[1:])).decode())
