"""The first view of the page over 30 days and 3 million entries, from a server that has been asked before.

A view is what the browser asks for: the overview, and what waits longest. Each round asks for another hour, so that no
answer is one that was kept whole; only the sums of days that are over are. Beside it: the same numbers of one day,
counted by plain SQL without names.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from corpus import Corpus
from measure import Figure, Goal, Plan, cpu, entries, memory, run, sidecar, stop

HOUR = 3600.0
DAY = 86_400.0
VIEWS = {"a day": DAY, "30 days": 30 * DAY}
PLAIN = "SELECT party, kind, COUNT(*), SUM(has_response), SUM(answered_after) FROM entry GROUP BY 1, 2"


def measure(plan: Plan) -> Iterator[Figure]:
    logs = Corpus(plan.folder, plan.sized(3_000_000), plan.sized(12_000), 30)
    if entries(logs.root) != logs.records:
        logs.drop_index()
        run(sidecar(logs.root, "reindex", "--json"))
    days = sorted((logs.root / "index" / "daily").glob("*.db"))
    with _serving(logs.root) as (server, address):
        before = cpu(server.pid)
        cold = _view(address, logs.end - 30 * DAY, logs.end)
        yield Figure("first view, 30 days, cold", cold, "s", note=f"{cpu(server.pid) - before:.1f} CPU s")
        for name, seconds in VIEWS.items():
            rounds = []
            for number in plan.rounds():
                end = logs.end - (number + 1) * HOUR
                rounds.append((_view(address, end - seconds, end), _plain(days[-2])))
            ours, theirs = (median(values) for values in zip(*rounds, strict=True))
            ratio = median(mine / plain for mine, plain in rounds)
            yield Figure(f"first view, {name}, warm", ours, "s", "plain SQL, a day", theirs, ratio, Goal(2))
        yield Figure("memory of the server", memory(server.pid)[1], "MB")


@contextmanager
def _serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real `sidecar serve`, and its address."""
    server = subprocess.Popen(sidecar(root, "serve", "--port", "0"), stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        found = re.search(r"http://\S+/", server.stderr.readline())
        assert found is not None
        yield server, found[0]
    finally:
        stop(server)  # type: ignore[arg-type]
        server.stderr.close()


def _view(address: str, since: float, until: float) -> float:
    """The seconds that a first view takes: its answers, one after the other."""
    began = time.perf_counter()
    for route in ("overview?", "pending?limit=8&"):
        with urlopen(f"{address}api/{route}from={since}&to={until}", timeout=900) as response:
            assert len(response.read()) < 1_000_000
    return time.perf_counter() - began


def _plain(day: Path) -> float:
    """The seconds that the numbers of a day take by themselves."""
    began = time.perf_counter()
    with closing(sqlite3.connect(f"file:{day}?mode=ro", uri=True)) as database:
        database.execute(PLAIN).fetchall()
    return time.perf_counter() - began
