"""The analysis over one day of 100,000 entries, and over 30 days and 3 million: cold, and with sums of the days.

Beside each: reading seven raw columns of the same daily files by `fetchall`, in the same round. Processor seconds of
this process; the disk is warm.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median
from typing import Any

from corpus import Corpus
from measure import Figure, Goal, Plan, entries, run, sidecar

from sidecar import Index, analyze

RAW = "SELECT timestamp, kind, context, party, requests_response, has_response, byte_length FROM entry"
DAY: dict[str, Callable[[Index], Any]] = {
    "graph": analyze.graph,
    "latency": analyze.latency,
    "teams": analyze.teams,
    "roles": analyze.roles,
    "process": analyze.process,
    "loops": analyze.loops,
    "silent": analyze.silent,
    "storms": analyze.storms,
    "duplicates": analyze.duplicates,
}
MONTH = {name: DAY[name] for name in ("graph", "latency")}


def measure(plan: Plan) -> Iterator[Figure]:
    per_day = plan.sized(100_000)
    yield from _figures(plan, Corpus(plan.folder, per_day, max(1, per_day // 200), 1), DAY, "a day", 1.0)
    month = Corpus(plan.folder, 30 * per_day, 30 * per_day // 250, 30)
    _without_sums(month)
    yield from _figures(plan, month, MONTH, "30 days, cold", 10.0)
    with Index(month.root) as index:
        analyze.keep_sums(index)
    yield from _figures(plan, month, MONTH, "30 days, with sums", 1.0)
    _without_sums(month)


def _without_sums(logs: Corpus) -> None:
    shutil.rmtree(logs.root / "index" / "summary", ignore_errors=True)


def _figures(
    plan: Plan, logs: Corpus, questions: dict[str, Callable[[Index], Any]], told: str, goal: float
) -> Iterator[Figure]:
    if entries(logs.root) != logs.records:
        logs.drop_index()
    run(sidecar(logs.root, "run", "--once"))
    for name, ask in questions.items():
        ours, raw = [], []
        for _ in plan.rounds(3):
            raw.append(_seconds(lambda: _read_raw(logs)))
            with Index(logs.root) as index:
                ours.append(_seconds(lambda: ask(index)))  # noqa: B023
        ratio = median(one / other for one, other in zip(ours, raw, strict=True))
        note = f"{logs.records:,} entries"
        yield Figure(f"{name}, {told}", median(ours), "s", "7 columns, fetchall", median(raw), ratio, Goal(goal), note)


def _seconds(do: Callable[[], Any]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def _read_raw(logs: Corpus) -> None:
    for path in sorted((logs.root / "index" / "daily").glob("*.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as day:
            day.execute(RAW).fetchall()
