"""What it costs to be there: at rest beside 100,000 files, at a start, and under a steady load.

The first answer after a warm start is a record that was written just before it: what it takes to find that among
100,000 files that have not changed. Event files are read beside a floor that opens each, parses it, and inserts a row.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import corpus
import load
import orjson
from measure import Figure, Goal, Plan, cpu, entries, following, memory, python, run, sidecar, stop, until

FILES = 20
SCAN_CPU = 0.05
"""Processor seconds within a second that only a full scan takes at rest."""


def measure(plan: Plan) -> Iterator[Figure]:
    yield from _at_rest(plan)
    yield from _event_files(plan)
    for rate in (1000, 20_000):
        yield _under_load(plan, rate)


def _at_rest(plan: Plan) -> Iterator[Figure]:
    count = plan.sized(100_000)
    root = corpus.many_sessions(plan.folder, count)
    before = entries(root)
    if before < count:
        run(sidecar(root, "reindex"))
        before = entries(root)
    told = f"{count:,} session files"
    starts = []
    for number in plan.rounds(3):
        line = corpus.request(
            corpus.FIRST_DAY + 80_000, "sess_000000", "agent_a", "agent_b", f"req_{time.time_ns()}", "?"
        )
        with (root / "responses" / "sessions" / "sess_000000.jsonl").open("a") as file:
            file.write(line)
        began = time.perf_counter()
        with following(root) as process:
            until(lambda: entries(root) > before + number, 60, process)  # noqa: B023
            starts.append(time.perf_counter() - began)
            if number == plan.rounds(3)[-1]:
                yield Figure("warm start to first answer", median(starts), "s", goal=Goal(3), note=told)
                time.sleep(1 if plan.quick else 15)
                share, told_of = _resting(process.pid, *((2, 2) if plan.quick else (20, 600)))
                now, most = memory(process.pid)
                descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
                yield Figure("at rest, of a core", share, "%", goal=Goal(1), note=f"{told}, {told_of}")
                yield Figure(
                    "at rest, memory", now, "MB", goal=Goal(150), note=f"at most {most:.0f} MB since the start"
                )
                yield Figure("at rest, descriptors", descriptors, "", goal=Goal(64))


def _resting(pid: int, least: float, most: float) -> tuple[float, str]:
    """Percent of a core that a process takes from one full scan to the next, and what was seen of that.

    A scan comes every 200 times as long as it takes: a window that holds none would say nothing.
    """
    began, spent = time.perf_counter(), cpu(pid)
    used = 0.0
    scanned = False
    while True:
        time.sleep(1)
        before, used = used, cpu(pid) - spent
        seconds = time.perf_counter() - began
        is_scanning = used - before > SCAN_CPU
        scanned = scanned or is_scanning
        if seconds >= most or (seconds >= least and scanned and not is_scanning):
            return 100 * used / seconds, f"{seconds:.0f} s {'with' if scanned else 'without'} a full scan"


def _share(pid: int, seconds: float) -> float:
    """Percent of a core that a process takes, over so many seconds."""
    began, spent = time.perf_counter(), cpu(pid)
    time.sleep(seconds)
    return 100 * (cpu(pid) - spent) / (time.perf_counter() - began)


def _event_files(plan: Plan) -> Iterator[Figure]:
    count = plan.sized(100_000)
    root = corpus.many_events(plan.folder, count)
    ours, floors = [], []
    for _ in plan.rounds(3):
        shutil.rmtree(root / "index", ignore_errors=True)
        floors.append(float(run(python("idle.py", root)).out))
        began = time.perf_counter()
        with following(root) as process:
            until(lambda: entries(root) == count, 300, process)
            ours.append(time.perf_counter() - began)
    ratio = median(mine / floor for mine, floor in zip(ours, floors, strict=True))
    yield Figure(f"start with {count:,} event files", median(ours), "s", "floor", median(floors), ratio)
    yield Figure("  rate", count / median(ours), "/s", "floor", count / median(floors), 1 / ratio)


def _floor(root: Path) -> float:
    """Open, read and parse every event file, and insert as many rows: seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/floor.db")) as db:
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        db.execute(f"CREATE TABLE entry ({', '.join(f'c{number} INTEGER' for number in range(14))})")
        with db, os.scandir(root / "events" / "2025-01-01") as found:
            parsed = (len(orjson.loads(Path(entry.path).read_bytes())) for entry in found)
            db.executemany(f"INSERT INTO entry VALUES ({', '.join('?' * 14)})", ((size,) * 14 for size in parsed))
    return time.perf_counter() - began


def _under_load(plan: Plan, rate: int) -> Figure:
    seconds = 2 if plan.quick else 15
    root = Path(tempfile.mkdtemp(dir=plan.folder))
    try:
        load.prepare(root, FILES)
        follower = subprocess.Popen(
            ["tail", "-q", "-n", "0", "-F", *load.files(root, FILES)], stdout=subprocess.DEVNULL
        )
        try:
            tail = _share_under(follower.pid, root, rate, seconds)
        finally:
            stop(follower)
        load.prepare(root, FILES)
        with following(root) as process:
            until(lambda: entries(root) == FILES, 30)
            ours = _share_under(process.pid, root, rate, seconds)
        return Figure(
            f"at {rate:,} records/s, of a core", ours, "%", "tail -F", tail, note="the sidecar's process, all threads"
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _share_under(pid: int, root: Path, rate: int, seconds: float) -> float:
    with load.writing(root, rate, seconds + 1, FILES):
        time.sleep(0.5)
        return _share(pid, seconds)


if __name__ == "__main__":
    print(_floor(Path(sys.argv[1])))
