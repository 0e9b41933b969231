"""`sidecar reindex` of 500,000 records, beside the floor and beside DuckDB: `./task bench --only rebuild`.

The floor is what no indexer in Python can do without: `orjson.loads` on every line and one `executemany` of as many
rows of 14 integers into a table without indexes, in one process. DuckDB reads the same files with `read_ndjson` into a
table (types given, so that it need not look for them; no offsets, no linking), and builds six indexes, with all cores.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from corpus import Corpus
from measure import Figure, Goal, Plan, Run, python, run, sidecar

COLUMNS = (
    "{event: 'VARCHAR', timestamp: 'DOUBLE', request_id: 'VARCHAR', data: 'STRUCT(agent_id VARCHAR, to_agent VARCHAR,"
    ' to_agents VARCHAR[], team_id VARCHAR, pattern VARCHAR, context STRUCT(role_transition STRUCT("to" VARCHAR)))\'}'
)
INDEXED = ("timestamp", "session_id", "author", "addressee", "correlation", "conversation")


def corpus(plan: Plan) -> Corpus:
    """The corpus of the figures in `docs/testing.md`."""
    times = plan.scale
    return Corpus(plan.folder, plan.sized(500_000 * times), plan.sized(2000 * times), 5)


def measure(plan: Plan) -> Iterator[Figure]:
    logs = corpus(plan)
    for file in logs.files():
        file.read_bytes()  # into the page cache, for everybody
    rounds = [_round(logs) for _ in plan.rounds(None if plan.scale == 1 else min(2, plan.repeat))]
    told = [{name: orjson.loads(one.out) for name, one in each.items()} for each in rounds]
    for each in told:
        assert all(one["entries"] == logs.records for one in each.values()), "not all records were read"

    def figure(name: str, unit: str, other: str, way: Any, goal: Goal | None = None, note: str = "") -> Figure:
        pairs = [(way(each, text, "ours"), way(each, text, other)) for each, text in zip(rounds, told, strict=True)]
        ours, beside = (median(side) for side in zip(*pairs, strict=True))
        return Figure(name, ours, unit, other, beside, median(a / b for a, b in pairs), goal, note)

    def inside(_: dict[str, Run], told: dict[str, Any], who: str) -> float:
        return float(told[who]["seconds"])

    def wall(each: dict[str, Run], _: Any, who: str) -> float:
        return each[who].wall

    size = f"{logs.records:,} records, {logs.bytes / logs.records:.0f} B each"
    yield figure("rebuild, inside the process", "s", "floor", inside, Goal(2.0, "ratio"), size)
    yield figure("rebuild, whole command", "s", "floor", wall, note="what `time sidecar reindex` says")
    yield figure("rebuild, processor seconds", "s", "floor", lambda each, _, who: each[who].cpu)
    if "duckdb" in rounds[0]:
        yield figure(
            "rebuild, inside the process", "s", "duckdb", inside, Goal(1.0, "ratio"), "read_ndjson, six indexes"
        )
        yield figure("rebuild, processor seconds", "s", "duckdb", lambda each, _, who: each[who].cpu)
        yield figure("index, bytes a row", "B", "duckdb", lambda _, text, who: text[who]["size"] / logs.records)
    else:
        yield Figure("rebuild beside DuckDB", float("nan"), "s", note="duckdb is not installed: skipped")
    heaviest = max(max(each["ours"].peaks) for each in rounds)
    floor = max(max(each["floor"].peaks) for each in rounds)
    processes = len(rounds[0]["ours"].peaks)
    yield Figure(
        "rebuild, memory of the largest process",
        heaviest,
        "MB",
        "floor",
        floor,
        None,
        Goal(300),
        f"{processes} processes",
    )
    yield Figure("rebuild, rate", logs.records / median(one["ours"]["seconds"] for one in told), "/s")


def _round(logs: Corpus) -> dict[str, Run]:
    """Everybody once, in turn."""
    done = {}
    with tempfile.TemporaryDirectory(dir=logs.root.parent) as folder:
        done["floor"] = run(python("rebuild.py", "floor", logs.root, f"{folder}/floor.db"))
        logs.drop_index()
        ours = run(sidecar(logs.root, "reindex", "--json"))
        size = sum(file.stat().st_size for file in (logs.root / "index").rglob("*.db*"))
        done["ours"] = ours._replace(out=orjson.dumps(orjson.loads(ours.out) | {"size": size}).decode())
        if _has_duckdb():
            done["duckdb"] = run(python("rebuild.py", "duckdb", logs.glob, f"{folder}/peer.duckdb"))
    return done


def _has_duckdb() -> bool:
    try:
        import duckdb  # noqa: F401
    except ImportError:
        return False
    return True


# ---- the others, each in a process of its own


def floor(root: str, target: str) -> dict[str, Any]:
    began = time.perf_counter()
    with closing(sqlite3.connect(target)) as db:
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        db.execute(f"CREATE TABLE entry ({', '.join(f'c{number} INTEGER' for number in range(14))})")
        with db:
            db.executemany(f"INSERT INTO entry VALUES ({', '.join('?' * 14)})", _floor_rows(Path(root)))
        count = db.execute("SELECT COUNT(*) FROM entry").fetchone()[0]
    return {"entries": count, "seconds": time.perf_counter() - began, "size": Path(target).stat().st_size}


def _floor_rows(root: Path) -> Iterator[tuple[int, ...]]:
    loads = orjson.loads
    for number, path in enumerate((root / "responses" / "sessions").iterdir()):
        offset = 0
        for line in path.read_bytes().splitlines():
            size = len(loads(line)) + offset
            yield (number, size, offset, 830, 123456789, 1735689600, 3, number, 17, 17, offset & 1023, 2, number, size)
            offset += len(line) + 1


def duckdb(glob: str, target: str) -> dict[str, Any]:
    import duckdb as duck

    began = time.perf_counter()
    with closing(duck.connect(target)) as db:
        db.execute(
            "CREATE TABLE entry AS SELECT timestamp, event AS event_type, parse_filename(filename, true) AS session_id,"
            " filename, data.agent_id AS author, data.to_agent AS addressee, data.to_agents AS addressees,"
            " request_id AS correlation,"
            ' data.pattern AS pattern, data.team_id AS conversation, data.context.role_transition."to" AS role'
            f" FROM read_ndjson('{glob}', columns = {COLUMNS}, filename = true)"
        )
        for column in INDEXED:
            db.execute(f"CREATE INDEX by_{column} ON entry({column})")
        db.execute("CHECKPOINT")
        count = db.execute("SELECT COUNT(*) FROM entry").fetchall()[0][0]
    return {"entries": count, "seconds": time.perf_counter() - began, "size": Path(target).stat().st_size}


if __name__ == "__main__":
    print(orjson.dumps({"floor": floor, "duckdb": duckdb}[sys.argv[1]](*sys.argv[2:])).decode())
