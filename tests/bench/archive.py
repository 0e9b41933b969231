"""What archiving saves and costs: sizes before and after, a record read from the archive beside one from a log, and a
year of days that are asked when most of them have nothing of what is asked for.

Reading is timed without the question that found the entry: `Index.read`, of entries drawn at random by a seed.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import corpus
import orjson
from corpus import Corpus
from measure import Figure, Goal, Plan, quantile, run, sidecar

from sidecar import Index
from sidecar.records import Entry

READ_MS = 2.0
QUESTION_MS = 5.0
DAYS = 365
READS = 1_000


def measure(plan: Plan) -> Iterator[Figure]:
    yield from _sizes_and_reads(plan)
    yield from _a_year(plan)


def _completed(logs: Corpus, root: Path) -> Path:
    """A copy of a corpus whose sessions are completed, and unchanged for long; indexed row by row, as it comes live."""
    shutil.rmtree(root.parent, ignore_errors=True)
    target = root / "responses" / "sessions"
    target.mkdir(parents=True)
    run(sidecar(root, "run", "--once"))
    long_ago = time.time() - 30 * 86400
    for path in logs.files():
        copy = target / path.name
        content = path.read_bytes()
        last = orjson.loads(content[content.rfind(b"\n", 0, -1) + 1 :])["timestamp"]
        end = {"event": "session:completed", "timestamp": last + 1, "data": {"status": "completed"}}
        copy.write_bytes(content + orjson.dumps(end) + b"\n")
        os.utime(copy, (long_ago, long_ago))
    run(sidecar(root, "run", "--once"))
    return root


def _sizes_and_reads(plan: Plan) -> Iterator[Figure]:
    records = plan.sized(200_000)
    logs = Corpus(plan.folder, records, max(1, records // 250), 5)
    root = _completed(logs, plan.folder / "archive-sizes" / "logs")
    _events(root, plan.sized(20_000))
    run(sidecar(root, "run", "--once"))
    before = _sizes(root)
    with Index(root) as index:
        entries = _drawn(index, 5)
        plain = _read(index, entries)
    made = run(sidecar(root, "archive", "--json"))
    said = orjson.loads(made.out)
    after = _sizes(root)
    moved = f"{sum(one['logs'] for one in said['archived']):,} logs"
    for name, figure in before.items():
        yield Figure(f"{name} before and after", after[name] / 1e6, "MB", "before", figure / 1e6, note=moved)
    yield Figure("archiving, log packed and compared", said["log_bytes"] / said["seconds"] / 1e6, "MB/s")
    yield Figure("  its largest process", max(made.peaks), "MB")
    with Index(root) as index:
        packed = _read(index, entries)
    told = f"{len(entries)} records at random, {len({one.file_path for one in entries})} logs"
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        ours, theirs = (quantile((wall for wall, _ in taken), share) for taken in (packed, plain))
        note = f"{told}; processor {quantile((cpu for _, cpu in packed), share):.2f} ms"
        what = f"read from the archive, {name}"
        yield Figure(what, ours, "ms", "from the log", theirs, goal=Goal(READ_MS), note=note)


def _events(root: Path, count: int) -> None:
    """Event files of a past day."""
    folder = root / "events" / "2025-01-01"
    folder.mkdir(parents=True)
    draw = random.Random(5)
    long_ago = time.time() - 30 * 86400
    for number in range(count):
        at = corpus.FIRST_DAY + number * 0.5
        data = {"agent_id": draw.choice(corpus.AGENTS), "state": " ".join(draw.choices(corpus.WORDS, k=30))}
        path = folder / f"evt_{at:.3f}_state_change.json"
        path.write_bytes(orjson.dumps({"event": "state:change", "timestamp": at, "data": data}))
        os.utime(path, (long_ago, long_ago))


def _sizes(root: Path) -> dict[str, float]:
    return {
        "logs": _size(root) - _size(root / "index"),
        "index": _size(root / "index"),
        "archive": _size(root.parent / "archive"),
    }


def _size(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _drawn(index: Index, days: int) -> list[Entry]:
    draw = random.Random(9)
    known = [
        entry
        for day in range(days)
        for hour in range(0, 24, 2)
        for entry in index.timeline(since=corpus.FIRST_DAY + day * 86400 + hour * 3600.0, limit=100)
    ]
    return draw.choices(known, k=READS)


def _read(index: Index, entries: list[Entry]) -> list[tuple[float, float]]:
    """Milliseconds for each, by the clock and of the processor: on a shared machine the clock tells of others too."""
    return [_timed(lambda entry=entry: index.read(entry)) for entry in entries]


def _timed(ask: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.thread_time()
    ask()
    return (time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3


# ---- a year


def _a_year(plan: Plan) -> Iterator[Figure]:
    records = plan.sized(365_000)
    logs = Corpus(plan.folder, records, max(DAYS, records // 250), DAYS)
    root = _completed(logs, plan.folder / "archive-year" / "logs")
    told = f"{records:,} entries, {DAYS} days"
    names = _names(root)
    began = time.perf_counter()
    asked = _questions(logs, names, random.Random(3))
    before = {name: _asked(root, ask, plan.sized(20)) for name, ask in asked.items()}
    asked_before = time.perf_counter() - began
    sizes = _sizes(root)
    said = orjson.loads(run(sidecar(root, "archive", "--json")).out)
    after = _sizes(root)
    small = f"{len(said['compacted'])} days made small, {len(said['days_kept'])} not"
    yield Figure("archiving a year", said["seconds"], "s", note=f"{told}; {small}")
    yield Figure(
        "index, days compacted", after["index"] / records, "B", "before", sizes["index"] / records, note="an entry"
    )
    catalog = root / "index" / "catalog.db"
    yield Figure("filters of days", _filters(catalog) / records, "B", note="an entry")
    for name, ask in _questions(logs, names, random.Random(3)).items():
        taken = _asked(root, ask, plan.sized(400))
        wall, cpu = ([one[at] for one in taken] for at in (0, 1))
        was = median(one[0] for one in before[name])
        note = f"p50 {quantile(wall, 0.5):.2f} ms, processor p99 {quantile(cpu, 0.99):.2f}; before, p50 {was:.0f} ms"
        yield Figure(f"{name}, p99", quantile(wall, 0.99), "ms", goal=Goal(QUESTION_MS), note=note)
    yield Figure("  all of these before", asked_before, "s")


def _names(root: Path) -> dict[str, list[Any]]:
    """What can be asked for: pairs of an agent and its session, entries."""
    with Index(root) as index:
        entries = [
            entry
            for day in range(0, DAYS, 9)
            for entry in index.timeline(since=corpus.FIRST_DAY + day * 86400 + 40_000.0, limit=40)
        ]
    return {"entries": [entry for entry in entries if entry.session_id and entry.participating_agents]}


def _questions(logs: Corpus, names: dict[str, list[Any]], draw: random.Random) -> dict[str, Callable[[Index], Any]]:
    def entry() -> Entry:
        chosen: Entry = draw.choice(names["entries"])
        return chosen

    def hours() -> float:
        return time.time() - logs.end + 7 * 3600

    return {
        "find_peer_interactions, last hours": lambda index: index.find_peer_interactions(
            draw.choice(corpus.AGENTS), hours()
        ),
        "get_agent_role_history": lambda index: index.get_agent_role_history(
            (one := entry()).participating_agents[0], one.session_id
        ),
        "find_pending_requests, last hours": lambda index: index.find_pending_requests(hours()),
        "get_session_participants": lambda index: index.get_session_participants(entry().session_id),
        "get": lambda index: index.get(entry().id),
        "read": lambda index: index.read(entry()),
        "timeline, a session": lambda index: list(index.timeline(session=entry().session_id, limit=100)),
        "timeline, no such agent": lambda index: list(index.timeline(agent=f"agent_{draw.random()}")),
        "participants, no such session": lambda index: index.get_session_participants(f"sess_{draw.random()}"),
    }


def _asked(root: Path, ask: Callable[[Index], Any], times: int) -> list[tuple[float, float]]:
    with Index(root) as index:
        ask(index)
        return [_timed(lambda: ask(index)) for _ in range(times)]


def _filters(catalog: Path) -> float:
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as database:
        return float(database.execute("SELECT SUM(LENGTH(bits)) FROM day_filter").fetchone()[0] or 0)
