"""From `write` to visible in another process, beside `tail -F` into a pipe under the same load.

A reader is a process of its own, in one of three ways: `poll` asks a read-only connection every millisecond for entries
that it has not seen; `follow` is `Index.follow`, which makes an `Entry` of each; `tail` reads what `tail -F` prints.
Each has the machine for itself, beside the writer and the sidecar. What `tail` is said to lose are lines that it
printed in two pieces with those of another file between them.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import load
import orjson
from measure import Figure, Goal, Plan, entries, following, python, quantile, stop, until

FILES = 20
PATIENCE = 30.0
"""Seconds behind the writer after which what is missing counts as lost."""


class Load(NamedTuple):
    name: str
    rate: int
    seconds: float
    goals: dict[str, float]
    """Milliseconds, by the share of records."""


def measure(plan: Plan) -> Iterator[Figure]:
    steady = 2 if plan.quick else 10
    for given in (
        Load("1,000/s", 1000, steady, {"p50": 5, "p99": 25}),
        Load("20,000/s", 20_000, steady / 2, {"p99": 250}),
    ):
        floor = _trials(plan, given, "tail")
        for way in ("poll", "follow"):
            seen = _trials(plan, given, way)
            for share in ("p50", "p99", "max"):
                goal = Goal(given.goals[share]) if share in given.goals and way == "poll" else None
                name = f"fresh at {given.name}, {way}, {share}"
                yield Figure(name, seen[share], "ms", "tail -F", floor[share], None, goal, seen["note"])
            yield Figure(
                f"fresh at {given.name}, {way}, lost", seen["lost"], "", "tail -F", floor["lost"], None, Goal(0)
            )
    burst = Load("burst", plan.sized(200_000), 1, {})
    floor = _trials(plan, burst, "tail")
    seen = _trials(plan, burst, "poll")
    name = f"burst of {burst.rate:,} in a second"
    yield Figure(f"{name}, all visible after", seen["all"], "s", "tail -F", floor["all"], None, Goal(4), seen["note"])
    yield Figure(f"{name}, lost", seen["lost"], "", "tail -F", floor["lost"], None, Goal(0))


def _trials(plan: Plan, given: Load, way: str) -> dict[str, Any]:
    """Medians of several trials, and all that was lost in them."""
    all_ = [_trial(plan, given, way) for _ in range(1 if plan.quick else min(3, plan.repeat))]
    middle = {name: median(one[name] for one in all_) for name in ("p50", "p99", "max", "all")}
    return middle | {"lost": sum(one["lost"] for one in all_), "note": all_[-1]["note"]}


def _trial(plan: Plan, given: Load, way: str) -> dict[str, Any]:
    """One reader under one load."""
    root = Path(tempfile.mkdtemp(dir=plan.folder))
    try:
        load.prepare(root, FILES)
        with nullcontext() if way == "tail" else following(root):
            if way != "tail":
                until(lambda: entries(root) == FILES, 30)
            command = python("fresh.py", way, root, int(given.rate * given.seconds), given.seconds + PATIENCE)
            with load.child(command) as reader, load.writing(root, given.rate, given.seconds, FILES) as writer:
                wrote = load.outcome(writer)
                seen = load.outcome(reader)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    late = wrote["ended"] - wrote["began"] - given.seconds
    note = f"the writer took {late:.1f} s longer" if late > 0.1 * given.seconds else ""
    return seen | {"lost": wrote["written"] - seen["seen"], "all": seen["last"] - wrote["began"], "note": note}


# ---- the readers, each in a process of its own


class Seen:
    """How old each record was when it was seen, in seconds, and when the last one was."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.last = 0.0

    def add(self, written: list[float]) -> None:
        if written:
            self.last = time.time()
            self.ages.extend([self.last - when for when in written])


def poll(root: Path, wanted: int, seconds: float) -> Seen:
    """By a query of a read-only connection."""
    days: dict[Path, tuple[sqlite3.Connection, int]] = {}

    def look_for_days() -> None:
        for path in (root / "index" / "daily").glob("*.db"):
            if path not in days:
                db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                days[path] = (
                    db,
                    db.execute("SELECT COALESCE(MAX(id), 0) FROM entry").fetchone()[0] if not seen.ages else 0,
                )

    def news() -> int:
        found = 0
        for path, (db, last) in list(days.items()):
            rows = db.execute("SELECT id, timestamp FROM entry WHERE id > ? ORDER BY id", (last,)).fetchall()
            if rows:
                seen.add([timestamp for _, timestamp in rows])
                days[path] = (db, rows[-1][0])
                found += len(rows)
        return found

    seen = Seen()
    look_for_days()
    print("ready", flush=True)
    deadline = time.monotonic() + seconds
    while len(seen.ages) < wanted and time.monotonic() < deadline:
        if not news():
            time.sleep(0.001)
            look_for_days()
    return seen


def follow(root: Path, wanted: int, seconds: float) -> Seen:
    """By the library."""
    from sidecar import Index

    seen = Seen()
    deadline = time.monotonic() + seconds
    with Index(root) as index:
        news = index.follow(stop=lambda: len(seen.ages) >= wanted or time.monotonic() > deadline)
        print("ready", flush=True)
        for entry in news:
            seen.add([entry.timestamp])
            if len(seen.ages) == wanted:
                break
    return seen


def tail(root: Path, wanted: int, seconds: float) -> Seen:
    """The floor: lines as `tail -F` prints them."""
    seen = Seen()
    timestamp = re.compile(rb'"timestamp":([0-9.]+),')
    command = ["tail", "-q", "-n", "0", "-F", *map(str, load.files(root, FILES))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        until(lambda: "anon_inode:inotify" in map(os.readlink, Path(f"/proc/{process.pid}/fd").iterdir()), 10)
        time.sleep(0.2)
        print("ready", flush=True)
        os.set_blocking(process.stdout.fileno(), False)
        rest = b""
        deadline = time.monotonic() + seconds
        while len(seen.ages) < wanted and time.monotonic() < deadline:
            if not select.select([process.stdout], [], [], 0.1)[0]:
                continue
            data = os.read(process.stdout.fileno(), 1 << 20)
            whole, _, rest = (rest + data).rpartition(b"\n")
            seen.add([float(found) for found in timestamp.findall(whole)])
    finally:
        stop(process)
        process.stdout.close()
    return seen


def _told(seen: Seen) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    told = {name: quantile(seen.ages, share) * 1e3 for name, share in shares.items()}
    return {"seen": len(seen.ages), "last": seen.last, **told}


if __name__ == "__main__":
    way = {"poll": poll, "follow": follow, "tail": tail}[sys.argv[1]]
    print(orjson.dumps(_told(way(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))).decode())
