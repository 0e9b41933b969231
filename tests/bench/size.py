"""Bytes an entry: all files of an index, the catalog included, by table and index."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import rebuild
from measure import Figure, Goal, Plan, entries, run, sidecar

LEAST_SHOWN = 0.5
"""Bytes an entry below which a table or index is not listed."""


def measure(plan: Plan) -> Iterator[Figure]:
    logs = rebuild.corpus(plan)
    if entries(logs.root) != logs.records:
        logs.drop_index()
        run(sidecar(logs.root, "reindex"))
    files = list((logs.root / "index").rglob("*.db*"))
    total = sum(file.stat().st_size for file in files)
    note = f"{total / logs.bytes:.1%} of the logs"
    yield Figure(
        "size of the index", total / logs.records, "B", "log", logs.bytes / logs.records, None, Goal(160), note
    )
    parts: Counter[str] = Counter()
    for file in files:
        if file.suffix == ".db":
            kind = "catalog" if file.name == "catalog.db" else "daily"
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                for name, size in _parts(db):
                    parts[f"{kind}.{name}"] += size
    for name, size in parts.most_common():
        if size / logs.records >= LEAST_SHOWN:
            yield Figure(f"  {name}", size / logs.records, "B")


def _parts(db: sqlite3.Connection) -> list[tuple[str, int]]:
    try:
        return db.execute("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name").fetchall()
    except sqlite3.OperationalError:  # compiled without it
        pages = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        return [("all tables", pages)]
