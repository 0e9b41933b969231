"""What the hub costs: rows a second of its processor, beside a bare COPY of the same rows into a table without indexes;
bytes a row; the pusher's own processor time; and how many questions of each kind a second of its processor answers.

A PostgreSQL of its own runs for it, with fsync, on loopback. Its processor time is that of the one process that serves
the connection, from /proc.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from corpus import Corpus
from measure import TICKS, Figure, Goal, Plan, run, sidecar

sys.path.append(str(Path(__file__).parent.parent))


def measure(plan: Plan) -> Iterator[Figure]:
    from helpers.postgres import binaries, server

    if binaries() is None:
        yield Figure("hub", float("nan"), "", note="there is no PostgreSQL")
        return
    records = plan.sized(200_000)
    logs = Corpus(plan.folder, records, max(1, records // 250), 5)
    run(sidecar(logs.root, "reindex"))
    with server(durable=True) as postgres:
        from sidecar.hub.admin import init
        from sidecar.hub.push import Pusher

        postgres.execute("postgres", "CREATE DATABASE bench")
        init(postgres.url("bench"))
        with closing(Pusher(logs.root / "index", postgres.url("bench"), "n1")) as pusher:
            backend = pusher.target.backend
            own, theirs, wall = time.process_time(), cpu_of(backend), time.perf_counter()
            rows = pusher.once()
            own, theirs, wall = time.process_time() - own, cpu_of(backend) - theirs, time.perf_counter() - wall
        floor = bare_copy(postgres.url("bench"))
        yield Figure(
            *("hub: rows brought a second of its processor", rows / theirs, "rows/s", "bare COPY", rows / floor),
            ratio=theirs / floor,
            goal=Goal(11, "ratio"),
            note=f"{wall:.1f} s wall, {rows:,} rows",
        )
        yield Figure("hub: the same, alone", rows / theirs, "rows/s", goal=Goal(60_000, least=True))
        yield Figure("hub: rows pushed a second of the pusher's processor", rows / own, "rows/s")
        size = postgres.execute("bench", "VACUUM", _SIZE)[0][0]
        yield Figure("hub: bytes a row", size / rows, "B", goal=Goal(280))
        yield from questions(postgres.url("bench"))


_SIZE = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'hub' AND c.relkind IN ('r', 'm')"
)


def cpu_of(pid: int) -> float:
    """Seconds of processor that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def bare_copy(url: str) -> float:
    """Seconds of processor for COPY of all rows into a table without indexes."""
    import psycopg

    with psycopg.connect(url) as db:
        with db.cursor().copy("COPY (SELECT * FROM hub.entry) TO STDOUT") as out:
            chunks = [bytes(chunk) for chunk in out]
        db.execute("CREATE TABLE bare (LIKE hub.entry)")
        before = cpu_of(db.info.backend_pid)
        with db.cursor().copy("COPY bare FROM STDIN") as copy:
            for chunk in chunks:
                copy.write(chunk)
        spent = cpu_of(db.info.backend_pid) - before
        db.execute("DROP TABLE bare")
    return max(spent, 1 / TICKS)


def questions(url: str) -> Iterator[Figure]:
    """Milliseconds of the hub's processor a question."""
    from sidecar.hub.reader import HubIndex

    with closing(HubIndex(url)) as index:
        some = list(index.timeline(limit=5000))[::97]
        asks: dict[str, Callable[[Any], Any]] = {
            "exchange": lambda one: list(index.exchange(one.correlation_id or "")),
            "a session": lambda one: list(index.timeline(session=one.session_id)),
            "timeline, first 100": lambda one: list(index.timeline(since=one.timestamp, limit=100)),
            "pending, latest 100": lambda _: list(index.waiting(limit=100, newest_first=True)),
            "an agent, first 100": lambda one: list(
                index.timeline(agent=one.participating_agents[0], since=one.timestamp, limit=100)
            ),
            "participants": lambda one: index.get_session_participants(one.session_id),
            "get": lambda one: index.get(one.id),
        }
        for name, ask in asks.items():
            before = cpu_of(index.backend)
            for one in some:
                ask(one)
            spent = cpu_of(index.backend) - before
            yield Figure(f"hub: {name}", 1000 * spent / len(some), "ms")


if __name__ == "__main__":
    for figure in measure(Plan(Path(os.environ.get("FOLDER", "/tmp/sidecar-bench")), quick="--quick" in sys.argv)):
        print(figure)
